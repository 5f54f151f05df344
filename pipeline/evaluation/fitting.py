"""What fusion methods that learn share: rows to learn from, what was fitted, cross-validation.

A method that learns is a function `fit(rows) -> Fitted`; what it returns predicts from logits
alone, so it cannot see the labels of the rows it predicts. `cross_fit` predicts every row by a
method that was fitted without the row's group.
Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import GroupKFold

from pipeline.evaluation.predictions import MODELS
from pipeline.labels import LABELS

FOLDS = 5
# Same bits on every run and for every number of cores.
LIGHTGBM = {"random_state": 0, "deterministic": True, "force_row_wise": True, "n_jobs": 1}


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


def name(values: np.ndarray) -> dict:
    """Name one number per model, for people and JSON."""
    return dict(zip(MODELS, values.tolist(), strict=True))
