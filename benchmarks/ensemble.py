"""Time the whole ensemble, plots and page included, on 10,000 held-out and 2,000 test rows.

    python -m benchmarks.ensemble

Prints the seconds that `python ensemble.py` takes from its start to its end, those that it computes
(fewer where the machine has other work), and the ratio to the 30 s that it may take on 2 cores.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.evaluation import predictions

# ----------------------------------------------------------------------------------------------
HELD_OUT = 10000  # rows
TEST = 2000  # rows
RUNS = 3
LIMIT = 30.0  # seconds
SEED = 1
# ----------------------------------------------------------------------------------------------

SHARES = np.array([0.4, 0.19, 0.15, 0.1, 0.08, 0.04, 0.04])  # of the labels, about KEMDy19's
STRENGTHS = {"text": 1.8, "audio": 1.1, "cmbert": 1.5}


def write_models(folder: Path, sessions: range, count: int) -> None:
    """Write what the test stages write: three overconfident models that err independently."""
    random = np.random.default_rng([SEED, count])
    truth = random.choice(len(SHARES), count, p=SHARES)
    ids = [
        f"Sess{sessions[row % len(sessions)]:02d}_{('script', 'impro')[row // 2 % 2]}01_"
        f"{'FM'[row // 4 % 2]}{row:05d}"
        for row in range(count)
    ]
    for model, strength in STRENGTHS.items():
        signal = strength * (random.normal(size=(count, 7)) + strength * np.eye(7)[truth])
        run = {"data_hash": "benchmark", "synthetic": "SYNTHETIC: random numbers"}
        predictions.write(folder, model, ids, truth, 2 * (signal + np.log(SHARES)), run)


def computing_time() -> float:
    """Return the processor seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), range(17, 21), TEST)
        write_models(Path(folder) / "valid", range(1, 17), HELD_OUT)
        command = [sys.executable, "ensemble.py", "--outputs", folder, "--data", folder]
        for run in range(RUNS):
            start, computed = time.perf_counter(), computing_time()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            computed = computing_time() - computed
            print(f"run {run + 1}: {seconds:.1f} s, {computed:.1f} s of them computing")
            print(f"       {seconds / LIMIT:.2f} of the {LIMIT:g} s that it may take")


if __name__ == "__main__":
    config.run(main)
