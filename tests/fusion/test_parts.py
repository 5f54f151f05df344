"""The parts of the test rows, and which gaps between them are more than chance."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fusion_files import write_data, write_measures, write_models
from scipy import stats

from fusion import predictions
from fusion.corpus import Corpus, read_corpus
from fusion.gaps import compare_parts, correct, find_gaps
from fusion.parts import find_groups


@pytest.fixture
def test_rows(tmp_path):
    write_models(tmp_path, range(9, 13), 80, seed=1)
    return predictions.load(tmp_path)


def numbers(parts):
    """Return each part's row numbers."""
    return {name: np.flatnonzero(rows).tolist() for name, rows in parts.items()}


def test_lengths_and_words_by_hand(test_rows):
    seconds, words = np.full(80, 3.0), np.full(80, 4.0)
    seconds[:8] = 0.2, 0.999, 1, 1.999, 4, 7.999, 8, 30
    seconds[8] = np.nan
    words[:6] = 0, 2, 6, 10, 11, 40
    rows = test_rows.facts.assign(seconds=seconds, words=words)
    found = find_groups(predictions.replace(test_rows, facts=rows), Corpus())
    length = numbers(found["length"])
    assert length.pop("length 2 to 4 s") == list(range(9, 80))
    assert length == {
        "length under 1 s": [0, 1],
        "length 1 to 2 s": [2, 3],
        "length 4 to 8 s": [4, 5],
        "length over 8 s": [6, 7],
    }
    counted = numbers(found["words"])
    assert counted.pop("words 3 to 5") == list(range(6, 80))
    expected = {"words 0 to 2": [0, 1], "words 6 to 10": [2, 3], "words over 10": [4, 5]}
    assert counted == expected


def test_known_turns_are_counted_in_time_for_each_speaker_of_a_session(test_rows):
    # One speaker is in two sessions; the rows stand in no order of time.
    order = np.random.default_rng(0).permutation(18)
    facts = pd.DataFrame(
        {
            "session": [1] * 12 + [2] * 6,
            "speaker": ["A", "B"] * 6 + ["A"] * 6,
            "dialogue_number": [1] * 6 + [2] * 6 + [10] * 3 + [9] * 3,
            "turn": [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3, 8, 9, 10],
        }
    )
    heard = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [3, 4, 5, 0, 1, 2]
    facts = test_rows.facts[:18].assign(**facts)
    part = predictions.replace(
        test_rows, facts=facts.iloc[order].reset_index(drop=True), truth=test_rows.truth[:18]
    )
    found, heard = find_groups(part, Corpus())["turns"], np.array(heard)[order]
    assert (found["known turns 0"] == (heard == 0)).all()
    assert (found["known turns 1 to 4"] == ((heard > 0) & (heard < 5))).all()
    assert (found["known turns 5 or more"] == (heard == 5)).all()


def test_level_and_noise_are_parted_by_the_thirds_of_the_training_rows(tmp_path):
    write_models(tmp_path, range(9, 13), 80, seed=1)
    measures = write_measures(tmp_path, seed=2)
    write_data(tmp_path / "data", tmp_path, train=31)
    test = predictions.load(tmp_path)
    corpus = read_corpus(str(tmp_path / "data"), [test])
    # Of training: -100, -21 .. -51 with thirds at the ranks 10 1/3 and 20 2/3 from the lowest.
    train = np.sort([-100, *range(-51, -20)])
    low, high = np.interp([31 / 3, 62 / 3], np.arange(32), train)
    assert corpus.edges["level"] == pytest.approx(np.tile([low, high], (80, 1)))
    found, level = find_groups(test, corpus), measures["level"].to_numpy()
    assert (found["level"]["level low"] == (level <= low)).all()
    assert (found["level"]["level high"] == (level > high)).all()
    # The silent ones have no noise and are in no part; nor does the silent one of training count.
    together = sum(rows.astype(int) for rows in found["noise"].values())
    assert (together == np.isfinite(measures["noise"])).all() and together.sum() == 78
    edges = np.quantile(-30 - np.arange(1, 32) / 2, [1 / 3, 2 / 3])
    assert corpus.edges["noise"][0] == pytest.approx(edges)


def test_tables_without_the_measured_columns_have_the_other_parts(tmp_path):
    write_models(tmp_path, range(9, 13), 80, seed=1)
    write_data(tmp_path / "data", tmp_path, train=5)
    test = predictions.load(tmp_path)
    corpus = read_corpus(str(tmp_path / "data"), [test])
    assert corpus.edges  # the models' tables are older than the data's
    expected = ["session", "speaker", "gender", "scenario", "votes", "turns", "transcript"]
    assert [*find_groups(test, corpus)] == expected
    # All are of one length, or without words: that is no part.
    same = test.facts.assign(seconds=3.0, words=0.0)
    assert [*find_groups(predictions.replace(test, facts=same), corpus)] == expected


def make_test(right, sessions):
    """Return test rows of these sessions (N,), and predictions that are `right` (N,)."""
    names = np.asarray(sessions).astype(str)
    test = SimpleNamespace(truth=np.zeros(len(right), int), groups=lambda kind: names)
    return test, 1 - np.asarray(right, int)


