"""Features against references in plain numpy and scipy, and by hand."""

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from common import features as mel
from common.features import average_over_tokens, stretch

MEL = mel.Mel()


def noise(count, level=2000, seed=0):
    random = np.random.default_rng(seed)
    return (level * random.standard_normal(count)).clip(-32768, 32767).astype(np.int16)


# --- the paper's spectrogram


def reference_spectrogram(samples):
    """(3, T, 321) with scipy, element by element where the paper repeats values."""
    padded = np.pad(samples, (0, max(0, 640 - len(samples)))).astype(np.float64)
    _, _, density = scipy.signal.spectrogram(
        padded, 16_000, "hann", 640, 320, detrend=False, scaling="density", mode="psd"
    )
    log = np.log(density.T + 1e-10)
    log = np.vstack([log, np.zeros((max(0, 100 - len(log)), 321))])
    channels = [log]
    for _ in range(2):
        last, difference = channels[-1], np.zeros_like(log)
        for f in range(1, 321):
            difference[:, f] = last[:, f] - last[:, f - 1]
        difference[:, 0] = difference[:, 1]
        channels.append(difference)
    return np.stack(channels)


@pytest.mark.parametrize(
    ("count", "frames"),
    [
        (640, 100),
        (959, 100),
        (16_000, 100),
        (32_319, 100),
        (32_320, 100),
        (32_640, 101),
        (48_000, 149),
    ],
)
def test_paper_spectrogram_equals_scipys(count, frames):
    samples = noise(count)
    ours = mel.paper_spectrogram(samples)
    assert ours.shape == (3, frames, 321)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference_spectrogram(samples), atol=2e-4)


def test_paper_spectrogram_of_less_than_a_window():
    ours = mel.paper_spectrogram(noise(300))
    np.testing.assert_allclose(ours, reference_spectrogram(noise(300)), atol=2e-4)
    assert np.abs(ours[0, 0]).min() > 0
    assert not ours[:, 1:].any()


def test_paper_spectrogram_pads_after_the_logarithm():
    silence = mel.paper_spectrogram(np.zeros(6400, np.int16))
    np.testing.assert_allclose(silence[0, :19], np.log(1e-10), rtol=1e-6)
    assert not silence[0, 19:].any()
    assert not silence[1:].any()


def test_paper_spectrogram_takes_samples_unscaled():
    tone = (8192 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.int16)
    frame = mel.paper_spectrogram(tone)[0, 10]
    assert frame.argmax() == 40  # 1000 Hz / 25 Hz
    # A sine's density at its own bin is A^2 / 2 over the window's noise bandwidth, 1.5 bins.
    assert frame.max() == pytest.approx(np.log(8192**2 / 2 / (1.5 * 25)), abs=0.01)


# --- the paper's MFCC


