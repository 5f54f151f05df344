"""The sample corpus' sentences and who says them: enough, clean, in KEMDy19's proportions."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from pipeline.labels import LABELS
from pipeline.sample import screenplay


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


def test_apportion_fills_any_total():
    assert all(len(screenplay.apportion(total)) == total for total in (1, 7, 80, 1199))


def test_a_third_is_told_by_voice_by_words_by_both_in_every_class(sessions):
    for label in LABELS:
        told = Counter(
            line.told_by for lines in sessions for line in lines if line.emotion == label
        )
        assert max(told.values()) - min(told.values()) <= 1


def test_words_fit_what_they_tell(sessions):
    sentences = screenplay.read_sentences()
    for lines in sessions:
        for line in lines:
            source = "any" if line.told_by == "voice" else line.emotion
            assert any(sentence in line.text for sentence in sentences[source]), line


def test_every_session_plays_three_scripts_and_two_improvisations_with_both_actors(sessions):
    for lines in sessions:
        dialogues = list(dict.fromkeys(line.dialogue for line in lines))
        assert [d[:-2] for d in dialogues] == ["script"] * 3 + ["impro"] * 2
        for dialogue in dialogues:
            assert {line.gender for line in lines if line.dialogue == dialogue} == {"F", "M"}
    assert len({line.dialogue for lines in sessions for line in lines}) == 10


def test_about_a_third_of_scripted_lines_recur_in_another_session(sessions):
    where = defaultdict(set)
    for number, lines in enumerate(sessions):
        for line in lines:
            where[line.text].add(number)
    scripted = [line for lines in sessions for line in lines if line.dialogue.startswith("script")]
    assert 0.27 < np.mean([len(where[line.text]) > 1 for line in scripted]) < 0.43


def test_any_fifth_of_the_sessions_has_sentences_unseen_in_the_others(sessions):
    sentences = [text for texts in screenplay.read_sentences().values() for text in texts]
    for first in range(0, 20, 4):
        held_out = " ".join(x.text for lines in sessions[first : first + 4] for x in lines)
        rest = " ".join(x.text for lines in sessions[:first] + sessions[first + 4 :] for x in lines)
        used = [text for text in sentences if text in held_out]
        assert 0.3 < np.mean([text not in rest for text in used]) < 0.8


def test_the_seed_decides(sessions):
    again = screenplay.write_screenplay(20, 60, np.random.default_rng(2026))
    other = screenplay.write_screenplay(20, 60, np.random.default_rng(2027))
    assert again == sessions and other != sessions
