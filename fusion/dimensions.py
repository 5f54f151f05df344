"""The fusion of valence and arousal: a linear pool of the models, fitted on held-out rows.

For each dimension the best single model or the plain mean is the default; the pool takes its place
if its concordance (CCC), cross-validated over sessions, leads. A lead need not exceed its margin of
error, unlike that of a stacker: a pool has M + 1 numbers and little luck (simulated models, 2 to 16
sessions: asking for the margin lost up to .02 CCC and saved .006 at most). Rows that nobody rated
are predicted and not learned from.
Shapes: M models, N rows, D = 2 dimensions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import nnls

from common.files import DIMENSIONS, ENOUGH_RATED
from fusion import concordance
from fusion.fitting import Fold, assign_folds
from fusion.ratings import Ratings

MEAN, POOL = "mean", "pool"  # candidates beside the models by name
LEAD = 0.001  # of CCC, from which the pool takes the default's place: what the tables show


@dataclass(frozen=True)
class Pool:
    """Weighted sums of the models' values, clipped to the raters' scale.

    weights (D, M); bias (D,); scale: lowest and highest.
    """

    weights: np.ndarray
    bias: np.ndarray
    scale: tuple[float, float]

    def predict(self, predicted: np.ndarray) -> np.ndarray:
        """Return valence and arousal (N, D) of the models' (M, N, D)."""
        return (np.einsum("dm,mnd->nd", self.weights, predicted) + self.bias).clip(*self.scale)


@dataclass(frozen=True, eq=False)
class RatingSet:
    """Rows to learn from.

    predicted (M, N, D); truth (N, D), NaN where nobody rated; groups (N,) are kept together; scale:
    lowest and highest.
    """

    predicted: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    scale: tuple[float, float]

    def take(self, chosen: np.ndarray) -> "RatingSet":
        """Return the rows where `chosen` (N,) is true."""
        rows = self.predicted[:, chosen], self.truth[chosen], self.groups[chosen]
        return RatingSet(*rows, self.scale)


@dataclass(frozen=True)
class Choice:
    """The chosen form, fitted on all rows, and by dimension the winner and CCC of candidates.

    winners, candidates: without a dimension that has too few rated rows to choose by.
    """

    pool: Pool
    winners: dict[str, str]
    candidates: dict[str, dict[str, float]]

    def predict(self, predicted: np.ndarray) -> np.ndarray:
        """Return valence and arousal (N, D) of the models' (M, N, D)."""
        return self.pool.predict(predicted)


def fit_pool(rows: RatingSet) -> Pool:
    """Fit the pool of every dimension; one that cannot be fitted is the plain mean."""
    models = len(rows.predicted)
    weights, bias = np.full((len(DIMENSIONS), models), 1 / models), np.zeros(len(DIMENSIONS))
    for d, truth in enumerate(rows.truth.T):
        rated = np.isfinite(truth)
        if rated.sum() >= ENOUGH_RATED:
            fitted = fit_weights(rows.predicted[:, rated, d], truth[rated])
            weights[d], bias[d] = fitted or (weights[d], 0)
    return Pool(weights, bias, rows.scale)


