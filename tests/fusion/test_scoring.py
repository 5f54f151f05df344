"""What the intervals are over, who is best beyond doubt, and that every part has its intervals."""

import numpy as np
import pytest
from fusion_files import write_models

from fusion import metrics, predictions, scoring


def names(sessions, speakers, rows):
    """Return session and speaker of every row, `rows` rows for each speaker."""
    session = np.repeat([f"Sess{number:02d}" for number in range(sessions)], speakers * rows)
    speaker = np.tile(np.repeat(list("FM")[:speakers], rows), sessions)
    return session, np.char.add(session, speaker)


@pytest.mark.parametrize(
    ("sessions", "speakers", "groups", "said"),
    [
        (8, 2, 8, "8 sessions"),
        (4, 2, 4, "4 sessions (few: others may differ by more than these show)"),
        (1, 2, 2, "2 speakers (too narrow: one session)"),
        (1, 1, 30, "30 rows (too narrow: one speaker)"),
    ],
)
def test_groups_are_sessions_while_there_are_several(sessions, speakers, groups, said):
    session, speaker = names(sessions, speakers, 30)
    found, text = scoring.choose_groups(session, speaker, len(session))
    assert text == said
    assert len(np.unique(found)) == found.max() + 1 == groups
    if sessions > 1:
        assert all(len(set(found[session == one])) == 1 for one in session)


def test_rows_without_names():
    found, text = scoring.choose_groups(None, None, 5)
    assert text == "5 rows (too narrow: speakers are unknown)"
    assert found.tolist() == [0, 1, 2, 3, 4]


def test_a_second_speaker_who_repeats_the_first_tells_nothing():
    random = np.random.default_rng(1)
    session, speaker = names(4, 2, 60)
    wrong = random.random((4, 1, 60)) < np.array([0.2, 0.5, 0.3, 0.4])[:, None, None]
    both = np.repeat(wrong, 2, axis=1).ravel().astype(int)
    truth, one = np.zeros(480, int), np.char.endswith(speaker, "F")
    intervals = []
    for rows in (one, np.ones(480, bool)):
        groups, _ = scoring.choose_groups(session[rows], speaker[rows], rows.sum())
        intervals.append(metrics.measure(truth[rows], both[rows], None, groups)["accuracy_ci"])
    assert intervals[0] == pytest.approx(intervals[1])


def test_a_part_has_the_intervals_of_its_own_sessions(tmp_path):
    write_models(tmp_path, range(1, 9), 400, seed=1)
    test = predictions.load(tmp_path)
    part = np.isin(test.groups("session"), ["1", "2", "3", "4", "5", "6"])
    found = scoring.score_part(test, part, {"text": test.pred[0]}, {})
    assert found["resampled"] == "6 sessions" and found["rows"] == part.sum()
    alone = metrics.estimate_all(
        test.truth[part], test.pred[0][part], None, test.facts["session"][part].to_numpy() - 1
    )
    low, high = found["scores"]["text"]["accuracy_ci"]
    assert [low, high] == pytest.approx(metrics.share_interval(alone["accuracy"], part.sum()))


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
