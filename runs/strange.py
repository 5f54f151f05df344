"""What a trained run says of recordings unlike those that it was made for.

    python -m runs.strange
    python -m runs.strange --language german/      recordings in another language as well

Reads   OUTPUTS (a finished run), the test rows of DATA
Writes  OUTPUTS/conditions/strange.{json,md}

Of COUNT test rows and of each kind of strange recording made from them: the share that is noticed
("unlike the training", "nobody speaks"), the share of verdicts called uncertain, and the accuracy
where a label still holds. Every recording is by a speaker without a name. Where a row's words are
still said they are given as its transcript.
"""

from common import settings  # first of all: it answers --help

# isort: split

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.conditions import change_recordings, power, random_of_id, to_int16
from common.data import Dataset, load_data
from common.features import import_librosa
from common.files import FULL_SCALE, SAMPLE_RATE, UserError, write_json, write_text
from fusion.page import write_table
from predicting import Answer, Recording, load_run, predict, recordings
from predicting.utterances import LONG, NOBODY, UNLIKE

# ----------------------------------------------------------------------------------------------
OUTPUTS = "outputs"  # of a finished run
DATA = "data/processed"  # what preprocess.py wrote, the run's
LANGUAGE = ""  # folder or file of recordings in another language, heard as well; empty: none
# ----------------------------------------------------------------------------------------------

COUNT = 20  # recordings of a kind
CLEAN, OTHER = "clean", "another language"
ORDER = 18  # of the linear prediction, a formant for every two
PITCH = 220  # Hz, of who sings one note
CHORDS = ((57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62))  # MIDI notes: Am F C G
BEAT = 0.5  # seconds
ROOM_LEVEL = -50.0  # dB of full scale, of a room in which nobody speaks

Make = Callable[[Dataset, int, np.random.Generator], np.ndarray]


class Kind(NamedTuple):
    """A kind of recording: how one is made of a row, and whether the row's words and label hold."""

    make: Make
    has_words: bool = True
    has_label: bool = True


def main() -> None:
    run, data = load_run(OUTPUTS), load_data(DATA, "test")
    if data.data_hash != run.config["data_hash"]:
        raise UserError(f"{DATA} is not what {OUTPUTS} was trained on: give the run's --data")
    rows = np.unique(np.linspace(0, len(data) - 1, COUNT).round().astype(int))
    foreign = list(read_language(LANGUAGE)) if LANGUAGE else []
    results = {}
    for name, kind in KINDS.items():
        print(f"{name}: {len(rows)} recordings")
        labels = data.table["label"].iloc[rows].tolist() if kind.has_label else None
        results[name] = measure(predict(run, make_all(kind, data, rows)), labels)
    if foreign:
        results[OTHER] = measure(predict(run, foreign), None)
    page = write_page(results, run.config["synthetic"])
    place = Path(OUTPUTS) / "conditions"
    place.mkdir(exist_ok=True)
    write_json(place / "strange.json", results)
    write_text(place / "strange.md", page)
    print(page)
    print(f"written: {place}/strange.json, strange.md")


def make_all(kind: Kind, data: Dataset, rows: np.ndarray) -> Iterator[Recording]:
    """Yield the recordings of a kind, one a row; what is drawn depends on the row's ID alone."""
    for row in rows:
        samples = kind.make(data, row, random_of_id(0, data.ids[row]))
        text = data.table["text"].iat[row] if kind.has_words else ""
        yield Recording(samples=samples[: int(LONG * SAMPLE_RATE)], text=text)


def read_language(place: str) -> Iterator[Recording]:
    """Yield the first COUNT recordings of a folder or a file, of each what is one utterance."""
    for found in recordings.find_recordings([place])[:COUNT]:
        yield Recording(samples=recordings.read(found)[0][: int(LONG * SAMPLE_RATE)])


def measure(answers: Iterable[Answer], labels: list[str] | None) -> dict:
    """Return the shares of the answers, and their accuracy where labels still hold."""
    answers = list(answers)
    unlike, silent = (
        np.array([any(remark.startswith(start) for remark in a.remarks) for a in answers])
        for start in (UNLIKE, NOBODY)
    )
    noticed, uncertain = unlike | silent, np.array([a.uncertain for a in answers])
    right = None
    if labels:
        pairs = zip(answers, labels, strict=True)
        right = float(np.mean([answer.emotion == label for answer, label in pairs]))
    shares = {"unlike": unlike, "nobody": silent, "noticed": noticed, "uncertain": uncertain}
    shares["either"] = noticed | uncertain
    return {
        "recordings": len(answers),
        **{name: float(share.mean()) for name, share in shares.items()},
        "accuracy": right,
    }


def write_page(results: dict, synthetic: str | None) -> str:
    """Return the table as Markdown."""
    header = ["", "Unlike the training", "Nobody speaks", "Noticed", "Uncertain"]
    header += ["Noticed or uncertain", "Accuracy"]
    names = ("unlike", "nobody", "noticed", "uncertain", "either", "accuracy")
    rows = [
        [f"{kind} ({own['recordings']})"]
        + ["-" if own[name] is None else f"{own[name]:.2f}" for name in names]
        for kind, own in results.items()
    ]
    notice = [f"**{synthetic}**"] if synthetic else []
    parts = ["# Strange recordings", *notice, write_table(header, rows), *notice]
    return "\n\n".join(parts) + "\n"


