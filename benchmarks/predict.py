"""How long predicting takes, as shares of what it may take.

    python -m benchmarks.predict --model outputs

Reads   MODEL: a run with all three models
Prints  start to end of predict.py for one recording; one short recording once all is loaded;
        words alone, and recordings with words, per second of computing on one core

The recordings are noise as long as KEMDy19's (mean 5.7 s), written as WAV; the words are invented.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from pipeline.files import RATE
from pipeline.predicting import Recording, load_run, predict

# --------------------------------------------------------------------------------------
MODEL = "outputs"  # a folder of trained models
COUNT = 200  # recordings
SEED = 1
# --------------------------------------------------------------------------------------

LENGTHS = 1.4, 10.0  # seconds, evenly drawn
SHORT = 4.2  # seconds, KEMDy19's median
LIMIT_ONE = 0.5  # seconds for a short recording on all cores
RATE_WORDS, RATE_ALL = 100, 20  # recordings a second on one core
WORDS = "오늘은 정말 기분이 좋아요 왜 그렇게 화를 내는 거야 너무 무서워서 혼자 갈 수 없어"


def main() -> None:
    random = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        files = [write_recording(Path(folder), number, random) for number in range(COUNT)]
        short = replace(files[0], path=str(Path(folder) / "short.wav"))
        soundfile.write(short.path, noise(SHORT, random), RATE)
        command = [sys.executable, "predict.py", short.path, "--text", short.text]
        with timed() as seconds:
            subprocess.run([*command, "--model", MODEL], check=True, capture_output=True)
        print(f"predict.py, one recording, start to end: {seconds[0]:.2f} s")

        run = load_run(MODEL)
        list(predict(run, files[:4]))  # loads the models
        each = []
        for _ in range(10):
            with timed() as seconds:
                list(predict(run, [short]))
            each += seconds
        report("a short recording once loaded (median of ten)", np.median(each), LIMIT_ONE)
        torch.set_num_threads(1)
        with timed(time.process_time) as seconds:
            list(predict(run, [Recording(text=file.text) for file in files * 5]))
        report("words alone, one core", seconds[0] / (5 * COUNT), 1 / RATE_WORDS)
        with timed(time.process_time) as seconds:
            list(predict(run, files))
        report("voice and words, one core", seconds[0] / COUNT, 1 / RATE_ALL)


def write_recording(folder: Path, number: int, random: np.random.Generator) -> Recording:
    path = folder / f"{number}.wav"
    soundfile.write(path, noise(random.uniform(*LENGTHS), random), RATE)
    return Recording(str(path), " ".join(random.choice(WORDS.split(), 2 + random.integers(10))))


def noise(seconds: float, random: np.random.Generator) -> np.ndarray:
    return 0.1 * random.standard_normal(round(seconds * RATE))


@contextmanager
def timed(clock: Callable[[], float] = time.perf_counter) -> Iterator[list[float]]:
    """Yield a list that holds the seconds of the block once it is left.

    clock: time.process_time counts the computing alone, whatever else the machine does.
    """
    seconds, start = [], clock()
    yield seconds
    seconds.append(clock() - start)


def report(what: str, seconds: float, limit: float) -> None:
    share = seconds / limit
    print(f"{what}: {seconds:.4f} s each, {1 / seconds:.0f} a second, {share:.2f} of the limit")


if __name__ == "__main__":
    config.run(main)
