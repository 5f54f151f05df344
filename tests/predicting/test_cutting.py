"""Where somebody speaks, and where a long recording is cut."""

import numpy as np
import pytest
import soxr

from extras.sample.speech import ESPEAK_RATE, speak
from predicting.cutting import CLAIMED, cut, find_speech, is_spoken

RATE = 16_000
TIME = np.arange(20 * RATE) / RATE
NOISE = np.random.default_rng(0).standard_normal(len(TIME))
NOTES = (261.6, 329.6, 392.0)
HUM = sum(np.sin(2 * np.pi * 50 * n * TIME) / n**2 for n in (1, 2, 3, 5))
NOT_SPEECH = {
    "digital silence": 0 * TIME,
    "noise": NOISE,
    "noise of a room": np.convolve(NOISE, np.exp(-np.arange(200) / 20), "same"),
    "hum": HUM,
    "hum in noise": HUM + 0.1 * NOISE,
    "tone": np.sin(2 * np.pi * 440 * TIME),
    "chord": sum(np.sin(2 * np.pi * note * TIME) for note in NOTES),
    "bell": np.sin(2 * np.pi * 800 * TIME) * np.exp(-3 * (TIME % 1)),
    "clicks": (np.random.default_rng(1).random(len(TIME)) < 5e-4).astype(float),
}


@pytest.fixture(scope="module")
def voice():
    """Some seconds of speech without a pause, peak 1."""
    said = speak("오늘은 정말 기분이 좋아요 " * 6, "f2", speed=200, pitch=50, range=50, gap=0)
    said = soxr.resample(said.astype(float), ESPEAK_RATE, RATE)
    return said / np.abs(said).max()


def record(voice, *spoken, seconds, level=10_000, noise=3):
    """Return `seconds` of faint noise with speech from start to end of each part."""
    samples = noise * np.resize(NOISE, seconds * RATE)
    for start, end in spoken:
        first, last = round(start * RATE), round(end * RATE)
        samples[first:last] += level * np.resize(voice, last - first)
    return samples.astype(np.int16)


def cut_seconds(samples):
    return [(start / RATE, end / RATE) for start, end in cut(samples, find_speech(samples))]


@pytest.mark.parametrize("peak", [0.9, 0.1, 0.001])
@pytest.mark.parametrize("name", NOT_SPEECH)
def test_in_noise_and_tones_nobody_speaks_however_loud(name, peak):
    sound = NOT_SPEECH[name]
    sound = np.rint(sound / max(np.abs(sound).max(), 1e-9) * peak * 32_767).astype(np.int16)
    for seconds in (20, 2, 0.3):
        assert not is_spoken(find_speech(sound[: round(seconds * RATE)])), seconds


@pytest.mark.parametrize("level", [30_000, 1000, 100])
def test_speech_is_found_however_quiet(voice, level):
    samples = record(voice, (0, 3), seconds=3, level=level, noise=0.3)
    assert is_spoken(find_speech(samples))
    assert is_spoken(find_speech(samples[: RATE // 2]))


def test_clips_of_any_length_are_taken():
    for length in (1, 272, 511, 512, 513, 512 * 512 + 1):
        speech = find_speech(np.ones(length, np.int16))
        assert speech.shape == (-(-length // 512),) and not is_spoken(speech, CLAIMED)


def test_utterances_are_found_with_their_times(voice):
    parts = ((1, 3), (5, 6), (9, 12), (58, 60))
    found = cut_seconds(record(voice, *parts, seconds=90, level=300))
    assert found == [pytest.approx(part, abs=0.5) for part in parts]


def test_a_short_pause_ends_no_utterance_and_noise_is_none(voice):
    samples = record(voice, (1, 3), (3.3, 5), seconds=20)
    samples[8 * RATE : 18 * RATE] += (3000 * NOISE[: 10 * RATE]).astype(np.int16)
    samples[6 * RATE : 6 * RATE + 200] = 32_000  # a bang does not silence the speech
    assert cut_seconds(samples) == [pytest.approx((1, 5), abs=0.35)]


def test_what_goes_on_and_on_is_cut_and_nothing_is_lost(voice):
    pieces = cut_seconds(record(voice, (0, 100), seconds=100))
    assert max(end - start for start, end in pieces) <= 15.5
    assert pieces[0][0] < 0.1 and pieces[-1][1] > 99.5
    gaps = [second[0] - first[1] for first, second in zip(pieces, pieces[1:], strict=False)]
    assert all(0 <= gap < 0.7 for gap in gaps)
