"""Stacking: a model over the three models' outputs, the likeliest of several.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels, K = 3 x 7 features.
"""

from collections.abc import Callable

import numpy as np
from lightgbm import LGBMClassifier
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from pipeline.evaluation import metrics
from pipeline.evaluation.fitting import (
    LIGHTGBM,
    Fitted,
    Rows,
    cross_fit,
    fit_classifier,
    fit_temperatures,
)
from pipeline.evaluation.predictions import MODELS
from pipeline.labels import LABELS

# Probability below which a wrong certainty costs no more, where methods are compared.
SMALLEST = 1e-6


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
