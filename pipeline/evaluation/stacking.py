"""Decision fusion: what three models say about an utterance -> one prediction.

A method that learns is a function `fit(rows) -> Fitted`; what it returns predicts from logits
alone, so it cannot see the labels of the rows it predicts. `cross_fit` predicts every row by a
method that was fitted without the row's group.
Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels, K = 3 x 7 features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from lightgbm import LGBMClassifier
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.model_selection import GroupKFold

from pipeline.evaluation import metrics
from pipeline.evaluation.predictions import MODELS
from pipeline.labels import LABELS

FOLDS = 5
GRID = 20  # steps of the grid of weights: 231 points
# Same bits on every run and for every number of cores.
LIGHTGBM = {"random_state": 0, "deterministic": True, "force_row_wise": True, "n_jobs": 1}
SMALLEST = (
    1e-6  # probability below which a wrong certainty costs no more, where methods are compared
)


@dataclass(frozen=True)
class Rows:
    """Rows to learn from: logits (M, N, C), truth (N,), groups (N,) or None if unknown."""

    logits: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None

    def take(self, chosen: np.ndarray) -> "Rows":
        """Return the rows where `chosen` (N,) is true."""
        groups = None if self.groups is None else self.groups[chosen]
        return Rows(self.logits[:, chosen], self.truth[chosen], groups)


class Fitted(NamedTuple):
    """A fitted method: predict(logits (M, N, C)) -> probabilities (N, C), and what was learned."""

    predict: Callable[[np.ndarray], np.ndarray]
    learned: dict


# Methods that learn nothing


def vote_soft(logits: np.ndarray) -> np.ndarray:
    """Average the models' probabilities, (N, C)."""
    return softmax(logits, axis=-1).mean(axis=0)


def vote_hard(logits: np.ndarray) -> np.ndarray:
    """Return the label with most votes, (N,); of equals the one with most summed probability."""
    votes = np.eye(len(LABELS))[logits.argmax(axis=-1)].sum(axis=0)
    return (votes + vote_soft(logits)).argmax(axis=-1)


# Methods that learn


def fit_majority(rows: Rows) -> Fitted:
    """Predict the shares of the labels, whatever the models say."""
    shares = np.bincount(rows.truth, minlength=len(LABELS)) / len(rows.truth)
    learned = {"label": LABELS[int(shares.argmax())]}
    return Fitted(lambda logits: np.tile(shares, (logits.shape[1], 1)), learned)


def fit_temperatures(rows: Rows) -> np.ndarray:
    """Return for each model the T that makes softmax(logits / T) most likely, (M,)."""

    def loss(log_temperature: float, logits: np.ndarray) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=-1)
        return -log_probabilities[np.arange(len(rows.truth)), rows.truth].mean()

    return np.exp(
        [minimize_scalar(loss, bounds=(-3, 3), args=(logits,)).x for logits in rows.logits]
    )


def fit_weighted_soft(rows: Rows) -> Fitted:
    """Average calibrated probabilities with the weights, sum 1, of the best macro F1.

    The mean of the best points of a grid. Maximal likelihood scored 1-3 points less in simulations:
    an average of calibrated probabilities is too flat, so likelihood leans on a single model.
    """
    temperatures = fit_temperatures(rows)[:, None, None]
    calibrated = softmax(rows.logits / temperatures, axis=-1)
    steps = range(GRID + 1)
    grid = np.array([w for w in product(steps, repeat=len(MODELS)) if sum(w) == GRID]) / GRID
    scores = np.array(
        [
            metrics.scores(rows.truth, np.tensordot(w, calibrated, axes=1).argmax(-1))["macro_f1"]
            for w in grid
        ]
    )
    weights = grid[scores >= scores.max() - 1e-12].mean(axis=0)

    def predict(logits: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, softmax(logits / temperatures, axis=-1), axes=1)

    return Fitted(predict, {"weights": name(weights), "temperatures": name(temperatures.ravel())})


