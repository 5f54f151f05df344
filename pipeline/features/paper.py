"""The published features: all of them, and nothing else.

Shapes: S samples (int16, 16 kHz), T frames.
"""

import warnings

import librosa
import numpy as np

from pipeline.features.mel import slice_frames
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


def paper_spectrogram(samples: np.ndarray) -> np.ndarray:
    """Return the paper's input of the audio network, (3, T, 321) float32, T at least 100.

    Power spectral density of the samples as stored (one-sided, Hann, no padding at the ends) ->
    log(x + 1e-10) -> zero rows up to T = 100; its difference along frequency; the difference of
    that. A difference repeats its first value at the edge to keep the width.
    """
    frames = slice_frames(samples.astype(np.float64), PAPER_WINDOW, PAPER_HOP) * PAPER_HANN
    density = np.square(np.abs(np.fft.rfft(frames))) / (RATE * np.square(PAPER_HANN).sum())
    density[:, 1:-1] *= 2  # the negative frequencies
    spectrogram = np.log(density.astype(np.float32) + np.float32(PAPER_FLOOR))
    missing = max(0, PAPER_FRAMES - len(spectrogram))
    spectrogram = np.pad(spectrogram, ((0, missing), (0, 0)))
    first = difference_of_bins(spectrogram)
    return np.stack([spectrogram, first, difference_of_bins(first)])


def difference_of_bins(spectrogram: np.ndarray) -> np.ndarray:
    """Return x[f] - x[f - 1] along the last axis, the first difference twice, same shape."""
    difference = np.diff(spectrogram, axis=-1)
    return np.concatenate([difference[..., :1], difference], axis=-1)


def paper_mfcc(samples: np.ndarray) -> np.ndarray:
    """Return the paper's voice features of CM-BERT, (100 coefficients, 465 frames) float32.

    Every coefficient has mean 0 and deviation 1 over the clip's own frames (a constant one is 0);
    then frames are cut, or zeros appended.
    """
    with warnings.catch_warnings():
        # 201 bins are too few for librosa's 128 mel bands: some stay empty, as in the paper.
        warnings.filterwarnings("ignore", message="Empty filters detected")
        warnings.filterwarnings("ignore", message="n_fft=")
        mfcc = librosa.feature.mfcc(
            y=samples.astype(np.float32) / FULL_SCALE,
            sr=RATE,
            n_mfcc=PAPER_MFCC,
            n_fft=400,
            hop_length=160,
        )
    mfcc = mfcc.astype(np.float64)  # else the mean of equal values is rounded away from them
    deviation = mfcc.std(1, keepdims=True)
    mfcc = (mfcc - mfcc.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    missing = max(0, PAPER_MFCC_FRAMES - mfcc.shape[1])
    return np.pad(mfcc, ((0, 0), (0, missing)))[:, :PAPER_MFCC_FRAMES].astype(np.float32)
