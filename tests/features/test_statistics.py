"""Statistics of a clip: what they measure, and what they are of clips with nothing to measure."""

import numpy as np
import pytest
from pipeline.features.mel import log_mel
from pipeline.features.statistics import MEL, STATISTICS, describe_clip, log_pitch, summarise

LEVEL = slice(0, MEL.bins + 1)  # the lowest percentile of every bin and of the level
PITCH = slice(4 * (MEL.bins + 1), STATISTICS - 1)


def buzz(hertz, seconds=1.0, size=2000) -> np.ndarray:
    """Return a sound of ten harmonics, int16."""
    time = np.arange(int(16_000 * seconds)) / 16_000
    return (size * sum(np.cos(2 * np.pi * hertz * k * time) / k for k in range(1, 11))).astype("i2")


@pytest.mark.parametrize("hertz", [80, 150, 400])
def test_the_pitch_is_found_in_octaves(hertz):
    low, middle, high, movement = describe_clip(buzz(hertz))[PITCH]
    assert np.allclose([low, middle, high], np.log2(hertz), atol=0.02)
    assert movement < 0.01


def test_the_pitch_of_a_silent_half_does_not_count():
    clip = np.concatenate([buzz(150, 1.2), np.zeros(16_000, "i2")])
    assert np.allclose(describe_clip(clip)[PITCH][:3], np.log2(150), atol=0.02)


@pytest.mark.parametrize("count", [1, 511, 512, 831, 832, 9_999])
def test_pitch_and_spectrogram_have_the_same_frames(count):
    clip = buzz(150)[:count]
    assert len(log_pitch(clip)) == len(log_mel(clip, MEL))


def test_a_pitch_that_rises_half_way_rises_in_the_frame_there():
    pitch = log_pitch(np.concatenate([buzz(100), buzz(300)]))
    risen = np.flatnonzero(pitch > np.log2(200))[0]
    assert abs(risen * MEL.hop + MEL.window / 2 - 16_000) <= 2 * MEL.hop


def test_another_gain_shifts_the_level_and_nothing_else():
    clip = buzz(150) + np.random.default_rng(0).integers(-500, 500, 16_000).astype("i2")
    shift = describe_clip(2 * clip) - describe_clip(clip)
    assert np.allclose(shift[LEVEL], np.log(4), atol=1e-3)
    assert np.allclose(shift[3 * (MEL.bins + 1) :], 0, atol=1e-3)


def test_movement_is_the_mean_slope_and_percentiles_are_of_the_values():
    low, middle, high, movement = summarise(np.arange(101.0)[:, None] * 2)
    assert (low, middle, high) == (20, 100, 180)
    assert 1.9 < movement <= 2  # the edges are flat


@pytest.mark.parametrize("clip", [np.zeros(16_000, "i2"), np.zeros(1, "i2"), buzz(150)[:300]])
def test_silence_and_short_clips_have_finite_statistics(clip):
    found = describe_clip(clip)
    assert found.shape == (STATISTICS,)
    assert np.isfinite(found).all()
