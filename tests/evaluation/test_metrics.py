"""Scores against scikit-learn and by hand; intervals and paired tests against theory."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from pipeline.evaluation import metrics


def draw(rows, classes=7, seed=0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    pred = np.where(random.random(rows) < 0.5, truth, random.integers(0, 7, rows))
    return truth, pred, random.dirichlet(np.ones(7), rows)


@pytest.mark.parametrize(("rows", "classes"), [(500, 7), (500, 3), (3, 7), (40, 1), (1, 1)])
def test_scores_are_those_of_scikit_learn(rows, classes):
    truth, pred, _ = draw(rows, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = metrics.scores(truth, pred)
    weighted = reference.precision_recall_fscore_support(
        truth, pred, average="weighted", zero_division=0
    )
    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(truth, pred))
    assert [ours["precision"], ours["recall"], ours["f1"]] == pytest.approx(list(weighted[:3]))
    macro = reference.f1_score(truth, pred, average="macro", zero_division=0)
    assert ours["macro_f1"] == pytest.approx(macro)
    recalls = reference.recall_score(truth, pred, average=None, labels=np.unique(truth))
    assert ours["uar"] == pytest.approx(recalls.mean())
    assert ours["ece"] is None
    assert all(type(value) is float for name, value in ours.items() if name != "ece")


def test_scores_by_hand():
    # Class 0: 3 rows, 2 right; class 1: 1 row, right; class 2: 1 row, wrong.
    ours = metrics.scores(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 2, 1, 1]))
    assert ours["accuracy"] == 3 / 5
    assert ours["uar"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    f1 = [4 / 5, 2 / 3, 0]
    assert ours["macro_f1"] == pytest.approx(sum(f1) / 3)
    assert ours["f1"] == pytest.approx((3 * f1[0] + f1[1]) / 5)
    assert ours["precision"] == pytest.approx((3 * 1 + 1 / 2 + 0) / 5)


def test_calibration_error_by_hand():
    # Two rows in one bin (confidence .9, .92; one right), one row at confidence 1.0 that is wrong.
    probabilities = np.zeros((3, 7))
    probabilities[0, [0, 1]] = 0.9, 0.1
    probabilities[1, [2, 1]] = 0.92, 0.08
    probabilities[2, 5] = 1.0
    truth, pred = np.array([0, 3, 6]), np.array([0, 2, 5])
    expected = (abs(1 - 1.82) + abs(0 - 1.0)) / 3
    assert metrics.calibration_error(truth, pred, probabilities) == pytest.approx(expected)


def test_bootstrap_equals_resampling_row_by_row():
    truth, pred, probabilities = draw(200, seed=3)
    groups = np.random.default_rng(4).integers(0, 6, 200)
    counts = metrics.draw_counts(6, 5, seed=5)
    assert (counts.sum(axis=1) == 6).all()
    quick = metrics.bootstrap(truth, pred, probabilities, groups, counts)
    for resample, weights in enumerate(counts):
        rows = np.repeat(np.arange(200), weights[groups])
        slow = metrics.scores(truth[rows], pred[rows], probabilities[rows])
        for name in metrics.SCORES:
            assert quick[name][resample] == pytest.approx(slow[name]), name


def simulate(speakers, random):
    """Draw 60 rows per speaker, whose accuracy varies with mean .6 between speakers."""
    accuracy = random.beta(12, 8, speakers)
    groups = np.repeat(np.arange(speakers), 60)
    truth = random.integers(0, 7, len(groups))
    wrong = (truth + random.integers(1, 7, len(groups))) % 7
    return truth, np.where(random.random(len(groups)) < accuracy[groups], truth, wrong), groups


@pytest.mark.parametrize("speakers", [8, 40])
def test_intervals_cover_the_truth_in_95_per_cent_of_cases(speakers):
    random, cases, covered = np.random.default_rng(7), 300, {"accuracy": 0, "uar": 0}
    for case in range(cases):
        truth, pred, groups = simulate(speakers, random)
        values = metrics.bootstrap(
            truth, pred, None, groups, metrics.draw_counts(speakers, 500, case)
        )
        for name in covered:
            low, high = metrics.interval(values[name], speakers)
            covered[name] += low <= 0.6 <= high
    # 300 cases: 95 % +- 2.5 % at two standard errors; plain percentiles give 89 % for 8 speakers.
    assert 0.92 <= covered["accuracy"] / cases <= 0.985
    assert 0.92 <= covered["uar"] / cases <= 0.985


def test_intervals_over_rows_are_narrower_than_over_unlike_speakers():
    truth, pred, groups = simulate(10, np.random.default_rng(1))
    rows = np.arange(len(truth))
    by_speaker = metrics.bootstrap(truth, pred, None, groups, metrics.draw_counts(10, 1000, 0))
    by_row = metrics.bootstrap(truth, pred, None, rows, metrics.draw_counts(len(rows), 1000, 0))
    low, high = metrics.interval(by_row["accuracy"], len(rows))
    error = np.sqrt(0.6 * 0.4 / len(rows))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    low_speaker, high_speaker = metrics.interval(by_speaker["accuracy"], 10)
    assert high_speaker - low_speaker > 1.5 * (high - low)


def test_mcnemar_by_hand_and_by_the_binomial():
    assert metrics.mcnemar(0, 0) == 1.0
    # One-sided: P(X >= 8 of 10 fair coins) = (45 + 10 + 1) / 1024.
    assert metrics.mcnemar(8, 2) == pytest.approx(2 * 56 / 1024)
    assert metrics.mcnemar(2, 8) == metrics.mcnemar(8, 2)
    # Large numbers approach McNemar's chi-squared with continuity correction.
    chi = stats.chi2.sf((abs(300 - 240) - 1) ** 2 / 540, 1)
    assert metrics.mcnemar(300, 240) == pytest.approx(chi, rel=0.02)


def test_comparison_of_two_methods():
    random = np.random.default_rng(2)
    truth, pred, groups = simulate(20, random)
    counts = metrics.draw_counts(20, 2000, 0)
    same = metrics.compare(truth, pred, pred, groups, counts)
    assert same["accuracy"] == 0 and same["accuracy_ci"] == [0, 0]
    assert same["accuracy_p"] == same["mcnemar_p"] == 1
    better = np.where(random.random(len(truth)) < 0.3, truth, pred)
    result = metrics.compare(truth, better, pred, groups, counts)
    assert result["second_only"] == 0
    assert result["accuracy"] == pytest.approx(result["first_only"] / len(truth))
    assert result["accuracy_ci"][0] > 0 and result["accuracy_p"] < 0.001
    reverse = metrics.compare(truth, pred, better, groups, counts)
    assert reverse["accuracy_ci"] == pytest.approx([-b for b in result["accuracy_ci"][::-1]])
