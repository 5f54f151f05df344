"""The recordings of a split: one file, or several (preprocess.py --shard-hours) read as one.

Samples are counted over all files of a split; a recording lies in one of them.
"""

from collections.abc import Iterable

import numpy as np


def list_files(split: str, files: Iterable[str]) -> list[str]:
    """Return the names of a split's recordings among a manifest's files, in their order."""
    shards = sorted(name for name in files if name.startswith(f"{split}_audio-"))
    return shards or [f"{split}_audio.npy"]


class Shards:
    """int16 arrays, one behind another."""

    def __init__(self, arrays: list[np.ndarray]):
        self.arrays = arrays
        self.starts = np.cumsum([0, *map(len, arrays[:-1])])

    def __getitem__(self, place: slice) -> np.ndarray:
        """Return the samples of a recording, [start, stop); they are not copied."""
        number = np.searchsorted(self.starts, place.start, side="right") - 1
        start = self.starts[number]
        return self.arrays[number][place.start - start : place.stop - start]
