"""Recordings as they would be heard elsewhere: in noise, in a room, by telephone, badly recorded.

A condition is a word, some with a number (common/ranges.py says which numbers):
    noise:10     babble of other speakers' recordings, 10 dB below the recording
    room         an echo that takes half a second to fall by 60 dB
    telephone    300 to 3400 Hz, 8 kHz, mu-law (ITU-T G.711)
    mp3:32       coded at 32 kbit/s and decoded
    clipping     so loud that a tenth of the samples clips
    level:-20    20 dB quieter
    tempo:1.1    1.1 times as fast, the pitch as it was
and those in which not the recording but the words change:
    words:.2     a fifth of the Hangul syllables is misheard
    asr:NAME     all words are those of a recogniser
What is drawn depends on a seed and the row's ID alone. At 20 and at 0 dB the babble is the same.
Shapes: S samples (int16, 16 kHz).
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from common.data import Change, Dataset
from common.files import FULL_SCALE, SAMPLE_RATE, hash_json
from common.ranges import OF_WORDS
from models import identify

VOICES = 5  # recordings that are babble together
ECHO_SECONDS = 0.5  # until the echo has fallen by 60 dB
ECHO_GAP = 0.0025  # seconds between the direct sound and the first echo
BAND = (300, 3400)  # Hz, of a telephone
PHONE_RATE = 8_000  # Hz
CLIPPED = 0.1  # share of the samples
MP3_RATES = (8, 160)  # kbit/s at 16 kHz
MP3_DELAY = 1105  # samples by which coder and decoder are late, where the file does not say so
LOUDEST = FULL_SCALE - 1
# Of a syllable's initial, vowel and final: how far apart in Unicode they are, and how many.
JAMO = ((588, 19), (28, 21), (1, 28))

Clean = Callable[[str, str], str]  # of corpora/transcripts.py: text, style -> text


class TrainConditions(NamedTuple):
    """In a training, a share of the draws of a row is in one of some conditions."""

    conditions: tuple[str, ...] = ()
    prob: float = 0.0

    def draw(self, random: np.random.Generator) -> str:
        """Return a condition, or "" for none: a row's first draw, so that words and voice agree."""
        if self.conditions and random.random() < self.prob:
            return self.conditions[random.integers(len(self.conditions))]
        return ""


NOTHING = TrainConditions()


def split_condition(condition: str) -> tuple[str, str]:
    """Return word and number of a condition, or the name of a recogniser."""
    kind, _, rest = condition.partition(":")
    return kind, rest


def name_folder(condition: str) -> str:
    """Return the name of a condition's folder: noise_10, asr_openai_whisper-base_1f0a3c."""
    name = "".join(c if c.isalnum() or c in "-." else "_" for c in condition)
    return f"{name}_{hash_json(condition)[:6]}" if condition.startswith("asr:") else name


def is_of_words(condition: str) -> bool:
    return split_condition(condition)[0] in OF_WORDS


def identify_recognisers(conditions: Sequence[str]) -> dict[str, str]:
    """Return what tells the contents of each recogniser among conditions, as inputs of a Stage."""
    named = [each for each in conditions if each.startswith("asr:")]
    return {each: identify(split_condition(each)[1]) for each in named}


def in_condition(data: Dataset, condition: str, clean: Clean | None = None) -> Dataset:
    """Return the rows to be tested as they are in a condition, "" for none."""
    if is_of_words(condition):
        return replace(data, table=data.table.assign(text=change_words(data, condition, clean)))
    return change_recordings(data, condition) if condition else data


def add_words(
    data: Dataset, conditions: Sequence[str], clean: Clean, seed: int, show: Callable[[str], None]
) -> Dataset:
    """Return the rows to learn from, their words in each condition in a column of its name.

    A row of which nothing is heard keeps its transcript there; `show` is told how many those are.
    """
    for condition in filter(is_of_words, conditions):
        text = data.table["text"]
        words = change_words(data, condition, clean, seed)
        kept = [heard or said for heard, said in zip(words, text, strict=True)]
        show(
            f"{condition}: the words of {(text != kept).sum()} of {len(text)} rows differ; "
            f"{words.count('')} are empty and stay the transcript"
        )
        data = replace(data, table=data.table.assign(**{condition: kept}))
    return data


