"""Valence and arousal of every method, scored on all test rows and on parts of them.

Shapes: N rows, D = 2 dimensions.
"""

import numpy as np

from common.files import DIMENSIONS
from fusion.concordance import compare, measure
from fusion.corpus import Corpus
from fusion.parts import choose_part_groups, find_groups
from fusion.predictions import Predictions
from fusion.scoring import PAIRS

PARTS = ("session", "gender")  # of parts.GROUPS

ByMethod = dict[str, np.ndarray]  # method -> valence and arousal (N, D)


def evaluate(test: Predictions, predicted: ByMethod) -> dict | None:
    """Score valence and arousal of every method on all test rows and on parts of them.

    The single model that is compared has the best mean CCC. None without any prediction.
    """
    if not predicted:
        return None
    truth, groups = test.ratings.truth, test.resample()[0]
    scores = score_part(test, np.ones(len(truth), bool), predicted)["scores"]
    singles = [model for model in test.models if model in predicted]
    best = max(singles, key=lambda model: mean_ccc(scores[model]), default=None)
    pairs = dict.fromkeys([("stacking", best), *PAIRS])
    parts = {f"class {label}": test.truth == k for k, label in enumerate(test.labels)}
    groups_of = find_groups(test, Corpus())
    for group in PARTS:
        parts |= groups_of.get(group, {})
    return {
        "rated": dict(zip(DIMENSIONS, np.isfinite(truth).sum(axis=0).tolist(), strict=True)),
        "scale": list(test.ratings.scale),
        "models": singles,
        "best_single": best,
        "scores": scores,
        "comparisons": [
            {"first": a, "second": b, **compare(truth, predicted[a], predicted[b], groups)}
            for a, b in pairs
            if a in predicted and b in predicted
        ],
        "parts": {
            name: score_part(test, rows, predicted) for name, rows in parts.items() if rows.any()
        },
    }


def score_part(test: Predictions, part: np.ndarray, predicted: ByMethod) -> dict:
    """Score methods on the rows where `part` (N,) is true, as scoring.score_part does."""
    groups, truth = choose_part_groups(test, part), test.ratings.truth[part]
    scores = {method: measure(truth, rows[part], groups) for method, rows in predicted.items()}
    return {"rows": int(part.sum()), "groups": len(np.unique(groups)), "scores": scores}


def mean_ccc(scores: dict) -> float:
    """Return the mean CCC over the dimensions that have one."""
    found = [scores[f"ccc_{name}"] for name in DIMENSIONS]
    return float(np.mean([value for value in found if value is not None] or [0.0]))
