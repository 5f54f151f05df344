"""Scores against scikit-learn and by hand; intervals and paired tests by hand and by simulation."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from benchmarks import coverage
from fusion import metrics


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


def test_calibration_bins_are_fifteen_of_equal_width():
    # .41 and .46 share the bin from 6 / 15, .47 and .53 the next one: right, wrong, wrong, wrong.
    probabilities = np.full((4, 7), 0.05)
    probabilities[:, 3] = 0.41, 0.46, 0.47, 0.53
    truth, pred = np.array([3, 0, 0, 0]), np.full(4, 3)
    expected = (abs(0.59 - 0.46) + abs(-0.47 - 0.53)) / 4
    assert metrics.calibration_error(truth, pred, probabilities) == pytest.approx(expected)
    found = metrics.estimate_calibration(truth, pred, probabilities, np.array([0, 0, 1, 1]))
    assert found.value == pytest.approx(expected)
    assert found.without_group == pytest.approx([1.0 / 2, 0.13 / 2])


def test_leaving_out_equals_scoring_the_rest():
    truth, pred, probabilities = draw(60, seed=3)
    groups = np.random.default_rng(4).integers(0, 5, 60)
    found = metrics.estimate_all(truth, pred, probabilities, groups)
    classes = metrics.estimate(metrics.class_scores, truth, pred, groups)
    for each, kind in ((groups, "without_group"), (np.arange(60), "without_row")):
        for left_out in range(each.max() + 1):
            rest = each != left_out
            slow = metrics.scores(truth[rest], pred[rest], probabilities[rest])
            for name in metrics.SCORES:
                assert getattr(found[name], kind)[left_out] == pytest.approx(slow[name]), name
            recalls = metrics.class_scores(metrics.confusion(truth[rest], pred[rest]))["recall"]
            assert getattr(classes["recall"], kind)[left_out] == pytest.approx(recalls)


def make_rows(right, rows):
    """Return truth, prediction and group: of `rows` rows in each group so many are right."""
    groups = np.repeat(np.arange(len(right)), rows)
    place = np.tile(np.arange(rows), len(right))
    return np.zeros(len(groups), int), (place >= np.repeat(right, rows)).astype(int), groups


def test_interval_by_hand():
    # Three sessions of 100 rows, 80, 60 and 70 right. Without one of them: .65, .75, .70, so that
    # the error is sqrt(2 / 3 * (.05 ** 2 + .05 ** 2)); t with 2 degrees of freedom reaches 4.303.
    truth, pred, groups = make_rows([80, 60, 70], 100)
    accuracy = metrics.estimate_all(truth, pred, None, groups)["accuracy"]
    reach = 4.30265 * np.sqrt(2 / 3 * 0.005)
    assert accuracy.value == 0.7 and accuracy.reach == pytest.approx(reach, rel=1e-5)
    # Wilson's bounds are those true shares from which the score is just so far away.
    for bound in metrics.measure(truth, pred, None, groups)["accuracy_ci"]:
        far = reach * np.sqrt(bound * (1 - bound) / (0.7 * 0.3))
        assert abs(bound - 0.7) == pytest.approx(far, rel=1e-5)


def test_all_right_is_not_certain_and_no_rows_tell_nothing():
    truth, pred, groups = make_rows([10, 10, 10, 10], 10)
    low, high = metrics.measure(truth, pred, None, groups)["accuracy_ci"]
    # Wilson's bound of 40 rows of 40 with t of four sessions, 3.182: 40 / (40 + t ** 2)
    assert low == pytest.approx(40 / (40 + 3.18245**2), rel=1e-5) and high == 1
    recalls = metrics.measure_classes(truth, pred, groups)["recall_ci"]
    assert recalls[0] == pytest.approx([low, high])
    assert recalls[6] == pytest.approx([0, 1])


def test_intervals_hold_where_sessions_differ():
    held = coverage.check(np.random.default_rng(7), 4, (0.4, 0.2), 400)
    shares = dict(zip(coverage.COLUMNS, held, strict=True))
    # 400 sets: 95 % +- 2.2 % at two standard errors. With rows for groups the intervals of the
    # accuracy hold it in 67 % of such sets, with speakers in 87 %.
    for name in ("accuracy", "macro F1", "UAR", "+accuracy", "+macro F1"):
        assert 0.92 <= shares[name] <= 0.99, name
    assert shares["false: accuracy"] < 0.08


def test_interval_and_p_agree():
    random, seen = np.random.default_rng(3), set()
    for _ in range(60):
        truth, groups, (first, _, other) = coverage.draw(random, 4, (0.2, 0.2))
        result = metrics.compare(truth, other, first, groups)
        for name in ("accuracy", "macro_f1", "uar"):
            low, high = result[f"{name}_ci"]
            assert (result[f"{name}_p"] < 0.05) == (low > 0 or high < 0)
            seen.add(result[f"{name}_p"] < 0.05)
    assert seen == {True, False}


def test_sessions_that_agree_by_chance_prove_little():
    # One row more in each of three sessions: three rows of 300, but no spread between sessions.
    truth, pred, groups = make_rows([60, 60, 60], 100)
    _, better, _ = make_rows([61, 61, 61], 100)
    assert metrics.compare(truth, better, pred, groups)["accuracy_p"] > 0.05


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
    truth, groups, (pred, *_) = coverage.draw(random, 20, (0.2, 0.2))
    same = metrics.compare(truth, pred, pred, groups)
    assert same["accuracy"] == 0 and same["accuracy_ci"] == [0, 0]
    assert same["accuracy_p"] == same["mcnemar_p"] == 1
    better = np.where(random.random(len(truth)) < 0.3, truth, pred)
    result = metrics.compare(truth, better, pred, groups)
    assert result["second_only"] == 0
    assert result["accuracy"] == pytest.approx(result["first_only"] / len(truth))
    assert result["accuracy_ci"][0] > 0 and result["accuracy_p"] < 0.001
    reverse = metrics.compare(truth, pred, better, groups)
    assert reverse["accuracy_ci"] == pytest.approx([-b for b in result["accuracy_ci"][::-1]])
