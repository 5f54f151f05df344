"""Utterances -> the audio network's batches: spectrograms, normalisation, augmentation.

Shapes: B clips, T frames, F frequency bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from pipeline.features.mel import Mel, deltas, mel_power, normalise_speaker, paper_spectrogram
from pipeline.learning.dataset import Utterances, cut_batches


def compute_frames(utterances: Utterances, mel: Mel) -> None:
    """Set utterances.frames: the log-mel spectrogram (T, F) of every row, normalised by speaker.

    No label is used; timbre and microphone drop out. The rows should hold all that is known of a
    speaker: with only the clip itself to go by, results are much worse (runs/LOG.md).
    """
    rows = tqdm(range(len(utterances)), desc="spectrograms", unit=" utt", disable=None, leave=False)
    powers = [mel_power(utterances.samples(row), mel) for row in rows]
    utterances.frames = per_speaker(utterances, powers, partial(normalise_speaker, mel=mel))


def per_speaker(
    utterances: Utterances,
    clips: list[np.ndarray],
    function: Callable[[list[np.ndarray]], list[np.ndarray]],
) -> list[np.ndarray]:
    """Apply `function` to the clips of each speaker, one a row; return its results in row order."""
    results = [None] * len(clips)
    speakers = utterances.table["speaker"].to_numpy()
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        for row, result in zip(own, function([clips[row] for row in own]), strict=True):
            results[row] = result
    return results


def spectrogram_batches(
    utterances: Utterances, seed: int | None, budget: int, size: int
) -> list[np.ndarray]:
    """Cut into batches of at most `budget` seconds, padding included, and `size` rows."""
    return cut_batches(utterances.sample_counts, budget * 16_000, size, seed)


def speaker_batches(
    utterances: Utterances, seed: int | None, budget: int, size: int
) -> list[np.ndarray]:
    """Cut as spectrogram_batches, but one speaker a batch; without a seed, speaker by speaker.

    A speaker's batches are alike in size and, shuffled, in the lengths of their clips, as
    statistics over them are to be those of the speaker.
    """
    random = np.random.default_rng(seed) if seed is not None else None
    speakers = utterances.table["speaker"].to_numpy()
    batches = []
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        own = random.permutation(own) if random else own
        rows = math.ceil(len(own) / math.ceil(len(own) / size))
        lengths = utterances.sample_counts[own]
        batches += [own[part] for part in cut_batches(lengths, budget * 16_000, rows)]
    order = random.permutation(len(batches)) if random else range(len(batches))
    return [batches[batch] for batch in order]


def spectrogram_inputs(
    utterances: Utterances, rows: np.ndarray, training: bool, mel: Mel, augment: float
) -> dict:
    """Return features (B, 3, T, F) - the spectrogram and its first and second deltas - and counts.

    In training, clips are augmented with the strength `augment` (0 is off).
    """
    random = training_random() if training and augment else None
    clips = []
    for row in rows:
        frames = utterances.frames[row]
        if random:
            frames = augmented(frames, augment, random)
        slope = deltas(frames)
        channels = [frames, mel.slope_scale * slope, mel.curve_scale * deltas(slope)]
        clips.append(np.stack(channels, axis=1))
    return {"features": pad_clips(clips), "frame_counts": torch.tensor([len(c) for c in clips])}


def paper_inputs(utterances: Utterances, rows: np.ndarray, training: bool) -> dict:
    """Return the paper's features (B, 3, T, 321) and frame counts (B,)."""
    clips = [paper_spectrogram(utterances.samples(row)).transpose(1, 0, 2) for row in rows]
    return {"features": pad_clips(clips), "frame_counts": torch.tensor([len(c) for c in clips])}


def pad_clips(clips: list[np.ndarray]) -> torch.Tensor:
    """Stack clips (T, 3, F) of different lengths to (B, 3, T, F), zeros after each end."""
    longest = max(len(clip) for clip in clips)
    batch = np.zeros((len(clips), longest, *clips[0].shape[1:]), np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return torch.from_numpy(batch).transpose(1, 2)


def training_random() -> np.random.Generator:
    """Return a generator seeded by torch's, whose state a resumed training restores."""
    return np.random.default_rng(torch.randint(2**63 - 1, ()).item())


def augmented(frames: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Return another plausible (T, F): other tempo and level, a stretch of time and bins masked."""
    count, bins = frames.shape
    tempo = 1 + 0.1 * strength * random.uniform(-1, 1)
    positions = np.linspace(0, count - 1, max(1, round(count / tempo)))
    below = np.floor(positions).astype(int)
    share = (positions - below)[:, None].astype(np.float32)
    frames = frames[below] * (1 - share) + frames[np.minimum(below + 1, count - 1)] * share
    frames += np.float32(0.1 * strength * random.uniform(-1, 1))
    width = random.integers(0, int(0.12 * strength * len(frames)) + 1)
    start = random.integers(0, len(frames) - width + 1)
    frames[start : start + width] = 0
    width = random.integers(0, int(8 * strength) + 1)
    start = random.integers(0, bins - width + 1)
    frames[:, start : start + width] = 0
    return frames
