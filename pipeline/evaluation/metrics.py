"""Scores of predictions, their intervals over speakers, and paired tests of two methods.

Every score but ECE is a function of the confusion matrix, so the same code serves one prediction
and a bootstrap of thousands: a resample's matrix is a weighted sum of the speakers' matrices.
Shapes: N rows, C = 7 labels, G groups (speakers), R resamples, B confidence bins.
"""

import numpy as np
from scipy import stats

from pipeline.labels import LABELS

SCORES = ("accuracy", "f1", "precision", "recall", "macro_f1", "uar", "ece")
BINS = 15  # of equal width, for the expected calibration error
CLASSES = len(LABELS)


def scores(truth: np.ndarray, pred: np.ndarray, probabilities: np.ndarray | None = None) -> dict:
    """Return every score of one prediction as {name: float}; `ece` is None without probabilities.

    truth, pred (N,) label ids; probabilities (N, C). What each score is: see `score_matrices`.
    """
    result = score_matrices(confusion(truth, pred))
    result["ece"] = None if probabilities is None else calibration_error(truth, pred, probabilities)
    return {name: None if value is None else float(value) for name, value in result.items()}


def confusion(truth: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Count rows by (truth, prediction), (C, C)."""
    cells = np.asarray(truth) * CLASSES + np.asarray(pred)
    return np.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def class_scores(matrices: np.ndarray) -> dict:
    """Return precision, recall, f1 per class, (..., C) each, of confusion matrices (..., C, C).

    A share of nothing is 0, as scikit-learn's zero_division=0 has it.
    """
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    return {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / np.maximum(support, 1),
        "f1": 2 * right / np.maximum(support + predicted, 1),
    }


def score_matrices(matrices: np.ndarray) -> dict:
    """Return every score but ECE, (...) each, of confusion matrices (..., C, C).

    f1, precision and recall weight a class by its rows. macro_f1 is the mean over classes that
    occur in truth or prediction (scikit-learn's default), uar the mean recall over those in truth.
    """
    per_class = class_scores(matrices)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    total = np.maximum(support.sum(axis=-1), 1)

    def mean(name: str, weights: np.ndarray) -> np.ndarray:
        return (per_class[name] * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1)

    return {
        "accuracy": np.trace(matrices, axis1=-2, axis2=-1) / total,
        "f1": mean("f1", support),
        "precision": mean("precision", support),
        "recall": mean("recall", support),
        "macro_f1": mean("f1", support + predicted > 0),
        "uar": mean("recall", support > 0),
    }


def calibration_bins(truth: np.ndarray, pred: np.ndarray, probabilities: np.ndarray) -> tuple:
    """Return bin, confidence (the probability of the prediction) and correctness, (N,) each."""
    confidence = np.take_along_axis(probabilities, pred[:, None], axis=1)[:, 0]
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return bins, confidence, (truth == pred).astype(np.float64)


def calibration_error(truth: np.ndarray, pred: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error: |accuracy - confidence| of a bin, mean over rows."""
    bins, confidence, correct = calibration_bins(truth, pred, probabilities)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / max(len(bins), 1))


def draw_counts(groups: int, resamples: int, seed: int) -> np.ndarray:
    """Draw how often each group occurs in each bootstrap resample, (R, G)."""
    random = np.random.default_rng(seed)
    return random.multinomial(groups, np.full(groups, 1 / groups), size=resamples)


def bootstrap(truth, pred, probabilities, groups: np.ndarray, counts: np.ndarray) -> dict:
    """Return every score of every resample, {name: (R,)}.

    groups (N,): the number 0..G-1 of each row's group; counts (R, G) from `draw_counts`. The same
    counts for two methods make their difference a paired bootstrap.
    """
    number = counts.shape[1]
    cells = groups * CLASSES**2 + truth * CLASSES + pred
    matrices = np.bincount(cells, minlength=number * CLASSES**2).reshape(number, CLASSES**2)
    weights = counts.astype(np.float64)  # BLAS multiplies floats only; sums stay exact below 2**53
    result = score_matrices((weights @ matrices).reshape(-1, CLASSES, CLASSES))
    if probabilities is not None:
        bins, confidence, correct = calibration_bins(truth, pred, probabilities)
        gaps = np.bincount(
            groups * BINS + bins, weights=correct - confidence, minlength=number * BINS
        ).reshape(number, BINS)
        rows = np.maximum(weights @ np.bincount(groups, minlength=number), 1)
        result["ece"] = np.abs(weights @ gaps).sum(axis=1) / rows
    return result


def interval(values: np.ndarray, groups: int) -> list[float]:
    """Return the 95 % interval of bootstrap values (R,) drawn from so many groups.

    Percentiles, moved outwards for few groups: with eight speakers the plain ones cover about 89 %
    (the "expanded percentile interval" of Hesterberg, 2015: What teachers should know about the
    bootstrap).
    At least two groups.
    """
    width = stats.t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1))
    tail = stats.norm.cdf(-width)
    return [float(bound) for bound in np.quantile(values, [tail, 1 - tail])]


def compare(truth, pred, other, groups: np.ndarray, counts: np.ndarray) -> dict:
    """Compare two predictions of the same rows: paired bootstrap over groups, and McNemar's test.

    Returns, for accuracy, macro_f1 and uar, the difference (first less second), its interval and p
    (a t test with the bootstrap's standard error and one degree of freedom less than groups); and
    McNemar's exact p with the numbers of rows that only one of the two has right.
    """
    point, point_other = scores(truth, pred), scores(truth, other)
    ours = bootstrap(truth, pred, None, groups, counts)
    theirs = bootstrap(truth, other, None, groups, counts)
    number, result = counts.shape[1], {}
    for name in ("accuracy", "macro_f1", "uar"):
        differences, difference = ours[name] - theirs[name], point[name] - point_other[name]
        error = differences.std() * np.sqrt(number / (number - 1))
        p = 2 * stats.t.sf(abs(difference) / error, number - 1) if error else float(not difference)
        result |= {name: difference, f"{name}_p": float(p)}
        result[f"{name}_ci"] = interval(differences, number)
    first_only = int(((pred == truth) & (other != truth)).sum())
    second_only = int(((pred != truth) & (other == truth)).sum())
    result |= {"first_only": first_only, "second_only": second_only}
    result["mcnemar_p"] = mcnemar(first_only, second_only)
    return result


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided exact p of McNemar's test from the numbers of discordant rows."""
    if first_only + second_only == 0:
        return 1.0
    return float(stats.binomtest(first_only, first_only + second_only).pvalue)
