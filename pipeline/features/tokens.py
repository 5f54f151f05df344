"""Spectrograms -> what a token hears of the voice.

Shapes: T frames, F frequency bins, L tokens.
"""

import numpy as np

from pipeline.features.mel import Mel, deltas


def describe_voice(spectrogram: np.ndarray, mel: Mel) -> np.ndarray:
    """Turn a log spectrogram (T, F) into (T, 3, F): level, its square, movement.

    Averaged over some frames, the square tells how much the level varied in them.
    """
    movement = mel.slope_scale * np.abs(deltas(spectrogram))
    return np.stack([spectrogram, np.square(spectrogram), movement], axis=1)


def average_over_tokens(frames: np.ndarray, tokens: int) -> np.ndarray:
    """Share frames (T, ...) out to tokens in proportion to time, (tokens, ...).

    Token i covers the share [i, i + 1) / tokens of the clip; a frame on the border counts with the
    part of it inside. The mean over all tokens is therefore the mean over the clip.
    """
    sums = np.concatenate([np.zeros_like(frames[:1]), frames.cumsum(0, dtype=np.float64)])
    borders = np.linspace(0, len(frames), tokens + 1)
    whole = np.minimum(borders.astype(int), len(frames) - 1)
    inside = (borders - whole).reshape(-1, *[1] * (frames.ndim - 1))
    at_borders = sums[whole] + inside * frames[whole]
    return (np.diff(at_borders, axis=0) * tokens / len(frames)).astype(np.float32)
