"""The choice of the fusion: luck does not win, evidence does, and the target counts."""

import numpy as np
import pytest
from fusion_files import MODELS, SHARES, accuracy, draw_sessions, pick, simulate
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from fusion import choice, methods, metrics, scoring
from fusion.fitting import LogitSet
from fusion.outputs import INPUTS

TARGET = "accuracy+macro_f1"
NOTES = {"speaker_norm": {}, "synthetic": None}


def deal_to(rows, count):
    """Deal rows to so many groups."""
    return LogitSet(rows.logits, rows.truth, np.arange(len(rows.truth)) % count)


def score(rows, probabilities):
    scores = metrics.scores(rows.truth, probabilities.argmax(axis=-1))
    return (scores["accuracy"] + scores["macro_f1"]) / 2


def test_with_few_rows_of_two_speakers_it_is_never_much_below_soft_voting():
    differences, test = [], simulate(3000, (1.5, 1.2, 0.3), seed=100)
    soft = score(test, methods.vote_soft(test.logits))
    for seed in range(15):
        chosen = choice.choose(deal_to(simulate(90, (1.5, 1.2, 0.3), seed), 2), TARGET)
        differences.append(score(test, chosen.predict(test.logits)) - soft)
    assert min(differences) > -0.01
    assert np.mean(differences) > 0.02


def test_what_is_clearly_better_wins():
    def confuse(rows):
        """Let the first model take each label for the next one: of use to who learns that."""
        logits = rows.logits.copy()
        logits[0] = np.roll(logits[0], 1, axis=1)
        return LogitSet(logits, rows.truth, rows.groups)

    rows = confuse(deal_to(simulate(2000, (2.0, 0.7, 0.7)), 10))
    test = confuse(simulate(2000, (2.0, 0.7, 0.7), seed=1))
    chosen = choice.choose(rows, TARGET)
    assert chosen.winner.startswith("logistic regression")
    usual = choice.fit_candidate(choice.DEFAULT, rows).predict(test.logits)
    assert score(test, chosen.predict(test.logits)) > score(test, usual) + 0.1


def test_what_learns_much_does_not_compete_on_few_or_unknown_groups():
    rows = simulate(200, (1.5, 1.2, 0.8))
    for few in (deal_to(rows, 4), deal_to(rows, 200)):
        names = set(choice.choose(few, TARGET).candidates)
        assert not any(name.startswith("logistic") for name in names)
    assert set(choice.choose(deal_to(rows, 5), TARGET).candidates) == set(choice.CANDIDATES)


def test_the_target_decides():
    rows = deal_to(simulate(4000, (1.0, 0.8, 0.6)), 12)
    chosen = {target: choice.choose(rows, target) for target in ("accuracy", "uar")}
    for target, other in (("accuracy", "uar"), ("uar", "accuracy")):
        found = chosen[target].candidates
        assert found[chosen[target].winner][target] > found[chosen[other].winner][target]


def test_shifted_biases_are_class_balanced_fitting():
    rows = simulate(8000, (1.2, 0.9, 0.6))
    inputs = np.hstack(rows.logits)
    plain, weighted = (LogisticRegression(C=100, max_iter=1000) for _ in range(2))
    weighted.fit(inputs, rows.truth, sample_weight=SHARES[rows.truth] ** -0.5)
    scores = plain.fit(inputs, rows.truth).predict_log_proba(inputs)
    shifted = softmax(scores + choice.balance(rows, 0.5), axis=-1)
    assert np.abs(shifted - weighted.predict_proba(inputs)).mean() < 0.005
    assert np.abs(np.exp(scores) - shifted).mean() > 0.02


def test_a_lead_and_its_margin_are_those_of_the_tables():
    truth, sessions, (ours, usual, _) = draw_sessions(np.random.default_rng(0), 6, (0.4, 0.4))
    crossed = {"ours": np.eye(7)[ours], choice.DEFAULT: np.eye(7)[usual]}
    rows = LogitSet(np.zeros((1, len(truth), 7)), truth, sessions)
    found = choice.compare(rows, crossed, "accuracy")
    expected = scoring.compare(truth, ours, usual, sessions)
    low, high = expected["accuracy_ci"]
    assert found["ours"]["lead"] == pytest.approx(expected["accuracy"])
    assert found["ours"]["margin"] == pytest.approx((high - low) / 2)
    assert found[choice.DEFAULT]["lead"] == found[choice.DEFAULT]["margin"] == 0
    both = choice.compare(rows, crossed, TARGET)["ours"]["lead"]
    plain = score(rows, crossed["ours"]) - score(rows, crossed[choice.DEFAULT])
    assert both == pytest.approx(plain)


@pytest.mark.parametrize("winner", [choice.DEFAULT, "logistic regression"])
def test_four_of_five_verdicts_are_certain_of_every_set_of_models(winner):
    """Of fresh rows; those that were fitted on are surer than these where much is learned."""
    rows, fresh = simulate(800, (1.5, 1.2, 0.8)), simulate(4000, (1.5, 1.2, 0.8), seed=1)
    chosen = pick(winner, rows)
    stored = choice.fit_fusion(rows, chosen, INPUTS, None, fitted_on="simulated rows", **NOTES)
    logits = dict(zip(MODELS, fresh.logits, strict=True))
    for models in stored.forms:
        probabilities = stored.predict({model: logits[model] for model in models})
        certain = probabilities.max(axis=1) >= stored.threshold(models)
        assert certain.mean() == pytest.approx(0.8, abs=0.05), models
        told = stored.certain[models]
        assert told.coverage == pytest.approx(0.8, abs=0.01)
        right = (probabilities.argmax(axis=1) == fresh.truth)[certain].mean()
        assert told.accuracy == pytest.approx(right, abs=0.05)
        assert right > accuracy(fresh, probabilities) + 0.03
