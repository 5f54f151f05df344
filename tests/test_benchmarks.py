"""The benchmarks' table: what counts as met, and lengths like KEMDy19's."""

import numpy as np
import pytest

from benchmarks import measure


@pytest.mark.parametrize(
    ("ours", "baseline", "limits", "met"),
    [
        (6.0, 2.0, {"most": 3}, True),
        (6.1, 2.0, {"most": 3}, False),
        (8.0, 2.0, {"least": 4}, True),
        (7.9, 2.0, {"least": 4}, False),
        (5.9, None, {"most": 6}, True),
        (6.1, None, {"most": 6}, False),
    ],
)
def test_a_target_is_of_the_ratio_or_without_a_baseline_of_ours(ours, baseline, limits, met):
    row = measure.row("a stage", "s", ours, baseline, **limits)
    assert row["met"] is met
    assert row["ratio"] == (None if baseline is None else pytest.approx(ours / baseline))


def test_lengths_are_kemdy19s():
    seconds = measure.draw_lengths(20_000) / measure.SAMPLE_RATE
    characters = [len(text) for text in measure.draw_texts(20_000)]
    assert np.percentile(seconds, [50, 95]) == pytest.approx([4.2, 15.5], rel=0.05)
    assert np.percentile(characters, [50, 95]) == pytest.approx([22, 92], rel=0.08)
