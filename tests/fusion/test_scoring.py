"""Who is best beyond doubt, agreement, and the parts of the test rows with their intervals."""

import numpy as np
import pytest
from fusion_files import MODELS, write_models
from sklearn.metrics import accuracy_score

from common.files import LABELS
from fusion import metrics, predictions, scoring
from fusion.predictions import Predictions


@pytest.fixture
def test_rows(tmp_path):
    write_models(tmp_path, range(9, 13), 80, seed=1)
    return predictions.load(tmp_path)


def score(rows, seen=None):
    pred = dict(zip(MODELS, rows.logits.argmax(2), strict=True))
    found = scoring.score_parts(rows, pred, seen)
    return {partition["title"]: partition["parts"] for partition in found}


def test_best_is_who_beats_every_other_and_not_the_largest_figure():
    random = np.random.default_rng(5)
    groups, truth = np.repeat(np.arange(8), 50), random.integers(0, 7, 400)
    wrong = (truth + random.integers(1, 7, 400)) % 7
    place, chance = np.arange(400), random.random(400)
    pred = {
        "good": np.where(chance < 0.8, truth, wrong),
        "poor": np.where(chance < 0.5, truth, wrong),
    }
    shares = {"good": random.dirichlet(np.ones(7), 400)}
    best = scoring.find_best(truth, pred, shares, groups)
    assert best["accuracy"] == best["macro_f1"] == "good"
    # A rival that is right in two rows more has the largest figure, and nobody is best.
    missed = np.flatnonzero(pred["good"] != truth)[:2]
    pred["rival"] = np.where(np.isin(place, missed), truth, pred["good"])
    assert scoring.find_best(truth, pred, shares, groups)["accuracy"] is None


def test_the_smallest_calibration_error_is_the_best():
    truth, groups = np.zeros(400, int), np.repeat(np.arange(8), 50)
    pred = (np.arange(400) % 10 >= 8).astype(int)  # 80 % right in every session
    shares = {name: np.full((400, 7), 0.0) for name in ("honest", "boastful")}
    for name, confidence in (("honest", 0.79), ("boastful", 0.99)):
        shares[name][np.arange(400), pred] = confidence
    both = dict.fromkeys(shares, pred)
    assert scoring.find_best(truth, both, shares, groups)["ece"] == "honest"


def test_agreement_by_hand():
    truth = np.zeros(5, int)
    test = Predictions(None, MODELS, truth, None, None, None, {})
    pred = {
        "text": np.array([0, 0, 1, 1, 1]),
        "audio": np.array([0, 0, 1, 0, 1]),
        "cmbert": np.array([0, 1, 1, 1, 1]),
        "stacking": np.array([0, 1, 0, 1, 1]),
    }
    counted = [tuple(part.values()) for part in scoring.count_agreement(test, pred)]
    every = [([], 2, 1), (["audio"], 1, 0), (["text", "audio"], 1, 0), ([*MODELS], 1, 1)]
    assert counted == every


def test_the_rarest_combinations_of_many_models_are_counted_as_one():
    right = (np.arange(33)[:, None] // 2 ** np.arange(5)) % 2 == 1  # each of 32 once, none twice
    names = tuple("abcde")
    test = Predictions(None, names, np.zeros(33, int), None, None, None, {})
    pred = {name: (~right[:, k]).astype(int) for k, name in enumerate(names)}
    counted = scoring.count_agreement(test, pred | {"stacking": np.zeros(33, int)})
    assert len(counted) == scoring.MOST_COMBINATIONS + 1
    assert counted[0] == {"right": [], "rows": 2, "stacking": 2}
    assert counted[-1]["right"] is None and sum(part["rows"] for part in counted) == 33


def test_sessions_speakers_and_scenarios_in_their_order(test_rows):
    found = score(test_rows)
    assert list(found["By session"]) == ["9", "10", "11", "12"]
    assert list(found["By speaker"])[:3] == ["Sess09F", "Sess09M", "Sess10F"]
    assert set(found["By scenario"]) == {"impro", "script"}
    inside = test_rows.groups("speaker") == "Sess10F"
    row = found["By speaker"]["Sess10F"]["scores"]["audio"]
    pred = test_rows.logits[1].argmax(1)
    expected = accuracy_score(test_rows.truth[inside], pred[inside])
    assert row["accuracy"] == pytest.approx(expected)
    low, high = row["accuracy_ci"]
    assert low <= expected <= high and high - low < 0.7  # over rows, not over one session
    part = test_rows.groups("scenario") == "impro"  # over the sessions of the part
    sessions = test_rows.facts["session"][part].to_numpy() - 9
    alone = metrics.measure(test_rows.truth[part], pred[part], None, sessions)
    shown = found["By scenario"]["impro"]["scores"]["audio"]
    assert shown["macro_f1_ci"] == pytest.approx(alone["macro_f1_ci"])
    assert found["By scenario"]["impro"]["resampled"].startswith("4 sessions")


def test_raters_agree_by_the_share_of_votes_for_the_label(test_rows):
    votes, rows = np.zeros((80, 7), int), np.arange(80)
    other = (test_rows.truth + 1) % 7
    # 5, 7, 8 and 10 of ten votes for the label; no votes at all
    given = np.array([5, 7, 8, 10, 0])[rows % 5]
    votes[rows, test_rows.truth] = given
    votes[rows, other] = np.where(given > 0, 10 - given, 0)
    test_rows.facts[[f"votes_{label}" for label in LABELS]] = votes
    found = score(test_rows)["By agreement of the raters"]
    names = ["a half or less", "up to .7", "up to .9", "more than .9", "no votes on record"]
    assert list(found) == names
    for k, name in enumerate(names):
        inside = rows % 5 == k
        pred = test_rows.logits[0].argmax(1)
        expected = accuracy_score(test_rows.truth[inside], pred[inside])
        assert found[name]["rows"] == 16
        assert found[name]["scores"]["text"]["accuracy"] == pytest.approx(expected)


def test_transcripts_seen_in_training_and_several_corpora_are_scored_apart(test_rows):
    plain = score(test_rows)
    assert "Transcripts seen and unseen in training" not in plain and "By corpus" not in plain
    test_rows.facts["corpus"] = np.where(np.arange(80) % 4 == 0, "KEMDy20", "KEMDy19")
    found = score(test_rows, np.arange(80) < 30)
    seen = found["Transcripts seen and unseen in training"]
    assert [seen[name]["rows"] for name in ("seen", "unseen")] == [30, 50]
    assert {name: p["rows"] for name, p in found["By corpus"].items()} == {
        "KEMDy19": 60,
        "KEMDy20": 20,
    }
