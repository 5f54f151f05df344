"""Samples -> log-mel spectrogram -> what the networks take: deltas, variants, voice over tokens.

Shapes: S samples (int16, 16 kHz), T frames, F mel bins, B clips of a batch, L tokens.
"""

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType

import numpy as np
from scipy.fft import dct, rfft

from common.files import FULL_SCALE, SAMPLE_RATE

# The log-mel spectrogram of the default; the paper's features stand at the end.
BLOCK = 64  # frames that are transformed at once: what is made of them stays in the cache
ROUNDING_POWER = 3 / 8 / 12 / FULL_SCALE**2  # mel_power of white noise of one bit (Hann: 3 / 8)


@dataclass(frozen=True)
class Mel:
    """The constants of the log-mel spectrogram; a trained model carries them in its config.json."""

    window: int = 512  # samples of a frame, 32 ms
    hop: int = 320  # samples between frames, 20 ms
    bins: int = 64
    lowest: float = 50.0  # Hz
    highest: float = 8000.0
    range: float = 40.0  # dB under the clip's mean power; what is below hardly counts
    slope_scale: float = 2.5  # of the deltas, so that they are not small beside the spectrogram
    curve_scale: float = 5.0  # of the deltas' deltas

    @cached_property
    def filters(self) -> np.ndarray:
        """The mel bands, (bins, window / 2 + 1); each gives the mean power within the band."""
        filters = mel_bands(
            sr=SAMPLE_RATE, n_fft=self.window, n_mels=self.bins, fmin=self.lowest, fmax=self.highest
        )
        return filters / filters.sum(1, keepdims=True)


def mel_bands(**options) -> np.ndarray:
    """Return librosa.filters.mel(**options)."""
    return import_librosa("filters").mel(**options)


def import_librosa(name: str) -> ModuleType:
    """Return a module of librosa, also where packages and home are read-only.

    librosa compiles with numba as it is imported, and numba asks for a folder to keep that in.
    """
    try:
        return import_module(f"librosa.{name}")
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        import numba

        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="numba")
        atexit.register(shutil.rmtree, numba.config.CACHE_DIR, ignore_errors=True)
        return import_module(f"librosa.{name}")


