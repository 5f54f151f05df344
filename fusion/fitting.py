"""What fusion methods that learn share: rows to learn from, what was fitted, cross-validation.

A method that learns is a function `fit(rows)` whose result predicts from logits alone, so it cannot
see the labels of the rows it predicts. `cross_fit` predicts every row by a method that was fitted
without the row's group.
Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold

from pipeline.files import UserError
from pipeline.labels import LABELS

FOLDS = 5
# Same bits on every run and for every number of cores.
LIGHTGBM = {"random_state": 0, "deterministic": True, "force_row_wise": True, "n_jobs": 1}


@dataclass(frozen=True, eq=False)  # the same object or another: what is fitted can be cached
class Rows:
    """Rows to learn from: logits (M, N, C), truth (N,), groups (N,) or None if unknown.

    Cross-validation keeps a group together. clusters (N,): what standard errors are over, sessions
    wherever there are two (scoring.choose_groups); None: over the groups.
    """

    logits: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None
    clusters: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> "Rows":
        """Return the rows where `chosen` (N,) is true."""
        groups, clusters = (
            None if names is None else names[chosen] for names in (self.groups, self.clusters)
        )
        return Rows(self.logits[:, chosen], self.truth[chosen], groups, clusters)

    @cached_property
    def temperatures(self) -> np.ndarray:
        """The T of each model that makes softmax(logits / T) most likely, (M,)."""
        return fit_temperatures(self)

    @cached_property
    def cluster_numbers(self) -> np.ndarray:
        """The number 0..G-1 of what standard errors are over, (N,): of the row where unknown."""
        names = self.groups if self.clusters is None else self.clusters
        every_row = np.arange(len(self.truth))
        return every_row if names is None else np.unique(names, return_inverse=True)[1]

    def hear(self, models: list[int]) -> "Rows":
        """Return the same rows with the logits of these models only."""
        return Rows(self.logits[models], self.truth, self.groups, self.clusters)


class Fitted(NamedTuple):
    """A fitted method: predict(logits (M, N, C)) -> probabilities (N, C)."""

    predict: Callable[[np.ndarray], np.ndarray]


def load_lightgbm() -> ModuleType:
    """Return the module lightgbm; UserError where the system lacks the OpenMP library it needs."""
    try:
        import lightgbm
    except OSError as error:
        raise UserError(
            f"LightGBM cannot be loaded ({error}): apt-get install libgomp1, "
            "or on macOS brew install libomp"
        ) from None
    return lightgbm


def fit_majority(rows: Rows) -> Fitted:
    """Predict the shares of the labels, whatever the models say."""
    shares = np.bincount(rows.truth, minlength=len(LABELS)) / len(rows.truth)
    return Fitted(lambda logits: np.tile(shares, (logits.shape[1], 1)))


def fit_temperatures(rows: Rows) -> np.ndarray:
    """Return for each model the T that makes softmax(logits / T) most likely, (M,)."""
    every_row = np.arange(len(rows.truth))

    def loss(log_temperature: float, logits: np.ndarray) -> float:
        scores = logits / np.exp(log_temperature)  # (C, N): sums over labels are fast this way
        return (logsumexp(scores) - scores[rows.truth, every_row]).mean()

    settings = {"bounds": (-3, 3), "options": {"xatol": 1e-3}}
    return np.exp(
        [
            minimize_scalar(loss, args=(np.ascontiguousarray(logits.T),), **settings).x
            for logits in rows.logits
        ]
    )


def logsumexp(scores: np.ndarray) -> np.ndarray:
    """Return log(sum(exp(scores))) over the first axis."""
    largest = scores.max(axis=0)
    return largest + np.log(np.exp(scores - largest).sum(axis=0))


def fit_classifier(model, features: Callable[[np.ndarray], np.ndarray], rows: Rows) -> Fitted:
    """Fit a scikit-learn classifier; labels that it has not seen get probability 0."""
    if len(np.unique(rows.truth)) < 2:
        return fit_majority(rows)
    model.fit(features(rows.logits), rows.truth)

    def predict(logits: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((logits.shape[1], len(LABELS)))
        probabilities[:, model.classes_] = model.predict_proba(features(logits))
        return probabilities

    return Fitted(predict)


def deal_folds(rows: Rows, deal: int = 0) -> np.ndarray:
    """Return the fold of every row, (N,): whole groups if there are two, else rows of each label.

    Another number `deal` deals anew.
    """
    fold = np.empty(len(rows.truth), np.int64)
    if rows.groups is not None and (number := len(np.unique(rows.groups))) > 1:
        dealer = GroupKFold(min(FOLDS, number), shuffle=True, random_state=deal)
        for k, (_, inside) in enumerate(dealer.split(rows.truth, groups=rows.groups)):
            fold[inside] = k
        return fold
    by_label = np.lexsort((np.random.default_rng(deal).random(len(fold)), rows.truth))
    fold[by_label] = np.arange(len(fold)) % FOLDS
    return fold


def cross_fit(fit: Callable, rows: Rows, deal: int = 0) -> np.ndarray:
    """Return probabilities (N, C), each row's by a method fitted on the other folds."""
    fold, probabilities = deal_folds(rows, deal), np.empty((len(rows.truth), len(LABELS)))
    for k in np.unique(fold):
        inside = fold == k
        rest = rows.take(~inside) if inside.sum() < len(inside) else rows
        probabilities[inside] = fit(rest).predict(rows.logits[:, inside])
    return probabilities
