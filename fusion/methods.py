"""Fusion methods: votes, and stackers fitted to likelihood and drawn towards the vote.

Shapes: M models, N rows, C labels, K = (M + 1) x C + 1 features.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from fusion.fitting import Fitted, LogitSet, fit_temperature, logsumexp
from fusion.stored import Linear

# Precisions of normal priors, chosen on simulated models and on out-of-fold rows of training
# sessions (runs/LOG.md).
VOTE_PRECISION = 16  # of the weighted vote's log-weights, around equal weights
POOL_PRECISION = 32  # of the pool's weights, around 1 / M, and of its biases, around 0
LOGISTIC_PRECISION = 400  # of the logistic regression's weights, around the pool's
TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class WeightedVote:
    """Weighted mean of softmax(logits / temperature), raised to a power and normalised again.

    temperatures, weights (M,); power: above 1 where the mean is less certain than it may be.
    """

    temperatures: np.ndarray
    weights: np.ndarray
    power: float

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        calibrated = softmax(logits / self.temperatures[:, None, None], axis=-1)
        mean = np.maximum(np.tensordot(self.weights, calibrated, axes=1), TINY)
        return softmax(self.power * np.log(mean), axis=-1)


def fit_majority(rows: LogitSet) -> Fitted:
    """Predict the shares of the labels, whatever the models say."""
    shares = np.bincount(rows.truth, minlength=rows.classes) / len(rows.truth)
    return Fitted(lambda logits: np.tile(shares, (logits.shape[1], 1)))


def vote_soft(logits: np.ndarray) -> np.ndarray:
    """Average the models' probabilities, (N, C)."""
    return softmax(logits, axis=-1).mean(axis=0)


def vote_hard(logits: np.ndarray) -> np.ndarray:
    """Count the models' votes for each label, (N, C); the mean probability decides a tie."""
    return np.eye(logits.shape[-1])[logits.argmax(axis=-1)].sum(axis=0) + vote_soft(logits)


def fit_weighted_soft(rows: LogitSet) -> WeightedVote:
    """Average calibrated probabilities with the likeliest weights, drawn towards equal ones.

    A mean of calibrated probabilities is too flat, and likelihood would therefore lean on a single
    model; so the mean is raised to a power, which is fitted together with the weights.
    """
    models, every_row = len(rows.logits), np.arange(len(rows.truth))
    calibrated = np.exp(rows.features.T[: models * rows.classes]).reshape(models, rows.classes, -1)

    def unpack(steps: np.ndarray) -> tuple[np.ndarray, float]:
        return softmax(steps[:models]), np.exp(steps[models])

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        weights, power = unpack(steps)
        mean = np.maximum(np.tensordot(weights, calibrated, axes=1), TINY)
        scores = power * np.log(mean)
        log_p = scores - logsumexp(scores)
        error = np.exp(log_p)
        error[rows.truth, every_row] -= 1
        of_weights = power * np.tensordot(calibrated, error / mean, axes=2)
        of_steps = weights * (of_weights - weights @ of_weights)
        slopes = np.append(of_steps, (error * scores).sum())
        value = VOTE_PRECISION * steps @ steps / 2 - log_p[rows.truth, every_row].sum()
        return value / len(every_row), (slopes + VOTE_PRECISION * steps) / len(every_row)

    found = minimize(loss, np.zeros(models + 1), jac=True, method="L-BFGS-B").x
    return WeightedVote(rows.temperatures, *unpack(found))


def fit_calibrated(rows: LogitSet) -> Linear:
    """Fit the temperature of a single model."""
    return Linear(rows.temperatures, np.eye(2 * rows.classes + 1, rows.classes))


def fit_log_pool(rows: LogitSet) -> Linear:
    """Add the models' log-probabilities, each times a weight, plus a bias per label.

    This is Bayes' rule for models that err independently given the label. M + C numbers, drawn
    towards the plain mean: safe with few rows.
    """
    models, classes = len(rows.logits), rows.classes
    identity = np.eye(classes)
    zeros = np.zeros_like(identity)
    start = np.vstack([*[identity / models] * models, zeros, zeros[:1]])
    directions = np.zeros((models + classes, *start.shape))
    for m in range(models):
        directions[m, m * classes : (m + 1) * classes] = identity
    directions[models:, -1] = identity
    directions = directions.reshape(len(directions), -1)
    matrix = fit_matrix(rows.features, rows.truth, start, directions, POOL_PRECISION)
    return Linear(rows.temperatures, matrix)


def fit_half_pool(rows: LogitSet, pool: Linear | None = None) -> Linear:
    """Take the geometric mean of the pool and of soft voting, each with its fitted confidence.

    Where rows are few and the pool's assumption fails, soft voting does not.
    pool: `fit_log_pool` of the rows, if it is there.
    """
    pool, vote = pool or fit_log_pool(rows), slice(-1 - rows.classes, -1)
    matrix = pool.matrix / 2
    power = 1 / fit_temperature(rows.features[:, vote], rows.truth)
    matrix[vote] = np.eye(rows.classes) * power / 2
    return Linear(rows.temperatures, matrix)


def fit_logistic(rows: LogitSet, pool: Linear | None = None) -> Linear:
    """Multinomial logistic regression on calibrated log-probabilities, drawn towards the pool.

    All weights are free, so a model may be trusted for one label and not for another; the more rows
    there are, the further the weights leave the pool's.
    pool: as of `fit_half_pool`.
    """
    pool = pool or fit_log_pool(rows)
    directions = np.eye(pool.matrix.size)
    matrix = fit_matrix(rows.features, rows.truth, pool.matrix, directions, LOGISTIC_PRECISION)
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