def fit_weights(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Return weights (M,) and bias of one dimension; predicted (M, N), truth (N,).

    Of all weighted sums, the least-squares one follows the truth most closely (Pearson's r), and
    with the truth's mean and deviation its CCC is as large as r. Weights are not negative: with few
    rows a model against another is luck. None where nothing follows the truth.
    """
    mean, std = predicted.mean(axis=1), predicted.std(axis=1)
    unit = np.where(std**2 > concordance.CONSTANT, std, np.inf)  # a constant model has no say
    standard = (predicted - mean[:, None]) / unit[:, None]
    products = standard @ standard.T / len(truth) + 1e-9 * np.eye(len(std))  # twins share a weight
    root = np.linalg.cholesky(products)
    aim = np.linalg.solve(root, standard @ (truth - truth.mean()) / len(truth))
    weights = nnls(root.T, aim)[0]
    spread = (weights @ standard).std()
    if spread**2 <= concordance.CONSTANT:
        return None
    weights = weights / unit * truth.std() / spread
    return weights, truth.mean() - weights @ mean


def cross_predict(fit: Callable, rows: RatingSet) -> np.ndarray:
    """Return valence and arousal (N, D), each row's by a form fitted on the other folds."""
    fold, predicted = assign_folds(rows.groups), np.empty(rows.truth.shape)
    for k in np.unique(fold):
        rest = rows.take(fold != k) if fold.any() else rows  # of one group nothing is left
        predicted[fold == k] = fit(rest).predict(rows.predicted[:, fold == k])
    return predicted


def choose(rows: RatingSet, models: Sequence[str]) -> Choice:
    """Choose the form of every dimension by cross-validation over groups; fit it on all rows.

    Single models and the mean have nothing to fit. models: names of the M models.
    """
    plain = dict(zip(models, np.eye(len(models)), strict=True))
    plain |= {MEAN: np.full(len(models), 1 / len(models))} if len(models) > 1 else {}
    pool, crossed = fit_pool(rows), cross_predict(fit_pool, rows)
    weights, bias, winners, candidates = pool.weights.copy(), pool.bias.copy(), {}, {}
    for d, dimension in enumerate(DIMENSIONS):
        rated = np.isfinite(rows.truth[:, d])
        if rated.sum() < ENOUGH_RATED:  # the pool is the mean
            winners[dimension] = f"{MEAN}, too few ratings"
            continue
        values = {name: form @ rows.predicted[:, rated, d] for name, form in plain.items()}
        values[POOL] = crossed[rated, d]
        ccc = {n: concordance.score(rows.truth[rated, d], v)["ccc"] for n, v in values.items()}
        default = max(plain, key=ccc.get)
        winners[dimension] = POOL if ccc[POOL] - ccc[default] >= LEAD else default
        if winners[dimension] != POOL:
            weights[d], bias[d] = plain[default], 0
        candidates[dimension] = ccc
    return Choice(Pool(weights, bias, rows.scale), winners, candidates)


def fuse(fold: Fold) -> tuple[dict[str, np.ndarray], dict]:
    """Return valence and arousal (N, D) of the test rows by method, and what was learned.

    soft: the plain mean; stacking: the chosen form. {} for both where no model predicts them.
    """
    models = list_models(fold)
    if not models:
        return {}, {}
    rows, fit = to_rating_set(fold, models), partial(choose, models=models)
    chosen, predicted = fit(rows), stack(fold.test.ratings, models)
    fused = {"soft": predicted.mean(axis=0)} if len(models) > 1 else {}
    fused["stacking"] = chosen.predict(predicted) if fold.is_held_out else cross_predict(fit, rows)
    named = [dict(zip(models, weights.tolist(), strict=True)) for weights in chosen.pool.weights]
    learned = {
        "winners": chosen.winners,
        "candidates": chosen.candidates,
        "weights": dict(zip(DIMENSIONS, named, strict=True)),
        "bias": dict(zip(DIMENSIONS, chosen.pool.bias.tolist(), strict=True)),
    }
    return fused, learned


def fit_sets(fold: Fold, sets: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], Pool]:
    """Return the chosen form of every set of models, fitted on all rows to learn from."""
    return {models: choose(to_rating_set(fold, models), models).pool for models in sets}


def list_models(fold: Fold) -> tuple[str, ...]:
    """Return the models that predict valence and arousal."""
    ratings = fold.test.ratings
    return tuple(model for model in fold.test.models if ratings and model in ratings.predicted)


def to_rating_set(fold: Fold, models: Sequence[str]) -> RatingSet:
    """Return the fold's rows to learn from, by these models."""
    ratings = fold.ratings
    return RatingSet(stack(ratings, models), ratings.truth, fold.rows.groups, ratings.scale)


def stack(ratings: Ratings, models: Sequence[str]) -> np.ndarray:
    """Return the models' valence and arousal, (M, N, D)."""
    return np.stack([ratings.predicted[model] for model in models])
