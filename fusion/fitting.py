"""What fusions are fitted on: rows held out of training, of one run of the models or of folds.

A method is a function `fit(logit_set)` whose result has `predict(logits)`: it sees logits alone, so
it cannot see the labels of the rows that it predicts. Where there are no held-out rows, methods are
cross-validated on the test rows: no row's own group is learned from, but other test labels are.
Shapes: M models, N rows, C labels.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fusion import predictions
from fusion.outputs import HELD_OUT
from fusion.predictions import Predictions
from fusion.ratings import Ratings

FOLDS = 5


@dataclass(frozen=True, eq=False)
class LogitSet:
    """Rows to learn from: logits (M, N, C), truth (N,), groups (N,) that are kept together."""

    logits: np.ndarray
    truth: np.ndarray
    groups: np.ndarray

    def take(self, chosen: np.ndarray) -> "LogitSet":
        """Return the rows where `chosen` (N,) is true."""
        return LogitSet(self.logits[:, chosen], self.truth[chosen], self.groups[chosen])

    def select(self, models: list[int]) -> "LogitSet":
        """Return the same rows with the logits of these models only."""
        return LogitSet(self.logits[models], self.truth, self.groups)

    @property
    def classes(self) -> int:
        """C."""
        return self.logits.shape[-1]

    @cached_property
    def temperatures(self) -> np.ndarray:
        """The temperature T of each model that makes softmax(logits / T) most likely, (M,)."""
        return np.array([fit_temperature(logits, self.truth) for logits in self.logits])

    @cached_property
    def features(self) -> np.ndarray:
        """The `log_features` of the rows, (N, K)."""
        return log_features(self.logits, self.temperatures)

    @cached_property
    def group_numbers(self) -> np.ndarray:
        """The number 0..G-1 of each row's group, (N,)."""
        return np.unique(self.groups, return_inverse=True)[1]


class Fitted(NamedTuple):
    """A fitted method: predict(logits (M, N, C)) -> probabilities (N, C)."""

    predict: Callable[[np.ndarray], np.ndarray]


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the T that makes softmax(logits / T) most likely; logits (N, C)."""
    every_row, columns = np.arange(len(truth)), np.ascontiguousarray(logits.T)

    def loss(log_temperature: float) -> float:
        scores = columns / np.exp(log_temperature)  # (C, N): sums over labels are fast this way
        return (logsumexp(scores) - scores[truth, every_row]).mean()

    return np.exp(minimize_scalar(loss, bounds=(-3, 3), options={"xatol": 1e-3}).x)


def logsumexp(scores: np.ndarray) -> np.ndarray:
    """Return log(sum(exp(scores))) over the first axis; scipy's takes three times as long."""
    largest = scores.max(axis=0)
    return largest + np.log(np.exp(scores - largest).sum(axis=0))


def log_features(logits: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Return calibrated log-probabilities, the soft vote's, and a 1, (N, (M + 1) x C + 1).

    logits (M, N, C); temperatures (M,).
    """
    calibrated = log_softmax(logits / temperatures[:, None, None], axis=-1)
    vote = logsumexp(log_softmax(logits, axis=-1)) - np.log(len(logits))
    return np.hstack([*calibrated, vote, np.ones((logits.shape[1], 1))])


def assign_folds(groups: np.ndarray) -> np.ndarray:
    """Return a fold, at most FOLDS, for every row, (N,): whole groups (N,), at random."""
    names, number = np.unique(groups, return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[number] % FOLDS


def cross_fit(fit: Callable, rows: LogitSet) -> np.ndarray:
    """Return probabilities (..., N, C), each row's by a method fitted on the other folds."""
    fold, probabilities = assign_folds(rows.groups), []
    for k in np.unique(fold):
        rest = rows.take(fold != k) if fold.any() else rows  # of one group nothing is left
        probabilities.append(fit(rest).predict(rows.logits[:, fold == k]))
    in_order = np.argsort(np.argsort(fold, kind="stable"))
    return np.concatenate(probabilities, axis=-2)[..., in_order, :]


@dataclass(frozen=True)
class Fold:
    """One run of the models: the rows to learn from, the test rows, and a note for people.

    facts, ratings: of the rows to learn from, see Predictions.
    """

    rows: LogitSet
    test: Predictions
    is_held_out: bool
    fitted_on: str
    facts: pd.DataFrame | None
    ratings: Ratings | None = None

    def learn(self, fit: Callable) -> tuple:
        """Return probabilities of the test rows (N, C), and what was fitted on all rows."""
        fitted = fit(self.rows)
        if self.is_held_out:
            return fitted.predict(self.test.logits), fitted
        return cross_fit(fit, self.rows), fitted


def read_fold(outputs: Path) -> Fold:
    """Read the test rows and, if any model wrote them, the held-out rows."""
    test, folder = predictions.load(outputs), outputs / HELD_OUT
    print(f"test rows: {describe(test)} of {', '.join(test.models)} from {outputs}")
    if not predictions.find_models(folder):
        print(f"no held-out rows in {folder}: cross-validation on the test rows instead")
        note = "the test rows themselves, cross-validated: other test labels are learned from"
        return Fold(to_logit_set(test), test, False, note, test.facts, test.ratings)
    held_out = predictions.load(folder, baselines=())  # theirs are the validation rows
    predictions.check_held_out(test, held_out)
    chose = ""
    if any(run.get("settings", {}).get("folds") == 0 for run in held_out.runs.values()):
        chose = "; they chose the models' epochs as well"
    note = f"held-out rows ({describe(held_out)}{chose})"
    print(f"{note} from {folder}")
    rows = to_logit_set(held_out)
    return Fold(rows, test, True, note, held_out.facts, held_out.ratings)


def describe(rows: Predictions) -> str:
    """Say how many rows there are, of how many sessions and speakers."""
    if rows.facts is None:
        return f"{len(rows.truth)} rows of unknown speakers"
    sessions, speakers = (len(set(rows.groups(kind))) for kind in ("session", "speaker"))
    known = next(iter(rows.runs.values())).get("speakers", "known")
    supposed = "supposed " if known == "supposed" else ""
    whose = f"{speakers} {supposed}speaker{'s' * (speakers > 1)}"
    whose = "unknown speakers" if known == "unknown" else whose
    return f"{len(rows.truth)} rows of {sessions} session{'s' * (sessions > 1)}, {whose}"


def to_logit_set(rows: Predictions) -> LogitSet:
    """Return rows to learn from, in the groups of the tables' intervals."""
    return LogitSet(rows.logits, rows.truth, rows.resample()[0])


def average(every: list):
    """Return what the folds learned alike as one: numbers, arrays or texts, or dicts of them.

    Of numbers the mean, of texts how often each occurs; of dicts the names that all have.
    """
    if isinstance(every[0], dict):
        names = [name for name in every[0] if all(name in one for one in every)]
        return {name: average([one[name] for one in every]) for name in names}
    if isinstance(every[0], str):
        counts = Counter(every)
        texts = [f"{text} ({count} of {len(every)} folds)" for text, count in counts.items()]
        return every[0] if len(counts) == 1 else ", ".join(texts)
    return np.mean(every, axis=0).tolist()
