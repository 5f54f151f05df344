"""Peak memory of the training scripts, model and optimiser apart, by the number of utterances.

The rows of a small corpus are repeated; most are a second long, a few of KEMDy19's lengths, and
their recordings overlap in one file. A training is broken off after its first steps.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.loop import read_train, run_loop, write_data
from benchmarks.measure import ROOT, draw_lengths, row
from common.checkpoint import Checkpoint
from common.data import load_data
from common.files import SAMPLE_RATE, sha256

SIZES = (10_000, 100_000)  # training rows
SMALL = 200  # utterances of the corpus that is repeated
APART = 160  # samples between the beginnings of two recordings
LONG = 20  # every so many-th row is of KEMDy19's lengths
STEPS = 20
SCRIPTS = ("audio_train", "text_train", "run_classifier")
MOST = 1.5  # GB


def rows() -> list[dict]:
    found = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            places = write_data(Path(folder), SMALL)
            grow(places, size)
            for script in SCRIPTS:
                command = [sys.executable, "-m", "benchmarks.memory", script, json.dumps(places)]
                done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
                memory = float(done.stdout.split()[-1])
                title = f"{script}.py, {size} utterances, beside model and optimiser"
                found.append(row(title, "GB", memory, most=MOST))
    return found


def grow(places: dict, size: int) -> None:
    """Repeat the training rows of preprocessed data up to a size."""
    folder, table = Path(places["DATA"]), read_train(places)
    table = table.iloc[np.arange(size) % len(table)].reset_index(drop=True)
    number = np.arange(size)
    table["id"] = [f"row{own:06d}" for own in number]
    table["turn"] = number
    table["first_sample"] = APART * number
    table["sample_count"] = np.where(number % LONG, SAMPLE_RATE, draw_lengths(size))
    noise = np.random.default_rng(1).normal(0, 1000, APART * size + 80 * SAMPLE_RATE)
    np.save(folder / "train_audio.npy", noise.astype(np.int16))
    table.to_csv(folder / "train.tsv", sep="\t", index=False, quoting=3)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in ("train.tsv", "train_audio.npy"):
        manifest["files"][name] = sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "records" / "preprocess.json").unlink()  # of the data as it was
    load_data(folder, "train", "valid")


def watch(run: Checkpoint, batches: Iterator) -> Iterator:
    """Let STEPS steps pass; print the peak memory beside model and optimiser in GB."""
    for _ in range(STEPS):
        yield next(batches)
    weights = list(run.network.parameters())
    state = [each for own in run.optimizer.state.values() for each in own.values()]
    known = sum(each.numel() * each.element_size() for each in (*weights, *state))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - known) / 1e9)


if __name__ == "__main__":
    run_loop(sys.argv[1], json.loads(sys.argv[2]), watch)