def fit_log_pool(rows: Rows) -> Fitted:
    """Add the models' log-probabilities, each times a weight, plus a bias per label.

    It is Bayes' rule for models that err independently given the label. Ten numbers, drawn towards
    the plain mean: safe with few rows.
    """
    identity = np.eye(len(LABELS))
    start = np.vstack([*[identity / len(MODELS)] * len(MODELS), np.zeros(len(LABELS))])
    directions = np.zeros((len(MODELS) + len(LABELS), *start.shape))
    for m in range(len(MODELS)):
        directions[m, m * len(LABELS) : (m + 1) * len(LABELS)] = identity
    directions[len(MODELS) :, -1] = identity
    features = make_log_features(rows)
    return fit_softmax_regression(features, rows, start, directions.reshape(len(directions), -1), 1)


def fit_logistic(rows: Rows) -> Fitted:
    """Multinomial logistic regression on calibrated log-probabilities, drawn towards the pool.

    All 22 x 7 weights are free, so a model may be trusted for one label and not for another; the
    more rows there are, the further the weights leave the pool's.
    """
    start = fit_log_pool(rows).learned["matrix"]
    return fit_softmax_regression(make_log_features(rows), rows, start, np.eye(start.size), 100)


def make_log_features(rows: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function logits (M, N, C) -> calibrated log-probabilities and a 1, (N, K + 1)."""
    temperatures = fit_temperatures(rows)[:, None, None]

    def features(logits: np.ndarray) -> np.ndarray:
        return np.hstack(
            [*log_softmax(logits / temperatures, axis=-1), np.ones((logits.shape[1], 1))]
        )

    return features


def fit_softmax_regression(
    features: Callable, rows: Rows, start: np.ndarray, directions: np.ndarray, precision: float
) -> Fitted:
    """Fit softmax(features @ matrix), where matrix = start + steps @ directions.

    start (K + 1, C); directions (D, (K + 1) x C): how the matrix may move away from its start. The
    steps (D,) maximise likelihood times normal priors with mean 0 and the given precision.
    """
    inputs, target, count = features(rows.logits), np.eye(len(LABELS))[rows.truth], len(rows.truth)

    def move(steps: np.ndarray) -> np.ndarray:
        return start + (steps @ directions).reshape(start.shape)

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        log_probabilities = log_softmax(inputs @ move(steps), axis=-1)
        slope = inputs.T @ (np.exp(log_probabilities) - target)
        value = -(log_probabilities * target).sum() + precision * steps @ steps / 2
        return value / count, (directions @ slope.ravel() + precision * steps) / count

    found = minimize(loss, np.zeros(len(directions)), jac=True, method="L-BFGS-B")
    matrix = move(found.x)
    return Fitted(lambda logits: softmax(features(logits) @ matrix, axis=-1), {"matrix": matrix})


def fit_trees(rows: Rows) -> Fitted:
    """Small gradient-boosted trees on the models' probabilities, (N, K)."""
    model = LGBMClassifier(
        n_estimators=60, learning_rate=0.05, num_leaves=6, max_bin=63, verbose=-1, **LIGHTGBM
    )
    return fit_classifier(model, lambda logits: np.hstack(softmax(logits, axis=-1)), rows)


def fit_published_stacking(rows: Rows) -> Fitted:
    """LightGBM's defaults on the three predicted label numbers: the stacker of the paper."""
    model = LGBMClassifier(verbose=-1, **LIGHTGBM)
    return fit_classifier(model, lambda logits: logits.argmax(axis=-1).T, rows)


def fit_classifier(model, features: Callable[[np.ndarray], np.ndarray], rows: Rows) -> Fitted:
    """Fit a scikit-learn classifier; labels that it has not seen get probability 0."""
    if len(np.unique(rows.truth)) < 2:
        return fit_majority(rows)
    model.fit(features(rows.logits), rows.truth)

    def predict(logits: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((logits.shape[1], len(LABELS)))
        probabilities[:, model.classes_] = model.predict_proba(features(logits))
        return probabilities

    return Fitted(predict, {})


STACKERS = {
    "log-linear pool": fit_log_pool,
    "logistic regression": fit_logistic,
    "LightGBM": fit_trees,
}


def fit_stacking(rows: Rows) -> Fitted:
    """Compare the stackers by cross-validation over groups, and refit the likeliest on all rows."""
    candidates = {}
    for stacker, fit in STACKERS.items():
        probabilities = cross_fit(fit, rows)
        of_truth = probabilities[np.arange(len(rows.truth)), rows.truth]
        scores = metrics.scores(rows.truth, probabilities.argmax(axis=-1))
        candidates[stacker] = {
            "log_loss": float(-np.log(np.maximum(of_truth, SMALLEST)).mean()),
            "accuracy": scores["accuracy"],
            "macro_f1": scores["macro_f1"],
        }
    winner = min(candidates, key=lambda stacker: candidates[stacker]["log_loss"])
    fitted = STACKERS[winner](rows)
    return fitted._replace(learned={"winner": winner, "candidates": candidates})


# Cross-validation


def deal_folds(rows: Rows) -> np.ndarray:
    """Return the fold of every row, (N,): whole groups if there are any, else label by label."""
    if rows.groups is not None and (number := len(np.unique(rows.groups))) > 1:
        fold = np.empty(len(rows.truth), np.int64)
        splits = GroupKFold(min(FOLDS, number)).split(rows.truth, groups=rows.groups)
        for k, (_, test) in enumerate(splits):
            fold[test] = k
        return fold
    fold = np.empty(len(rows.truth), np.int64)
    fold[np.argsort(rows.truth, kind="stable")] = np.arange(len(rows.truth)) % FOLDS
    return fold


def cross_fit(fit: Callable[[Rows], Fitted], rows: Rows) -> np.ndarray:
    """Return probabilities (N, C), each row's by a method fitted on the other folds."""
    fold, probabilities = deal_folds(rows), np.empty((len(rows.truth), len(LABELS)))
    for k in np.unique(fold):
        inside = fold == k
        rest = rows.take(~inside) if inside.sum() < len(inside) else rows
        probabilities[inside] = fit(rest).predict(rows.logits[:, inside])
    return probabilities


# The procedure of the paper

PUBLISHED_WEIGHTS = {"audio": 0.10, "text": 0.67, "cmbert": 0.23}
PUBLISHED_VOTES = {"audio": 0.2, "text": 0.5, "cmbert": 0.3}  # in the order in which they vote


def published_softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over all entries of a model's matrix (..., N, C), not over each row."""
    return softmax(logits, axis=(-2, -1))


def published_soft(logits: np.ndarray) -> np.ndarray:
    """Return the label with the largest sum of the published softmax, (N,)."""
    return published_softmax(logits).sum(axis=0).argmax(axis=-1)


def published_weighted_soft(logits: np.ndarray) -> np.ndarray:
    """The same with the weights that the paper wrote by hand, (N,)."""
    weights = [PUBLISHED_WEIGHTS[model] for model in MODELS]
    return np.tensordot(weights, published_softmax(logits), axes=1).argmax(axis=-1)


def published_hard(logits: np.ndarray) -> np.ndarray:
    """Return the label with the best score = votes x the weight of its first voter, (N,).

    The models vote in the order audio, text, CM-BERT; a later label must score strictly more. With
    these weights the text model's label always wins: it scores .5 alone (against at most .4), .4
    with audio (against .3), 1.0 with CM-BERT and .6 with both.
    """
    pred = dict(zip(MODELS, logits.argmax(axis=-1), strict=True))
    chosen, best = np.zeros(logits.shape[1], np.int64), np.zeros(logits.shape[1])
    voted = np.zeros((logits.shape[1], len(LABELS)), bool)
    every_row = np.arange(logits.shape[1])
    for model, weight in PUBLISHED_VOTES.items():
        votes = sum(pred[other] == pred[model] for other in MODELS)
        first = ~voted[every_row, pred[model]]
        better = first & (votes * weight > best)
        chosen[better], best[better] = pred[model][better], (votes * weight)[better]
        voted[every_row, pred[model]] = True
    return chosen


def name(values: np.ndarray) -> dict:
    """Name one number per model, for people and JSON."""
    return dict(zip(MODELS, values.tolist(), strict=True))
