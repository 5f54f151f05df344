"""What is computed of every recording, once: on the disk, shared by folds, seeds and models.

Shapes: N utterances, S samples, T frames, K columns.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.data import Dataset, cut_batches, read_table
from common.files import SAMPLE_RATE, hash_json, read_array, write_array
from common.stages import take_lock

ROWS = 128  # of a file; whoever is stopped goes on behind the last whole one
BATCH_SAMPLES, BATCH_ROWS = 40 * SAMPLE_RATE, 16  # computed at once

Compute = Callable[[list[np.ndarray]], list[np.ndarray]]  # recordings (S,) -> of each (T, K)


class Place(NamedTuple):
    """Where a row's array (count, width) is in a file; offset: in bytes."""

    path: Path
    dtype: np.dtype
    width: int
    offset: int
    count: int


class Cached:
    """Arrays (T, K) of the rows of a dataset; arrays: where they are, or what they are."""

    def __init__(self, arrays: list):
        self.arrays = arrays

    def read(self, row: int, count: int | None = None) -> np.ndarray:
        """Return one row's array (T, K), or the first `count` of its T.

        From the disk it is read when it is asked for: of a mapped file, all that was ever touched
        would count as memory of the process.
        """
        if isinstance(self.arrays[row], np.ndarray):
            return self.arrays[row][:count]
        place = self.arrays[row]
        count = place.count if count is None else count
        found = np.fromfile(place.path, place.dtype, count * place.width, offset=place.offset)
        return found.reshape(-1, place.width)

    def read_all(self) -> np.ndarray:
        """Return the arrays of all rows, one after another, (sum of T, K); without rows (0, 0)."""
        if not len(self.arrays):  # of a corpus without validation sessions
            return np.zeros((0, 0), np.float32)
        return np.concatenate([self.read(row) for row in range(len(self.arrays))])


def cached(data: Dataset, kind: str, settings: dict, compute: Compute) -> Cached:
    """Return `compute` of every recording.

    It is kept beside the data, or in the user's own cache where nothing may be written there; of
    data without a folder, in memory.  Files of ROWS rows are computed as they are asked for, and
    hold whatever labels and words the recordings get.  Those of recordings that are heard through
    something stand beside those of the clean ones.

    kind, settings: what is computed.  compute: gets recordings of like length.
    """
    if data.folder is None:
        return Cached(compute_rows(data, np.arange(len(data)), compute))
    is_ours = os.access(data.folder, os.W_OK)
    folder = data.folder / "cache" if is_ours else Path.home() / ".cache" / "kemdy"
    arrays = np.empty(len(data), object)
    for split in np.unique(data.table["split"]):
        whole = replace(data, table=read_table(data.folder / f"{split}.tsv").assign(split=split))
        rows = np.flatnonzero(data.table["split"] == split)
        # By the recording: words and voices of rows may have been shuffled.
        numbers = pd.Index(whole.first_samples).get_indexer(data.first_samples[rows])
        recordings = data.manifest["files"][f"{split}_audio.npy"], whole.first_samples.tolist()
        change = [data.change.key] if data.change else []
        path = folder / f"{kind}-{hash_json([*recordings, settings, *change])[:24]}"
        path.mkdir(parents=True, exist_ok=True)
        lock = take_lock(path / "lock")  # of several processes one computes
        try:
            places = compute_split(whole, path, set(numbers.tolist()), compute)
        finally:
            if lock:
                lock.release()
        for row, number in zip(rows, numbers, strict=True):
            arrays[row] = places[number]
    return Cached(arrays.tolist())


def compute_split(
    whole: Dataset, folder: Path, wanted: set[int], compute: Compute
) -> dict[int, Place]:
    """Compute what is missing of the files that hold wanted rows of a split; return the places."""
    places, title = {}, folder.name.rpartition("-")[0]
    with tqdm(total=len(whole), desc=title, unit=" utt", disable=None, leave=False, delay=1) as bar:
        for first in range(0, len(whole), ROWS):
            rows = np.arange(first, min(first + ROWS, len(whole)))
            bar.update(len(rows))
            if wanted.isdisjoint(rows.tolist()):
                continue
            part, starts = folder / f"{first}.npy", folder / f"{first}.starts.npy"
            if not (part.is_file() and starts.is_file()):  # written last
                arrays = compute_rows(whole, rows, compute)
                write_array(part, np.concatenate(arrays))
                write_array(starts, np.cumsum([0, *map(len, arrays)]))
            remedy = f"rm -r '{folder}', then the script"
            array = read_array(part, remedy, mmap=True)
            borders = pairwise(read_array(starts, remedy).tolist())
            for row, (start, end) in zip(rows.tolist(), borders, strict=True):
                offset = array.offset + start * array.strides[0]
                places[row] = Place(part, array.dtype, array.shape[1], offset, end - start)
    return places


def compute_rows(data: Dataset, rows: np.ndarray, compute: Compute) -> list[np.ndarray]:
    """Return `compute` of rows, which gets them in batches of like length."""
    order = rows[np.argsort(data.sample_counts[rows], kind="stable")]
    found = {}
    for batch in cut_batches(data.sample_counts[order], BATCH_SAMPLES, BATCH_ROWS):
        chosen = order[batch]
        results = compute([data.samples(row) for row in chosen])
        found.update(zip(chosen.tolist(), results, strict=True))
    return [found[row] for row in rows.tolist()]
