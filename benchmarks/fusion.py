"""The ensemble: its time, and whether stacking deserves its place on sets simulated from logits.

    python benchmarks/run.py fusion
    python -m benchmarks.fusion FOLDER...

The first measures ensemble.py, plots and page included, on 10,000 held-out and 2,000 test rows.
Of the second, each FOLDER is an outputs folder with held-out rows (heldout/). For a simulated set
the sessions (the speakers, where there are fewer than three sessions) of the test rows are drawn
anew with replacement, and so are those of the held-out rows, but each counts once: copies would
make cross-validation surer than it is. Aims: stacking's mean accuracy and macro F1 are at least
those of the votes and of every single model less .003, and in no set is it more than .02 below soft
voting.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from benchmarks.measure import alternate, peak_memory, row, run_script
from common.files import LABELS
from fusion import choice, methods, metrics
from fusion.cells import title_of
from fusion.fitting import LogitSet, read_fold, to_logit_set
from fusion.outputs import FACTS, name_votes
from fusion.page import write_table

# ----------------------------------------------------------------------------------------------
SETS = 50  # simulated for each folder
SEED = 1
TARGET = "accuracy+macro_f1"
HELD_OUT, TEST = 10_000, 2_000  # rows of which the time is measured
# ----------------------------------------------------------------------------------------------

SHARES = np.array([0.4, 0.19, 0.15, 0.1, 0.08, 0.04, 0.04])  # of the labels, about KEMDy19's
STRENGTHS = {"text": 1.8, "audio": 1.1, "cmbert": 1.5}
MODELS = (*STRENGTHS, *(f"audio_{number}" for number in range(2, 9)))  # ten


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        write_predictions(Path(folder), HELD_OUT, TEST, MODELS)
        command = ["ensemble.py", "--outputs", folder, "--data", folder, "--restart", "yes"]
        (seconds,) = alternate(lambda: run_script(*command), rounds=3)
        memory = peak_memory(*command)
    name = f"ensemble.py, plots included, {HELD_OUT} + {TEST} rows of ten models"
    return [
        row(name, "s", seconds, most=8),
        row("peak memory of ensemble.py", "GB", memory, most=2),
    ]


def write_predictions(
    folder: Path, held_out: int, test: int, models: tuple[str, ...] = tuple(STRENGTHS)
) -> None:
    """Write the test stages' files of so many rows: models that err independently."""
    parts = (folder, range(17, 21), test), (folder / "heldout", range(1, 17), held_out)
    for place, sessions, count in parts:
        place.mkdir(parents=True, exist_ok=True)
        random, number = np.random.default_rng([1, count]), np.arange(count)
        truth = random.choice(len(SHARES), count, p=SHARES)
        session = np.array(sessions)[number % len(sessions)]
        ids = np.array([f"Sess{s:02d}_{n:05d}" for s, n in zip(session, number, strict=True)])
        facts = pd.DataFrame(dict.fromkeys([*FACTS, *name_votes(LABELS)], 1), index=number).assign(
            id=ids,
            session=session,
            speaker=number // 4 % 2,
            scenario=np.array(["script01", "impro01"])[number // 2 % 2],
            dialogue_number=number // 500,
            turn=number,
            labels="neutral",
        )
        for model in models:
            strength = STRENGTHS[model.partition("_")[0]]
            signal = strength * (random.normal(size=(count, 7)) + strength * np.eye(7)[truth])
            logits = (2 * (signal + np.log(SHARES))).astype(np.float32)
            arrays = {"truth": truth, "pred": logits.argmax(1), "output": logits, "index": ids}
            for name, array in arrays.items():
                np.save(place / f"{model}_{name}.npy", array)
            facts.to_csv(place / f"{model}_rows.tsv", sep="\t", index=False)
            (place / f"{model}_run.json").write_text(json.dumps({"data_hash": "benchmark"}))


def score(rows: LogitSet, test: LogitSet, models: tuple[str, ...]) -> tuple[dict, str]:
    """Return accuracy and macro F1 of every method on the test rows, and the winner."""
    chosen = choice.choose(rows, TARGET)
    probabilities = dict(zip(models, softmax(test.logits, axis=-1), strict=True))
    probabilities["soft"] = methods.vote_soft(test.logits)
    probabilities["weighted_soft"] = methods.fit_weighted_soft(rows).predict(test.logits)
    probabilities["stacking"] = chosen.predict(test.logits)
    scores = {}
    for method, values in probabilities.items():
        found = metrics.scores(test.truth, values.argmax(axis=-1))
        scores[method] = np.array([found["accuracy"], found["macro_f1"]])
    return scores, chosen.winner


def draw(rows: LogitSet, random: np.random.Generator, repeat: bool) -> LogitSet:
    """Draw the groups of the rows with replacement; without `repeat` each is taken once at most."""
    names = np.unique(rows.groups)
    drawn = random.choice(names, len(names))
    drawn = drawn if repeat else np.unique(drawn)
    return rows.take(np.concatenate([np.flatnonzero(rows.groups == name) for name in drawn]))


def report(folder: Path) -> None:
    """Print one folder's table: its rows as they are, means of the sets, the worst of them."""
    fold, random = read_fold(folder), np.random.default_rng(SEED)
    test, models = to_logit_set(fold.test), fold.test.models
    once, winner = score(fold.rows, test, models)
    sets = [
        score(draw(fold.rows, random, False), draw(test, random, True), models) for _ in range(SETS)
    ]
    lines = []
    for method, values in once.items():
        every = np.array([scores[method] for scores, _ in sets])
        below = (every - [scores["soft"] for scores, _ in sets]).min(axis=0)
        cells = np.concatenate([values, every.mean(axis=0), below])
        lines.append([title_of(method), *[f"{cell:.4f}" for cell in cells]])
    header = ["", "Accuracy", "Macro F1", "Mean accuracy", "Mean macro F1"]
    header += ["Worst to soft: accuracy", "macro F1"]
    print(f"{folder}: {winner}; of {SETS} sets: {dict(Counter(won for _, won in sets))}\n")
    print(write_table(header, lines) + "\n", flush=True)


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        for name in sys.argv[1:]:
            report(Path(name))