def slaney_filters(bands=128, n_fft=400, rate=16_000):
    """Triangles of area 1, linear below 1 kHz and logarithmic above (Slaney, 1998)."""

    def to_hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * np.log(rate / 2 / 1000) / np.log(6.4)
    corners = [to_hz(mel) for mel in np.linspace(0, top, bands + 2)]
    filters = np.zeros((bands, n_fft // 2 + 1))
    for band, (low, centre, high) in enumerate(
        zip(corners, corners[1:], corners[2:], strict=False)
    ):
        for k in range(n_fft // 2 + 1):
            hz = k * rate / n_fft
            height = min((hz - low) / (centre - low), (high - hz) / (high - centre))
            filters[band, k] = max(0, height) * 2 / (high - low)
    return filters


def reference_mfcc(samples):
    padded = np.pad(samples / 32768, (200, 200))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.array(
        [padded[start : start + 400] * hann for start in range(0, len(padded) - 399, 160)]
    )
    power = np.abs(np.fft.rfft(frames)) ** 2
    decibels = 10 * np.log10(np.maximum(1e-10, power @ slaney_filters().T))
    decibels = np.maximum(decibels, decibels.max() - 80)
    mfcc = scipy.fft.dct(decibels, type=2, norm="ortho", axis=1)[:, :100].T
    mfcc = (mfcc - mfcc.mean(1, keepdims=True)) / mfcc.std(1, keepdims=True)
    block = np.zeros((100, 465))
    count = min(465, mfcc.shape[1])
    block[:, :count] = mfcc[:, :count]
    return block


@pytest.mark.parametrize("count", [3_000, 16_000, 74_399, 80_000])
def test_paper_mfcc_equals_the_reference(count):
    swell = np.linspace(0.01, 1, count) * noise(count, 8000)  # the 80 dB limit bites at the start
    samples = swell.astype(np.int16)
    ours = mel.paper_mfcc(samples)
    assert ours.shape == (100, 465)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference_mfcc(samples), atol=5e-3)


def test_paper_mfcc_pads_with_zeros_after_the_clip():
    block = mel.paper_mfcc(noise(16_000))
    assert block[:, :101].any(0).all()
    assert not block[:, 101:].any()


@pytest.mark.parametrize("count", [1, 300, 16_000])
def test_paper_mfcc_of_silence_is_zero(count):
    assert not mel.paper_mfcc(np.zeros(count, np.int16)).any()


# --- the default features


@pytest.mark.parametrize("extra", [-1, 0, 1, MEL.hop - 1, MEL.hop, 10 * MEL.hop + 3])
def test_mel_power_counts_whole_windows(extra):
    frames = mel.mel_power(noise(MEL.window + extra), MEL)
    assert frames.shape == (1 + max(0, extra) // MEL.hop, MEL.bins)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


def test_mel_power_is_that_of_the_band():
    # White noise, the same in every bin: deviation ** 2 x sum of the squared window / window
    power = mel.mel_power(noise(160_000, 1000), MEL).mean(0)
    expected = (1000 / 32768) ** 2 * np.square(np.hanning(MEL.window + 1)).sum() / MEL.window
    np.testing.assert_allclose(power, expected, rtol=0.15)


def test_mel_power_bands_rise_with_frequency():
    time = np.arange(8000) / 16_000
    peaks = []
    for hz in (200, 500, 1000, 2000, 4000, 7000):
        tone = (8000 * np.sin(2 * np.pi * hz * time)).astype(np.int16)
        peaks.append(mel.mel_power(tone, MEL).mean(0).argmax())
    assert peaks == sorted(set(peaks))


def test_deltas_of_a_ramp_are_its_slope():
    ramp = np.arange(10.0)[:, None] * np.array([[1.0, -3.0, 0.0]])
    np.testing.assert_allclose(mel.deltas(ramp)[2:-2], np.tile([1.0, -3.0, 0.0], (6, 1)))


def test_deltas_by_hand():
    impulse = np.array([0.0, 0, 1, 0, 0])[:, None]
    np.testing.assert_allclose(mel.deltas(impulse)[:, 0], [0.2, 0.1, 0, -0.1, -0.2])
    assert mel.deltas(np.ones((1, 3))).tolist() == [[0, 0, 0]]


def test_average_over_tokens_by_hand():
    frames = np.array([[0.0, 1], [6, 1], [12, 1]])
    shared = average_over_tokens(frames, 2)  # the middle frame belongs half to each
    np.testing.assert_allclose(shared, [[2, 1], [10, 1]])
    fewer = average_over_tokens(frames[:2], 4)
    np.testing.assert_allclose(fewer, [[0, 1], [0, 1], [6, 1], [6, 1]])
    np.testing.assert_allclose(average_over_tokens(frames, 3), frames)
    np.testing.assert_allclose(average_over_tokens(frames[:1], 3), frames[[0, 0, 0]])


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (7, 3), (3, 7), (100, 99), (4873, 126)])
def test_average_over_tokens_keeps_the_mean(frames, tokens):
    clip = np.random.default_rng(0).normal(5, 1, (frames, 4)).astype(np.float32)
    shared = average_over_tokens(clip, tokens)
    assert shared.shape == (tokens, 4)
    np.testing.assert_allclose(shared.mean(0), clip.mean(0, dtype=np.float64), atol=1e-5)


def test_channels_of_a_parabola_are_it_its_slope_and_its_curve():
    time = np.arange(12.0)[:, None]
    channels = mel.add_deltas(time**2 * [[1.0, -0.5]], MEL)
    assert channels.shape == (12, 3, 2)
    np.testing.assert_allclose(channels[:, 0], time**2 * [[1.0, -0.5]])
    slope, curve = MEL.slope_scale * 2 * time * [[1.0, -0.5]], MEL.curve_scale * 2
    np.testing.assert_allclose(channels[2:-2, 1], slope[2:-2])
    np.testing.assert_allclose(channels[4:-4, 2], [[curve, -curve / 2]] * 4)


def test_the_floor_lies_40_db_under_the_mean_power():
    samples = noise(32_000)
    samples[16_000:] = 0  # where nothing is heard, the floor alone is left
    spectrogram = mel.log_mel(samples, MEL)
    mean = np.log(mel.mel_power(samples, MEL).mean())
    assert mean - spectrogram[-1] == pytest.approx(np.full(MEL.bins, 4 * np.log(10)), abs=1e-3)


@pytest.mark.parametrize("tempo", [0.5, 0.85, 1.15, 2.0])
def test_another_tempo_is_read_between_the_frames(tempo):
    clip = noise(41 * 3).reshape(41, 3).astype(np.float32)
    count = round(41 / tempo)
    places = np.linspace(0, 40, count)
    expected = np.stack([np.interp(places, np.arange(41), band) for band in clip.T], axis=1)
    np.testing.assert_allclose(stretch(clip, tempo), expected, rtol=1e-4, atol=0.05)
    assert stretch(clip[:1], tempo).tolist() == [clip[0].tolist()] * max(1, round(1 / tempo))


def test_another_gain_only_shifts_the_spectrogram():
    quiet, loud = (mel.log_mel(noise(16_000, level), MEL) for level in (500, 4000))
    assert np.ptp(loud - quiet) < 0.05 and (loud - quiet).mean() == pytest.approx(
        np.log(64), abs=0.01
    )


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_variant_is_masked_in_time_and_frequency_and_else_hardly_changed(channels):
    clip = np.ones((100, *channels, 64), np.float32)
    found = [mel.augment(clip.copy(), 1.0, np.random.default_rng(seed)) for seed in range(40)]
    lengths = [len(each) for each in found]
    assert 85 <= min(lengths) < 100 < max(lengths) <= 112  # tempo, 10 % each way
    for each in found:
        flat = each.reshape(len(each), -1, 64)
        frames, bins = (flat == 0).all((1, 2)), (flat == 0).all((0, 1))
        assert frames.sum() <= 0.12 * len(each) + 1 and bins.sum() <= 8
        assert np.abs(flat[:, 0][~frames][:, ~bins] - 1).max() <= 0.1 + 1e-6  # the level
    assert any((each == 0).any() for each in found)
    again = mel.augment(clip.copy(), 1.0, np.random.default_rng(3))
    np.testing.assert_array_equal(again, found[3])


def test_the_description_of_white_noise_has_about_mean_0_and_deviation_1():
    clip = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    voice = mel.describe_voice(clip, MEL)
    assert voice.shape == (2000, 3, 8)
    np.testing.assert_allclose(voice[:, :2].mean(0), 0, atol=0.15)
    np.testing.assert_allclose(voice[:, :2].std(0), 1, atol=0.15)
