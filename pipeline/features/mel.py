"""Samples -> spectrogram, MFCC, features per token; one function each for all stages.

Shapes: S samples (int16, 16 kHz), T frames, F frequency bins, L tokens.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import librosa
import numpy as np

RATE = 16_000
FULL_SCALE = 32_768  # int16 samples are divided by it: amplitudes within [-1, 1)

# Paper: linear power spectral density of unscaled samples.
PAPER_WINDOW = 640  # 40 ms
PAPER_HOP = 320  # 20 ms
PAPER_BINS = PAPER_WINDOW // 2 + 1
PAPER_FLOOR = 1e-10
PAPER_FRAMES = 100  # zero rows up to here, after the logarithm
PAPER_HANN = np.hanning(PAPER_WINDOW + 1)[:-1]
PAPER_MFCC = 100  # coefficients
PAPER_MFCC_FRAMES = 465


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


def cut_frames(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Cut (S,) into (T, window), T = 1 + (S - window) // hop; a shorter clip is one frame."""
    if len(samples) < window:
        samples = np.pad(samples, (0, window - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]


def mel_power(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """Return the mel power spectrogram, (T, bins) float32."""
    hann = np.hanning(mel.window + 1)[:-1].astype(np.float32)
    frames = cut_frames(samples.astype(np.float32) / FULL_SCALE, mel.window, mel.hop) * hann
    power = np.square(np.abs(np.fft.rfft(frames))).astype(np.float32) / mel.window
    return power @ mel.filters.T


def normalise_speaker(powers: list[np.ndarray], mel: Mel) -> list[np.ndarray]:
    """Turn one speaker's mel power spectrograms (T, bins) into log spectrograms of the same shapes.

    Over all frames together, each bin gets mean 0 and deviation 1. Nothing depends on the gain of
    the microphone: the floor under the logarithm lies `range` dB below the mean power.
    """
    mean_power = np.concatenate(powers).mean()
    floor = np.float32(max(mean_power * 10 ** (-mel.range / 10), np.finfo(np.float32).tiny))
    return standardise([np.log(power + floor) for power in powers], mel.deviation_floor)


def describe_voice(spectrograms: list[np.ndarray], mel: Mel) -> list[np.ndarray]:
    """Turn one speaker's log spectrograms (T, bins) into (T, 3 bins): level, its square, movement.

    Each with mean 0 and deviation 1 over all frames together. Averaged over some frames, the square
    tells how much the level varied in them.
    """
    voices = [
        np.concatenate([s, np.square(s), mel.slope_scale * np.abs(deltas(s))], axis=1)
        for s in spectrograms
    ]
    return standardise(voices, mel.deviation_floor)


def standardise(clips: list[np.ndarray], deviation_floor: float) -> list[np.ndarray]:
    """Shift and scale clips (T, F) to mean 0 and deviation 1 of each bin over all frames."""
    together = np.concatenate(clips)
    mean, deviation = together.mean(0), together.std(0).clip(deviation_floor)
    return [(clip - mean) / deviation for clip in clips]


def deltas(spectrogram: np.ndarray) -> np.ndarray:
    """Return the slope along time, (T, F): regression over two frames to each side."""
    padded = np.pad(spectrogram, ((2, 2), (0, 0)), mode="edge")
    count = len(spectrogram)
    ahead_1, ahead_2 = padded[3 : 3 + count], padded[4 : 4 + count]
    behind_1, behind_2 = padded[1 : 1 + count], padded[0:count]
    return (ahead_1 - behind_1 + 2 * (ahead_2 - behind_2)) / 10


def paper_spectrogram(samples: np.ndarray) -> np.ndarray:
    """Return the paper's input of the audio network, (3, T, 321) float32, T at least 100.

    Power spectral density of the samples as stored (one-sided, Hann, no padding at the ends) ->
    log(x + 1e-10) -> zero rows up to T = 100; its difference along frequency; the difference of
    that. A difference repeats its first value at the edge to keep the width.
    """
    frames = cut_frames(samples.astype(np.float64), PAPER_WINDOW, PAPER_HOP) * PAPER_HANN
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


def average_over_tokens(frames: np.ndarray, tokens: int) -> np.ndarray:
    """Share frames (T, F) out to tokens in proportion to time, (tokens, F).

    Token i covers the share [i, i + 1) / tokens of the clip; a frame on the border counts with the
    part of it inside. The mean over all tokens is therefore the mean over the clip.
    """
    sums = np.concatenate([np.zeros_like(frames[:1]), frames.cumsum(0, dtype=np.float64)])
    borders = np.linspace(0, len(frames), tokens + 1)
    whole = np.minimum(borders.astype(int), len(frames) - 1)
    at_borders = sums[whole] + (borders - whole)[:, None] * frames[whole]
    return (np.diff(at_borders, axis=0) * tokens / len(frames)).astype(np.float32)
