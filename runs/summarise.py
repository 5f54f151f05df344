"""Mean and deviation of several runs of the ensemble: folds of a cross-validation, or seeds.

    python -m runs.summarise --runs 'outputs/seeds/*/ensemble.json' --out outputs/seeds

Reads   every ensemble.json that RUNS matches
Writes  OUT/summary.json, OUT/summary.md: mean, deviation (of one run, n - 1), and every run
"""

from common import settings  # first of all: it answers --help

# isort: split

from glob import glob
from pathlib import Path

import numpy as np

from common.files import UserError, read_json, write_json, write_text
from fusion.cells import HEADERS, MAIN, number, title_of
from fusion.metrics import SCORES
from fusion.page import write_table

# ----------------------------------------------------------------------------------------------
RUNS = "outputs/seeds/*/ensemble.json"  # a pattern; each match is one run, named by its folder
OUT = "outputs/seeds"  # where the summary goes
# ----------------------------------------------------------------------------------------------


def main() -> None:
    # Shorter names first: seed2 comes before seed10.
    paths = sorted(map(Path, glob(RUNS)), key=lambda path: (len(str(path)), str(path)))
    if not paths:
        raise UserError(f"--runs '{RUNS}' matches no file: run ensemble.py first")
    summary = summarise({path.parent.name: read_json(path, "ensemble.py") for path in paths})
    page = write_page(summary)
    write_json(Path(OUT) / "summary.json", summary)
    write_text(Path(OUT) / "summary.md", page)
    print(page)
    print(f"written: {OUT}/summary.json, {OUT}/summary.md")


def summarise(runs: dict[str, list[dict]]) -> dict:
    """Return mean and deviation by method and score, and every run; runs: name -> ensemble.json."""
    every = {name: {row["method"]: row for row in run} for name, run in runs.items()}
    methods = max(every.values(), key=len)
    for name, rows in every.items():
        if missing := [method for method in methods if method not in rows]:
            raise UserError(f"{name}/ensemble.json has no row '{missing[0]}', another has")
    first, *others = [row for run in runs.values() for row in run]
    if any(row.get("speaker_norm") != first.get("speaker_norm") for row in others):
        raise UserError("the runs differ in SPEAKER_NORM: test them alike")
    return {
        "synthetic": next((row["synthetic"] for row in (first, *others) if row["synthetic"]), None),
        "speaker_norm": first.get("speaker_norm") or {},
        "runs": list(runs),
        "methods": {
            method: {s: describe([rows[method][s] for rows in every.values()]) for s in SCORES}
            for method in methods
        },
    }


def describe(values: list[float | None]) -> dict:
    """Return values, mean and deviation; None where the method has no such score."""
    if None in values:
        return {"values": values, "mean": None, "deviation": None}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"values": values, "mean": float(np.mean(values)), "deviation": deviation}


def write_page(summary: dict) -> str:
    """Return the summary as Markdown: one table of means, and one per score with every run."""

    def cell(score: dict) -> str:
        deviation = "" if score["deviation"] is None else f" ± {score['deviation']:.4f}"
        return number(score["mean"]) + deviation

    notice = [f"**{summary['synthetic']}**"] if summary["synthetic"] else []
    norms = [f"{title_of(m)} {norm}" for m, norm in summary["speaker_norm"].items() if norm]
    parts = [f"# {len(summary['runs'])} runs: mean ± standard deviation", *notice]
    parts += [f"Speaker normalisation: {', '.join(norms)}."] if norms else []
    methods = summary["methods"].items()
    rows = [[title_of(m), *[cell(scores[score]) for score in SCORES]] for m, scores in methods]
    parts.append(write_table(["", *HEADERS.values()], rows))
    for score in MAIN:
        rows = [
            [title_of(m), *map(number, scores[score]["values"]), cell(scores[score])]
            for m, scores in methods
        ]
        parts += [f"## {HEADERS[score]}", write_table(["", *summary["runs"], "mean"], rows)]
    return "\n\n".join([*parts, *notice]) + "\n"


if __name__ == "__main__":
    settings.run(main)
