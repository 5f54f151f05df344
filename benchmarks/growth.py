"""Does a stage take longer for an utterance where there are more? 1,000, 4,000 and 16,000 of them.

A stage's own time is what it takes beyond its start: the slope between two sizes. The ratio is the
slope from 4,000 to 16,000 over that from 1,000 to 4,000: 1 where time grows with the utterances.
Training is one epoch of each model, with a small text encoder.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.fusion import write_predictions
from benchmarks.measure import row, run_script, write_corpus

SIZES = (1_000, 4_000, 16_000)
TEST_SHARE = 0.2
STAGES = {
    "preprocess": ["preprocess.py"],
    "text training": ["text_train.py", "--epochs", 1],
    "text testing": ["text_test.py"],
    "audio training": ["audio_train.py", "--epochs", 1],
    "audio testing": ["audio_test.py"],
    "CM-BERT": ["run_classifier.py", "--epochs", 1],
}


def rows() -> list[dict]:
    seconds = {name: [] for name in (*STAGES, "ensemble")}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            for name, own in measure(Path(folder), size).items():
                seconds[name].append(own)
    first, second, third = SIZES
    found = []
    for name, (few, some, many) in seconds.items():
        slopes = (many - some) / (third - second), (some - few) / (second - first)
        title = f"{name}: time of an utterance, {second} to {third} against {first} to {second}"
        found.append(row(title, "ms", *(1000 * slope for slope in slopes), most=1.1))
    return found


def measure(folder: Path, utterances: int) -> dict[str, float]:
    """Return the seconds of every stage on a corpus of so many utterances."""
    corpus, data, outputs = folder / "corpus", folder / "data", folder / "outputs"
    write_corpus(corpus, utterances)
    seconds = {}
    for name, (script, *settings) in STAGES.items():
        places = ["--data", data, "--outputs", outputs]
        if name == "preprocess":
            places += ["--corpus", corpus]
        start = time.perf_counter()
        run_script(script, *settings, *places)
        seconds[name] = time.perf_counter() - start
    fused = folder / "fused"
    tested = round(TEST_SHARE * utterances)
    write_predictions(fused, utterances - tested, tested)
    start = time.perf_counter()
    run_script("ensemble.py", "--data", fused, "--outputs", fused)
    return {**seconds, "ensemble": time.perf_counter() - start}
