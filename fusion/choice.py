"""The choice of the fusion: candidates compared by cross-validation, and what won, stored.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np

from fusion import metrics, stacking, voting
from fusion.fitting import FOLDS, Rows, cross_fit, deal_folds
from fusion.metrics import Estimate
from fusion.predictions import MODELS
from fusion.stored import CLASSES, SETS, Average, Certainty, Form, Fusion
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
# thousands others show that they are better (runs/LOG.md). Another must lead by more than chance
# among sessions may do (the lead's 95 % interval): the best of many by a few rows is mostly luck.
USUAL = "half pool, half soft voting, balanced 0.25"
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
    candidates = compare(rows, every, target)
    ahead = {name: row["lead"] - row["reach"] for name, row in candidates.items()}
    winner = max(ahead, key=ahead.get)
    winner = winner if ahead[winner] > 0 else USUAL
    return Choice(winner, fit_candidate(winner, rows), candidates, every[0][winner])


def compare(rows: Rows, every: list[dict], target: str) -> dict:
    """Return by candidate its scores, its lead over the usual choice, and the lead's reach.

    every: for each deal probabilities (N, C) by candidate; scores are means over the deals. reach:
    how far the true lead may be, 95 %, between sessions as between rows (metrics.Estimate).
    """

    def score(values: np.ndarray) -> dict[str, Estimate]:
        pred, groups = values.argmax(axis=-1), rows.cluster_numbers
        return metrics.estimate(metrics.score_matrices, rows.truth, pred, groups)

    estimates = [{name: score(values) for name, values in deal.items()} for deal in every]

    def mean(name: str, scores: list[str]) -> Estimate:
        return Estimate.mean([deal[name][score] for deal in estimates for score in scores])

    candidates, usual = {}, mean(USUAL, target.split("+"))
    for name in every[0]:
        lead = mean(name, target.split("+")) - usual
        candidates[name] = {
            "lead": float(lead.value),
            "reach": float(lead.reach),
            **{score: float(mean(name, [score]).value) for score in TARGETS},
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


def check_target(target: str) -> None:
    """Refuse a target that names other scores."""
    if not set(target.split("+")) <= set(TARGETS):
        raise UserError(f"TARGET = '{target}': any of {', '.join(TARGETS)}, joined by +")


def fit_fusion(
    rows: Rows,
    choice: Choice,
    known: dict,
    synthetic: str | None,
    on: str,
    reading=None,
) -> Fusion:
    """Refit what won on every set of models; one model's fusion is its calibrated probabilities.

    Each set has a threshold, and another one for turns that are read with those before them.
    reading: a conversation.Reading, or None.
    """
    forms, certain, in_dialogue = {}, {}, {}
    for models in SETS:
        own = rows.hear([MODELS.index(model) for model in models])
        fit = partial(fit_set, choice.winner)
        crossed = cross_fit(fit, own)
        forms[models] = fit(own)
        certain[models] = find_certainty(crossed, rows.truth)
        if reading and reading.smooth:
            turns, read = reading.smooth(crossed)
            in_dialogue[models] = find_certainty(read, rows.truth[turns])
    return Fusion(
        {models: "calibrated" if len(models) == 1 else choice.winner for models in SETS},
        forms,
        certain,
        in_dialogue,
        temperatures=dict(zip(MODELS, rows.temperatures.tolist(), strict=True)),
        known=known,
        synthetic=synthetic,
        fitted_on=on,
        dialogue=reading and reading.dialogue,
    )


def fit_set(winner: str, rows: Rows) -> Form:
    """Fit what won to the rows of several models; of one its probabilities are calibrated."""
    if len(rows.logits) == 1:
        return Average(rows.temperatures, np.ones(1), np.array(1.0))
    return fit_candidate(winner, rows)


def find_certainty(probabilities: np.ndarray, truth: np.ndarray) -> Certainty:
    """Return the threshold that leaves COVERAGE of cross-validated probabilities (N, C) certain."""
    confidence = probabilities.max(axis=1)
    threshold = np.quantile(confidence, 1 - COVERAGE)
    certain = confidence >= threshold
    right = (probabilities.argmax(axis=1) == truth)[certain]
    return Certainty(float(threshold), float(certain.mean()), float(right.mean()))


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
            "winner": choices[0].winner if len(counts) == 1 else ", ".join(winners),
            "candidates": {name: mean(name) for name in choices[0].candidates},
        },
        "certain": {
            name: float(np.mean([getattr(fusion.certain[MODELS], name) for fusion in stored]))
            for name in Certainty._fields
        },
    }
