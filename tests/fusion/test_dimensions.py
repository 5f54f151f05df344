"""The pool of valence and arousal: what it learns, what it is chosen by, and what it leaves out."""

import numpy as np
import pytest

from fusion import concordance, dimensions
from fusion.dimensions import MEAN, POOL, RatingSet, choose, cross_predict, fit_pool

SCALE = (1.0, 5.0)
NAMES = ("text", "audio", "cmbert")
# Slope, noise and deviation between sessions of three models: each knows a part, one knows all,
# one is of use and two are of none, all are too flat and shifted by session.
SHARED = [(0.8, 0.4, 0.1), (0.4, 0.5, 0.1), (0.6, 0.4, 0.1)]
ALONE = [(0.9, 0.2, 0.05), (0.0, 0.5, 0.1), (0.0, 0.5, 0.1)]
FLAT = [(0.3, 0.1, 0.05), (0.3, 0.15, 0.05), (0.3, 0.15, 0.05)]


def draw(models, sessions, rows, seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(sessions), rows)
    truth = np.clip(3 + 0.7 * random.normal(size=(len(groups), 2)), *SCALE)
    predicted = [
        3
        + slope * (truth - 3)
        + noise * random.normal(size=truth.shape)
        + between * random.normal(size=(sessions, 2))[groups]
        for slope, noise, between in models
    ]
    return RatingSet(np.clip(predicted, *SCALE), truth, groups, SCALE)


def score(rows, predicted):
    return np.mean([concordance.score(rows.truth[:, d], predicted[:, d])["ccc"] for d in (0, 1)])


@pytest.mark.parametrize(("models", "gain"), [(SHARED, 0.005), (ALONE, -0.005), (FLAT, 0.1)])
def test_on_other_sessions_it_is_not_worse_than_the_best_single_model_nor_the_mean(models, gain):
    leads = []
    for seed in range(12):
        chosen = choose(draw(models, 6, 60, seed), NAMES)
        fresh = draw(models, 30, 60, 100 + seed)
        plain = [*fresh.predicted, fresh.predicted.mean(axis=0)]
        fused = score(fresh, chosen.predict(fresh.predicted))
        leads.append(fused - max(score(fresh, one) for one in plain))
    assert min(leads) > -0.02 and np.mean(leads) > gain


def test_what_cannot_be_bettered_stays():
    rows = draw(SHARED, 6, 40, 0)
    rows.predicted[1] = rows.truth
    chosen = choose(rows, NAMES)
    assert chosen.winners == {"valence": "audio", "arousal": "audio"}
    assert chosen.predict(rows.predicted) == pytest.approx(rows.truth)
    # Two models whose errors are opposite: their plain mean is right.
    error = 0.3 * np.random.default_rng(1).normal(size=rows.truth.shape)
    rows = RatingSet(
        np.stack([rows.truth + error, rows.truth - error]), rows.truth, rows.groups, SCALE
    )
    chosen = choose(rows, NAMES[:2])
    assert chosen.winners == {"valence": MEAN, "arousal": MEAN}
    assert chosen.pool.weights == pytest.approx(np.full((2, 2), 0.5))


def test_the_dimensions_are_chosen_apart():
    rows = draw(SHARED, 6, 60, 0)
    rows.predicted[2, :, 1] = rows.truth[:, 1]
    chosen = choose(rows, NAMES)
    assert chosen.winners == {"valence": POOL, "arousal": "cmbert"}
    assert chosen.pool.weights[1].tolist() == [0, 0, 1] and (chosen.pool.weights[0] > 0).all()


def test_the_pool_has_the_raters_mean_and_deviation_and_no_negative_weight():
    rows = draw(FLAT, 6, 60, 0)
    rows.predicted[2] = 6 - rows.predicted[2]  # a model that is against the truth has no say
    pool = fit_pool(rows)
    fitted = np.einsum("dm,mnd->nd", pool.weights, rows.predicted) + pool.bias
    assert fitted.mean(axis=0) == pytest.approx(rows.truth.mean(axis=0))
    assert fitted.std(axis=0) == pytest.approx(rows.truth.std(axis=0))
    assert (pool.weights[:, 2] == 0).all() and (pool.weights[:, :2] > 0).all()
    for d in (0, 1):  # the least-squares direction
        design = np.column_stack([rows.predicted[:2, :, d].T, np.ones(len(rows.truth))])
        slopes = np.linalg.lstsq(design, rows.truth[:, d], rcond=None)[0]
        assert pool.weights[d, 0] / pool.weights[d, 1] == pytest.approx(slopes[0] / slopes[1], 1e-4)
    extreme = pool.predict(np.stack([np.full((2, 2), value) for value in (1.0, 1.0, 5.0)]))
    assert (extreme >= 1).all() and (extreme <= 5).all()


def test_rows_that_nobody_rated_are_predicted_and_not_learned_from():
    rows = draw(SHARED, 6, 40, 0)
    rows.truth[::3] = np.nan
    rest = choose(rows.take(np.isfinite(rows.truth[:, 0])), NAMES)
    rows.predicted[:, ::3] = 5.0  # whatever the models say of them
    chosen = choose(rows, NAMES)
    assert chosen.pool.weights == pytest.approx(rest.pool.weights)
    assert chosen.pool.bias == pytest.approx(rest.pool.bias)
    assert np.isfinite(chosen.predict(rows.predicted)).all()


@pytest.mark.parametrize("truth", [np.nan, 3.0])
def test_a_dimension_without_ratings_or_with_one_rating_for_all_is_the_plain_mean(truth):
    rows = draw(SHARED, 6, 40, 0)
    rows.truth[:, 1] = truth
    chosen = choose(rows, NAMES)
    assert np.isfinite(chosen.pool.weights).all()
    if np.isnan(truth):
        assert chosen.pool.weights[1] == pytest.approx(np.full(3, 1 / 3))
        assert [*chosen.candidates] == ["valence"] and chosen.winners[
            "arousal"
        ] == "mean, too few ratings"
    assert chosen.winners["valence"] == POOL


def test_one_model_twins_a_constant_model_and_few_rows():
    rows = draw(FLAT, 6, 40, 0)
    one = RatingSet(rows.predicted[:1], rows.truth, rows.groups, SCALE)
    chosen = choose(one, ("text",))
    assert set(chosen.candidates["valence"]) == {"text", POOL}
    assert score(one, chosen.predict(one.predicted)) > score(one, one.predicted[0]) + 0.1
    twins = RatingSet(rows.predicted[[0, 0, 2]], rows.truth, rows.groups, SCALE)
    twins.predicted[2] = 2.5
    weights = choose(twins, NAMES).pool.weights
    assert weights[:, 0] == pytest.approx(weights[:, 1], rel=1e-3) and (weights[:, 2] == 0).all()
    few = rows.take(np.arange(len(rows.truth)) < 3)
    assert choose(few, NAMES).pool.weights == pytest.approx(np.full((2, 3), 1 / 3))


def test_cross_validation_predicts_a_session_by_the_others():
    rows, seen = draw(SHARED, 5, 20, 0), []

    def spy(rest):
        seen.append(set(rest.groups.tolist()))
        return fit_pool(rest)

    found = cross_predict(spy, rows)
    assert sorted(sorted({*range(5)} - kept) for kept in seen) == [[n] for n in range(5)]
    inside = rows.groups == 2
    assert (found[inside] == fit_pool(rows.take(~inside)).predict(rows.predicted[:, inside])).all()
    assert dimensions.ENOUGH_RATED < 20
