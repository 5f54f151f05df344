"""Features against librosa, scipy and by hand."""

import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
import scipy.signal
from conftest import ROOT

from common import features
from common.features import Mel, deltas, log_mel

MEL = Mel()


def noise(count, level=2000):
    wave = level * np.random.default_rng(0).standard_normal(count)
    return wave.clip(-32768, 32767).astype(np.int16)


def same(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("mel", [MEL, Mel(window=400, hop=160, bins=40, lowest=20, highest=7600)])
@pytest.mark.parametrize("count", [100, 511, 512, 831, 832, 60_000])
def test_log_mel_is_librosas_over_a_floor_40_db_under_the_mean_power(count, mel):
    samples = noise(count)
    samples[len(samples) // 2 :] //= 1000  # where next to nothing is heard, the floor is left
    padded = np.pad(samples / 32768, (0, max(0, mel.window - count)))
    bands = {"n_mels": mel.bins, "fmin": mel.lowest, "fmax": mel.highest, "norm": None}
    power = librosa.feature.melspectrogram(
        y=padded, sr=16_000, n_fft=mel.window, hop_length=mel.hop, center=False, **bands
    )
    widths = librosa.filters.mel(sr=16_000, n_fft=mel.window, **bands).sum(1, keepdims=True)
    power = power / widths / mel.window
    found = log_mel(samples, mel)
    assert found.dtype == np.float32
    same(found, np.log(power + power.mean() / 10_000).T, 1e-4)
    same(log_mel(2 * samples, mel), found + np.log(4), 1e-4)  # another gain only shifts it


@pytest.mark.parametrize("count", [1, 300, 16_000])
def test_digital_silence_is_like_the_softest_noise(count):
    softest = np.random.default_rng(0).integers(-1, 2, 16_000).astype(np.int16)
    silence = log_mel(np.zeros(count, np.int16), MEL)
    assert np.ptp(silence) < 1e-6
    assert 0 < np.median(log_mel(softest, MEL)) - silence[0, 0] < 6
    assert not features.paper_mfcc(np.zeros(count, np.int16)).any()


def test_channels_are_the_spectrogram_its_slope_and_its_curve():
    same(deltas(np.eye(5)[:, 2:3])[:, 0], [0.2, 0.1, 0, -0.1, -0.2], 1e-12)
    assert deltas(np.ones((1, 3))).tolist() == [[0, 0, 0]]
    time, factors = np.arange(12.0)[:, None], np.array([[1.0, -0.5]])
    channels = features.add_deltas(time**2 * factors, MEL)
    assert channels.shape == (12, 3, 2)
    same(channels[:, 0], time**2 * factors, 0)
    same(channels[2:-2, 1], (MEL.slope_scale * 2 * time * factors)[2:-2], 1e-9)
    same(channels[4:-4, 2], np.repeat(MEL.curve_scale * 2 * factors, 4, axis=0), 1e-9)


@pytest.mark.parametrize("tempo", [0.5, 0.85, 1.0, 1.15, 2.0, 99])
@pytest.mark.parametrize("count", [1, 2, 41])
def test_another_tempo_is_read_between_the_frames(tempo, count):
    clip = np.random.default_rng(0).normal(size=(count, 2, 3)).astype(np.float32)
    places = np.linspace(0, count - 1, max(1, round(count / tempo)))
    columns = [np.interp(places, np.arange(count), band) for band in clip.reshape(count, 6).T]
    same(features.stretch(clip, tempo), np.stack(columns, axis=1).reshape(-1, 2, 3), 1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_augmentation_keeps_to_its_strength(strength):
    """Of a voice whose level, square and movement are 1, 2 and 4 everywhere."""
    clip, found = np.tile(np.float32([[1], [2], [4]]), (200, 1, 64)), []
    for seed in range(100):
        varied = features.augment(clip, strength, np.random.default_rng(seed))
        level, square, movement = varied.transpose(1, 0, 2)
        alone = features.augment(clip[:, 0], strength, np.random.default_rng(seed))
        kept = square / 2
        assert np.array_equal(alone, level) and np.array_equal(movement, 4 * kept)
        assert np.isin(kept, (0, 1)).all() and np.array_equal(level, kept * level.max())
        masked = (kept == 0).all(1).mean(), (kept == 0).all(0).sum()
        found.append((len(level) / 200 - 1, level.max() - 1, *masked))
    limit = np.array([0.1 * strength, 0.1 * strength, 0.12 * strength, int(8 * strength)])
    most, least = limit.copy(), limit * [-1, -1, 0, 0]
    most[0], least[0] = (1 / (1 - sign * limit[0]) - 1 for sign in (1, -1))  # tempo to length
    same(np.max(found, axis=0), most, 0.02 * strength + 0.006)
    same(np.min(found, axis=0), least, 0.02 * strength + 0.006)
    assert (clip == clip[:1, :, :1]).all()  # what is given stays as it was


@pytest.mark.parametrize(("count", "tokens"), [(1, 1), (1, 3), (3, 7), (100, 99), (4873, 126)])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_mean_over_tokens_is_the_mean_over_the_clip(count, tokens, kind):
    clip = np.random.default_rng(0).normal(5, 1, (count, 3, 4)).astype(kind)
    shared = features.average_over_tokens(clip, tokens)
    assert shared.shape == (tokens, 3, 4) and shared.dtype == np.float32
    same(shared.mean(0), clip.mean(0, dtype=np.float64), 1e-5)
    pieces = np.repeat(clip, tokens, axis=0).reshape(tokens, count, 3, 4)  # whole ones only
    same(shared, pieces.mean(1, dtype=np.float64), 1e-4)


@pytest.mark.parametrize("level", [0, 2000])
@pytest.mark.parametrize(
    ("count", "frames"), [(300, 100), (640, 100), (959, 100), (32_320, 100), (48_000, 149)]
)
def test_paper_spectrogram_is_scipys_and_its_differences(count, frames, level):
    samples = noise(count, level)
    padded = np.pad(samples, (0, max(0, 640 - count))).astype(np.float64)
    _, _, density = scipy.signal.spectrogram(padded, 16_000, "hann", 640, 320, detrend=False)
    log = np.log(density.T + 1e-10)
    channels = [np.vstack([log, np.zeros((frames - len(log), 321))])]  # behind the logarithm
    for _ in range(2):
        difference = np.diff(channels[-1])
        channels.append(np.hstack([difference[:, :1], difference]))
    found = features.paper_spectrogram(samples)
    assert found.dtype == np.float32
    same(found, np.stack(channels), 2e-4)


@pytest.mark.filterwarnings("ignore:Empty filters", "ignore:n_fft=400 is too large")
@pytest.mark.parametrize("count", [300, 3_000, 16_000, 74_399, 80_000])
def test_paper_mfcc_is_librosas_in_its_own_units(count):
    swell = np.linspace(0.01, 1, count) * noise(count, 8000)  # the 80 dB limit bites at the start
    samples = swell.astype(np.int16)
    mfcc = librosa.feature.mfcc(y=samples / 32768, sr=16_000, n_mfcc=100, n_fft=400, hop_length=160)
    mfcc = (mfcc - mfcc.mean(1, keepdims=True)) / mfcc.std(1, keepdims=True)
    found, frames = features.paper_mfcc(samples), min(465, 1 + count // 160)
    assert found.shape == (100, 465) and found.dtype == np.float32
    same(found[:, :frames], mfcc[:, :frames], 5e-3)
    assert not found[:, frames:].any()


NOWHERE = "from numba.core import caching as c; c.CacheImpl._locator_classes[1:] = []\n"
MAKE = "from common.features import Mel; print(Mel().filters.shape)"


def test_a_voice_is_heard_where_packages_and_home_are_read_only(tmp_path):
    """numba, which librosa compiles with, has no folder then but one that it is told of."""
    here, command = os.environ | {"TMPDIR": str(tmp_path)}, [sys.executable, "-c", NOWHERE + MAKE]
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True)
    assert done.stdout == "(64, 257)\n" and not list(tmp_path.iterdir()), done.stderr
