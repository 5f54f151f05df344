"""Rows of different lengths -> batches of padded tensors.

Shapes: B rows of a batch, L length.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

AHEAD = 2  # batches that wait while one is learned
Item, Made = TypeVar("Item"), TypeVar("Made")


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
    speakers: np.ndarray, lengths: np.ndarray, budget: int, rows: int, seed: int
) -> list[np.ndarray]:
    """Cut into shuffled batches of one speaker each, of at most `rows` rows.

    As statistics over them are to be those of the speaker, a speaker's batches are alike in size
    and in the lengths of their rows; `budget` is their mean length, unpadded (see `cut_alike`).
    """
    random = np.random.default_rng(seed)
    batches = []
    for speaker in np.unique(speakers):
        own = random.permutation(np.flatnonzero(speakers == speaker))
        number = max(math.ceil(len(own) / rows), math.ceil(lengths[own].sum() / budget))
        batches += np.array_split(own, min(number, len(own)))
    return [batches[batch] for batch in random.permutation(len(batches))]


def cut_alike(lengths: np.ndarray, rows: int) -> list[slice]:
    """Cut a batch, short rows first, into parts of at most `rows` that are padded one by one.

    A row more than twice as long as the part's first begins a new one. Order is kept.
    """
    starts = [0]
    for place, length in enumerate(lengths):
        if place - starts[-1] == rows or length > 2 * lengths[starts[-1]]:
            starts.append(place)
    return [slice(*ends) for ends in pairwise([*starts, len(lengths)])]


@dataclass(frozen=True)
class Step:
    """A step of a training: its number, the rows of its whole batch, and what is drawn for them.

    rows: those of all processes.  What becomes of a row depends on no other row, thread or process.
    """

    rows: np.ndarray
    seed: int
    number: int

    def random(self, row: int) -> np.random.Generator:
        """Return the generator by which a row is varied."""
        return np.random.default_rng([self.seed, self.number, row])


def made_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[tuple[Item, Made]]:
    """Yield each item and what is made of it, the next AHEAD ones in a thread of their own."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        try:
            for item in items:
                waiting.append((item, thread.submit(make, item)))
                if len(waiting) > AHEAD:
                    item, made = waiting.popleft()
                    yield item, made.result()
            for item, made in waiting:
                yield item, made.result()
        finally:
            thread.shutdown(cancel_futures=True)