def in_condition(condition: str) -> Make:
    return lambda data, row, random: change_recordings(data, condition).samples(row)


def shift_pitch(steps: float) -> Make:
    """Return what raises a voice by semitones, its formants with it: those of a smaller head."""

    def make(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
        wave = data.samples(row).astype(np.float32)
        shifted = import_librosa("effects").pitch_shift(wave, sr=SAMPLE_RATE, n_steps=steps)
        return to_int16(shifted)

    return make


def play_backwards(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
    return data.samples(row)[::-1].copy()


def add_speaker(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
    """Return a recording in which somebody else speaks as loud at the same time."""
    wave = data.samples(row).astype(np.float64)
    others = np.flatnonzero(data.speakers != data.speakers[row])
    if not len(others):
        raise UserError(f"two speakers: there is no other than {data.speakers[row]} in {data}")
    other = np.resize(data.samples(random.choice(others)), len(wave)).astype(np.float64)
    return to_int16(wave + other * np.sqrt(power(wave) / max(power(other), 1)))


def be_silent(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
    return np.zeros_like(data.samples(row))


def hear_room(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
    """Return the noise of a room: falling by 6 dB an octave above 100 Hz, and a hum of 60 Hz."""
    from scipy.signal import lfilter

    count = len(data.samples(row))
    noise = lfilter(
        [1], [1, -np.exp(-2 * np.pi * 100 / SAMPLE_RATE)], random.standard_normal(count)
    )
    wave = noise / noise.std() + 0.3 * np.sin(2 * np.pi * 60 * np.arange(count) / SAMPLE_RATE)
    return to_int16(wave * FULL_SCALE * 10 ** (ROOM_LEVEL / 20))


def play_music(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
    """Return chords of decaying harmonics, one every four beats, and a drum on each beat."""
    count, step = len(data.samples(row)), round(BEAT * SAMPLE_RATE)
    time, wave = np.arange(4 * step) / SAMPLE_RATE, np.zeros(count + 4 * step)
    first = random.integers(len(CHORDS))
    for beat in range(-(-count // step)):
        at = beat * step
        drum = random.standard_normal(step) * np.exp(-30 * time[:step])
        wave[at : at + step] += drum
        if beat % 4 == 0:
            for note in CHORDS[(first + beat // 4) % len(CHORDS)]:
                pitch = 440 * 2 ** ((note - 69) / 12)
                tones = sum(np.sin(2 * np.pi * pitch * k * time) / k**1.5 for k in range(1, 9))
                wave[at : at + 4 * step] += tones * np.exp(-1.5 * time)
    return to_int16(wave[:count] / np.abs(wave).max() * 0.3 * FULL_SCALE)


def revoice(sound: Callable[[int, np.random.Generator], np.ndarray]) -> Make:
    """Return what gives a recording another source than the vocal folds, by linear prediction.

    sound: makes so many samples of the source. Frame by frame they get the envelope and the power
    of the recording's spectrum.
    """

    def make(data: Dataset, row: int, random: np.random.Generator) -> np.ndarray:
        from scipy.signal import lfilter

        lpc, wave, hop = import_librosa("core").lpc, data.samples(row).astype(np.float64), 160
        window, source = np.hanning(2 * hop + 1)[:-1], sound(len(wave), random)
        made = np.zeros(len(wave))
        for start in range(0, len(wave) - 2 * hop, hop):
            frame = wave[start : start + 2 * hop] * window
            if power(frame) < 1:
                continue
            own = source[max(start - hop, 0) : start + 2 * hop]  # the filter rings from before
            heard = lfilter([1], lpc(frame, order=ORDER), own)[-2 * hop :] * window
            made[start : start + 2 * hop] += heard * np.sqrt(power(frame) / max(power(heard), 1e-9))
        return to_int16(made)

    return make


def breathe(count: int, random: np.random.Generator) -> np.ndarray:
    return random.standard_normal(count)


def sing_one_note(count: int, random: np.random.Generator) -> np.ndarray:
    """Return pulses of one pitch, a little breath between them."""
    pulses = np.diff(np.floor(np.arange(count + 1) * PITCH / SAMPLE_RATE))
    return pulses + 0.01 * random.standard_normal(count)


KINDS = {
    CLEAN: Kind(lambda data, row, random: data.samples(row)),
    "music": Kind(play_music, has_words=False, has_label=False),
    "speech backwards": Kind(play_backwards, has_words=False, has_label=False),
    "child's voice": Kind(shift_pitch(5)),
    "old voice": Kind(shift_pitch(-4)),
    "two speakers at once": Kind(add_speaker, has_label=False),
    "digital silence": Kind(be_silent, has_words=False, has_label=False),
    "noise of a room": Kind(hear_room, has_words=False, has_label=False),
    "telephone": Kind(in_condition("telephone")),
    "clipping": Kind(in_condition("clipping")),
    "babble as loud": Kind(in_condition("noise:0")),
    "45 dB quieter": Kind(in_condition("level:-45")),
    "whispered": Kind(revoice(breathe)),
    "on one note": Kind(revoice(sing_one_note)),
}


if __name__ == "__main__":
    settings.run(main)
