"""The choice of the fusion: candidates compared by cross-validation, and what won, stored.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels.
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.evaluation import metrics, stacking, voting
from pipeline.evaluation.fitting import FOLDS, Rows, deal_folds
from pipeline.evaluation.fusion import CLASSES, SETS, Average, Form, Fusion
from pipeline.evaluation.predictions import MODELS
from pipeline.files import UserError

VOTES = {"soft voting": voting.fit_soft, "weighted soft voting": voting.fit_weighted_soft}
LEARNERS = {
    "half pool, half soft voting": stacking.fit_half_pool,
    "log-linear pool": stacking.fit_log_pool,
    "logistic regression": stacking.fit_logistic,
    "LightGBM": stacking.fit_trees,
}
# Class-balanced fitting, each row weighted by (share of its label) ** -power: with many rows it is
# a shift of the log-probabilities (logit adjustment: Menon et al., ICLR 2021), which with few rows
# is the steadier of the two.
BALANCE = (0.25, 0.0, 0.5)
CANDIDATES = {vote: (fit, 0.0) for vote, fit in VOTES.items()} | {
    f"{learner}, balanced {power:g}" if power else learner: (fit, power)
    for learner, fit in LEARNERS.items()
    for power in BALANCE
}
# These learn so much that they learn what is peculiar to a session; few groups do not show it.
FLEXIBLE, ENOUGH_GROUPS = (stacking.fit_logistic, stacking.fit_trees), 5
# With 100 real out-of-fold rows of one session the best, and hardly ever below soft voting; with
# thousands others show that they are better (runs/LOG.md). Another must lead by so many standard
# errors: the best of many by a few rows is mostly luck.
USUAL = "half pool, half soft voting, balanced 0.25"
ERRORS = 2.0
DEALS, ENOUGH_ROWS = 3, 10_000  # deals of the groups, fewer where they have so many rows
COVERAGE = 0.8  # share of the rows that are certain enough for a verdict
TARGETS = ("accuracy", "f1", "macro_f1", "uar")


@dataclass(frozen=True)
class Choice:
    """What won: its name, the form fitted on all rows, the scores of all candidates by name.

    cross_validated (N, C): its probabilities of the rows, each fitted without the row's group.
    """

    winner: str
    form: Form
    candidates: dict
    cross_validated: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        return self.form.predict(logits)


def fit_candidate(name: str, rows: Rows) -> Form:
    """Fit one candidate."""
    fit, power = CANDIDATES[name]
    return fit(rows).shift(balance(rows.truth, power)) if power else fit(rows)


def balance(truth: np.ndarray, power: float) -> np.ndarray:
    """Return what class-balanced fitting adds to log-probabilities, (C,); 0 for a power of 0."""
    shares = np.bincount(truth, minlength=CLASSES) + 1  # a label may be missing
    return -power * np.log(shares / shares.sum())


def choose(rows: Rows, target: str) -> Choice:
    """Compare the candidates by cross-validation over groups, and refit what wins on all rows.

    target: the mean of which scores counts, joined by +, as in "accuracy+macro_f1".
    """
    groups = 0 if rows.groups is None else len(np.unique(rows.groups))
    names = [
        name
        for name, (fit, _) in CANDIDATES.items()
        if groups >= ENOUGH_GROUPS or fit not in FLEXIBLE
    ]
    # As many groups as folds, or fewer, are dealt in one way.
    deals = 1 if 1 < groups <= FOLDS else min(DEALS, max(1, ENOUGH_ROWS // len(rows.truth)))
    every = [cross_predict(rows, names, deal) for deal in range(deals)]
    candidates = compare(rows.truth, every, target)
    ahead = {name: row["lead"] - ERRORS * row["error"] for name, row in candidates.items()}
    winner = max(ahead, key=ahead.get)
    winner = winner if ahead[winner] > 0 else USUAL
    return Choice(winner, fit_candidate(winner, rows), candidates, every[0][winner])


def compare(truth: np.ndarray, every: list[dict], target: str) -> dict:
    """Return by candidate its scores, its lead over the usual choice and the lead's standard error.

    every: for each deal probabilities (N, C) by candidate; scores are means over the deals.
    """
    judged = [
        {name: judge(truth, values, target) for name, values in deal.items()} for deal in every
    ]
    candidates = {}
    for name in every[0]:
        pairs = [(deal[name], deal[USUAL]) for deal in judged]
        added = np.mean([own.added - usual.added for own, usual in pairs], axis=0)
        candidates[name] = {
            "lead": float(np.mean([own.target - usual.target for own, usual in pairs])),
            "error": float(np.sqrt(((added - added.mean()) ** 2).sum())),
            **{score: float(np.mean([own.scores[score] for own, _ in pairs])) for score in TARGETS},
        }
    return candidates


def cross_predict(rows: Rows, names: list[str], deal: int) -> dict[str, np.ndarray]:
    """Return the candidates' probabilities (N, C), each row's fitted on the other folds.

    Those that differ in balance alone are fitted once.
    """
    fold, fits = deal_folds(rows, deal), dict.fromkeys(CANDIDATES[name][0] for name in names)
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


class Judged(NamedTuple):
    """The target, what one more row like each would add to it (N,), and all scores."""

    target: float
    added: np.ndarray
    scores: dict


def judge(truth: np.ndarray, probabilities: np.ndarray, target: str) -> Judged:
    """Score one candidate.

    The sum of squares of what rows add, less their mean, is the square of the target's standard
    error (the jackknife's); that of differences the square of a paired difference's.
    """
    pred = probabilities.argmax(axis=-1)
    matrix = metrics.confusion(truth, pred)
    cells = np.eye(CLASSES**2, dtype=np.int64).reshape(-1, CLASSES, CLASSES)
    scores = metrics.score_matrices(np.concatenate([matrix[None], matrix + cells]))
    values = np.mean([scores[name] for name in target.split("+")], axis=0)
    added = (values[1:] - values[0])[truth * CLASSES + pred]
    return Judged(values[0], added, {name: scores[name][0] for name in TARGETS})


def check_target(target: str) -> None:
    """Refuse a target that names other scores."""
    if not set(target.split("+")) <= set(TARGETS):
        raise UserError(f"TARGET = '{target}': any of {', '.join(TARGETS)}, joined by +")


def fit_fusion(rows: Rows, choice: Choice, known: dict, synthetic: str | None, on: str) -> Fusion:
    """Refit what won on every set of models; one model's fusion is its calibrated probabilities.

    The threshold leaves COVERAGE of the rows certain (all models, cross-validated).
    """
    temperatures = rows.temperatures
    methods, forms = {}, {}
    for models in SETS:
        heard = [MODELS.index(model) for model in models]
        if len(models) == 1:
            methods[models] = "calibrated"
            forms[models] = Average(temperatures[heard], np.ones(1), np.array(1.0))
        else:
            methods[models] = choice.winner
            forms[models] = fit_candidate(choice.winner, rows.hear(heard))
    confidence = choice.cross_validated.max(axis=1)
    threshold = float(np.quantile(confidence, 1 - COVERAGE))
    certain = confidence >= threshold
    right = choice.cross_validated.argmax(axis=1) == rows.truth
    return Fusion(
        methods,
        forms,
        temperatures=dict(zip(MODELS, temperatures.tolist(), strict=True)),
        known=known,
        synthetic=synthetic,
        fitted_on=on,
        threshold=threshold,
        coverage=float(certain.mean()),
        accuracy=float(right[certain].mean()),
    )


def summarise(weighted: list[Average], choices: list[Choice], stored: list[Fusion]) -> dict:
    """Return what was learned, for tables: of several folds the means, and how often what won."""
    counts = Counter(chosen.winner for chosen in choices)
    winners = [f"{name} ({count} of {len(choices)} folds)" for name, count in counts.items()]

    def mean(name: str) -> dict:
        rows = [chosen.candidates[name] for chosen in choices]
        return {score: float(np.mean([row[score] for row in rows])) for score in rows[0]}

    weights = np.mean([fitted.weights for fitted in weighted], axis=0)
    return {
        "weighted_soft": {
            "weights": dict(zip(MODELS, weights.tolist(), strict=True)),
            "temperatures": {
                model: float(np.mean([fusion.temperatures[model] for fusion in stored]))
                for model in MODELS
            },
        },
        "stacking": {
            "usual": USUAL,
            "errors": ERRORS,
            "winner": choices[0].winner if len(counts) == 1 else ", ".join(winners),
            "candidates": {name: mean(name) for name in choices[0].candidates},
        },
        "certain": {
            name: float(np.mean([getattr(fusion, name) for fusion in stored]))
            for name in ("threshold", "coverage", "accuracy")
        },
    }
