"""Samples -> statistics of a whole clip: spectrum, level, pitch, length.

Shapes: S samples (int16, 16 kHz), T frames, K curves over time.
"""

import librosa
import numpy as np

from common.files import FULL_SCALE, SAMPLE_RATE
from pipeline.features.mel import Mel, deltas, log_mel

MEL = Mel(bins=32)
LOWEST, HIGHEST = 65.0, 500.0  # Hz of a voice's pitch
PITCH_WINDOW = 1024  # samples, 64 ms: several periods of the lowest pitch
PERCENTILES = (10, 50, 90)
STATISTICS = (MEL.bins + 2) * (len(PERCENTILES) + 1) + 1


def describe_clip(samples: np.ndarray) -> np.ndarray:
    """Return what is typical of a clip, (STATISTICS,) float64.

    Percentiles and mean movement of every mel bin, of the level, and of the pitch in the louder
    half of the frames (the others are hardly voiced); the logarithm of the length.
    """
    spectrogram = log_mel(samples, MEL)
    level = np.log(np.exp(spectrogram).mean(1))
    pitch = log_pitch(samples)[level >= np.median(level)]
    curves = np.column_stack([spectrogram, level])
    return np.concatenate(
        [summarise(curves), summarise(pitch[:, None]), [np.log(len(level))]], dtype=np.float64
    )


def log_pitch(samples: np.ndarray) -> np.ndarray:
    """Return the pitch at each frame of `log_mel`, (T,), in octaves above 1 Hz.

    YIN (de Cheveigné and Kawahara 2002); what it says of an unvoiced frame means nothing.
    """
    missing = max(0, MEL.window - len(samples))
    around = (PITCH_WINDOW - MEL.window) // 2  # the longer windows have the same centres
    pitch = librosa.yin(
        np.pad(samples.astype(np.float32) / FULL_SCALE, (around, around + missing)),
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=SAMPLE_RATE,
        frame_length=PITCH_WINDOW,
        hop_length=MEL.hop,
        center=False,
    )
    return np.log2(pitch)


def summarise(curves: np.ndarray) -> np.ndarray:
    """Return each curve's percentiles and mean movement: (T, K) -> (4 K,)."""
    return np.concatenate(
        [*np.percentile(curves, PERCENTILES, axis=0), np.abs(deltas(curves)).mean(0)]
    )
