"""Fusion methods against references, by hand, and on simulated models."""

import numpy as np
import pytest
from fusion_files import SHARES, accuracy, simulate
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from fusion import fitting, methods, paper

TEXT, AUDIO, CMBERT = 0, 1, 2  # the order of PAPER_MODELS


def one_hot(*labels, height=1.0):
    """Logits (rows, 7) with `height` at one label a row, 0 elsewhere."""
    return height * np.eye(7)[list(labels)]


def test_temperature_undoes_a_known_overconfidence():
    rows = simulate(20000, (1.5, 1.0, 0.7), scale=2.5)
    assert rows.temperatures == pytest.approx([2.5] * 3, rel=0.05)


def test_soft_vote_by_hand():
    logits = np.log([[[0.5, 0.3, 0.2]], [[0.1, 0.6, 0.3]], [[0.2, 0.5, 0.3]]])
    padded = np.concatenate([logits, np.full((3, 1, 4), -np.inf)], axis=2)
    expected = [[0.8 / 3, 1.4 / 3, 0.8 / 3, 0, 0, 0, 0]]
    assert methods.vote_soft(padded) == pytest.approx(np.array(expected))


def test_hard_vote_and_its_ties_by_hand():
    text, audio, cmbert = one_hot(4, 1, 2), one_hot(4, 6, 3), one_hot(5, 6, 0)
    cmbert[0] *= 30  # two votes beat one certain voter
    audio[2] *= 2  # of three single votes the surest counts
    votes = methods.vote_hard(np.stack([text, audio, cmbert]))
    assert votes.argmax(axis=1).tolist() == [4, 6, 3]


def test_weights_are_on_the_simplex_and_find_the_only_useful_model():
    rows = simulate(1500, (0.0, 2.0, 0.0))
    weights = methods.fit_weighted_soft(rows).weights
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    assert weights[AUDIO] > 0.6


def test_no_weights_and_no_power_nearby_are_likelier():
    rows = simulate(500, (1.5, 1.2, 0.8))
    vote = methods.fit_weighted_soft(rows)
    logs = np.log(vote.weights)
    best = np.append(logs - logs.mean(), np.log(vote.power))

    def cost(steps):
        moved = methods.WeightedVote(rows.temperatures, softmax(steps[:3]), np.exp(steps[3]))
        likelihood = moved.predict(rows.logits)[np.arange(500), rows.truth]
        return methods.VOTE_PRECISION * steps @ steps / 2 - np.log(likelihood).sum()

    assert all(cost(best + sign * step) > cost(best) for step in np.eye(4) / 50 for sign in (-1, 1))


def test_log_pool_is_bayes_rule_for_independent_models():
    rows, test = simulate(8000, (1.5, 1.2, 0.8)), simulate(8000, (1.5, 1.2, 0.8), seed=1)
    # p(label | all) ~ p(label | text) p(label | audio) p(label | cmbert) / p(label)^2
    bayes = softmax(test.logits.sum(axis=0) - 2 * np.log(SHARES), axis=-1)
    pooled = methods.fit_log_pool(rows).predict(test.logits)
    assert np.abs(pooled - bayes).mean() < 0.01
    assert accuracy(test, pooled) > accuracy(test, methods.vote_soft(test.logits)) + 0.01


def test_softmax_regression_is_that_of_scikit_learn():
    rows = simulate(600, (1.5, 1.2, 0.8))

    inputs, start = np.hstack(rows.logits), np.zeros((21, 7))
    matrix = methods.fit_matrix(inputs, rows.truth, start, np.eye(147), precision=4)
    reference = LogisticRegression(C=1 / 4, fit_intercept=False, tol=1e-8, max_iter=5000)
    expected = reference.fit(inputs, rows.truth).predict_proba(inputs)
    assert softmax(inputs @ matrix, axis=-1) == pytest.approx(expected, abs=2e-3)


