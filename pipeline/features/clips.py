"""Augmentation of spectrograms and of what is described of them.

Shapes: T frames, F frequency bins, C channels.
"""

import numpy as np


def stretched(frames: np.ndarray, tempo: float) -> np.ndarray:
    """Return (T, ...) at another tempo, (T / tempo, ...): interpolated between its frames."""
    count = len(frames)
    positions = np.linspace(0, count - 1, max(1, round(count / tempo)))
    below = np.floor(positions).astype(int)
    weight = (positions - below).astype(np.float32).reshape(-1, *[1] * (frames.ndim - 1))
    return frames[below] * (1 - weight) + frames[np.minimum(below + 1, count - 1)] * weight


def augmented(frames: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Return another plausible (T, F), or (T, C, F) whose first channel is the level.

    Other tempo and level, a stretch of time and one of bins masked in all channels. 0 is to be the
    mean of every bin.
    """
    bins = frames.shape[-1]
    frames = stretched(frames, 1 + 0.1 * strength * random.uniform(-1, 1))
    level = frames if frames.ndim == 2 else frames[:, 0]
    level += np.float32(0.1 * strength * random.uniform(-1, 1))
    width = random.integers(0, int(0.12 * strength * len(frames)) + 1)
    start = random.integers(0, len(frames) - width + 1)
    frames[start : start + width] = 0
    width = random.integers(0, int(8 * strength) + 1)
    start = random.integers(0, bins - width + 1)
    frames[..., start : start + width] = 0
    return frames
