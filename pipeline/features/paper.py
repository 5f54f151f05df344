"""The published features: all of them, and nothing else.

Shapes: S samples (int16, 16 kHz), T frames.
"""

import warnings
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.fft import dct

from common.files import FULL_SCALE, SAMPLE_RATE
from pipeline.features import load_filters
from pipeline.features.mel import power_blocks


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
        return load_filters().mel(sr=SAMPLE_RATE, n_fft=window).T


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