def slice_frames(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Slice (S,) into (T, window), T = 1 + (S - window) // hop; a shorter clip is one frame."""
    if len(samples) < window:
        samples = np.pad(samples, (0, window - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]


def power_blocks(samples: np.ndarray, window: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """Yield the power spectra (T, W / 2 + 1) of samples (S,) under a window (W,), BLOCK by BLOCK.

    In the precision of samples and window, by scipy, which transforms several frames at once.
    """
    frames = slice_frames(samples, len(window), hop)
    for start in range(0, len(frames), BLOCK):
        spectrum = rfft(frames[start : start + BLOCK] * window)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        yield power


def mel_power(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """Return the mel power spectrogram, (T, F) float32."""
    hann = np.hanning(mel.window + 1)[:-1].astype(np.float32) / FULL_SCALE
    filters = mel.filters.T / mel.window
    blocks = power_blocks(samples.astype(np.float32), hann, mel.hop)
    return np.concatenate([power @ filters for power in blocks])


def log_mel(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """Return the log-mel spectrogram, (T, F) float32.

    The floor under the logarithm lies `range` dB below the clip's mean power, so another gain of
    the microphone only shifts the spectrogram; of digital silence it is a 16-bit file's own noise.
    """
    power = mel_power(samples, mel)
    floor = max(float(power.mean()) * 10 ** (-mel.range / 10), ROUNDING_POWER)
    return np.log(power + np.float32(floor))


def deltas(spectrogram: np.ndarray) -> np.ndarray:
    """Return the slope along time, (T, F): regression over two frames to each side."""
    first, last = spectrogram[:1], spectrogram[-1:]
    padded = np.concatenate([first, first, spectrogram, last, last])
    slope = padded[4:] - padded[:-4]
    slope *= 2
    slope += padded[3:-1] - padded[1:-3]
    slope /= 10
    return slope


def add_deltas(spectrogram: np.ndarray, mel: Mel) -> np.ndarray:
    """Return a spectrogram (T, F) with its first and second deltas as channels, (T, 3, F)."""
    slope = deltas(spectrogram)
    curve = deltas(slope)
    return np.stack([spectrogram, mel.slope_scale * slope, mel.curve_scale * curve], axis=1)


def stretch(frames: np.ndarray, tempo: float) -> np.ndarray:
    """Return (T, ...) at another tempo, (T / tempo, ...): interpolated between its frames."""
    count = len(frames)
    positions = np.linspace(0, count - 1, max(1, round(count / tempo)))
    below = np.floor(positions).astype(int)
    weight = (positions - below).astype(np.float32).reshape(-1, *[1] * (frames.ndim - 1))
    return frames[below] * (1 - weight) + frames[np.minimum(below + 1, count - 1)] * weight


def augment(frames: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Return another plausible (T, F), or (T, C, F) whose first channel is the level.

    At strength 1: tempo and level up to 10 % off, up to 12 % of the frames and 8 bins masked in all
    channels (SpecAugment, Park et al., Interspeech 2019). 0 is to be the mean of every bin.
    """
    bins = frames.shape[-1]
    frames = stretch(frames, 1 + 0.1 * strength * random.uniform(-1, 1))
    level = frames if frames.ndim == 2 else frames[:, 0]
    level += np.float32(0.1 * strength * random.uniform(-1, 1))
    width = random.integers(0, int(0.12 * strength * len(frames)) + 1)
    start = random.integers(0, len(frames) - width + 1)
    frames[start : start + width] = 0
    width = random.integers(0, int(8 * strength) + 1)
    start = random.integers(0, bins - width + 1)
    frames[..., start : start + width] = 0
    return frames


def describe_voice(spectrogram: np.ndarray, mel: Mel) -> np.ndarray:
    """Return level, its square and its movement (T, 3, F) of a normalised spectrogram (T, F).

    Averaged over a token's frames, the square tells how much the level varied in them. Square and
    movement are shifted and scaled to about mean 0 and deviation 1, as the level has them.
    """
    square = (np.square(spectrogram) - 1) / np.sqrt(2, dtype=np.float32)
    movement = mel.slope_scale * np.abs(deltas(spectrogram)) - 1
    return np.stack([spectrogram, square, movement], axis=1)


def average_over_tokens(frames: np.ndarray, tokens: int) -> np.ndarray:
    """Average frames (T, ...) over each token's share of the clip, (tokens, ...).

    Token i covers [i, i + 1) / tokens of the clip's time; a frame on the border counts with the
    part of it inside. The mean over all tokens is therefore the mean over the clip.
    """
    sums = np.concatenate([np.zeros_like(frames[:1]), frames.cumsum(0, dtype=np.float64)])
    borders = np.linspace(0, len(frames), tokens + 1)
    whole = np.minimum(borders.astype(int), len(frames) - 1)
    inside = (borders - whole).reshape(-1, *[1] * (frames.ndim - 1))
    at_borders = sums[whole] + inside * frames[whole]
    return (np.diff(at_borders, axis=0) * tokens / len(frames)).astype(np.float32)


# The features as published.
@dataclass(frozen=True)
class Paper:
    """The constants of the published features; a trained model carries its own."""

    # Linear power spectral density of unscaled samples.
    window: int = 640  # samples of a frame, 40 ms
    hop: int = 320  # samples between frames, 20 ms
    floor: float = 1e-10
    frames: int = 100  # zero rows up to here, after the logarithm
    # librosa's MFCC: 128 mel bands, decibels within 80 of the loudest, cosine transform.
    mfcc: int = 100  # coefficients
    mfcc_frames: int = 465
    mfcc_window: int = 400
    mfcc_hop: int = 160
    mfcc_floor: float = 1e-10
    mfcc_range: float = 80  # dB

    @property
    def bins(self) -> int:
        return self.window // 2 + 1

    @cached_property
    def density(self) -> np.ndarray:
        """The window (Hann) of a power per Hz."""
        hann = np.hanning(self.window + 1)[:-1]
        return hann / np.sqrt(SAMPLE_RATE * np.square(hann).sum())


def paper_spectrogram(samples: np.ndarray, paper: Paper = Paper()) -> np.ndarray:
    """Return the paper's input of the audio network, (3, T, 321) float32, T at least 100.

    Power spectral density of the samples as stored (one-sided, Hann, no padding at the ends) ->
    log(x + 1e-10) -> zero rows up to T = 100; its difference along frequency; the difference of
    that. A difference repeats its first value at the edge to keep the width.
    """
    rows = []
    for density in power_blocks(samples.astype(np.float64), paper.density, paper.hop):
        density[:, 1:-1] *= 2  # the negative frequencies
        rows.append(np.log(density.astype(np.float32) + np.float32(paper.floor)))
    count = sum(map(len, rows))
    channels = np.zeros((3, max(count, paper.frames), paper.bins), np.float32)
    np.concatenate(rows, out=channels[0, :count])
    difference_of_bins(channels[0], channels[1])
    difference_of_bins(channels[1], channels[2])
    return channels


def difference_of_bins(spectrogram: np.ndarray, out: np.ndarray) -> None:
    """Write x[f] - x[f - 1] along the last axis, the first difference twice, same shape."""
    np.subtract(spectrogram[..., 1:], spectrogram[..., :-1], out=out[..., 1:])
    out[..., 0] = out[..., 1]


@cache
def mfcc_filters(window: int) -> np.ndarray:
    """Return librosa's mel bands, (201, 128) float32; some are empty, as in the paper."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters detected")
        return mel_bands(sr=SAMPLE_RATE, n_fft=window).T


def paper_mfcc(samples: np.ndarray, paper: Paper = Paper()) -> np.ndarray:
    """Return the paper's voice features of CM-BERT, (100 coefficients, 465 frames) float32.

    Every coefficient has mean 0 and deviation 1 over the clip's own frames (a constant one is 0);
    then frames are cut, or zeros appended.
    """
    around, filters = paper.mfcc_window // 2, mfcc_filters(paper.mfcc_window)
    hann = np.hanning(paper.mfcc_window + 1)[:-1].astype(np.float32) / FULL_SCALE
    padded = np.pad(samples.astype(np.float32), (around, around))
    blocks = power_blocks(padded, hann, paper.mfcc_hop)
    power = np.concatenate([power @ filters for power in blocks])
    decibels = 10 * np.log10(np.maximum(power, np.float32(paper.mfcc_floor)))
    decibels = np.maximum(decibels, decibels.max() - paper.mfcc_range)
    mfcc = dct(decibels, norm="ortho")[:, : paper.mfcc].T
    mfcc = mfcc.astype(np.float64)  # else the mean of equal values is rounded away from them
    deviation = mfcc.std(1, keepdims=True)
    mfcc = (mfcc - mfcc.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    missing = max(0, paper.mfcc_frames - mfcc.shape[1])
    return np.pad(mfcc, ((0, 0), (0, missing)))[:, : paper.mfcc_frames].astype(np.float32)
