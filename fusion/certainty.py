"""How well the confidence by which a verdict is called uncertain tells right from wrong.

Shapes: N rows, C labels.
"""

import numpy as np

from fusion import metrics
from fusion.predictions import Predictions
from fusion.stored import Fusion


def find_confidence(test: Predictions, fused: np.ndarray, fusion: Fusion) -> dict:
    """Return by model, and for stacking, each test row's confidence and its threshold, (N, 2).

    As in predicting: of a model by itself, of its calibrated probabilities. fused (N, C): the
    stacking's.
    """
    logits = dict(zip(test.models, test.logits, strict=True))
    values = {model: fusion.predict({model: own}) for model, own in logits.items()}
    used = {model: (model,) for model in test.models} | {"stacking": test.models}
    return {
        method: np.stack(
            [own.max(axis=1), np.full(len(own), fusion.threshold(used[method]))], axis=1
        )
        for method, own in (values | {"stacking": fused}).items()
    }


def evaluate(test: Predictions, pred: dict, confidence: dict) -> dict[str, dict]:
    """Return by method of `find_confidence` how much is wrong of what is how certain.

    aurc, aurc_ci: see metrics.estimate_risk; excess: over the best order of the same rows;
    coverage: the share of verdicts that are not called uncertain, risk: how many of these are
    wrong, None if there are none. pred: method -> labels (N,).
    """
    groups, found = test.resample()[0], {}
    for method, of_rows in confidence.items():
        values, thresholds = of_rows.T
        right, certain = pred[method] == test.truth, values >= thresholds
        area = metrics.estimate_risk(right, values, groups)
        found[method] = {
            "aurc": float(area.value),
            "aurc_ci": metrics.plain_interval(area, 0),
            "excess": float(area.value) - metrics.best_risk(len(right), int((~right).sum())),
            "coverage": float(certain.mean()),
            "risk": float((~right[certain]).mean()) if certain.any() else None,
        }
    return found
