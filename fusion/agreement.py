"""How predictions go with the raters' votes, and how one rater goes with the others.

A row has counts n of votes, n_l for label l, and so n_l raters who chose l. A rater is held against
the votes of the other raters of the row: what a person scores, beside what the models score. Rows
without votes are left out; so are, of the raters' figures, rows with one vote.
Shapes: N rows, C labels.
"""

import numpy as np
from scipy.special import entr

from fusion import metrics
from fusion.metrics import Estimate
from fusion.predictions import Predictions

SHARES = ("top2", "accuracy", "macro_f1", "any", "three")
MANY = 3  # raters, of "three"
FINE = 1e6  # parts of a row, counted whole: a class that is left out is gone, not 1e-17 of a row


def evaluate(
    test: Predictions, pred: dict[str, np.ndarray], probabilities: dict[str, np.ndarray]
) -> dict | None:
    """Score every method that has probabilities by the votes, and one rater by the others.

    Without any votes None. Each score is a float with an interval, `_ci`, over sessions:
    divergence: Jensen-Shannon's of the probabilities to the shares of votes, in bits; top2: the
    share of rows whose label is one of the two most probable; any, three: the share of predictions
    that a rater, or at least three, chose.
    """
    voted = np.zeros(len(test.truth), bool) if test.votes is None else test.votes.sum(1) > 0
    if not voted.any() or test.votes.sum(1).max() < 2:  # one vote is the label itself
        return None
    votes, truth, groups = test.votes[voted], test.truth[voted], test.resample(voted)[0]
    several = votes.sum(1) > 1
    people = np.flatnonzero(voted)[several]
    return {
        "rows": int(voted.sum()),
        "groups": len(np.unique(groups)),
        "without": int((~voted).sum()),
        "raters": float(votes.sum(1).mean()),
        "people_rows": len(people),
        "people": measure_raters(votes[several], test.resample(people)[0]) if len(people) else None,
        "scores": {
            method: measure(votes, truth, pred[method][voted], values[voted], groups)
            for method, values in probabilities.items()
        },
    }


def measure(votes, truth, pred, probabilities, groups: np.ndarray) -> dict:
    """Score one method's labels (N,) and probabilities (N, C) by the votes (N, C)."""
    chosen = votes[np.arange(len(pred)), pred]
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    values = {
        "top2": (likeliest == truth[:, None]).any(axis=1),
        "any": chosen >= 1,
        "three": chosen >= MANY,
    }
    found = {n: metrics.estimate_mean(v.astype(float), groups) for n, v in values.items()}
    of_labels = metrics.estimate(metrics.score_matrices, truth, pred, groups)
    found |= {name: of_labels[name] for name in ("accuracy", "macro_f1")}
    distance = metrics.estimate_mean(diverge(votes, probabilities), groups)
    bounds = metrics.plain_interval(distance, 0)
    return {"divergence": float(distance.value), "divergence_ci": bounds} | show(found, len(votes))


def diverge(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of each row (N,), in bits: 0 to 1."""
    shares = votes / votes.sum(axis=1, keepdims=True)
    mixed = entr((shares + probabilities) / 2).sum(axis=1)
    apart = (entr(shares) + entr(probabilities)).sum(axis=1) / 2
    return np.maximum(mixed - apart, 0) / np.log(2)  # rounding may end below 0


def measure_raters(votes: np.ndarray, groups: np.ndarray) -> dict:
    """Score a rater of each row, drawn at random, by the votes of the row's other raters.

    votes (N, C): two or more a row. accuracy, macro_f1: against the label that most of the others
    chose; of several that tie each counts for its part. any, three: the share of raters whose label
    one, or at least three, of the others chose.
    """
    weight = votes / votes.sum(axis=1, keepdims=True)  # P(the rater chose l)
    matrices = np.zeros((*votes.shape, votes.shape[1]))  # (N, true, rater's)
    for label in range(votes.shape[1]):
        others = votes.copy()
        others[:, label] -= 1  # of rows where nobody chose the label, weight is 0
        first = others == others.max(axis=1, keepdims=True)
        matrices[:, :, label] = first / first.sum(axis=1, keepdims=True) * weight[:, label, None]
    total = matrices.sum(axis=0)
    of_group = np.zeros((groups.max() + 1, *total.shape))
    np.add.at(of_group, groups, matrices)
    rest = [
        metrics.score_matrices(np.rint(FINE * m))
        for m in (total, total - of_group, total - matrices)
    ]
    found = {n: Estimate(*(scores[n] for scores in rest)) for n in ("accuracy", "macro_f1")}
    for name, least in (("any", 1), ("three", MANY)):
        agreed = (weight * (votes > least)).sum(axis=1)  # the rater's vote is one of them
        found[name] = metrics.estimate_mean(agreed, groups)
    return show(found, len(votes))


def show(found: dict[str, Estimate], rows: int) -> dict:
    """Return shares of rows with their intervals: {name: float, name_ci: [low, high]}."""
    result = {}
    for name, score in found.items():
        bounds = metrics.share_interval(score, rows).tolist()
        result |= {name: float(score.value), f"{name}_ci": bounds}
    return result
