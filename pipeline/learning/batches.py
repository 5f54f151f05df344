"""Rows of different lengths -> batches of padded tensors.

Shapes: B rows of a batch, L length.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch


def cut_batches(
    lengths: np.ndarray, budget: int, rows: int, seed: int | None = None
) -> list[np.ndarray]:
    """Cut rows into batches of at most `budget` padded length units and at most `rows` rows.

    With a seed, rows are shuffled, sorted by length inside buckets of some 16 batches, and the
    batches are shuffled: padding stays small and every epoch (its own seed) meets other neighbours.
    Without a seed, rows stay in file order. A single row longer than the budget is a batch alone.
    """
    order = np.arange(len(lengths))
    if seed is not None:
        random = np.random.default_rng(seed)
        order = random.permutation(order)
        bucket = 16 * max(1, min(rows, int(budget / lengths.mean())))
        order = np.concatenate(
            [
                chunk[np.argsort(lengths[chunk], kind="stable")]
                for chunk in np.split(order, range(bucket, len(order), bucket))
            ]
        )
    batches, start, longest = [], 0, 0
    for position, row in enumerate(order):
        longest = max(longest, int(lengths[row]))
        count = position - start + 1
        if count > 1 and (count > rows or count * longest > budget):
            batches.append(order[start:position])
            start, longest = position, int(lengths[row])
    if len(order):
        batches.append(order[start:])
    if seed is not None:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def pad(sequences: Sequence[np.ndarray | list], value: float, length: int = 0) -> torch.Tensor:
    """Stack sequences (L, ...) of different lengths, (B, at least `length`, ...).

    `value` stands behind each end.
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    longest = max(length, max(map(len, arrays)))
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)


def cut_speaker_batches(
    speakers: np.ndarray, lengths: np.ndarray, budget: int, rows: int, seed: int | None = None
) -> list[np.ndarray]:
    """Cut as cut_batches, but one speaker a batch; without a seed, speaker by speaker.

    A speaker's batches are alike in size and, shuffled, in the lengths of their rows, as statistics
    over them are to be those of the speaker.
    """
    random = np.random.default_rng(seed) if seed is not None else None
    batches = []
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        own = random.permutation(own) if random else own
        alike = math.ceil(len(own) / math.ceil(len(own) / rows))
        batches += [own[part] for part in cut_batches(lengths[own], budget, alike)]
    order = random.permutation(len(batches)) if random else range(len(batches))
    return [batches[batch] for batch in order]


def learning_random() -> np.random.Generator:
    """Return a generator seeded by torch's, whose state a resumed training restores."""
    return np.random.default_rng(torch.randint(2**63 - 1, ()).item())
