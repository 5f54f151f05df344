"""What benchmarks share: timing side by side, a table's row, a corpus of KEMDy19's lengths."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.files import LABELS, SAMPLE_RATE
from extras.sample.writer import Segment, Session, unanimous, write_kemdy19

ROOT = Path(__file__).resolve().parent.parent
MEDIAN_SECONDS, P95_SECONDS = 4.2, 15.5  # of a recording
SHORTEST, LONGEST = 0.26, 78.0  # seconds
MEDIAN_CHARACTERS, P95_CHARACTERS = 22, 92  # of a transcript
TAIL = 1.645  # deviations above the mean, where 5 % of a normal distribution lie beyond
SENTENCES = "오늘은 정말 기분이 좋아요 왜 그렇게 화를 내는 거야 너무 무서워서 혼자 갈 수 없어"
WORDS = SENTENCES.split()
SESSIONS, DIALOGUES = 20, 10


def alternate(*rivals: Callable[[], object], rounds: int = 5, warm: bool = True) -> list[float]:
    """Return the median seconds of each rival; they take turns, so that all see the same machine.

    warm: each is called once before, and that is not counted.
    """
    seconds = [[] for _ in rivals]
    for count in range(warm + rounds):
        for rival, own in zip(rivals, seconds, strict=True):
            start = time.perf_counter()
            rival()
            if count >= warm:
                own.append(time.perf_counter() - start)
    return list(map(statistics.median, seconds))


def row(
    name: str,
    unit: str,
    ours: float,
    baseline: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> dict:
    """Return a row of the table.

    The target, `least` or `most`, is of the ratio ours / baseline; without a baseline, of ours.
    A row may have none.
    """
    ratio = None if baseline is None else ours / baseline
    value = ours if ratio is None else ratio
    target = met = None
    if least is not None:
        target, met = f">= {least:g}", bool(value >= least)
    if most is not None:
        target, met = f"<= {most:g}", bool(value <= most)
    own = {"name": name, "unit": unit, "ours": float(ours), "baseline": baseline}
    return {**own, "ratio": ratio, "target": target, "met": met}


def run_script(*arguments: object) -> None:
    """Run a script of the project as a user does, silently; a failure is an error."""
    command = [sys.executable, *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def peak_memory(*arguments: object) -> float:
    """Run a script; return its largest memory in GB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) * 1024 / 1e9


def draw_lengths(count: int, seed: int = 1) -> np.ndarray:
    """Return lengths of recordings, (count,) samples: log-normal, median and 95 % as KEMDy19's."""
    spread = np.log(P95_SECONDS / MEDIAN_SECONDS) / TAIL
    seconds = np.random.default_rng(seed).lognormal(np.log(MEDIAN_SECONDS), spread, count)
    return (np.clip(seconds, SHORTEST, LONGEST) * SAMPLE_RATE).astype(np.int64)


def draw_texts(count: int, seed: int = 1) -> list[str]:
    """Return transcripts of KEMDy19's lengths, words in any order."""
    random = np.random.default_rng(seed)
    spread = np.log(P95_CHARACTERS / MEDIAN_CHARACTERS) / TAIL
    characters = random.lognormal(np.log(MEDIAN_CHARACTERS), spread, count)
    mean = 1 + np.mean([len(word) for word in WORDS])
    return [" ".join(random.choice(WORDS, max(1, round(size / mean)))) for size in characters]


def draw_clips(count: int, seed: int = 1) -> list[np.ndarray]:
    """Return recordings of KEMDy19's lengths, int16 at 16 kHz: noise whose level rises and falls.

    They share the memory of one long noise.
    """
    random, lengths = np.random.default_rng(seed), draw_lengths(count, seed)
    time = np.arange(round((LONGEST + 60) * SAMPLE_RATE)) / SAMPLE_RATE
    noise = 3000 * random.standard_normal(len(time)) * (1.1 + np.sin(2 * np.pi * 0.7 * time))
    noise = np.clip(noise, -32000, 32000).astype(np.int16)
    starts = random.integers(0, 60 * SAMPLE_RATE, count)
    return [noise[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def write_corpus(folder: Path, utterances: int) -> None:
    """Write a corpus in KEMDy19's tree: 20 sessions of 10 dialogues, F and M in turn."""
    clips, texts = draw_clips(utterances), draw_texts(utterances)
    each = utterances // (SESSIONS * DIALOGUES)
    number = 0
    for session in range(1, SESSIONS + 1):
        segments = []
        for dialogue in range(DIALOGUES):
            scenario = f"script{dialogue + 1:02d}" if dialogue < 6 else f"impro{dialogue - 5:02d}"
            for turn in range(each):
                emotion = unanimous(LABELS[number % len(LABELS)])
                identifier = f"Sess{session:02d}_{scenario}_{'FM'[turn % 2]}{turn // 2 + 1:03d}"
                rows = {"F": emotion, "M": emotion}
                segments.append(Segment(identifier, rows, texts[number], clips[number]))
                number += 1
        write_kemdy19(folder, [Session(session, segments)])
