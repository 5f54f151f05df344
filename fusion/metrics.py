"""Scores of predictions, their intervals over sessions, and paired tests of two methods.

An interval comes from the jackknife over sessions (one session is left out at a time): both
speakers of a session share scripts and a partner, so rows and speakers are not independent. Every
score but ECE is a function of the confusion matrix, and a session is left out by subtracting its
matrix.
Shapes: N rows, C labels, G groups (sessions), B confidence bins.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # binomial; Student's t, its quantiles

SCORES = ("accuracy", "f1", "precision", "recall", "macro_f1", "uar", "ece")
BINS = 15  # of equal width, for the expected calibration error
FEW = 5  # sessions, up to which the caption warns

Errors = list[tuple[np.ndarray, int]]  # standard errors (...), each with its degrees of freedom


def scores(truth: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    """Return every score but ECE of label ids (N,); for the definitions see `score_matrices`."""
    return {name: float(v) for name, v in score_matrices(confusion(truth, pred)).items()}


def confusion(truth: np.ndarray, pred: np.ndarray, classes: int = 0) -> np.ndarray:
    """Count rows by (truth, prediction), (C, C), of `classes` labels or those up to the last."""
    size = max(classes, np.max(truth) + 1, np.max(pred) + 1)
    cells = np.asarray(truth) * size + np.asarray(pred)
    return np.bincount(cells, minlength=size**2).reshape(size, size)


def class_scores(matrices: np.ndarray) -> dict:
    """Return precision, recall, f1 per class, (..., C) each, of confusion matrices (..., C, C).

    A share of nothing is 0, as with scikit-learn's zero_division=0.
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


def choose_groups(sessions, speakers, rows: int) -> tuple[np.ndarray, str]:
    """Return the group 0..G-1 of each row, (N,), and a description of the groups for captions.

    Groups are sessions; of one session its speakers, and of one speaker the rows.
    sessions, speakers (N,), or None if they are unknown; rows: N.
    """
    for names, kind in ((sessions, "sessions"), (speakers, "speakers")):
        values, groups = np.unique([] if names is None else names, return_inverse=True)
        if len(values) > 1:
            doubt = " (too narrow: one session)" if kind == "speakers" else ""
            if kind == "sessions" and len(values) <= FEW:
                doubt = " (few: others may differ by more than these show)"
            return groups, f"{len(values)} {kind}{doubt}"
    known = "speakers are unknown" if speakers is None else "one speaker"
    return np.arange(rows), f"{rows} rows (too narrow: {known})"


class Estimate(NamedTuple):
    """A score (...) and its values without each group (G, ...) and without each row (N, ...).

    Two of the same rows can be subtracted: the difference of two methods, paired.
    """

    value: np.ndarray
    without_group: np.ndarray
    without_row: np.ndarray

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(*(first - second for first, second in zip(self, other, strict=True)))

    @property
    def errors(self) -> Errors:
        """The jackknife's standard errors (...), over groups and over rows, and their freedom.

        Around the score itself, not the mean of the others: where groups are few it errs upwards
        (MacKinnon, Nielsen and Webb, 2023, on jackknife methods for cluster-robust inference).
        """
        return [
            (np.sqrt((1 - 1 / len(w)) * np.square(w - self.value).sum(axis=0)), max(len(w) - 1, 1))
            for w in (self.without_group, self.without_row)
        ]

    @property
    def margin(self) -> np.ndarray:
        """The 95 % margin of error: a quantile of Student's t times the standard error.

        The larger one of groups and rows: that a few groups agree by chance makes no score certain.
        """
        return margin_of(self.errors)

    @property
    def p(self) -> float:
        """Two-sided p of a difference, below .05 where its interval does not touch 0."""
        return p_of(self.value, self.errors)


def margin_of(errors: Errors) -> np.ndarray:
    """Return the largest 95 % margin of error, (...); see Estimate."""
    return np.maximum.reduce([stdtrit(freedom, 0.975) * error for error, freedom in errors])


def p_of(difference: np.ndarray, errors: Errors) -> float:
    """Return the two-sided p of a difference, the largest of those by each error."""
    if not difference:
        return 1.0
    with np.errstate(divide="ignore"):
        return float(max(2 * stdtr(freedom, -np.abs(difference) / e) for e, freedom in errors))


def estimate(
    score, truth: np.ndarray, pred: np.ndarray, groups: np.ndarray, classes: int = 0
) -> dict:
    """Return {name: Estimate} of every score that `score` makes of confusion matrices.

    score: `score_matrices` or `class_scores`; groups (N,): the number 0..G-1 of each row's group;
    classes: see `confusion`.
    """
    size, number = max(classes, truth.max() + 1, pred.max() + 1), groups.max() + 1
    cells = truth * size + pred
    of_group = np.bincount(groups * size**2 + cells, minlength=number * size**2)
    of_group = of_group.reshape(number, size, size)
    of_cell = np.eye(size**2, dtype=np.int64).reshape(-1, size, size)  # one row each
    total = of_group.sum(axis=0)
    value, without_group, without_cell = map(score, (total, total - of_group, total - of_cell))
    return {
        name: Estimate(value[name], without_group[name], without_cell[name][cells])
        for name in value
    }