def test_gap_by_hand():
    # Sessions of 100 women's and 100 men's rows. Women: 80, 60, 70 right; men: 50, 50, 35.
    # Gap .70 - .45 = .25; without a session each: .65 - .425, .75 - .425, .70 - .50.
    right, women, sessions = [], [], []
    for session, counts in enumerate(((80, 50), (60, 50), (70, 35))):
        for is_woman, count in zip((True, False), counts, strict=True):
            right += [True] * count + [False] * (100 - count)
            women += [is_woman] * 100
            sessions += [session] * 100
    right, women, sessions = map(np.array, (right, women, sessions))
    error = np.sqrt(2 / 3 * (0.025**2 + 0.075**2 + 0.05**2))
    found = compare_parts(right, women, ~women, sessions)
    assert found["gap"] == pytest.approx(0.25)
    assert found["p"] == pytest.approx(2 * stats.t.sf(0.25 / error, 2))
    margin = stats.t.ppf(0.975, 2) * error
    assert found["ci"] == pytest.approx([0.25 - margin, 0.25 + margin])
    other = compare_parts(right, ~women, women, sessions)
    assert other["gap"] == pytest.approx(-0.25) and other["p"] == pytest.approx(found["p"])
    # A part that lies in two of many sessions has one degree of freedom.
    few = women & (sessions < 2)
    spread = compare_parts(right, few, ~women, sessions)
    assert spread["p"] > 0.1
    # All right in every session is not certain: 20 rows of 20 against 10 of 20.
    right, part = np.ones(40, bool), np.arange(40) < 20
    right[20::2] = False
    sure = compare_parts(right, part, ~part, np.arange(40) // 2 % 4)  # no session differs
    error = np.sqrt((21 / 22 * 1 / 22 + 1 / 2 * 1 / 2) / 22)
    assert sure["p"] == pytest.approx(2 * stats.t.sf(0.5 / error, 19))


def test_holm_by_hand():
    # The third, smallest, counts four times, the first three times ...
    assert correct([0.01, 0.04, 0.005, 0.03]) == pytest.approx([0.03, 0.06, 0.02, 0.06])
    assert correct([0.6, 0.5]) == [1.0, 1.0] and correct([]) == []


def test_the_largest_gap_of_each_group_and_none_of_small_parts():
    sessions = np.arange(400) % 8
    rows = np.arange(400)
    blocks = rows // 100  # 60, 80, 70, 65 of 100 right
    right = rows % 100 < np.array([60, 80, 70, 65])[blocks]
    small = rows < 19  # all right
    groups = {
        "length": {f"length {k}": blocks == k for k in range(4)} | {"length small": small},
        "gender": {"gender F": rows % 2 == 0, "gender M": rows % 2 == 1},
        "speaker": {"speaker A": blocks == 0, "speaker B": blocks == 1},
        "words": {"words few": small, "words many": ~small},
        "level": {"level low": sessions == 0, "level high": sessions > 0},  # one session
    }
    groups["length"]["length 0"] &= ~small
    test, pred = make_test(right, sessions)
    first, second = find_gaps(test, pred, groups)
    assert (first["group"], first["best"], first["worst"]) == ("length", "length 1", "length 0")
    assert first["gap"] == pytest.approx(0.8 - 41 / 81) and first["pairs"] == 6
    assert (second["group"], second["pairs"]) == ("gender", 1)
    plain = compare_parts(right, blocks == 1, groups["length"]["length 0"], sessions)
    assert first["p"] == pytest.approx(min(1, 2 * 6 * plain["p"]))
    assert first["ci"] == plain["ci"]


def test_one_session_is_tested_over_its_rows():
    right, part = np.arange(100) % 10 < 5, np.arange(100) < 50
    right[:25] = True
    test, pred = make_test(right, np.ones(100, int))
    (gap,) = find_gaps(test, pred, {"gender": {"gender F": part, "gender M": ~part}})
    assert gap["gap"] == pytest.approx(35 / 50 - 0.5)
    assert gap["p"] == pytest.approx(stats.ttest_ind(right[part], right[~part]).pvalue, abs=0.01)


def test_gaps_that_are_chance_are_seldom_called_gaps_and_real_ones_are_found():
    """Five groups of three parts: uncorrected, half of the sets would have some gap below .05."""
    random, alarms, uncorrected, found = np.random.default_rng(5), 0, 0, 0
    for _ in range(200):
        sessions = np.repeat(np.arange(10), 60)
        ease = np.clip(0.6 + 0.08 * random.standard_normal(10), 0, 1)[sessions]
        draw = random.random(600)
        groups = {}
        for name in ("gender", "length", "words", "level", "noise"):
            kind = random.integers(0, 3, 600)
            groups[name] = {f"{name} {k}": kind == k for k in range(3)}
        test, pred = make_test(draw < ease, sessions)
        gaps = find_gaps(test, pred, groups)
        alarms += any(gap["p"] < 0.05 for gap in gaps)
        uncorrected += any(gap["ci"][0] > 0 for gap in gaps)
        better = groups["gender"]["gender 1"]
        test, pred = make_test(draw < ease + 0.2 * better, sessions)
        gap = next(gap for gap in find_gaps(test, pred, groups) if gap["group"] == "gender")
        found += gap["best"] == "gender 1" and gap["p"] < 0.05
    assert alarms <= 16 and uncorrected > 50 and found > 100
