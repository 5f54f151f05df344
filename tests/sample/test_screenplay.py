"""The sample corpus' sentences and who says them: enough, clean, in KEMDy19's proportions."""

import re
from collections import Counter

import numpy as np
import pytest

from common.files import LABELS
from corpora.splits import split_sessions
from extras.sample import screenplay


@pytest.fixture(scope="module")
def sessions():
    return screenplay.write_screenplay(20, 60, np.random.default_rng(2026))


def test_sentences_are_enough_distinct_and_korean():
    sentences = screenplay.read_sentences()
    assert set(sentences) == {*LABELS, "any"}
    assert min(len(sentences[label]) for label in LABELS) >= 40 and len(sentences["any"]) >= 150
    every = [text for texts in sentences.values() for text in texts]
    assert len(set(every)) == len(every)
    assert [text for text in every if not re.fullmatch(r"[가-힣0-9 ,.?!]+[.?!]", text)] == []


def test_no_sentence_is_within_another_once_cleaned():
    every = [text for texts in screenplay.read_sentences().values() for text in texts]
    cleaned = [f" {' '.join(re.sub('[^가-힣 ]', '', text).split())} " for text in every]
    assert [a for a in cleaned if sum(a in b for b in cleaned) > 1] == []


def test_classes_have_the_proportions_of_kemdy19(sessions):
    counts = Counter(line.emotion for lines in sessions for line in lines)
    # 1,200 x 3,835 / 9,627 = 478.03 and so on, rounded to the nearest
    assert counts == {
        "neutral": 478,
        "angry": 230,
        "happy": 175,
        "surprise": 124,
        "sad": 96,
        "disgust": 49,
        "fear": 48,
    }
    rare = [sum(line.emotion == "fear" for line in lines) for lines in sessions]
    assert set(rare) == {2, 3}


def sentences_of(lines):
    """The sentences of our list that these lines contain, openers left out."""
    every = [text for texts in screenplay.read_sentences().values() for text in texts]
    said = " ".join(line.text for line in lines)
    return {text for text in every if f" {text} " in f" {said} "}


def splits():
    """Every (training sessions, held-out sessions) that the stages make of sessions 0 to 19."""
    default = split_sessions({"A": range(20)}, "", "")
    yield default["train"], default["valid"]
    yield default["train"], default["test"]
    dealt = default["train"] + default["valid"]
    for folds in range(2, len(dealt) + 1):
        for fold in range(folds):
            yield [s for s in dealt if s % folds != fold], [s for s in dealt if s % folds == fold]
    for folds in range(2, 11):
        for group in np.array_split(range(20), folds):
            yield sorted(set(range(20)) - set(group)), list(group)


def is_improvised(line):
    return line.dialogue.startswith("impro")


def test_no_sentence_of_a_held_out_improvisation_is_learned_from(sessions):
    known = [sentences_of(lines) for lines in sessions]
    improvised = [sentences_of(filter(is_improvised, lines)) for lines in sessions]
    assert all(len(sentences) > 15 for sentences in improvised)
    for train, held_out in splits():
        learned = set().union(*(known[session] for session in train))
        texts = {line.text for session in train for line in sessions[session]}
        for session in held_out:
            assert improvised[session] & learned == set()
            assert not any(line.text in texts for line in filter(is_improvised, sessions[session]))


def test_more_sessions_than_sentences_still_play():
    played = screenplay.write_screenplay(99, 20, np.random.default_rng(5))
    assert [len(lines) for lines in played] == [20] * 99


def test_scripted_lines_recur_as_often_as_in_kemdy19_wherever_they_are_held_out(sessions):
    """There 34 % of the scripted utterances recur word for word."""
    recur = []
    for train, held_out in splits():
        texts = {line.text for session in train for line in sessions[session]}
        lines = [line for session in held_out for line in sessions[session]]
        known = [line.text in texts for line in lines if not is_improvised(line)]
        recur.append(np.mean(known))
        if len(train) >= 14 and len(held_out) >= 4:  # else few lines to recur, or few rows
            assert 0.25 < recur[-1] < 0.42
    valid, test = recur[:2]  # of the default split
    assert abs(valid - test) < 0.05 and min(valid, test) > 0.29 and max(valid, test) < 0.39


def test_emotions_last_and_infect_as_in_meld():
    """Two turns with 50 labels of either kind left: how often is the second label the first?"""
    labels = ["angry"] * 50 + ["fear"] * 50

    def repeated(label, first, second):
        rng = np.random.default_rng(6)
        dealt = [screenplay.deal_emotions(labels, [first, second], rng) for _ in range(5000)]
        return np.mean([two == one for one, two in dealt if one == label])

    woman, man, elsewhere = ("script01", "F"), ("script01", "M"), ("script02", "F")
    # 3.71 x 49 / (3.71 x 49 + .78 x 50), 6.52 x 49 / (6.52 x 49 + 1.65 x 50)
    assert repeated("angry", woman, woman) == pytest.approx(0.823, abs=0.03)
    assert repeated("fear", woman, woman) == pytest.approx(0.795, abs=0.03)
    # 2.15 x 49 / (2.15 x 49 + 1.39 x 50), 1.56 x 49 / (1.56 x 49 + 1.23 x 50)
    assert repeated("angry", woman, man) == pytest.approx(0.603, abs=0.03)
    assert repeated("fear", woman, man) == pytest.approx(0.554, abs=0.03)
    assert repeated("angry", woman, elsewhere) == pytest.approx(49 / 99, abs=0.03)


def test_the_seed_decides(sessions):
    again = screenplay.write_screenplay(20, 60, np.random.default_rng(2026))
    other = screenplay.write_screenplay(20, 60, np.random.default_rng(2027))
    assert again == sessions and other != sessions
