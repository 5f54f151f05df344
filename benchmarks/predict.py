"""How fast predicting is, with the trained models in outputs/.

The recordings are noise as long as KEMDy19's (mean 5.7 s), written as WAV; the words are invented.
On one core, only the seconds that it computes count.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from pipeline.predicting import Recording, load_run, predict

from benchmarks.measure import alternate, row
from common.files import SAMPLE_RATE

MODEL = "outputs"  # a folder of all three trained models
COUNT = 200  # recordings
SEED = 1
LENGTHS = 1.4, 10.0  # seconds, evenly drawn
SHORT = 4.2  # seconds, KEMDy19's median
LIMIT_ONE = 0.5  # seconds for a short recording on all cores
RATE_WORDS, RATE_ALL = 100, 20  # recordings a second on one core
WORDS = "오늘은 정말 기분이 좋아요 왜 그렇게 화를 내는 거야 너무 무서워서 혼자 갈 수 없어"


def rows() -> list[dict]:
    random = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        files = [write_recording(Path(folder), number, random) for number in range(COUNT)]
        short = replace(files[0], path=str(Path(folder) / "short.wav"))
        soundfile.write(short.path, noise(SHORT, random), SAMPLE_RATE)
        run = load_run(MODEL)
        list(predict(run, files[:4]))  # loads the models
        (once,) = alternate(lambda: list(predict(run, [short])), rounds=10)
        torch.set_num_threads(1)
        with timed(time.process_time) as words:
            list(predict(run, [Recording(text=file.text) for file in files * 5]))
        with timed(time.process_time) as both:
            list(predict(run, files))
    return [
        row("a short recording, models loaded", "s", once, most=LIMIT_ONE),
        row("words alone, one core", "utterances/s", 5 * COUNT / words[0], least=RATE_WORDS),
        row("voice and words, one core", "utterances/s", COUNT / both[0], least=RATE_ALL),
    ]


def write_recording(folder: Path, number: int, random: np.random.Generator) -> Recording:
    path = folder / f"{number}.wav"
    soundfile.write(path, noise(random.uniform(*LENGTHS), random), SAMPLE_RATE)
    return Recording(str(path), " ".join(random.choice(WORDS.split(), 2 + random.integers(10))))


def noise(seconds: float, random: np.random.Generator) -> np.ndarray:
    return 0.1 * random.standard_normal(round(seconds * SAMPLE_RATE))


@contextmanager
def timed(clock: Callable[[], float] = time.perf_counter) -> Iterator[list[float]]:
    """Yield a list that holds the seconds of the block once it is left.

    clock: time.process_time counts the computing alone, whatever else the machine does.
    """
    seconds, start = [], clock()
    yield seconds
    seconds.append(clock() - start)
