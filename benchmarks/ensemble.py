"""The whole ensemble, plots and page included, on 10,000 held-out and 2,000 test rows."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import alternate, peak_memory, row, run_script
from fusion import predictions

HELD_OUT, TEST = 10_000, 2_000  # rows
SHARES = np.array([0.4, 0.19, 0.15, 0.1, 0.08, 0.04, 0.04])  # of the labels, about KEMDy19's
STRENGTHS = {"text": 1.8, "audio": 1.1, "cmbert": 1.5}


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        write_predictions(Path(folder), HELD_OUT, TEST)
        command = ["ensemble.py", "--outputs", folder, "--data", folder, "--restart", "yes"]
        (seconds,) = alternate(lambda: run_script(*command), rounds=3)
        memory = peak_memory(*command)
    name = f"ensemble.py, plots included, {HELD_OUT} + {TEST} rows"
    return [
        row(name, "s", seconds, most=6),
        row("peak memory of ensemble.py", "GB", memory, most=2),
    ]


def write_predictions(folder: Path, held_out: int, test: int) -> None:
    """Write what the test stages write, of so many rows."""
    write_models(folder, range(17, 21), test)
    write_models(folder / "valid", range(1, 17), held_out)


def write_models(folder: Path, sessions: range, count: int) -> None:
    """Write three overconfident models that err independently."""
    random = np.random.default_rng([1, count])
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