def change_words(data: Dataset, condition: str, clean: Clean, seed: int = 0) -> list[str]:
    """Return each row's words in a condition, cleaned as the transcripts were."""
    kind, rest = split_condition(condition)
    if kind == "asr":
        from common.transcribing import transcribe_rows  # here: takes seconds

        words = transcribe_rows(data, rest)
    else:
        rows = zip(data.ids, data.table["text"], strict=True)
        words = [mishear(text, float(rest), random_of_id(seed, name)) for name, text in rows]
    style = data.manifest["settings"]["text_style"]
    return [clean(text, style) for text in words]


def mishear(text: str, share: float, random: np.random.Generator) -> str:
    """Return a text of whose Hangul syllables a share was heard as a recogniser may.

    As often each: with another initial, vowel or final, not at all, or with the blank before it
    where there was none and without where there was.
    """
    heard = ""
    for letter in text:
        kind = random.integers(5) if "가" <= letter <= "힣" and random.random() < share else None
        if kind is None:
            heard += letter
        elif kind < len(JAMO):
            step, count = JAMO[kind]
            part = (ord(letter) - ord("가")) // step % count
            other = (part + random.integers(1, count)) % count
            heard += chr(ord(letter) + step * (other - part))
        elif kind == 4:  # 3: it is not heard
            heard = (heard[:-1] if heard.endswith(" ") else heard + " ") + letter
    return heard


def change_recordings(data: Dataset, condition: str, seed: int = 0) -> Dataset:
    """Return the same rows, their recordings heard through a condition.

    Babble is made of these very rows: of none that a training must not hear.
    """
    kind, number = split_condition(condition)
    number = float(number or 0)
    if kind == "noise":
        babble = Babble(data)

        def apply(samples: np.ndarray, name: str, speaker: str) -> np.ndarray:
            return babble.add(samples, speaker, number, random_of_id(seed, name))

        return replace(data, change=Change([condition, seed, babble.key], apply))
    if kind == "room":

        def apply(samples: np.ndarray, name: str, speaker: str) -> np.ndarray:
            return add_echo(samples, random_of_id(seed, name))

        return replace(data, change=Change([condition, seed], apply))
    changed = {
        "telephone": telephone,
        "mp3": partial(code_as_mp3, rate=number),
        "clipping": clip,
        "level": partial(change_level, decibels=number),
        "tempo": partial(change_tempo, tempo=number),
    }[kind]
    tempo = number if kind == "tempo" else 1.0
    return replace(data, change=Change([condition], lambda samples, *_: changed(samples), tempo))


def random_of_id(seed: int, name: str) -> np.random.Generator:
    """Return the generator of what is drawn for the row of an ID."""
    return np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()[:8]])


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Return samples (S,) of any size as int16; what does not fit is made quieter as a whole."""
    return np.round(wave * min(1, LOUDEST / max(np.abs(wave).max(), 1))).astype(np.int16)


def fit_length(wave: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` samples, zeros behind them where there are fewer."""
    return np.pad(wave[:count], (0, max(0, count - len(wave))))


def power(wave: np.ndarray) -> float:
    return float(np.square(wave, dtype=np.float64).mean())


class Babble:
    """Other people talking: recordings of rows by other speakers than the one that is heard."""

    def __init__(self, data: Dataset):
        self.data = replace(data, change=None)
        self.key = hash_json([data.ids.tolist(), data.data_hash])[:24]
        self.others = lru_cache(64)(self.find_others)

    def find_others(self, speaker: str) -> np.ndarray:
        """Return the rows of other speakers; where there is no other, all rows."""
        others = np.flatnonzero(self.data.speakers != speaker)
        return others if len(others) else np.arange(len(self.data))

    def make(self, count: int, speaker: str, random: np.random.Generator) -> np.ndarray:
        """Return `count` samples of babble, float64, to which each voice adds as much."""
        others, babble = self.others(speaker), np.zeros(count)
        for row in random.choice(others, min(VOICES, len(others)), replace=False):
            voice = self.data.samples(row).astype(np.float64)
            voice = np.resize(np.roll(voice, -random.integers(len(voice))), count)
            babble += voice / max(np.sqrt(power(voice)), 1)
        return babble

    def add(
        self, samples: np.ndarray, speaker: str, decibels: float, random: np.random.Generator
    ) -> np.ndarray:
        """Return a speaker's recording in babble whose power is so many dB below its own."""
        babble = self.make(len(samples), speaker, random)
        ratio = power(samples) / max(power(babble), 1e-12) * 10 ** (-decibels / 10)
        return to_int16(samples + babble * np.sqrt(ratio))


