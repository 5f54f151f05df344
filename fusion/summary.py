"""Mean and deviation of several runs of the ensemble."""

import numpy as np

from fusion.metrics import SCORES
from fusion.tables import HEADERS, NAMES, align, describe_known, number
from pipeline.files import UserError

BY_RUN = ("accuracy", "macro_f1", "uar")  # scores of which every run is shown


def summarise(runs: dict[str, list[dict]]) -> dict:
    """Return mean and deviation by method and score, and every run; runs: name -> ensemble.json."""
    every = {name: {row["method"]: row for row in run} for name, run in runs.items()}
    methods = [method for method in NAMES if any(method in rows for rows in every.values())]
    for name, rows in every.items():
        for method in methods:
            if method not in rows:
                raise UserError(f"{name}/ensemble.json has no row '{method}', another has")
    first, *others = [row for run in runs.values() for row in run]
    if any(row.get("known") != first.get("known") for row in others):
        raise UserError("the runs know different things of the speakers: test them alike (KNOWN)")
    return {
        "synthetic": next((row["synthetic"] for row in (first, *others) if row["synthetic"]), None),
        "known": first.get("known") or {},
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
        if score["deviation"] is None:
            return number(score["mean"])
        return f"{score['mean']:.4f} ± {score['deviation']:.4f}"

    notice = [f"**{summary['synthetic']}**"] if summary["synthetic"] else []
    rows = [
        [NAMES[method], *[cell(scores[score]) for score in SCORES]]
        for method, scores in summary["methods"].items()
    ]
    parts = [f"# {len(summary['runs'])} runs: mean ± standard deviation", *notice]
    if known := describe_known(summary["known"]):
        parts.append(known.strip())
    parts.append(align(["", *HEADERS.values()], rows))
    for score in BY_RUN:
        rows = [
            [NAMES[method], *map(number, scores[score]["values"]), cell(scores[score])]
            for method, scores in summary["methods"].items()
        ]
        parts += [f"## {HEADERS[score]}", align(["", *summary["runs"], "mean"], rows)]
    return "\n\n".join([*parts, *notice]) + "\n"
