"""Stacking: models over the models' outputs, each fitted to likelihood and drawn towards the vote.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels, K = (M + 1) x C + 1 features.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import minimize

from fusion.fitting import LIGHTGBM, Rows, load_lightgbm, logsumexp
from fusion.stored import CLASSES, Linear, Trees, log_features, probability_features
from fusion.voting import fit_soft

# Precisions of normal priors, chosen on simulated models and on out-of-fold rows of training
# sessions (runs/LOG.md).
PRECISION = 32  # of the pool's weights, around 1 / M, and of its biases, around 0
DISTANCE = 400  # of the logistic regression's weights, around the pool's
TREES = {"num_boost_round": 20, "learning_rate": 0.15, "num_leaves": 4, "max_depth": 2}


@lru_cache(maxsize=1)  # two other methods start from it
def fit_log_pool(rows: Rows) -> Linear:
    """Add the models' log-probabilities, each times a weight, plus a bias per label.

    It is Bayes' rule for models that err independently given the label. Ten numbers, drawn towards
    the plain mean: safe with few rows.
    """
    models, identity = len(rows.logits), np.eye(CLASSES)
    zeros = np.zeros_like(identity)
    start = np.vstack([*[identity / models] * models, zeros, zeros[:1]])
    directions = np.zeros((models + CLASSES, *start.shape))
    for m in range(models):
        directions[m, m * CLASSES : (m + 1) * CLASSES] = identity
    directions[models:, -1] = identity
    inputs = log_features(rows.logits, rows.temperatures)
    directions = directions.reshape(len(directions), -1)
    return Linear(rows.temperatures, fit_matrix(inputs, rows.truth, start, directions, PRECISION))


def fit_half_pool(rows: Rows) -> Linear:
    """Take the geometric mean of the pool and of soft voting, each as certain as it may be.

    Where rows are few and the pool's assumption fails, it is soft voting that does not.
    """
    matrix = fit_log_pool(rows).matrix / 2
    matrix[-1 - CLASSES : -1] = np.eye(CLASSES) * fit_soft(rows).power / 2
    return Linear(rows.temperatures, matrix)


def fit_logistic(rows: Rows) -> Linear:
    """Multinomial logistic regression on calibrated log-probabilities, drawn towards the pool.

    All weights are free, so a model may be trusted for one label and not for another; the more rows
    there are, the further the weights leave the pool's.
    """
    pool = fit_log_pool(rows)
    inputs, directions = log_features(rows.logits, pool.temperatures), np.eye(pool.matrix.size)
    matrix = fit_matrix(inputs, rows.truth, pool.matrix, directions, DISTANCE)
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
    every_row, columns = np.arange(len(truth)), np.ascontiguousarray(inputs.T)

    def move(steps: np.ndarray) -> np.ndarray:
        return start + (steps @ directions).reshape(start.shape)

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        log_probabilities = move(steps).T @ columns  # (C, N): sums over labels are fast this way
        log_probabilities -= logsumexp(log_probabilities)
        error = np.exp(log_probabilities)
        error[truth, every_row] -= 1
        slope = directions @ (columns @ error.T).ravel() + precision * steps
        value = precision * steps @ steps / 2 - log_probabilities[truth, every_row].sum()
        return value / len(truth), slope / len(truth)

    return move(minimize(loss, np.zeros(len(directions)), jac=True, method="L-BFGS-B").x)


def fit_trees(rows: Rows) -> Trees:
    """Small gradient-boosted trees on the models' probabilities, (N, M x C)."""
    lightgbm = load_lightgbm()
    data = lightgbm.Dataset(probability_features(rows.logits), rows.truth)
    task = {"objective": "multiclass", "num_class": CLASSES, "max_bin": 31, "verbose": -1}
    return read_trees(lightgbm.train({**task, **LIGHTGBM, **TREES}, data).model_to_string())


def read_trees(text: str) -> Trees:
    """Return the trees of LightGBM's own format; one of a single leaf gets a node of no effect."""
    names = ("split_feature", "threshold", "left_child", "right_child", "leaf_value")
    arrays = {name: [] for name in names}
    for tree in text.split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
        for name in names:
            width, fill = TREES["num_leaves"] - (name != "leaf_value"), -("child" in name)
            values = [float(value) for value in fields[name].split()]
            arrays[name].append(values + [float(fill)] * (width - len(values)))
    feature, left, right = (
        np.array(arrays[name], np.int64) for name in ("split_feature", "left_child", "right_child")
    )
    threshold, leaf = np.array(arrays["threshold"]), np.array(arrays["leaf_value"])
    return Trees(feature, threshold, left, right, leaf, np.zeros(CLASSES))
