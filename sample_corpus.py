"""Write a synthetic corpus in the shape of KEMDy19, for where the real one is not at hand.

    python sample_corpus.py [--corpus data/sample] [--seed 2026]

Reads our own sentences and speaks them with eSpeak NG. Writes annotation/SessionNN_{F,M}_res.csv,
wav/SessionNN/<dialogue>/<id>.{wav,txt} and, last, SYNTHETIC.json: that nobody spoke this, and what
is in it. The same settings give the same files, byte for byte. What is odd about the real corpus is
planted in it.
"""

from common import settings  # first of all: it answers --help

# isort: split

import re
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.files import SAMPLE_RATE, UserError, write_json
from common.stages import Stage
from extras.sample import speech
from extras.sample.oddities import ODDITIES
from extras.sample.raters import listener_emotion, move, rate
from extras.sample.screenplay import SENTENCES, Line, write_screenplay
from extras.sample.writer import Segment, Session, write_kemdy19

# --------------------------------------------------------------------------------------------------
CORPUS = "data/sample"  # folder to write; an earlier sample corpus there is replaced
SEED = 2026
SESSIONS = 20  # a woman and a man in each, 1-99
UTTERANCES = 60  # in each session, 20 or more, over five dialogues
RESTART = False  # yes: also if an earlier run left all of this
# --------------------------------------------------------------------------------------------------


def main() -> None:
    target, marker = Path(CORPUS).resolve(), "SYNTHETIC.json"
    if target.exists() and not (target / marker).is_file():
        raise UserError(f"{CORPUS} exists and is no sample corpus: choose another with --corpus")
    inputs = {"folder": target.name}
    stage = Stage("sample_corpus.py", target.parent, settings.read(globals()), inputs)
    if stage.is_done():
        return
    print(f"reading {SENTENCES.name}, writing {SESSIONS} sessions of {UTTERANCES} utterances")
    unfinished = stage.unfinished / target.name
    unfinished.mkdir()
    lines, lengths, planted = write_sessions(unfinished)
    description = describe(lines, lengths, planted)
    write_json(unfinished / marker, description)
    stage.publish()
    print(", ".join(f"{label} {count}" for label, count in description["classes"].items()))
    for oddity, where in planted.items():
        print(f"planted {oddity.replace('_', ' ')}: {where}")
    minutes = description["seconds"] / 60
    print(f"wrote {CORPUS}: {len(lines)} utterances, {minutes:.1f} minutes")
    print(description["notice"])


def write_sessions(folder: Path) -> tuple[list[Line], dict[str, int], dict[str, str]]:
    """Write all sessions; return their lines, the samples of each by its ID, and the oddities."""
    screenplay = write_screenplay(SESSIONS, UTTERANCES, np.random.default_rng(SEED))
    lengths, planted = {}, {}
    # disable=None: no bar where stderr is not a terminal
    with tqdm(total=SESSIONS * UTTERANCES, unit="utterance", disable=None) as progress:
        for number, lines in enumerate(screenplay, start=1):
            rng = np.random.default_rng([SEED, number])
            segments = perform(number, lines, rng, progress)
            lengths |= {segment.id: len(segment.audio) for segment in segments}
            for plant, home in ODDITIES.items():
                if number == (home - 1) % SESSIONS + 1:
                    planted[plant.__name__] = plant(segments)
            raters = tuple(f"Eval{(number + i) % 30 + 1:02d}{'MF'[i % 2]}" for i in range(10))
            write_kemdy19(folder, [Session(number, segments, raters)])
    return [line for lines in screenplay for line in lines], lengths, planted


def perform(
    number: int, lines: list[Line], rng: np.random.Generator, progress: tqdm
) -> list[Segment]:
    """Return a session's lines as segments: spoken, transcribed and rated."""
    voices = {
        gender: speech.random_voice(gender, variants[number % len(variants)], rng)
        for gender, variants in speech.VARIANTS.items()
    }
    segments, counts, clock = [], Counter(), Counter()
    for line in lines:
        voice = voices[line.gender]
        # Where only the words show the emotion, the voice stays neutral; and the other way round.
        shown = "neutral" if line.channel == "words" else line.emotion
        said = "any" if line.channel == "voice" else line.emotion
        words, transcript = transcribe(line.text, rng)
        delivery = speech.random_delivery(shown, voice.warmth, rng)
        audio = speech.say(words, voice, delivery, rng)

        dialogue = f"Sess{number:02d}_{line.dialogue}"
        counts[dialogue, line.gender] += 1
        start = clock[dialogue] + rng.uniform(0.2, 1.2)
        clock[dialogue] = end = start + len(audio) / SAMPLE_RATE
        rows = {line.gender: rate(line.emotion, rng, move(said, delivery))}
        listener = "M" if line.gender == "F" else "F"
        rows[listener] = rate(listener_emotion(line.emotion, rng), rng)
        identifier = f"{dialogue}_{line.gender}{counts[dialogue, line.gender]:03d}"
        sensors = read_sensors(rng)
        segments.append(Segment(identifier, rows, transcript, audio, start, end, sensors))
        progress.update()
    return segments


def transcribe(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """Return the words to be spoken and their transcript, with the odd self-repair and tag.

    A repair `(A+B)` is a word begun and said again: spoken "A, B".
    """
    spoken, written = text.split(), text.split()
    whole = [i for i, word in enumerate(spoken) if re.fullmatch("[가-힣]{2,}", word)]
    if whole and rng.random() < 0.05:
        place = rng.choice(whole)
        word = spoken[place]
        begun = word[: rng.integers(1, len(word))]
        spoken[place], written[place] = f"{begun}, {word}", f"({begun}+{word})"
    if rng.random() < 0.25:
        tag = str(rng.choice(["b/", "o/", "n/", "l/", "u/", "N/", "c/", "s/"]))
        written.insert(rng.integers(len(written) + 1), tag)
    return " ".join(spoken), " ".join(written)


def read_sensors(rng: np.random.Generator) -> tuple[str, ...]:
    """Return the six cells of ECG, skin conductance and temperature; now and then two are blank."""
    ecg, eda, temperature = rng.normal(0, 0.4, 2), rng.uniform(0.1, 2, 2), rng.normal(33, 1, 2)
    cells = [f"{x:.8f}" for x in ecg] + [f"{x:.6f}" for x in eda]
    cells += [f"{x:.2f}" for x in temperature]
    if rng.random() < 0.02:
        first = 2 * rng.integers(3)
        cells[first : first + 2] = "", ""
    return tuple(cells)


def describe(lines: list[Line], lengths: dict[str, int], planted: dict[str, str]) -> dict:
    """Return the content of SYNTHETIC.json; its notice goes with every score on this corpus."""
    packages = ("espeakng-loader", "numpy", "scipy", "soundfile")
    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "notice": (
            "Synthetic corpus: invented sentences spoken by eSpeak NG, invented raters. "
            "Scores on it show that the stages work, and say nothing about people."
        ),
        "seed": SEED,
        "sessions": SESSIONS,
        "utterances": len(lines),
        "seconds": round(sum(lengths.values()) / SAMPLE_RATE, 3),
        "classes": dict(Counter(line.emotion for line in lines).most_common()),
        "planted": planted,
        "versions": {"python": python, **{package: version(package) for package in packages}},
        "channel": {i: line.channel for i, line in zip(lengths, lines, strict=True)},
    }


if __name__ == "__main__":
    settings.run(main)
