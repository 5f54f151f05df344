"""The published features: all of them, and nothing else.

Shapes: S samples (int16, 16 kHz), T frames.
"""

import warnings
from functools import cache

import numpy as np
from scipy.fft import dct

from pipeline.features import load_filters
from pipeline.features.mel import power_blocks
from pipeline.files import FULL_SCALE, RATE

# Linear power spectral density of unscaled samples.
PAPER_WINDOW = 640  # 40 ms
PAPER_HOP = 320  # 20 ms
PAPER_BINS = PAPER_WINDOW // 2 + 1
PAPER_FLOOR = 1e-10
PAPER_FRAMES = 100  # zero rows up to here, after the logarithm
PAPER_HANN = np.hanning(PAPER_WINDOW + 1)[:-1]
PAPER_MFCC = 100  # coefficients
PAPER_MFCC_FRAMES = 465
PAPER_DENSITY = PAPER_HANN / np.sqrt(RATE * np.square(PAPER_HANN).sum())  # Hann, power per Hz
# librosa's MFCC: 128 mel bands, decibels within 80 of the loudest, cosine transform.
MFCC_WINDOW, MFCC_HOP = 400, 160  # samples
MFCC_HANN = np.hanning(MFCC_WINDOW + 1)[:-1].astype(np.float32) / FULL_SCALE
MFCC_FLOOR = np.float32(1e-10)
MFCC_RANGE = 80  # dB


def paper_spectrogram(samples: np.ndarray) -> np.ndarray:
    """Return the paper's input of the audio network, (3, T, 321) float32, T at least 100.

    Power spectral density of the samples as stored (one-sided, Hann, no padding at the ends) ->
    log(x + 1e-10) -> zero rows up to T = 100; its difference along frequency; the difference of
    that. A difference repeats its first value at the edge to keep the width.
    """
    rows = []
    for density in power_blocks(samples.astype(np.float64), PAPER_DENSITY, PAPER_HOP):
        density[:, 1:-1] *= 2  # the negative frequencies
        rows.append(np.log(density.astype(np.float32) + np.float32(PAPER_FLOOR)))
    count = sum(map(len, rows))
    channels = np.zeros((3, max(count, PAPER_FRAMES), PAPER_BINS), np.float32)
    np.concatenate(rows, out=channels[0, :count])
    difference_of_bins(channels[0], channels[1])
    difference_of_bins(channels[1], channels[2])
    return channels


def difference_of_bins(spectrogram: np.ndarray, out: np.ndarray) -> None:
    """Write x[f] - x[f - 1] along the last axis, the first difference twice, same shape."""
    np.subtract(spectrogram[..., 1:], spectrogram[..., :-1], out=out[..., 1:])
    out[..., 0] = out[..., 1]


@cache
def mfcc_filters() -> np.ndarray:
    """Return librosa's mel bands, (201, 128) float32; some are empty, as in the paper."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters detected")
        return load_filters().mel(sr=RATE, n_fft=MFCC_WINDOW).T


def paper_mfcc(samples: np.ndarray) -> np.ndarray:
    """Return the paper's voice features of CM-BERT, (100 coefficients, 465 frames) float32.

    Every coefficient has mean 0 and deviation 1 over the clip's own frames (a constant one is 0);
    then frames are cut, or zeros appended.
    """
    around = MFCC_WINDOW // 2
    padded = np.pad(samples.astype(np.float32), (around, around))
    power = np.concatenate(
        [power @ mfcc_filters() for power in power_blocks(padded, MFCC_HANN, MFCC_HOP)]
    )
    decibels = 10 * np.log10(np.maximum(power, MFCC_FLOOR))
    decibels = np.maximum(decibels, decibels.max() - MFCC_RANGE)
    mfcc = dct(decibels, norm="ortho")[:, :PAPER_MFCC].T
    mfcc = mfcc.astype(np.float64)  # else the mean of equal values is rounded away from them
    deviation = mfcc.std(1, keepdims=True)
    mfcc = (mfcc - mfcc.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    missing = max(0, PAPER_MFCC_FRAMES - mfcc.shape[1])
    return np.pad(mfcc, ((0, 0), (0, missing)))[:, :PAPER_MFCC_FRAMES].astype(np.float32)
