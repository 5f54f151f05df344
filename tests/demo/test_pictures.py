"""The pictures of the demo: a conversation's way through the plane of valence and arousal."""

import numpy as np

from common.plots import in_style
from extras.demo.pictures import draw_path

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
