"""The pictures of the demo: the voice with its windows, and the way through valence and arousal."""

import numpy as np

from common.features import Mel
from common.files import LABELS
from common.labels import KOREAN
from common.plots import find_font, in_style
from extras.demo.pictures import draw_path, draw_voice
from predicting import Answer, Recording

POINTS = np.array([[3.0, 2.5], [np.nan, np.nan], [5.0, 1.0], [1.5, 4.5]])


def look(turn, points=POINTS):
    """The axis, and where the points and the mark are."""
    with in_style():
        (axis,) = draw_path(points, turn, (1, 5)).axes
    every, *marked = (part.get_offsets() for part in axis.collections)
    return axis, every, marked


def test_turns_are_points_and_one_of_them_is_marked():
    axis, every, (marked,) = look(3)
    np.testing.assert_array_equal(every, POINTS[[0, 2, 3]])
    np.testing.assert_array_equal(marked, POINTS[[3]])
    assert [text.get_text() for text in axis.texts] == ["1", "3", "4"]
    assert "valence" in axis.get_xlabel() and "arousal" in axis.get_ylabel()
    for low, high in (axis.get_xlim(), axis.get_ylim()):  # a point at the end is within
        assert low < 1 and high > 5
    np.testing.assert_array_equal(axis.lines[-1].get_xydata(), POINTS[[0, 2, 3]])


def test_a_turn_without_a_point_is_none():
    assert look(1)[2] == []
    _, every, marked = look(0, np.full((1, 2), np.nan))
    assert len(every) == 0 and marked == []


def window(start, label, probability, uncertain=False):
    """The answer to two seconds of an utterance that begins at 30 s."""
    recording = Recording(start=30.0 + start, end=32.0 + start)
    if not label:
        return Answer(recording, labels=LABELS)
    each = np.full(len(LABELS), (1 - probability) / (len(LABELS) - 1))
    each[LABELS.index(label)] = probability
    return Answer(recording, probabilities=each, uncertain=uncertain, labels=LABELS)


def test_the_voice_has_a_bar_for_each_window_above_its_spectrogram():
    windows = [window(0, "sad", 0.9), window(2, "", 0), window(4, "angry", 0.4, True)]
    windows.append(window(6, "sad", 0.6))
    frames = np.zeros((500, Mel().bins))
    with in_style():
        strip, spectrogram, *_ = draw_voice(frames, Mel(), windows).axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in strip.patches]
    np.testing.assert_allclose(bars, [(0, 2, 0.9), (4, 2, 0.4), (6, 2, 0.6)])
    first, second, third = (bar.get_facecolor() for bar in strip.patches)
    assert first == third != second
    assert [bool(bar.get_hatch()) for bar in strip.patches] == [False, True, False]
    assert [text.get_position()[0] for text in strip.texts] == [3.0]  # where nobody speaks
    names = [text.get_text() for text in strip.get_legend().get_texts()]
    for name, label in zip(names, ("sad", "angry"), strict=False):
        assert label in name and (not find_font() or KOREAN[label] in name)
    assert len(names) == 3 and "uncertain" in names[2]
    assert strip.get_xlim() == spectrogram.get_xlim()


def test_a_voice_that_no_model_judges_alone_has_its_spectrogram():
    with in_style():
        spectrogram, bar = draw_voice(np.zeros((50, Mel().bins)), Mel()).axes
    assert spectrogram.images and not spectrogram.patches
