"""Votes: what the three models say about an utterance, averaged or counted.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fusion.fitting import Rows
from fusion.stored import Average, log_vote
from pipeline.labels import LABELS

PRECISION = 16  # of the normal prior that draws weights towards equal ones


def vote_soft(logits: np.ndarray) -> np.ndarray:
    """Average the models' probabilities, (N, C)."""
    return softmax(logits, axis=-1).mean(axis=0)


def vote_hard(logits: np.ndarray) -> np.ndarray:
    """Return the label with most votes, (N,); of equals the one with most summed probability."""
    votes = np.eye(len(LABELS))[logits.argmax(axis=-1)].sum(axis=0)
    return (votes + vote_soft(logits)).argmax(axis=-1)


def fit_soft(rows: Rows) -> Average:
    """Vote softly, with a certainty that fits: a power of the mean is all that is learned."""
    models = len(rows.logits)
    power = 1 / Rows(log_vote(rows.logits)[None], rows.truth, None).temperatures[0]
    return Average(np.ones(models), np.full(models, 1 / models), power)


def fit_weighted_soft(rows: Rows) -> Average:
    """Average calibrated probabilities with the likeliest weights, drawn towards equal ones.

    A mean of calibrated probabilities is too flat, and for that likelihood would lean on a single
    model; so the mean is raised to a power, which is fitted together with the weights.
    """
    temperatures, models = rows.temperatures, len(rows.logits)
    calibrated = softmax(rows.logits / temperatures[:, None, None], axis=-1)
    target = np.eye(len(LABELS))[rows.truth]

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        weights, power = softmax(steps[:models]), np.exp(steps[models])
        mean = np.maximum(np.tensordot(weights, calibrated, axes=1), np.finfo(float).tiny)
        log_probabilities = log_softmax(power * np.log(mean), axis=-1)
        error = np.exp(log_probabilities) - target
        by_weight = power * np.einsum("nc,mnc->m", error / mean, calibrated)
        slope = np.append(
            weights * (by_weight - weights @ by_weight), power * (error * np.log(mean)).sum()
        )
        value = -(log_probabilities * target).sum() + PRECISION * steps @ steps / 2
        return value / len(target), (slope + PRECISION * steps) / len(target)

    steps = minimize(loss, np.zeros(models + 1), jac=True, method="L-BFGS-B").x
    return Average(temperatures, softmax(steps[:models]), np.exp(steps[models]))
