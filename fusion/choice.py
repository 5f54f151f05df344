"""The choice of the stacker: candidates compared by cross-validation, and the winner, stored.

Shapes: M models, N rows, C labels.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from fusion import metrics
from fusion.dialogue import Reading
from fusion.fitting import Fitted, LogitSet, cross_fit
from fusion.methods import fit_calibrated, fit_half_pool, fit_log_pool, fit_logistic
from fusion.metrics import Estimate
from fusion.stored import Certainty, Fusion, Linear, list_sets

STACKERS = {"half pool, half soft voting": fit_half_pool, "logistic regression": fit_logistic}
# Class-balanced fitting, each row weighted by (share of its label) ** -power: with many rows it is
# a shift of the log-probabilities (logit adjustment: Menon et al., ICLR 2021), which with few rows
# is the steadier of the two.
BALANCE = (0.25, 0.0, 0.5)
CANDIDATES = {
    f"{name}, balanced {power:g}" if power else name: (fit, power)
    for name, fit in STACKERS.items()
    for power in BALANCE
}
# With few rows the best, and hardly ever below soft voting; with thousands the logistic regression
# is better. Another must lead by more than chance among sessions may do (the lead's 95 % interval):
# the best of many by a few rows is mostly luck. Others than these never won by that (runs/LOG.md).
DEFAULT = "half pool, half soft voting, balanced 0.25"
# The logistic regression learns so much that it learns the peculiarities of a session, which cross-
# validation over few groups does not show.
ENOUGH_GROUPS = 5
COVERAGE = 0.8  # share of the rows that are certain enough for a verdict
TARGETS = ("accuracy", "f1", "macro_f1", "uar")


@dataclass(frozen=True)
class Choice:
    """The winner: its name, the form fitted on all rows, the scores of all candidates by name.

    cross_validated (N, C): its probabilities of the rows, each fitted without the row's group.
    """

    winner: str
    form: Linear
    candidates: dict[str, dict]
    cross_validated: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        return self.form.predict(logits)


def choose(rows: LogitSet, target: str) -> Choice:
    """Compare the candidates by cross-validation over groups, and refit the winner on all rows.

    target: the scores whose mean counts, joined by +, as in "accuracy+macro_f1".
    """
    has_many = ENOUGH_GROUPS <= rows.group_numbers.max() + 1 < len(rows.truth)
    names = [name for name, (fit, _) in CANDIDATES.items() if has_many or fit is not fit_logistic]
    every = cross_fit(partial(fit_candidates, names), rows)
    crossed = dict(zip(names, every, strict=True))
    candidates = compare(rows, crossed, target)
    ahead = {name: row["lead"] - row["margin"] for name, row in candidates.items()}
    best = max(ahead, key=ahead.get)
    winner = best if ahead[best] > 0 else DEFAULT
    return Choice(winner, fit_candidate(winner, rows), candidates, crossed[winner])


def fit_candidate(name: str, rows: LogitSet) -> Linear:
    """Fit one candidate."""
    fit, power = CANDIDATES[name]
    return fit(rows).shift(balance(rows, power))


def fit_candidates(names: list[str], rows: LogitSet) -> Fitted:
    """Fit candidates, (len(names), N, C); those that differ in balance alone are fitted once."""
    candidates, pool = [CANDIDATES[name] for name in names], fit_log_pool(rows)
    fitted = {fit: fit(rows, pool) for fit in dict.fromkeys(fit for fit, _ in candidates)}
    forms = [fitted[fit].shift(balance(rows, power)) for fit, power in candidates]
    return Fitted(lambda logits: np.stack([form.predict(logits) for form in forms]))


def balance(rows: LogitSet, power: float) -> np.ndarray:
    """Return the shift (C,) of the log-probabilities that stands for class-balanced fitting."""
    shares = np.bincount(rows.truth, minlength=rows.classes) + 1  # a label may be missing
    return -power * np.log(shares / shares.sum())


def compare(rows: LogitSet, crossed: dict[str, np.ndarray], target: str) -> dict[str, dict]:
    """Return by candidate its scores, its lead over the default, and the lead's margin of error.

    crossed: probabilities (N, C) by candidate. The margin (95 %) is the larger one between groups
    and between rows (metrics.Estimate).
    """

    def mean(name: str) -> Estimate:
        parts = [estimates[name][score] for score in target.split("+")]
        return Estimate(*(np.mean(values, axis=0) for values in zip(*parts, strict=True)))

    estimates = {
        name: metrics.estimate(
            metrics.score_matrices, rows.truth, values.argmax(axis=-1), rows.group_numbers
        )
        for name, values in crossed.items()
    }
    candidates = {}
    for name, scores in estimates.items():
        lead = mean(name) - mean(DEFAULT)
        candidates[name] = {"lead": float(lead.value), "margin": float(lead.margin)}
        candidates[name] |= {score: float(scores[score].value) for score in TARGETS}
    return candidates


def fit_fusion(
    rows: LogitSet, chosen: Choice, inputs: dict[str, str], reading: Reading | None, **notes
) -> Fusion:
    """Fit the winner to every set of models; one model's fusion is its calibrated probabilities.

    Each set has a threshold, and another one for turns that are read with those before them.
    inputs: model -> what it needs of an utterance (list_sets), in the order of the logits.
    notes: further fields of the Fusion.
    """
    forms, certain, in_dialogue = {}, {}, {}
    names = list(inputs)
    for models in list_sets(inputs):
        if 1 < len(models) == len(names):  # fitted already, for the choice
            crossed, forms[models] = chosen.cross_validated, chosen.form
        else:
            part = rows.select([names.index(model) for model in models])
            fit = fit_calibrated if len(models) == 1 else partial(fit_candidate, chosen.winner)
            crossed, forms[models] = cross_fit(fit, part), fit(part)
        certain[models] = find_certainty(crossed, rows.truth)
        if reading and reading.dialogue.past:
            turns, read = reading.read_later(crossed)
            in_dialogue[models] = find_certainty(read, rows.truth[turns])
    temperatures = dict(zip(names, rows.temperatures.tolist(), strict=True))
    dialogue = reading and reading.dialogue
    return Fusion(
        forms, certain, in_dialogue, chosen.winner, temperatures, dialogue=dialogue, **notes
    )


def find_certainty(probabilities: np.ndarray, truth: np.ndarray) -> Certainty:
    """Return the threshold that leaves COVERAGE of cross-validated probabilities (N, C) certain."""
    confidence = probabilities.max(axis=1)
    threshold = np.quantile(confidence, 1 - COVERAGE)
    certain = confidence >= threshold
    right = (probabilities.argmax(axis=1) == truth)[certain]
    return Certainty(float(threshold), float(certain.mean()), float(right.mean()))
