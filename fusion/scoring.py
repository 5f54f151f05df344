"""Score every method on the test rows and on parts of them, with intervals and paired tests.

Shapes: M models, N rows, C labels.
"""

import numpy as np

from fusion import metrics
from fusion.corpus import Corpus
from fusion.gaps import find_gaps
from fusion.parts import choose_part_groups, find_groups
from fusion.predictions import Predictions

# Compared besides stacking and the best single model: the gain of the fusion over a plain vote, of
# the voice over the words, of each network over its classic, of dialogue context.
PAIRS = (
    ("stacking", "soft"),
    ("stacking", "text"),
    ("cmbert", "text"),
    ("text", "baseline_text"),
    ("audio", "baseline_audio"),
    ("stacking", "baseline_both"),
    ("dialogue_past", "stacking"),
    ("dialogue_whole", "stacking"),
)

ByMethod = dict[str, np.ndarray]  # method -> labels (N,) or probabilities (N, C)


def evaluate(
    test: Predictions,
    pred: ByMethod,
    probabilities: ByMethod,
    rules: ByMethod,
    corpus: Corpus,
) -> dict:
    """Score every method, and the paper's rules, on all test rows and on parts of them.

    rules: rule -> labels (N,); probabilities: some methods have none.
    """
    every_row = np.ones(len(test.truth), bool)
    groups, resampled = test.resample()
    best = max(test.models, key=lambda model: (pred[model] == test.truth).mean())
    pairs = dict.fromkeys([("stacking", best), *PAIRS])
    whole = score_part(test, every_row, pred, probabilities)
    parted = find_groups(test, corpus)
    has_ties = test.tied is not None and not test.tied.all()
    return {
        "resampled": resampled,
        "groups": whole["groups"],
        "rows": [{"method": method, **row} for method, row in whole["scores"].items()],
        "best_single": best,
        "comparisons": [
            {"first": a, "second": b, **compare(test.truth, pred[a], pred[b], groups)}
            for a, b in pairs
            if a in pred and b in pred
        ],
        "support": np.bincount(test.truth, minlength=len(test.labels)).tolist(),
        "per_class": {
            method: measure_classes(test, labels, groups) for method, labels in pred.items()
        },
        "untied": score_part(test, ~test.tied, pred, probabilities) if has_ties else None,
        "paper": score_part(test, every_row, rules, {})["scores"],
        "parts": {
            name: score_part(test, part, pred, {})
            for parts in parted.values()
            for name, part in parts.items()
        },
        "gaps": find_gaps(test, pred["stacking"], parted),
        "thirds": {kind: edges.mean(axis=0).tolist() for kind, edges in corpus.edges.items()},
    }


def score_part(
    test: Predictions, part: np.ndarray, pred: ByMethod, probabilities: ByMethod
) -> dict:
    """Score methods on the rows where `part` (N,) is true, with intervals over their sessions."""
    groups, scores = choose_part_groups(test, part), {}
    for method, labels in pred.items():
        values = probabilities[method][part] if method in probabilities else None
        scores[method] = metrics.measure(test.truth[part], labels[part], values, groups)
    return {"rows": int(part.sum()), "groups": len(np.unique(groups)), "scores": scores}


def measure_classes(test: Predictions, pred: np.ndarray, groups: np.ndarray) -> dict:
    """Return precision, recall and f1 of each class with intervals: {name: C, name_ci: C x 2}."""
    result, classes = {}, len(test.labels)
    matrix = metrics.confusion(test.truth, pred, classes)
    found = metrics.estimate(metrics.class_scores, test.truth, pred, groups, classes)
    for name, score in found.items():
        rows = matrix.sum(axis=0 if name == "precision" else 1)
        result[name] = score.value.tolist()
        result[f"{name}_ci"] = metrics.share_interval(score, rows).tolist()
    return result


def compare(truth: np.ndarray, pred: np.ndarray, other: np.ndarray, groups: np.ndarray) -> dict:
    """Return difference (first less second), its interval and p of accuracy, macro_f1 and uar.

    They are one paired t test with one degree of freedom less than groups (Cameron and Miller,
    2015: A practitioner's guide to cluster-robust inference).
    """
    first, second = (
        metrics.estimate(metrics.score_matrices, truth, labels, groups) for labels in (pred, other)
    )
    result = {}
    for name in ("accuracy", "macro_f1", "uar"):
        difference = first[name] - second[name]
        result |= {name: float(difference.value), f"{name}_p": difference.p}
        result[f"{name}_ci"] = metrics.plain_interval(difference, -1)
    return result
