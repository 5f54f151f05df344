"""A long recording: decoded block by block to a file on the disk, and read where it is asked for.

Its samples are those that corpora/recordings.py makes of the whole in memory.
Shapes: S samples (int16, 16 kHz), n frames of a block, C channels.
"""

import os
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from common.files import SAMPLE_RATE, UserError
from corpora.recordings import (
    CANCELLED,
    CLIPPED_LEVEL,
    LONGEST_WHOLE,
    RecordingError,
    blocks,
    count_clipped,
    is_mpeg,
    measure_mpeg,
    name_of,
    open_mpeg,
    remark_on_level,
    resampled_length,
    to_int16,
)

BLOCK = 1 << 20  # samples of all channels that are decoded at once


class OnDisk:
    """Samples (S,) in a temporary file, which goes with this object; a slice of them is an array.

    first, count: which of the file's.
    """

    def __init__(self, file: BinaryIO, first: int, count: int, lock: Lock):
        self.file, self.first, self.count, self.lock = file, first, count, lock

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: slice) -> np.ndarray:
        first, last, _ = place.indices(self.count)
        samples = np.empty(max(0, last - first), np.int16)
        with self.lock:  # a cluster's threads may read the same recording
            self.file.seek(2 * (self.first + first))
            self.file.readinto(samples)
        return samples

    def part(self, first: int, last: int) -> "OnDisk":
        """Return the samples from first to last, still on the disk."""
        first, last, _ = slice(first, last).indices(self.count)
        return OnDisk(self.file, self.first + first, max(0, last - first), self.lock)


class Levels:
    """What is to be known of a whole recording, from its blocks (n, C) float32."""

    def __init__(self, channels: int):
        self.count, self.peak, self.clipped, self.is_finite = 0, 0.0, 0, True
        self.sums, self.squares = np.zeros((2, channels + 1))  # of each channel, of their mean

    def add(self, block: np.ndarray, mono: np.ndarray) -> None:
        """Count a finite block and the mean of its channels (n,)."""
        self.count += len(block)
        self.peak = max(self.peak, float(block.max()), -float(block.min()))
        self.clipped += count_clipped(block, 1) if self.peak >= CLIPPED_LEVEL else 0
        every = np.column_stack([block, mono]).astype(np.float64)
        self.sums += every.sum(axis=0)
        self.squares += np.square(every).sum(axis=0)

    def find_louder(self) -> int | None:
        """Return the loudest channel where the channels cancel each other out; else None."""
        variance = self.squares / self.count - np.square(self.sums / self.count)
        *levels, mono = np.sqrt(np.maximum(variance, 0))
        is_cancelled = mono * len(levels) < CANCELLED * max(levels)
        return int(np.argmax(levels)) if is_cancelled else None


def spool(path: str, length: int) -> tuple[OnDisk, list[str]]:
    """Return the samples of a recording on the disk, and remarks on them.

    length: in samples, by its header.  RecordingError for one that is unreadable or has not so
    many; UserError where the disk has no room.
    """
    try:
        samples, levels = convert(path)
        remarks = [] if levels.is_finite else ["samples not finite, set to zero"]
        remarks += remark_on_level(levels.peak, levels.clipped) if levels.count else []
        if levels.count and (louder := levels.find_louder()) is not None:
            samples, _ = convert(path, louder)
            remarks.append("channels cancel each other out, the louder one taken")
    except (soundfile.SoundFileError, OSError) as error:
        raise RecordingError("recording unreadable") from error
    if len(samples) != length:
        raise RecordingError("recording truncated")
    return samples, remarks


def convert(path: str, channel: int | None = None) -> tuple[OnDisk, Levels]:
    """Write a recording's channel, or the mean of all, to the disk as 16 kHz int16."""
    file, decoded = open_blocks(path)
    levels, spooled = Levels(file.channels), open_temporary()
    resampler = None
    if file.samplerate != SAMPLE_RATE:
        resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, "float32", "HQ")
    with file:
        for block in decoded:
            finite = np.isfinite(block)
            if not finite.all():
                levels.is_finite, block = False, np.where(finite, block, np.float32(0))
            mono = block.mean(axis=1)
            levels.add(block, mono)
            mono = mono if channel is None else np.ascontiguousarray(block[:, channel])
            put(spooled, resampler.resample_chunk(mono) if resampler else mono)
        if resampler:
            put(spooled, resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        length = resampled_length(levels.count, file.samplerate)
    spooled.truncate(2 * length)  # the resampler gives a sample more or less
    return OnDisk(spooled, 0, length, Lock()), levels


def open_blocks(path: str) -> tuple[soundfile.SoundFile, Iterator[np.ndarray]]:
    """Open a recording; return it and what is decoded, (n, C) float32 at a time."""
    if is_mpeg(path):
        found = measure_mpeg(path, LONGEST_WHOLE, os.stat(path).st_mtime_ns)
        if not found.is_whole:
            file, _ = open_mpeg(path)
            return file, blocks(file)
    file = soundfile.SoundFile(name_of(path))
    file.seekable = lambda: False  # it would seek after every block, and an MP3's decoder with it
    size = -(-BLOCK // file.channels)
    return file, file.blocks(size, frames=file.frames, dtype="float32", always_2d=True)


def open_temporary() -> BinaryIO:
    """Open a file without a name, which is gone however the process ends."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise no_room(error) from None


def put(spooled: BinaryIO, mono: np.ndarray) -> None:
    """Append samples (n,) float32 as int16."""
    try:
        spooled.write(to_int16(mono).data)
        spooled.flush()
    except OSError as error:
        raise no_room(error) from None


def no_room(error: OSError) -> UserError:
    return UserError(
        f"{tempfile.gettempdir()} has no room for a long recording ({error.strerror}): 115 MB an "
        "hour are needed; make room, or set TMPDIR to another folder"
    )
