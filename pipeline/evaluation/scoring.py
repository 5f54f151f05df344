"""Score every method on the test rows: intervals, paired tests, classes, parts of the rows."""

from itertools import combinations

import numpy as np

from pipeline.evaluation import metrics
from pipeline.evaluation.predictions import MODELS, Predictions


def evaluate(test: Predictions, pred: dict, probabilities: dict, resamples: int, seed: int) -> dict:
    """Score every method, with intervals, paired tests, classes and scenarios apart."""
    speakers = test.groups("speaker")
    if speakers is None or len(np.unique(speakers)) < 2:
        groups, resampled = np.arange(len(test.truth)), "rows (too narrow: speakers are unknown)"
    else:
        groups = np.unique(speakers, return_inverse=True)[1]
        resampled = f"{groups.max() + 1} speakers"
    counts = metrics.draw_counts(groups.max() + 1, resamples, seed)
    rows = []
    for method in pred:
        scored = test.truth, pred[method], probabilities.get(method)
        row = {"method": method, **metrics.scores(*scored)}
        values = metrics.bootstrap(*scored, groups, counts)
        for score in metrics.SCORES:
            drawn = values.get(score)
            row[f"{score}_ci"] = None if drawn is None else metrics.interval(drawn, counts.shape[1])
        rows.append(row)
    best = max(MODELS, key=lambda model: (pred[model] == test.truth).mean())
    matrices = {method: metrics.confusion(test.truth, labels) for method, labels in pred.items()}
    return {
        "resampled": resampled,
        "resamples": resamples,
        "rows": rows,
        "best_single": best,
        "comparisons": {
            other: metrics.compare(test.truth, pred["stacking"], pred[other], groups, counts)
            for other in (best, "soft")
        },
        "support": np.bincount(test.truth, minlength=metrics.CLASSES).tolist(),
        "per_class": {
            method: {name: v.tolist() for name, v in metrics.class_scores(matrix).items()}
            for method, matrix in matrices.items()
        },
        "scenarios": score_scenarios(test, pred),
        "untied": score_untied(test, pred, probabilities),
        "agreement": count_agreement(test.truth, pred),
    }


def score_scenarios(test: Predictions, pred: dict) -> dict:
    """Score scripted and improvised dialogues apart, if the test rows have both."""
    scenarios = test.groups("scenario")
    if scenarios is None or len(np.unique(scenarios)) < 2:
        return {}
    parts = {name: scenarios == name for name in ("script", "impro")}
    return {
        name: {
            "rows": int(part.sum()),
            "scores": {m: metrics.scores(test.truth[part], p[part]) for m, p in pred.items()},
        }
        for name, part in parts.items()
    }


def score_untied(test: Predictions, pred: dict, probabilities: dict) -> dict | None:
    """Score the rows on whose label the raters agreed; None if the ties are not known."""
    if test.tied is None or test.tied.all():
        return None
    part = ~test.tied

    def score(method: str) -> dict:
        values = probabilities.get(method)
        shown = None if values is None else values[part]
        return metrics.scores(test.truth[part], pred[method][part], shown)

    return {"rows": int(part.sum()), "scores": {method: score(method) for method in pred}}


def count_agreement(truth: np.ndarray, pred: dict) -> list[dict]:
    """Count rows by which models are right, from none to all three, and stacking's right ones."""
    right = {method: labels == truth for method, labels in pred.items()}
    parts = []
    for number in range(len(MODELS) + 1):
        for models in combinations(MODELS, number):
            rows = np.all([right[model] == (model in models) for model in MODELS], axis=0)
            stacking = int((rows & right["stacking"]).sum())
            parts.append({"right": models, "rows": int(rows.sum()), "stacking": stacking})
    return parts


def score_rules(test: Predictions, pred: dict) -> dict:
    """Score the labels of the published rules."""
    return {rule: metrics.scores(test.truth, labels) for rule, labels in pred.items()}
