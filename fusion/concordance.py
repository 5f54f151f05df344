"""Scores of predicted valence and arousal, their intervals over sessions, and paired tests.

Every score is a function of six sums over rows, so the jackknife leaves a session out by
subtracting its sums. Rows that no rater gave a number (NaN) are left out.
Shapes: N rows, D = 2 dimensions, G groups (sessions).
"""

import numpy as np

from common.files import DIMENSIONS
from fusion import metrics
from fusion.metrics import Estimate

SCORES = ("ccc", "pearson", "rmse")
BOUNDS = {"ccc": (-1, 1), "pearson": (-1, 1), "rmse": (0, np.inf)}
CONSTANT = 1e-12  # variance, in the raters' unit squared, up to which it is one of rounding


def estimate(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """Return every score of one dimension as an Estimate; all arrays (N,), truth without NaN."""
    groups, of_row = np.unique(groups, return_inverse=True)[1], list_terms(truth, predicted)
    of_group = np.stack([np.bincount(groups, weights=terms) for terms in of_row.T], axis=-1)
    total = of_row.sum(axis=0)
    scores = [score_sums(rest) for rest in (total, total - of_group, total - of_row)]
    return {name: Estimate(*(score[name] for score in scores)) for name in SCORES}


def score(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return every score of one dimension, truth and prediction (N,); see `score_sums`."""
    return {name: float(v) for name, v in score_sums(list_terms(truth, predicted).sum(0)).items()}


def list_terms(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return 1, t, p, t^2, p^2 and tp of every row, (N, 6)."""
    terms = [np.ones(len(truth)), truth, predicted, truth**2, predicted**2, truth * predicted]
    return np.stack(terms, axis=-1)


def score_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return every score, (...), of sums (..., 6) of 1, t, p, t^2, p^2 and tp over rows.

    ccc: 2 cov(t, p) / (var t + var p + (mean t - mean p)^2) with variances over N (Lin, "A
    concordance correlation coefficient to evaluate reproducibility", Biometrics 45, 1989). Where
    truth or prediction is constant it is 0, as its numerator is, and so is Pearson's r, even if
    both are the same constant: nothing shows that one follows the other.
    """
    count = np.maximum(sums[..., :1], 1)
    truth, predicted, *squares, product = np.moveaxis(sums[..., 1:] / count, -1, 0)
    variances = [squares[0] - truth**2, squares[1] - predicted**2]
    varies = np.minimum(*variances) > CONSTANT
    covariance = np.where(varies, product - truth * predicted, 0)
    squared_error = squares[0] + squares[1] - 2 * product
    spread = variances[0] + variances[1] + (truth - predicted) ** 2
    return {
        "ccc": 2 * covariance / np.where(varies, spread, 1),
        "pearson": covariance / np.sqrt(np.where(varies, variances[0] * variances[1], 1)),
        "rmse": np.sqrt(np.maximum(squared_error, 0)),
    }


def estimate_dimensions(
    truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray
) -> dict[str, Estimate]:
    """Return {score_dimension: Estimate} of (N, D), of the dimensions that have two rated rows."""
    result = {}
    for name, true, values in zip(DIMENSIONS, truth.T, predicted.T, strict=True):
        rated = np.isfinite(true)
        if rated.sum() > 1:
            found = estimate(true[rated], values[rated], groups[rated])
            result |= {f"{score}_{name}": one for score, one in found.items()}
    return result


def measure(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> dict:
    """Return {ccc_valence: float, ccc_valence_ci: [low, high], ...}; None where there are none."""
    result = no_scores()
    for name, score in estimate_dimensions(truth, predicted, groups).items():
        bounds = metrics.plain_interval(score, *BOUNDS[name.partition("_")[0]])
        result |= {name: float(score.value), f"{name}_ci": bounds}
    return result


def no_scores() -> dict:
    """Return the fields of `measure` of a method without valence and arousal."""
    names = [f"{score}_{dimension}" for dimension in DIMENSIONS for score in SCORES]
    return {field: None for name in names for field in (name, f"{name}_ci")}


def compare(
    truth: np.ndarray, predicted: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> dict:
    """Return differences (first less second) of CCC with intervals and p, as scoring.compare."""
    first, second = (estimate_dimensions(truth, values, groups) for values in (predicted, other))
    result = {}
    for name in [name for name in first if name.startswith("ccc")]:
        difference = first[name] - second[name]
        result |= {name: float(difference.value), f"{name}_p": difference.p}
        result[f"{name}_ci"] = metrics.plain_interval(difference, -2, 2)
    return result
