"""Samples -> log-mel spectrogram, normalised by speaker, and its movement.

Shapes: S samples (int16, 16 kHz), T frames, F frequency bins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import librosa
import numpy as np

from pipeline.files import FULL_SCALE, RATE


@dataclass(frozen=True)
class Mel:
    """The constants of the default spectrogram; a trained model carries its own."""

    window: int = 512  # samples of a frame, 32 ms
    hop: int = 320  # samples between frames, 20 ms
    bins: int = 64
    lowest: float = 50.0  # Hz
    highest: float = 8000.0
    range: float = 40.0  # dB under the speaker's mean power; what is below hardly counts
    deviation_floor: float = 0.1  # normalisation does not blow up a bin that hardly moves
    slope_scale: float = 2.5  # of the deltas, so that they are not small beside the spectrogram
    curve_scale: float = 5.0  # of the deltas' deltas

    @cached_property
    def filters(self) -> np.ndarray:
        """The mel bands, (bins, window / 2 + 1); each gives the mean power within the band."""
        filters = librosa.filters.mel(
            sr=RATE, n_fft=self.window, n_mels=self.bins, fmin=self.lowest, fmax=self.highest
        )
        return filters / filters.sum(1, keepdims=True)


def slice_frames(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Slice (S,) into (T, window), T = 1 + (S - window) // hop; a shorter clip is one frame."""
    if len(samples) < window:
        samples = np.pad(samples, (0, window - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]


def mel_power(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """Return the mel power spectrogram, (T, bins) float32."""
    hann = np.hanning(mel.window + 1)[:-1].astype(np.float32)
    frames = slice_frames(samples.astype(np.float32) / FULL_SCALE, mel.window, mel.hop) * hann
    power = np.square(np.abs(np.fft.rfft(frames))).astype(np.float32) / mel.window
    return power @ mel.filters.T


def normalise_speaker(powers: list[np.ndarray], mel: Mel) -> list[np.ndarray]:
    """Turn one speaker's mel power spectrograms (T, bins) into log spectrograms of the same shapes.

    Over all frames together, each bin gets mean 0 and deviation 1. Nothing depends on the gain of
    the microphone: the floor under the logarithm lies `range` dB below the mean power.
    """
    mean_power = np.concatenate(powers).mean()
    floor = np.float32(max(mean_power * 10 ** (-mel.range / 10), np.finfo(np.float32).tiny))
    levels = [np.log(power + floor) for power in powers]
    mean, deviation = moments(levels, mel.deviation_floor)
    return [(level - mean) / deviation for level in levels]


def moments(clips: list[np.ndarray], deviation_floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each bin over all frames of clips (T, F), (F,) each."""
    together = np.concatenate(clips)
    return together.mean(0), together.std(0).clip(deviation_floor)


def deltas(spectrogram: np.ndarray) -> np.ndarray:
    """Return the slope along time, (T, F): regression over two frames to each side."""
    padded = np.pad(spectrogram, ((2, 2), (0, 0)), mode="edge")
    count = len(spectrogram)
    ahead_1, ahead_2 = padded[3 : 3 + count], padded[4 : 4 + count]
    behind_1, behind_2 = padded[1 : 1 + count], padded[0:count]
    return (ahead_1 - behind_1 + 2 * (ahead_2 - behind_2)) / 10


def add_deltas(spectrogram: np.ndarray, mel: Mel) -> np.ndarray:
    """Return a spectrogram (T, F) with its first and second deltas as channels, (T, 3, F)."""
    slope = deltas(spectrogram)
    curve = deltas(slope)
    return np.stack([spectrogram, mel.slope_scale * slope, mel.curve_scale * curve], axis=1)


def per_speaker(
    speakers: np.ndarray,
    clips: list[np.ndarray],
    function: Callable[[list[np.ndarray]], list[np.ndarray]],
) -> list[np.ndarray]:
    """Apply `function` to the clips of each speaker; return its results in the order of clips.

    speakers (N,): whose each of the N clips is.
    """
    results = [None] * len(clips)
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        for row, result in zip(own, function([clips[row] for row in own]), strict=True):
            results[row] = result
    return results
