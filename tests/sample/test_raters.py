"""The sample corpus' raters: valence and arousal say more than the emotion, and move no label."""

import numpy as np
import pytest
from tqdm import tqdm

from common import sound
from extras.sample.raters import move, rate
from extras.sample.screenplay import Line
from extras.sample.speech import Delivery
from sample_corpus import perform

COUNT = 120  # utterances of each emotion
TEXT = "다음 주 월요일에 회의실에서 다시 이야기하기로 했어."


@pytest.fixture(scope="module")
def performed():
    """{emotion: [(channel, segment)]} of a woman who always says the same words."""
    lines = [
        Line("script01", "F", emotion, channel, TEXT)
        for emotion in ("neutral", "angry", "happy")
        for channel in ("voice", "words", "both") * (COUNT // 3)
    ]
    segments = perform(1, lines, np.random.default_rng(3), tqdm(disable=True))
    found = {}
    for line, segment in zip(lines, segments, strict=True):
        found.setdefault(line.emotion, []).append((line.channel, segment))
    return found


def test_within_an_emotion_a_loud_voice_is_aroused(performed):
    for segments in performed.values():
        levels = [sound.measure(segment.audio)["level"] for _, segment in segments]
        arousal = [segment.rows["F"].arousal for _, segment in segments]
        assert np.corrcoef(levels, arousal)[0, 1] > 0.4
        assert abs(np.corrcoef(levels, [s.rows["M"].arousal for _, s in segments])[0, 1]) < 0.3


@pytest.mark.parametrize(("emotion", "sign"), [("happy", 1), ("angry", -1), ("neutral", 0)])
def test_within_an_emotion_words_that_show_it_move_the_valence(performed, emotion, sign):
    segments = performed[emotion]
    shown = np.array([channel != "voice" for channel, _ in segments])
    valence = np.array([segment.rows["F"].valence for _, segment in segments])
    moved = valence[shown].mean() - valence[~shown].mean()
    assert moved * sign > 0.35 if sign else abs(moved) < 0.15


def test_a_fast_voice_is_aroused_and_a_slow_one_calm():
    fast, slow = (move("any", Delivery(speed=speed))[1] for speed in (0.2, -0.2))
    assert fast > 0 > slow and move("any", Delivery()) == (0, 0)


def test_labels_and_what_is_drawn_next_are_the_same_however_it_is_said():
    one, other = (np.random.default_rng(4) for _ in range(2))
    for _ in range(50):
        plain, moved = rate("sad", one), rate("sad", other, (0.6, -2.0))
        assert [vote.emotion for vote in plain.votes] == [vote.emotion for vote in moved.votes]
        assert plain.emotion == moved.emotion and moved.arousal < plain.arousal
    assert one.random() == other.random()
