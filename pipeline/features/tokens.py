"""Spectrograms -> what a token hears of the voice.

Shapes: T frames, F frequency bins, L tokens.
"""

import numpy as np

from pipeline.features.mel import Mel, deltas, standardise


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
