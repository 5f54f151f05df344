"""Scores of valence and arousal: the formula by hand, the jackknife, parts and comparisons."""

import json

import numpy as np
import pytest
from fusion_files import MODELS, write_dimensions, write_models

from common.files import LABELS
from fusion import affect, concordance, predictions

RISING = np.array([1.0, 2.0, 3.0])  # variance 2/3


@pytest.mark.parametrize(
    ("predicted", "ccc", "pearson", "rmse"),
    [
        (RISING, 1, 1, 0),
        (RISING + 1, 4 / 7, 1, 1),  # 2 x 2/3 / (2/3 + 2/3 + 1 ** 2)
        (RISING * 2, 4 / 11, 1, np.sqrt(14 / 3)),  # 2 x 4/3 / (2/3 + 8/3 + 2 ** 2)
        (4 - RISING, -1, -1, np.sqrt(8 / 3)),
        (np.full(3, 2.0), 0, 0, np.sqrt(2 / 3)),
        (np.full(3, 3.7), 0, 0, np.sqrt(2 / 3 + 1.7**2)),
    ],
)
def test_scores_by_hand(predicted, ccc, pearson, rmse):
    found = concordance.score(RISING, predicted)
    assert found == pytest.approx({"ccc": ccc, "pearson": pearson, "rmse": rmse}, abs=1e-12)
    swapped = concordance.score(predicted, RISING)
    assert swapped == pytest.approx(found)


@pytest.mark.parametrize("value", [3.0, 3.7, 1 / 3])
def test_constants_agree_with_nothing_even_if_they_are_equal(value):
    constant = np.full(997, value)
    assert concordance.score(constant, constant) == pytest.approx(
        {"ccc": 0, "pearson": 0, "rmse": 0}
    )
    found = concordance.measure(np.tile(constant[:9, None], 2), np.ones((9, 2)), np.arange(9) % 3)
    assert found["ccc_valence"] == 0 and found["ccc_valence_ci"] == [0, 0]


def draw(rows, seed=0):
    random = np.random.default_rng(seed)
    truth = 3 + random.normal(size=(rows, 2))
    return truth, truth + 0.8 * random.normal(size=(rows, 2)), random.integers(0, 4, rows)


def test_rows_that_nobody_rated_are_left_out():
    truth, predicted, groups = draw(80)
    truth[groups == 2] = np.nan  # a whole session
    truth[3:9, 1] = np.nan
    found = concordance.measure(truth, predicted, groups)
    for d, name in enumerate(("valence", "arousal")):
        rated = ~np.isnan(truth[:, d])
        rest = concordance.measure(truth[rated], predicted[rated], groups[rated])
        for score in concordance.SCORES:
            assert found[f"{score}_{name}"] == pytest.approx(rest[f"{score}_{name}"])
            assert found[f"{score}_{name}_ci"] == pytest.approx(rest[f"{score}_{name}_ci"])
    assert found["pearson_valence"] == pytest.approx(
        np.corrcoef(truth[groups != 2, 0], predicted[groups != 2, 0])[0, 1]
    )
    truth[:, 1] = np.nan
    blank = concordance.measure(truth, predicted, groups)
    assert blank["ccc_arousal"] is None and blank["rmse_arousal_ci"] is None
    assert blank["ccc_valence"] == pytest.approx(found["ccc_valence"])


def test_leaving_out_equals_scoring_the_rest():
    truth, predicted, groups = (values[:40] for values in draw(40, seed=3))
    found = concordance.estimate(truth[:, 0], predicted[:, 0], groups)
    for each, kind in ((groups, "without_group"), (np.arange(40), "without_row")):
        for left_out in range(each.max() + 1):
            rest = each != left_out
            slow = concordance.score(truth[rest, 0], predicted[rest, 0])
            for name in concordance.SCORES:
                assert getattr(found[name], kind)[left_out] == pytest.approx(slow[name]), name
    error = found["rmse"]
    low, high = concordance.measure(truth, predicted, groups)["rmse_valence_ci"]
    assert high - error.value == pytest.approx(error.margin)
    assert low == pytest.approx(max(error.value - error.margin, 0))


def test_an_rmse_above_one_keeps_its_interval_and_a_ccc_stays_within_its_range():
    truth, predicted, groups = draw(12)
    found = concordance.measure(truth, 5 - 3 * predicted, groups)
    low, high = found["rmse_valence_ci"]
    assert 1 < low < found["rmse_valence"] < high
    assert -1 <= found["ccc_valence_ci"][0] <= found["ccc_valence"] <= 1


def test_a_paired_test_sees_what_separate_intervals_do_not():
    truth, predicted, groups = draw(400)
    better = truth + 0.95 * (predicted - truth)
    found = concordance.compare(truth, better, predicted, groups)
    low, high = found["ccc_valence_ci"]
    assert 0 < low < found["ccc_valence"] < high and found["ccc_valence_p"] < 0.05
    apart = concordance.measure(truth, better, groups)["ccc_valence_ci"]
    assert apart[0] < concordance.measure(truth, predicted, groups)["ccc_valence"]  # they overlap
    same = concordance.compare(truth, predicted, predicted, groups)
    assert same["ccc_arousal"] == 0 and same["ccc_arousal_p"] == 1


def test_classes_sessions_and_sexes_are_scored_apart(tmp_path):
    write_models(tmp_path, range(17, 21), 160, seed=1)
    write_dimensions(tmp_path, seed=1, blank=range(40))  # all of session 17
    test = predictions.load(tmp_path)
    rated = {**test.ratings.predicted, "stacking": test.ratings.predicted["text"]}
    found = affect.evaluate(test, rated)
    expected = [f"class {label}" for label in LABELS]
    expected += [f"session {n}" for n in range(17, 21)] + ["gender F", "gender M"]
    assert [*found["parts"]] == expected
    women = test.groups("gender") == "F"
    rows = women & (np.arange(160) >= 40)
    slow = concordance.score(test.ratings.truth[rows, 1], rated["audio"][rows, 1])["ccc"]
    assert found["parts"]["gender F"]["scores"]["audio"]["ccc_arousal"] == pytest.approx(slow)
    assert found["parts"]["session 17"]["scores"]["text"]["ccc_valence"] is None
    assert found["rated"] == {"valence": 120, "arousal": 120}
    means = [found["scores"][m]["ccc_valence"] + found["scores"][m]["ccc_arousal"] for m in MODELS]
    assert found["best_single"] == MODELS[np.argmax(means)]
    assert [found["comparisons"][0][k] for k in ("first", "second")] == [
        "stacking",
        found["best_single"],
    ]
    json.dumps(found, allow_nan=False)
    assert affect.evaluate(test, {}) is None
