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
    """int16 arrays on disk, one behind another.

    A recording is read when it is asked for: of a mapped file, all that was ever touched would
    count as memory of the process.
    """

    def __init__(self, arrays: list[np.memmap]):
        self.arrays = arrays
        self.starts = np.cumsum([0, *map(len, arrays[:-1])])

    def __getitem__(self, place: slice) -> np.ndarray:
        """Return the samples of a recording, [start, stop)."""
        number = np.searchsorted(self.starts, place.start, side="right") - 1
        array = self.arrays[number]
        offset = array.offset + (place.start - self.starts[number]) * array.itemsize
        count = place.stop - place.start
        return np.fromfile(array.filename, array.dtype, count, offset=offset)
