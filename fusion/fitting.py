"""What fitted methods share: the rows to learn from, temperatures, cross-validation by group.

A method is a function `fit(logit_set)` whose result has `predict(logits)`: it sees logits alone, so
it cannot see the labels of the rows that it predicts.
Shapes: M models, N rows, C = 7 labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold

from common.files import LABELS

CLASSES = len(LABELS)
FOLDS = 5


@dataclass(frozen=True, eq=False)  # hashed by identity, so that lru_cache takes it
class LogitSet:
    """Rows to learn from: logits (M, N, C), truth (N,), groups (N,) or None if unknown.

    Cross-validation keeps a group together. clusters (N,): the groups of the standard errors,
    sessions wherever there are two (metrics.choose_groups); None: the same groups.
    """

    logits: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None
    clusters: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> "LogitSet":
        """Return the rows where `chosen` (N,) is true."""
        groups, clusters = (
            None if names is None else names[chosen] for names in (self.groups, self.clusters)
        )
        return LogitSet(self.logits[:, chosen], self.truth[chosen], groups, clusters)

    def select(self, models: list[int]) -> "LogitSet":
        """Return the same rows with the logits of these models only."""
        return LogitSet(self.logits[models], self.truth, self.groups, self.clusters)

    @cached_property
    def temperatures(self) -> np.ndarray:
        """The temperature T of each model that makes softmax(logits / T) most likely, (M,)."""
        return fit_temperatures(self.logits, self.truth)

    @cached_property
    def cluster_numbers(self) -> np.ndarray:
        """The number 0..G-1 of each row's cluster, (N,): each row is one where none is known."""
        names = self.groups if self.clusters is None else self.clusters
        every_row = np.arange(len(self.truth))
        return every_row if names is None else np.unique(names, return_inverse=True)[1]


class Fitted(NamedTuple):
    """A fitted method: predict(logits (M, N, C)) -> probabilities (N, C)."""

    predict: Callable[[np.ndarray], np.ndarray]


def fit_temperatures(every: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return for each model's logits the T that makes softmax(logits / T) most likely, (M,)."""
    every_row = np.arange(len(truth))

    def loss(log_temperature: float, logits: np.ndarray) -> float:
        scores = logits / np.exp(log_temperature)  # (C, N): sums over labels are fast this way
        return (logsumexp(scores) - scores[truth, every_row]).mean()

    settings = {"bounds": (-3, 3), "options": {"xatol": 1e-3}}
    return np.exp(
        [
            minimize_scalar(loss, args=(np.ascontiguousarray(logits.T),), **settings).x
            for logits in every
        ]
    )


def logsumexp(scores: np.ndarray) -> np.ndarray:
    """Return log(sum(exp(scores))) over the first axis; scipy's takes three times as long."""
    largest = scores.max(axis=0)
    return largest + np.log(np.exp(scores - largest).sum(axis=0))


def deal_folds(rows: LogitSet, seed: int = 0) -> np.ndarray:
    """Return the fold of every row, (N,): whole groups if there are two, else rows of each label.

    Another seed deals the groups anew.
    """
    fold = np.empty(len(rows.truth), np.int64)
    if rows.groups is not None and (number := len(np.unique(rows.groups))) > 1:
        dealer = GroupKFold(min(FOLDS, number), shuffle=True, random_state=seed)
        for k, (_, inside) in enumerate(dealer.split(rows.truth, groups=rows.groups)):
            fold[inside] = k
        return fold
    by_label = np.lexsort((np.random.default_rng(seed).random(len(fold)), rows.truth))
    fold[by_label] = np.arange(len(fold)) % FOLDS
    return fold


def cross_fit(fit: Callable, rows: LogitSet) -> np.ndarray:
    """Return probabilities (N, C), each row's by a method fitted on the other folds."""
    fold, probabilities = deal_folds(rows), np.empty((len(rows.truth), CLASSES))
    for k in np.unique(fold):
        inside = fold == k
        rest = rows.take(~inside) if inside.sum() < len(inside) else rows
        probabilities[inside] = fit(rest).predict(rows.logits[:, inside])
    return probabilities
