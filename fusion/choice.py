"""The choice of the stacker: candidates compared by cross-validation, and the winner, stored.

Shapes: M models, N rows, C = 7 labels.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np

from fusion import metrics
from fusion.fitting import CLASSES, FOLDS, LogitSet, cross_fit, deal_folds
from fusion.methods import (
    fit_half_pool,
    fit_log_pool,
    fit_logistic,
    fit_soft,
    fit_weighted_soft,
)
from fusion.metrics import Estimate
from fusion.stored import Certainty, Form, Fusion, WeightedVote, list_sets

STACKERS = {
    "half pool, half soft voting": fit_half_pool,
    "log-linear pool": fit_log_pool,
    "logistic regression": fit_logistic,
}
# Class-balanced fitting, each row weighted by (share of its label) ** -power: with many rows it is
# a shift of the log-probabilities (logit adjustment: Menon et al., ICLR 2021), which with few rows
# is the steadier of the two.
BALANCE = (0.25, 0.0, 0.5)
CANDIDATES = {"soft voting": (fit_soft, 0.0), "weighted soft voting": (fit_weighted_soft, 0.0)}
CANDIDATES |= {
    f"{name}, balanced {power:g}" if power else name: (fit, power)
    for name, fit in STACKERS.items()
    for power in BALANCE
}
# The logistic regression learns so much that it learns the peculiarities of a session, which cross-
# validation over few groups does not show.
FLEXIBLE, ENOUGH_GROUPS = (fit_logistic,), 5
# With 100 real out-of-fold rows of one session the best, and hardly ever below soft voting; with
# thousands others show that they are better (runs/LOG.md). Another must lead by more than chance
# among sessions may do (the lead's 95 % interval): the best of many by a few rows is mostly luck.
DEFAULT = "half pool, half soft voting, balanced 0.25"
DEALS, ENOUGH_ROWS = 3, 10_000  # deals of the groups, fewer where they have so many rows
COVERAGE = 0.8  # share of the rows that are certain enough for a verdict
TARGETS = ("accuracy", "f1", "macro_f1", "uar")


@dataclass(frozen=True)
class Choice:
    """The winner: its name, the form fitted on all rows, the scores of all candidates by name.

    cross_validated (N, C): its probabilities of the rows, each fitted without the row's group.
    """

    winner: str
    form: Form
    candidates: dict[str, dict]
    cross_validated: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        return self.form.predict(logits)


def choose(rows: LogitSet, target: str) -> Choice:
    """Compare the candidates by cross-validation over groups, and refit the winner on all rows.

    target: the scores whose mean counts, joined by +, as in "accuracy+macro_f1".
    """
    groups = 0 if rows.groups is None else len(np.unique(rows.groups))
    names = [
        name
        for name, (fit, _) in CANDIDATES.items()
        if groups >= ENOUGH_GROUPS or fit not in FLEXIBLE
    ]
    # As many groups as folds, or fewer, can be dealt in one way only.
    deals = 1 if 1 < groups <= FOLDS else min(DEALS, max(1, ENOUGH_ROWS // len(rows.truth)))
    every = [cross_predict(rows, names, seed) for seed in range(deals)]
    candidates = compare(rows, every, target)
    ahead = {name: row["lead"] - row["margin"] for name, row in candidates.items()}
    best = max(ahead, key=ahead.get)
    winner = best if ahead[best] > 0 else DEFAULT
    return Choice(winner, fit_candidate(winner, rows), candidates, every[0][winner])


def fit_candidate(name: str, rows: LogitSet) -> Form:
    """Fit one candidate."""
    fit, power = CANDIDATES[name]
    return fit(rows).shift(balance(rows.truth, power)) if power else fit(rows)


def balance(truth: np.ndarray, power: float) -> np.ndarray:
    """Return the shift (C,) of the log-probabilities that stands for class-balanced fitting."""
    shares = np.bincount(truth, minlength=CLASSES) + 1  # a label may be missing
    return -power * np.log(shares / shares.sum())


def cross_predict(rows: LogitSet, names: list[str], seed: int) -> dict[str, np.ndarray]:
    """Return the candidates' probabilities (N, C), each row's fitted on the other folds.

    Candidates that differ in balance alone are fitted once.
    """
    fold, fits = deal_folds(rows, seed), dict.fromkeys(CANDIDATES[name][0] for name in names)
    probabilities = {name: np.empty((len(fold), CLASSES)) for name in names}
    for k in np.unique(fold):
        inside = fold == k
        rest = rows.take(~inside) if inside.sum() < len(inside) else rows
        plain = {fit: fit(rest).predict(rows.logits[:, inside]) for fit in fits}
        for name in names:
            fit, power = CANDIDATES[name]
            balanced = plain[fit] * np.exp(balance(rest.truth, power))
            probabilities[name][inside] = balanced / balanced.sum(axis=1, keepdims=True)
    return probabilities


def compare(rows: LogitSet, every: list[dict], target: str) -> dict[str, dict]:
    """Return by candidate its scores, its lead over the default, and the lead's margin of error.

    every: for each deal probabilities (N, C) by candidate; scores are means over the deals. The
    margin (95 %) is the larger one between sessions and between rows (metrics.Estimate).
    """

    def mean(name: str, scores: list[str]) -> Estimate:
        parts = [deal[name][score] for deal in estimates for score in scores]
        return Estimate(*(np.mean(values, axis=0) for values in zip(*parts, strict=True)))

    estimates = [
        {
            name: metrics.estimate(
                metrics.score_matrices, rows.truth, values.argmax(axis=-1), rows.cluster_numbers
            )
            for name, values in deal.items()
        }
        for deal in every
    ]
    candidates, default = {}, mean(DEFAULT, target.split("+"))
    for name in every[0]:
        lead = mean(name, target.split("+")) - default
        candidates[name] = {
            "lead": float(lead.value),
            "margin": float(lead.margin),
            **{score: float(mean(name, [score]).value) for score in TARGETS},
        }
    return candidates


def fit_fusion(
    rows: LogitSet, winner: str, inputs: dict[str, str], reading, fitted_on: str, notes: dict
) -> Fusion:
    """Fit the winner to every set of models; one model's fusion is its calibrated probabilities.

    Each set has a threshold, and another one for turns that are read with those before them.
    inputs: model -> what it needs of an utterance (list_sets), in the order of the logits.
    reading: a conversation.Reading or None.  notes: further fields of the Fusion.
    """
    methods, forms, certain, in_dialogue = {}, {}, {}, {}
    names = list(inputs)
    for models in list_sets(inputs):
        part = rows.select([names.index(model) for model in models])
        methods[models] = "calibrated" if len(models) == 1 else winner
        fit = fit_calibrated if len(models) == 1 else partial(fit_candidate, winner)
        crossed, forms[models] = cross_fit(fit, part), fit(part)
        certain[models] = find_certainty(crossed, rows.truth)
        if reading and reading.smooth:
            turns, read = reading.smooth(crossed)
            in_dialogue[models] = find_certainty(read, rows.truth[turns])
    temperatures = dict(zip(names, rows.temperatures.tolist(), strict=True))
    return Fusion(
        methods,
        forms,
        certain,
        in_dialogue,
        temperatures,
        **notes,
        fitted_on=fitted_on,
        dialogue=reading and reading.dialogue,
    )


def fit_calibrated(rows: LogitSet) -> WeightedVote:
    """Fit the temperature of a single model."""
    return WeightedVote(rows.temperatures, np.ones(1), np.array(1.0))


def find_certainty(probabilities: np.ndarray, truth: np.ndarray) -> Certainty:
    """Return the threshold that leaves COVERAGE of cross-validated probabilities (N, C) certain."""
    confidence = probabilities.max(axis=1)
    threshold = np.quantile(confidence, 1 - COVERAGE)
    certain = confidence >= threshold
    right = (probabilities.argmax(axis=1) == truth)[certain]
    return Certainty(float(threshold), float(certain.mean()), float(right.mean()))


def summarise(
    models: tuple[str, ...], votes: list[WeightedVote], choices: list[Choice], fusions: list[Fusion]
) -> dict:
    """Return what was learned, for tables: of several folds the means, and how often what won."""
    counts = Counter(chosen.winner for chosen in choices)
    winners = [f"{name} ({count} of {len(choices)} folds)" for name, count in counts.items()]

    def mean(rows: list[dict]) -> dict:
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    return {
        "weights": mean([dict(zip(models, vote.weights, strict=True)) for vote in votes]),
        "temperatures": mean([fusion.temperatures for fusion in fusions]),
        "stacking": {
            "default": DEFAULT,
            "winner": choices[0].winner if len(counts) == 1 else ", ".join(winners),
            "candidates": {
                name: mean([chosen.candidates[name] for chosen in choices])
                for name in choices[0].candidates
            },
        },
        "certain": mean([fusion.certain[fusion.find_set(models)]._asdict() for fusion in fusions]),
    }