FITS = [methods.fit_weighted_soft, methods.fit_half_pool, methods.fit_logistic]


@pytest.mark.parametrize("fit", [*FITS, paper.fit_stacking])
def test_unseen_labels_and_a_single_label_are_survived(fit):
    rows = simulate(60, (1.5, 1.2, 0.8))
    few = rows.take(rows.truth < 2)
    probabilities = fit(few).predict(rows.logits)
    assert probabilities.shape == (60, 7)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(60))
    one = rows.take(rows.truth == 1)
    assert (fit(one).predict(rows.logits).sum(axis=1) > 0.999).all()
    if fit is paper.fit_stacking:
        assert set(probabilities.argmax(axis=-1)) <= {0, 1}
        assert set(fit(one).predict(rows.logits).argmax(axis=-1)) == {1}


@pytest.mark.parametrize("fit", FITS)
def test_models_that_are_surely_wrong_leave_numbers(fit):
    rows = simulate(300, (1.5, 1.2, 0.8), scale=1e6)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(fit(rows).predict(rows.logits)).all()


def test_no_group_is_in_two_folds():
    groups = simulate(300, (1.5, 1.2, 0.8)).groups
    fold = fitting.assign_folds(groups)
    assert len(np.unique(fold)) == fitting.FOLDS
    assert all(len(np.unique(fold[groups == group])) == 1 for group in set(groups))


# The procedure of the paper


def test_published_soft_voting_by_hand():
    # Row 0: text says label 1 with logit 2, audio says 2 with logit 3, CM-BERT nothing. Row by row
    # audio would win. But audio's other row has a logit of 10, so over its whole matrix nearly all
    # of its probability is there, and text wins row 0.
    logits = np.stack([one_hot(1, 0, height=2.0), one_hot(2, 5, height=3.0), np.zeros((2, 7))])
    logits[TEXT, 1] = 0
    logits[AUDIO, 1, 5] = 10
    assert methods.vote_soft(logits).argmax(axis=-1).tolist() == [2, 5]
    assert paper.vote_soft(logits).tolist() == [1, 5]


def test_published_weights_by_hand():
    # All three equally sure: .67 text beats .10 + .23; without text's word .23 beats .10.
    logits = np.stack([one_hot(1, 0), one_hot(2, 2), one_hot(2, 3)])
    logits[TEXT, 1] = 1 / 7
    weights = [paper.PUBLISHED_WEIGHTS[model] for model in paper.PAPER_MODELS]
    assert paper.vote_soft(logits, weights).tolist() == [1, 3]


def test_published_hard_voting_by_hand(monkeypatch):
    votes = {"text": (1, 1, 2), "audio": (2, 2, 2), "cmbert": (3, 2, 3)}
    logits = np.stack([one_hot(*votes[model]) for model in paper.PAPER_MODELS])
    # .2, .5 and .3; .5 against twice .2 of the first voter; twice .2 against .3
    assert paper.vote_hard(logits).tolist() == [1, 1, 2]
    weights = {"audio": 0.5, "text": 0.5, "cmbert": 0.5}  # of equals the first in the order
    monkeypatch.setattr(paper, "PUBLISHED_VOTES", weights)
    assert paper.vote_hard(logits).tolist() == [2, 2, 2]


def test_in_sample_stacking_flatters_and_cross_validation_does_not():
    # Three independent models of accuracy about .41, .63 and .56, 2,025 rows as in the paper.
    rows = simulate(2025, (1.45, 0.6, 1.2), seed=3)
    fresh = simulate(8000, (1.45, 0.6, 1.2), seed=4)
    fit = paper.fit_stacking
    in_sample = accuracy(rows, fit(rows).predict(rows.logits))
    honest = accuracy(rows, fitting.cross_fit(fit, rows))
    truth = accuracy(fresh, fit(rows).predict(fresh.logits))
    assert in_sample > truth + 0.03
    assert abs(honest - truth) < 0.03
