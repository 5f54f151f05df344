"""Samples -> log-mel spectrogram, and its movement.

Shapes: S samples (int16, 16 kHz), T frames, F frequency bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import rfft

from common.files import FULL_SCALE, SAMPLE_RATE
from pipeline.features import load_filters


@dataclass(frozen=True)
class Mel:
    """The constants of the default spectrogram; a trained model carries its own."""

    window: int = 512  # samples of a frame, 32 ms
    hop: int = 320  # samples between frames, 20 ms
    bins: int = 64
    lowest: float = 50.0  # Hz
    highest: float = 8000.0
    range: float = 40.0  # dB under the clip's mean power; what is below hardly counts
    deviation_floor: float = 0.1  # normalisation does not blow up a bin that hardly moves
    slope_scale: float = 2.5  # of the deltas, so that they are not small beside the spectrogram
    curve_scale: float = 5.0  # of the deltas' deltas
    rounding: float = 3 / 8 / 12 / FULL_SCALE**2  # mel_power of noise of one bit (Hann: 3 / 8)

    @cached_property
    def filters(self) -> np.ndarray:
        """The mel bands, (bins, window / 2 + 1); each gives the mean power within the band."""
        filters = load_filters().mel(
            sr=SAMPLE_RATE, n_fft=self.window, n_mels=self.bins, fmin=self.lowest, fmax=self.highest
        )
        return filters / filters.sum(1, keepdims=True)


def slice_frames(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Slice (S,) into (T, window), T = 1 + (S - window) // hop; a shorter clip is one frame."""
    if len(samples) < window:
        samples = np.pad(samples, (0, window - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]


def power_blocks(
    samples: np.ndarray, window: np.ndarray, hop: int, block: int = 64
) -> Iterator[np.ndarray]:
    """Yield the power spectra (T, W / 2 + 1) of samples (S,) under a window (W,), block by block.

    In the precision of samples and window, by scipy, which transforms several frames at once; what
    is made of a block never leaves the processor's cache. Another size rounds differently.
    """
    frames = slice_frames(samples, len(window), hop)
    for start in range(0, len(frames), block):
        spectrum = rfft(frames[start : start + block] * window)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        yield power


def mel_power(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """Return the mel power spectrogram, (T, bins) float32."""
    hann = np.hanning(mel.window + 1)[:-1].astype(np.float32) / FULL_SCALE
    filters = mel.filters.T / mel.window
    blocks = power_blocks(samples.astype(np.float32), hann, mel.hop)
    return np.concatenate([power @ filters for power in blocks])


def log_mel(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """Return the log-mel spectrogram, (T, bins) float32.

    The floor under the logarithm lies `range` dB below the clip's mean power, so another gain of
    the microphone only shifts the spectrogram; of digital silence it is a 16-bit file's own noise.
    """
    power = mel_power(samples, mel)
    floor = max(float(power.mean()) * 10 ** (-mel.range / 10), mel.rounding)
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