def estimate_mean(values: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return the mean of values (N,) as an Estimate; groups (N,): 0..G-1."""
    count, total = len(values), values.sum()
    without_group = total - np.bincount(groups, weights=values)
    without_group /= np.maximum(count - np.bincount(groups), 1)
    return Estimate(total / count, without_group, (total - values) / max(count - 1, 1))


def estimate_calibration(truth, pred, probabilities, groups: np.ndarray) -> Estimate:
    """Return the expected calibration error as an Estimate.

    |accuracy - confidence| of a bin, mean over rows; confidence is the prediction's probability.
    """
    confidence = np.take_along_axis(probabilities, pred[:, None], axis=1)[:, 0]
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps, rows = (truth == pred) - confidence, len(bins)
    of_group = np.zeros((groups.max() + 1, BINS))
    np.add.at(of_group, (groups, bins), gaps)
    total = of_group.sum(axis=0)
    size = np.abs(total).sum()
    without_row = size - np.abs(total[bins]) + np.abs(total[bins] - gaps)
    return Estimate(
        size / rows,
        np.abs(total - of_group).sum(axis=1) / np.maximum(rows - np.bincount(groups), 1),
        without_row / max(rows - 1, 1),
    )


def reliability(right: np.ndarray, confidence: np.ndarray) -> list[list[float]]:
    """Return of each bin of confidences (N,) that has rows: their number, mean, and share right.

    right (N,): whether a row is. The bins are those of the expected calibration error.
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return [
        [int(rows.sum()), float(confidence[rows].mean()), float(right[rows].mean())]
        for rows in (bins == number for number in np.unique(bins))
    ]


def risk_coverage(right: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return order, covered and wrong, (N,) each, of right and confidence (N,).

    order: the rows by falling confidence; covered: how many are at least as confident as each of
    these, so that tied ones are covered together; wrong: how many of the covered ones are wrong.
    """
    order = np.argsort(-confidence, kind="stable")
    falling = -confidence[order]
    covered = np.searchsorted(falling, falling, side="right")
    return order, covered, np.cumsum(~right[order])[covered - 1]


def estimate_risk(right: np.ndarray, confidence: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return the area under the risk-coverage curve (AURC) as an Estimate.

    The share of wrong rows among those that are at least as confident as a row, mean over rows
    (Geifman and El-Yaniv, 2017: Selective classification for deep neural networks). It is the error
    rate where confidence tells nothing, and lower the better the surest rows are.
    right (N,) bool, confidence (N,), groups (N,): 0..G-1.
    """

    def area(rest: np.ndarray) -> float:
        _, covered, wrong = risk_coverage(right[rest], confidence[rest])
        return (wrong / covered).sum() / max(rest.sum(), 1)

    rows = len(right)
    order, covered, wrong = risk_coverage(right, confidence)
    is_wrong, fewer = ~right[order], np.maximum(covered - 1, 1)
    # Without a row, whatever is as confident or less covers one row less, and maybe one error less.
    surer = np.searchsorted(-confidence[order], -confidence[order], side="left")
    kept, lost, each = (
        np.append(0, np.cumsum(terms)) for terms in (wrong / covered, wrong / fewer, 1 / fewer)
    )
    rest = kept[surer] + lost[-1] - lost[surer] - is_wrong * (each[-1] - each[surer])
    without_row = np.empty(rows)
    without_row[order] = (rest - (wrong - is_wrong) / fewer) / max(rows - 1, 1)
    without_group = np.array([area(groups != group) for group in range(groups.max() + 1)])
    return Estimate(kept[-1] / rows, without_group, without_row)


def best_risk(rows: int, wrong: int) -> float:
    """Return the least area under the risk-coverage curve: with every wrong row behind the others.

    What an area has above this is its excess (Geifman, Uziel and El-Yaniv, 2019: Bias-reduced
    uncertainty estimation for deep neural classifiers).
    """
    right = rows - wrong
    return float((1 - right / np.arange(right + 1, rows + 1)).sum() / rows)


def share_interval(score: Estimate, rows: np.ndarray) -> np.ndarray:
    """Return the 95 % interval of a share of rows, or a mean of such shares, (..., 2).

    Wilson's, with as many independent rows as would give the score its margin (Franco, Little,
    Louis and Slud, 2019, on proportions in complex sample surveys). It stays within 0..1. Where all
    rows or none are right, and every error is 0, `rows` (...) of the share count as independent.
    """
    share, quantile = score.value, stdtrit(score.errors[0][1], 0.975)
    spread = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = quantile**2 / np.maximum(rows, 1e-9)
        excess = np.where(spread > 0, score.margin**2 / spread, excess)
    middle, width = share + excess / 2, np.sqrt(excess * spread + excess**2 / 4)
    return np.stack([middle - width, middle + width], axis=-1) / (1 + excess)[..., None]


def plain_interval(score: Estimate, lowest: float, highest: float = 1) -> list[float]:
    """Return the 95 % interval [low, high] of a score that is no share, within lowest..highest."""
    bounds = [score.value - score.margin, score.value + score.margin]
    return np.clip(bounds, lowest, highest).tolist()


def measure(truth, pred, probabilities, groups: np.ndarray) -> dict:
    """Return every score with its 95 % interval: {name: float, name_ci: [low, high]}.

    probabilities: (N, C), or None: then the ECE and its interval are None.
    """
    result = {}
    for name, score in estimate(score_matrices, truth, pred, groups).items():
        bounds = share_interval(score, len(pred)).tolist()
        result |= {name: float(score.value), f"{name}_ci": bounds}
    if probabilities is None:
        return result | {"ece": None, "ece_ci": None}
    error = estimate_calibration(truth, pred, probabilities, groups)
    return result | {"ece": float(error.value), "ece_ci": plain_interval(error, 0)}


def show_score(value: float, bounds: list[float]) -> str:
    return f"{value:.3f} ({bounds[0]:.2f}-{bounds[1]:.2f})"


def with_interval(scores: dict, name: str) -> str:
    """Return a score of `measure` as text: 0.712 (0.65-0.77)."""
    return "-" if scores[name] is None else show_score(scores[name], scores[f"{name}_ci"])
