"""Augmentation of log-mel spectrograms.

Shapes: T frames, F frequency bins.
"""

import numpy as np


def augmented(frames: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Return another plausible (T, F): other tempo and level, a stretch of time and bins masked."""
    count, bins = frames.shape
    tempo = 1 + 0.1 * strength * random.uniform(-1, 1)
    positions = np.linspace(0, count - 1, max(1, round(count / tempo)))
    below = np.floor(positions).astype(int)
    weight = (positions - below)[:, None].astype(np.float32)
    frames = frames[below] * (1 - weight) + frames[np.minimum(below + 1, count - 1)] * weight
    frames += np.float32(0.1 * strength * random.uniform(-1, 1))
    width = random.integers(0, int(0.12 * strength * len(frames)) + 1)
    start = random.integers(0, len(frames) - width + 1)
    frames[start : start + width] = 0
    width = random.integers(0, int(8 * strength) + 1)
    start = random.integers(0, bins - width + 1)
    frames[:, start : start + width] = 0
    return frames