def add_echo(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a recording as heard in a room, as loud as before.

    The impulse response is made: the direct sound, then noise that decays and has as much energy.
    """
    from scipy.signal import fftconvolve

    count = round(ECHO_SECONDS * SAMPLE_RATE)
    echo = random.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    echo[: round(ECHO_GAP * SAMPLE_RATE)] = 0
    response = echo / np.sqrt(np.square(echo).sum())
    response[0] = 1
    wave = fftconvolve(samples.astype(np.float64), response)[: len(samples)]
    return to_int16(wave * np.sqrt(power(samples) / max(power(wave), 1e-12)))


def telephone(samples: np.ndarray) -> np.ndarray:
    """Return a recording as a telephone transmits it."""
    import soxr
    from scipy.signal import butter, sosfilt

    band = butter(4, BAND, "bandpass", fs=SAMPLE_RATE, output="sos")
    narrow = soxr.resample(sosfilt(band, samples), SAMPLE_RATE, PHONE_RATE)
    narrow = to_int16(np.pad(narrow, (0, max(0, 1 - len(narrow)))))
    decoded = through_codec(narrow, PHONE_RATE, format="WAV", subtype="ULAW")
    return to_int16(fit_length(soxr.resample(decoded, PHONE_RATE, SAMPLE_RATE), len(samples)))


def code_as_mp3(samples: np.ndarray, rate: float) -> np.ndarray:
    """Return a recording as an MP3 file of `rate` kbit/s has it."""
    low, high = MP3_RATES
    options = {"bitrate_mode": "CONSTANT", "compression_level": (high - rate) / (high - low)}
    decoded = through_codec(samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", **options)
    # A frame of few bits has no room for the coder's own note of its delay.
    late = MP3_DELAY if len(decoded) > len(samples) else 0
    return to_int16(fit_length(decoded[late:], len(samples)))


def through_codec(samples: np.ndarray, rate: int, **options) -> np.ndarray:
    """Return what is read of samples that were written as a file, float64 of the size of int16."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    file.seek(0)
    return soundfile.read(file)[0] * FULL_SCALE


def clip(samples: np.ndarray) -> np.ndarray:
    """Return a recording so loud that a tenth of its samples is beyond full scale.

    Digital silence does not count.
    """
    size = np.abs(samples[samples != 0].astype(np.float64))
    gain = FULL_SCALE / np.quantile(size, 1 - CLIPPED) if len(size) else 1.0
    return np.round(samples * gain).clip(-FULL_SCALE, LOUDEST).astype(np.int16)


def change_level(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Return a recording at another gain; what is too loud then clips."""
    wave = samples * 10 ** (decibels / 20)
    return np.round(wave).clip(-FULL_SCALE, LOUDEST).astype(np.int16)


def change_tempo(samples: np.ndarray, tempo: float) -> np.ndarray:
    """Return a recording that takes 1 / tempo of its time, by librosa's phase vocoder."""
    from common.features import import_librosa  # here: what needs it takes a sixth of a second

    effects, count = import_librosa("effects"), max(1, round(len(samples) / tempo))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")
        wave = effects.time_stretch(samples.astype(np.float32), rate=tempo)
    return to_int16(fit_length(wave, count))


class Recordings:
    """The recordings of a dataset, as they are."""

    def __init__(self, data: Dataset):
        self.data = data

    def read(self, row: int, random: np.random.Generator | None = None) -> np.ndarray:
        """Return one row's samples (S,) int16."""
        return self.data.samples(row)


class ConditionMix:
    """The rows of a training, in a share of the draws heard through a condition.

    seed: of the training; -1: to evaluate, on the clean recordings.
    build: what reads a dataset's rows: Spectrograms, EncoderFrames ... Of each condition it reads a
    dataset of its own: a speaker is known by recordings in the same condition, and an encoder hears
    each recording once in each.
    """

    def __init__(
        self, data: Dataset, train_conditions: TrainConditions, seed: int, build: Callable
    ):
        conditions = train_conditions.conditions if seed >= 0 else ()
        sounds = [each for each in conditions if not is_of_words(each)]
        self.clean, self.draw = build(data), train_conditions.draw
        self.changed = {each: build(change_recordings(data, each, seed)) for each in sounds}

    def read(self, row: int, random: np.random.Generator | None = None, *more: int):
        """Return what is read of a row; random: draws the condition, or none."""
        condition = self.draw(random) if random else ""
        return self.changed.get(condition, self.clean).read(row, random, *more)
