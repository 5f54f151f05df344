"""The choice of the fusion: luck does not win, evidence does, and the target counts."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from test_stacking import KEMDY19, accuracy, simulate

from pipeline.evaluation import choice, metrics, voting
from pipeline.evaluation.fitting import Rows
from pipeline.files import UserError

TARGET = "accuracy+macro_f1"


def deal_to(rows, count):
    """Deal rows to so many groups."""
    return Rows(rows.logits, rows.truth, np.arange(len(rows.truth)) % count)


def score(rows, probabilities):
    scores = metrics.scores(rows.truth, probabilities.argmax(axis=-1))
    return (scores["accuracy"] + scores["macro_f1"]) / 2


def test_with_few_rows_of_two_speakers_it_is_never_much_below_soft_voting():
    differences, test = [], simulate(3000, (1.5, 1.2, 0.3), seed=100)
    soft = score(test, voting.vote_soft(test.logits))
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
        return Rows(logits, rows.truth, rows.groups)

    rows = confuse(deal_to(simulate(2000, (2.0, 0.7, 0.7)), 10))
    test = confuse(simulate(2000, (2.0, 0.7, 0.7), seed=1))
    chosen = choice.choose(rows, TARGET)
    assert chosen.winner.startswith(("logistic regression", "LightGBM"))
    usual = choice.fit_candidate(choice.USUAL, rows).predict(test.logits)
    assert score(test, chosen.predict(test.logits)) > score(test, usual) + 0.1


def test_what_learns_much_does_not_compete_on_few_or_unknown_groups():
    rows = simulate(200, (1.5, 1.2, 0.8))
    for few in (deal_to(rows, 4), Rows(rows.logits, rows.truth, None)):
        names = set(choice.choose(few, TARGET).candidates)
        assert not any(name.startswith(("logistic", "LightGBM")) for name in names)
    assert set(choice.choose(deal_to(rows, 5), TARGET).candidates) == set(choice.CANDIDATES)


@pytest.mark.parametrize(("groups", "deals"), [(5, 1), (9, 3)])
def test_scores_are_means_over_deals_of_the_groups(groups, deals):
    """Five groups make five folds in one way; one deal of nine would leave much to chance."""
    rows = deal_to(simulate(150, (1.5, 1.2, 0.3)), groups)
    found = choice.choose(rows, TARGET).candidates["log-linear pool"]["accuracy"]
    each = [
        accuracy(rows, choice.cross_predict(rows, ["log-linear pool"], deal)["log-linear pool"])
        for deal in range(3)
    ]
    assert (len(set(each)) == 1) == (deals == 1)
    assert found == pytest.approx(np.mean(each))


def test_the_target_decides():
    rows = deal_to(simulate(4000, (1.0, 0.8, 0.6)), 12)
    powers = {
        target: choice.CANDIDATES[choice.choose(rows, target).winner][1]
        for target in ("accuracy", "uar")
    }
    assert powers["uar"] > powers["accuracy"]
    with pytest.raises(UserError, match=r"TARGET = 'precision\+uar': any of accuracy"):
        choice.check_target("precision+uar")


def test_shifted_biases_are_class_balanced_fitting():
    rows = simulate(8000, (1.2, 0.9, 0.6))
    inputs = np.hstack(rows.logits)
    plain, weighted = (LogisticRegression(C=100, max_iter=1000) for _ in range(2))
    weighted.fit(inputs, rows.truth, sample_weight=KEMDY19[rows.truth] ** -0.5)
    scores = plain.fit(inputs, rows.truth).predict_log_proba(inputs)
    shifted = softmax(scores + choice.balance(rows.truth, 0.5), axis=-1)
    assert np.abs(shifted - weighted.predict_proba(inputs)).mean() < 0.005
    assert np.abs(np.exp(scores) - shifted).mean() > 0.02


def test_the_error_of_a_lead_is_that_of_resampled_rows():
    rows = simulate(500, (1.5, 1.2, 0.8))
    ours, usual = softmax(rows.logits[0], axis=-1), voting.vote_soft(rows.logits)
    candidates = choice.compare(rows.truth, [{"ours": ours, choice.USUAL: usual}], TARGET)
    random, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        taken = random.integers(0, 500, 500)
        part = Rows(rows.logits[:, taken], rows.truth[taken], None)
        drawn.append(score(part, ours[taken]) - score(part, usual[taken]))
    assert candidates["ours"]["lead"] == pytest.approx(score(rows, ours) - score(rows, usual))
    assert candidates["ours"]["error"] == pytest.approx(np.std(drawn), rel=0.15)
    assert candidates[choice.USUAL]["lead"] == candidates[choice.USUAL]["error"] == 0


def test_four_of_five_held_out_rows_are_certain_and_they_are_the_better_ones():
    rows = deal_to(simulate(1000, (1.5, 1.2, 0.8)), 4)
    chosen = choice.choose(rows, TARGET)
    stored = choice.fit_fusion(rows, chosen, {}, None, "simulated rows")
    assert stored.coverage == pytest.approx(0.8, abs=0.01)
    assert stored.accuracy > accuracy(rows, chosen.cross_validated) + 0.03
    fresh = simulate(4000, (1.5, 1.2, 0.8), seed=1)
    confidence = chosen.predict(fresh.logits).max(axis=1)
    assert (confidence >= stored.threshold).mean() == pytest.approx(0.8, abs=0.03)
