"""Speech synthesis: utterances independent, the voice's parameters audible, errors in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from common import sound
from common.files import UserError
from extras.sample import speech

TEXT = "다음 주 월요일에 회의실에서 다시 이야기하기로 했어."
PLAIN = speech.Voice(
    variant="f2", speed=180, pitch=50, range=50, scale=1, bright=0, level=-25, noise=-70, warmth=1
)


@pytest.fixture
def fresh_paths():
    """Forget where the library is, before and after."""
    speech.espeak_paths.cache_clear()
    yield
    speech.espeak_paths.cache_clear()


def speak(variant="f2", speed=180, pitch=50, range=50, gap=0, text=TEXT):
    return speech.speak(text, variant, speed, pitch, range, gap)


def say(voice=PLAIN, **delivery):
    rng = np.random.default_rng(5)
    return speech.say(TEXT, voice, speech.Delivery(**delivery), rng)


def median_pitch(samples, rate):
    return sound.measure(samples)["pitch"] * rate / speech.SAMPLE_RATE


def test_what_was_said_before_changes_no_sample():
    alone = speak()
    speak(variant="m3", text="전혀 다른 말이에요. 정말?")
    speak(variant="f5")
    assert np.array_equal(speak(), alone)


def test_speaks_at_the_speed_and_pitch_asked_for():
    assert len(speak(speed=150)) > 1.2 * len(speak(speed=220))
    low, high = (median_pitch(speak(pitch=p), speech.ESPEAK_RATE) for p in (30, 70))
    assert 1.3 < high / low < 1.7  # eSpeak's scale: 20 points are about a factor of 1.22


def test_every_variant_exists_and_women_speak_higher():
    every = [v for variants in speech.VARIANTS.values() for v in variants]
    # eSpeak takes an unknown variant for the plain voice without a word.
    assert len({speak(variant=v).tobytes() for v in [*every, "unknown"]}) == len(every) + 1
    pitches = {
        gender: [median_pitch(speak(variant=v), speech.ESPEAK_RATE) for v in variants]
        for gender, variants in speech.VARIANTS.items()
    }
    assert min(pitches["F"]) > max(pitches["M"])


def test_recording_is_16_khz_with_silence_around_the_speech():
    samples = say()
    assert samples.dtype == np.int16 and samples.ndim == 1
    speech_seconds = len(speak()) / speech.ESPEAK_RATE
    assert 0.24 <= len(samples) / speech.SAMPLE_RATE - speech_seconds <= 0.9
    edge = int(0.1 * speech.SAMPLE_RATE)
    for silence in (samples[:edge], samples[-edge:]):
        assert 0 < np.abs(silence).max() < 0.05 * np.abs(samples).max()
    original = median_pitch(speak(), speech.ESPEAK_RATE)
    assert median_pitch(samples, speech.SAMPLE_RATE) == pytest.approx(original, rel=0.04)


def test_level_is_in_decibels_and_loud_speech_does_not_wrap_round():
    levels = [sound.measure(say(level=level))["level"] for level in (-6, 6)]
    assert levels[1] - levels[0] == pytest.approx(12, abs=0.7)
    usual, shouted = say(), say(level=30)
    clear = np.abs(usual) > 1000
    assert np.array_equal(np.sign(shouted[clear]), np.sign(usual[clear]))


def test_a_missing_or_broken_library_is_one_line(monkeypatch, fresh_paths, tmp_path):
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(UserError, match="data"):
        speak()
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    speech.espeak_paths.cache_clear()
    with pytest.raises(UserError, match="cannot be loaded"):
        speak()
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    speech.espeak_paths.cache_clear()
    with pytest.raises(UserError, match="espeakng-loader is missing"):
        speak()


def test_works_from_a_folder_with_a_very_long_path(monkeypatch, fresh_paths, tmp_path):
    import espeakng_loader

    usual = speak()
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    Path(folder, "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    speech.espeak_paths.cache_clear()
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: f"{folder}/espeak-ng-data")
    assert np.array_equal(speak(), usual)
