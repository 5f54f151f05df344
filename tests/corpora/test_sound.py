"""What recordings sound like, and which are unlike those that a model was trained on."""

import numpy as np
import pytest
import soxr

from common.sound import find_unusual, measure, measure_level, reference_range

RATE = 16_000


def voice(pitch, seconds=2.0, level=-25.0, seed=0):
    """Return syllables of a buzz with breath up to 8 kHz over a faint hum, at a level in dB."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, int(7000 / pitch)))
    wave = (buzz + 0.1 * random.standard_normal(len(time))) * np.sin(2 * np.pi * 2 * time).clip(0)
    wave = wave / wave.std() + 0.005 * random.standard_normal(len(time))
    return as_int16(wave * 10 ** (level / 20))


def as_int16(wave):
    return np.rint(wave * 32_768).clip(-32_768, 32_767).astype(np.int16)


@pytest.fixture(scope="module")
def usual():
    """What is usual for forty recordings of voices from 100 to 250 Hz, -30 to -20 dB."""
    random = np.random.default_rng(1)
    pitches, levels = random.uniform(100, 250, 40), random.uniform(-30, -20, 40)
    pairs = enumerate(zip(pitches, levels, strict=True))
    return reference_range(measure(voice(p, level=lv, seed=n)) for n, (p, lv) in pairs)


@pytest.mark.parametrize("pitch", [95, 180, 275])
def test_an_ordinary_recording_is_none(usual, pitch):
    """Nor is one a little beyond, a pitch by a ratio, nor one with less noise."""
    for level in (-33, -25, -17):
        samples = voice(pitch, 1.3, level, seed=99)
        assert find_unusual(samples, usual) == []
    assert find_unusual(np.concatenate([voice(160), np.zeros(RATE, np.int16)]), usual) == []


def test_what_is_measured():
    assert measure(voice(160, level=-25))["level"] == pytest.approx(-25, abs=0.3)
    for pitch in (90, 160, 310):
        assert measure(voice(pitch))["pitch"] == pytest.approx(pitch, rel=0.02)
    white = as_int16(0.1 * np.random.default_rng(0).standard_normal(5 * RATE))
    found = measure(white)
    assert found["treble"] == pytest.approx(10 * np.log10(0.5), abs=0.2)  # half of the band
    assert found["noise"] == pytest.approx(0, abs=1)
    assert np.isnan(found["pitch"])


def test_level_and_noise_by_hand():
    """A second of a tone of -13.01 dB, half a second of one 40 dB below."""
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE) * 10**-0.5
    quiet = 0.01 * tone[: RATE // 2]
    level, noise = measure_level(as_int16(np.concatenate([tone, quiet])))
    assert level == pytest.approx(-13.01 + 10 * np.log10((1 + 0.5e-4) / 1.5), abs=0.1)
    assert level + noise == pytest.approx(-53.01, abs=0.1)
    assert measure_level(as_int16(tone))[1] == pytest.approx(0, abs=0.01)
    # The end that fills no frame is left out; shorter than a frame is one frame.
    assert measure_level(as_int16(np.append(tone, np.ones(319))))[0] == pytest.approx(
        -13.01, abs=0.1
    )
    assert measure_level(as_int16(np.full(640, 0.1)))[0] == pytest.approx(-20, abs=0.01)
    assert measure_level(as_int16(tone[:400]))[0] < -13
    level, noise = measure_level(np.zeros(100, np.int16))
    assert level == pytest.approx(-100) and np.isnan(noise)
    assert measure_level(np.zeros(0, np.int16))[0] == pytest.approx(-100)


def telephone(samples):
    narrow = soxr.resample(samples.astype(np.float32), RATE, 8000)
    return soxr.resample(narrow, 8000, RATE).astype(np.int16)


def in_noise(samples):
    random = np.random.default_rng(0)
    return (samples + 0.5 * samples.std() * random.standard_normal(len(samples))).astype(np.int16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (telephone, ["share above 4 kHz"]),
        (lambda samples: samples // 100, ["level -65 dB, usual -30 to -20", "noise"]),
        (in_noise, ["noise", "voicing"]),
        (lambda samples: voice(420), ["pitch 42"]),
        (lambda samples: voice(70), ["pitch 70 Hz"]),
        (lambda samples: np.zeros_like(samples), ["level -100 dB"]),
        (lambda samples: samples[:100] * 0, ["level -100 dB"]),
    ],
)
def test_a_strange_recording_is_told_by_what_is_strange(usual, change, words):
    found = find_unusual(change(voice(160)), usual)
    assert len(found) == len(words), found
    for remark, start in zip(found, words, strict=True):
        assert remark.startswith(start)


def test_recordings_without_a_voice_leave_pitch_open():
    silence = np.zeros(RATE, np.int16)
    usual = reference_range([measure(silence)] * 2)
    assert "pitch" not in usual
    assert find_unusual(silence, usual) == []


def test_how_far_a_voice_goes_up_and_down_and_how_much_voice_it_is():
    up = np.concatenate([voice(150), voice(300)])
    assert measure(up)["melody"] == pytest.approx(12, abs=0.5)
    assert measure(voice(160))["melody"] < 0.5 and np.isnan(measure(voice(160, 0.3))["melody"])
    usual = {"melody": [4.0, 20.0], "voicing": [60.0, 70.0]}
    assert find_unusual(voice(160), usual) == ["melody 0.0 semitones, usual 4 to 20"]
    assert find_unusual(up, usual) == []  # a clearer voice than all of them is no matter
    assert find_unusual(voice(160, 0.3), usual) == []  # too short to tell
    breath = as_int16(0.1 * np.random.default_rng(0).standard_normal(2 * RATE))
    assert [remark.split()[0] for remark in find_unusual(breath, usual)] == ["voicing"]
