"""Stacking: a model over the three models' outputs, the likeliest of several.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels, K = 3 x 7 features.
"""

from dataclasses import dataclass

import lightgbm
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from pipeline.evaluation import metrics
from pipeline.evaluation.fitting import LIGHTGBM, Rows, cross_fit, fit_temperatures
from pipeline.evaluation.fusion import (
    CLASSES,
    SETS,
    Average,
    Fusion,
    Linear,
    Trees,
    log_features,
    probability_features,
)
from pipeline.evaluation.predictions import MODELS

# Probability below which a wrong certainty costs no more, where methods are compared.
SMALLEST = 1e-6
COVERAGE = 0.8  # share of the rows that are certain enough for a verdict
INNER = 3  # inner nodes of a tree at most


def fit_log_pool(rows: Rows) -> Linear:
    """Add the models' log-probabilities, each times a weight, plus a bias per label.

    It is Bayes' rule for models that err independently given the label. Ten numbers, drawn towards
    the plain mean: safe with few rows.
    """
    models, identity = len(rows.logits), np.eye(CLASSES)
    start = np.vstack([*[identity / models] * models, np.zeros(CLASSES)])
    directions = np.zeros((models + CLASSES, *start.shape))
    for m in range(models):
        directions[m, m * CLASSES : (m + 1) * CLASSES] = identity
    directions[models:, -1] = identity
    temperatures = fit_temperatures(rows)
    inputs = log_features(rows.logits, temperatures)
    matrix = fit_matrix(inputs, rows.truth, start, directions.reshape(len(directions), -1), 1)
    return Linear(temperatures, matrix)


def fit_logistic(rows: Rows) -> Linear:
    """Multinomial logistic regression on calibrated log-probabilities, drawn towards the pool.

    All 22 x 7 weights are free, so a model may be trusted for one label and not for another; the
    more rows there are, the further the weights leave the pool's.
    """
    pool = fit_log_pool(rows)
    inputs, directions = log_features(rows.logits, pool.temperatures), np.eye(pool.matrix.size)
    matrix = fit_matrix(inputs, rows.truth, pool.matrix, directions, 100)
    return Linear(pool.temperatures, matrix)


def fit_matrix(
    inputs: np.ndarray,
    truth: np.ndarray,
    start: np.ndarray,
    directions: np.ndarray,
    precision: float,
) -> np.ndarray:
    """Return the matrix (K, C) of softmax(inputs @ matrix), start + steps @ directions.

    inputs (N, K); start (K, C); directions (D, K x C): how the matrix may move away from its start.
    The steps (D,) maximise likelihood times normal priors with mean 0 and the given precision.
    """
    target, count = np.eye(CLASSES)[truth], len(truth)

    def move(steps: np.ndarray) -> np.ndarray:
        return start + (steps @ directions).reshape(start.shape)

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        log_probabilities = log_softmax(inputs @ move(steps), axis=-1)
        slope = inputs.T @ (np.exp(log_probabilities) - target)
        value = -(log_probabilities * target).sum() + precision * steps @ steps / 2
        return value / count, (directions @ slope.ravel() + precision * steps) / count

    return move(minimize(loss, np.zeros(len(directions)), jac=True, method="L-BFGS-B").x)


def fit_trees(rows: Rows) -> Trees:
    """Small gradient-boosted trees on the models' probabilities, (N, M x C)."""
    settings = {"num_leaves": 4, "max_depth": 2, "learning_rate": 0.1, "max_bin": 63}
    booster = lightgbm.train(
        {"objective": "multiclass", "num_class": CLASSES, "verbose": -1, **LIGHTGBM, **settings},
        lightgbm.Dataset(probability_features(rows.logits), rows.truth),
        num_boost_round=30,
    )
    return read_trees(booster.model_to_string())


def read_trees(text: str) -> Trees:
    """Return the trees of LightGBM's own format; one of a single leaf gets a node of no effect."""
    names = ("split_feature", "threshold", "left_child", "right_child", "leaf_value")
    arrays = {name: [] for name in names}
    for tree in text.split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
        values = {name: [float(value) for value in fields[name].split()] for name in names}
        missing = INNER - len(values["threshold"])
        for name in names:
            fill = -1.0 if "child" in name else 0.0
            arrays[name].append(values[name] + [fill] * missing)
        arrays["leaf_value"][-1] += [0.0] * (INNER + 1 - len(arrays["leaf_value"][-1]))
    feature, left, right = (
        np.array(arrays[name], np.int64) for name in ("split_feature", "left_child", "right_child")
    )
    threshold, leaf = np.array(arrays["threshold"]), np.array(arrays["leaf_value"])
    return Trees(feature, threshold, left, right, leaf, np.zeros(CLASSES))


STACKERS = {
    "log-linear pool": fit_log_pool,
    "logistic regression": fit_logistic,
    "LightGBM": fit_trees,
}


@dataclass(frozen=True)
class Stacking:
    """What won: its name and form, the scores of all candidates, its cross-validated (N, C)."""

    winner: str
    form: Average | Linear | Trees
    candidates: dict
    cross_validated: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        return self.form.predict(logits)


def fit_stacking(rows: Rows) -> Stacking:
    """Compare the stackers by cross-validation over groups, and refit the likeliest on all rows."""
    candidates, probabilities = {}, {}
    for stacker, fit in STACKERS.items():
        probabilities[stacker] = cross_fit(fit, rows)
        of_truth = probabilities[stacker][np.arange(len(rows.truth)), rows.truth]
        scores = metrics.scores(rows.truth, probabilities[stacker].argmax(axis=-1))
        candidates[stacker] = {
            "log_loss": float(-np.log(np.maximum(of_truth, SMALLEST)).mean()),
            "accuracy": scores["accuracy"],
            "macro_f1": scores["macro_f1"],
        }
    winner = min(candidates, key=lambda stacker: candidates[stacker]["log_loss"])
    return Stacking(winner, STACKERS[winner](rows), candidates, probabilities[winner])


def fit_fusion(rows: Rows, stacking: Stacking, known: dict, synthetic: str, on: str) -> Fusion:
    """Refit what won on every set of models; one model's fusion is its calibrated probabilities.

    The threshold leaves COVERAGE of the rows certain (cross-validated, all models).
    """
    temperatures = fit_temperatures(rows)
    methods, forms = {}, {}
    for models in SETS:
        chosen = [MODELS.index(model) for model in models]
        if len(models) == 1:
            methods[models] = "calibrated"
            forms[models] = Average(temperatures[chosen], np.ones(1), np.array(1.0))
        else:
            part = Rows(rows.logits[chosen], rows.truth, rows.groups)
            methods[models], forms[models] = stacking.winner, STACKERS[stacking.winner](part)
    confidence = stacking.cross_validated.max(axis=1)
    threshold = float(np.quantile(confidence, 1 - COVERAGE))
    certain = confidence >= threshold
    right = stacking.cross_validated.argmax(axis=1) == rows.truth
    return Fusion(
        methods,
        forms,
        dict(zip(MODELS, temperatures.tolist(), strict=True)),
        known,
        synthetic,
        on,
        threshold,
        coverage=float(certain.mean()),
        accuracy=float(right[certain].mean()),
    )
