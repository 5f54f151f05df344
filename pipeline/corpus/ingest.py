"""Transcripts and recordings, read by all cores: the stage's heavy part.

First every transcript is read and every recording's header, so that the place of each recording in
its split's array is known; then every worker copies recordings to their places, holding one at a
time.
"""

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import joblib
import numpy as np
from tqdm import tqdm

from pipeline.corpus import recordings
from pipeline.corpus.account import Account
from pipeline.corpus.matching import Utterance
from pipeline.corpus.recordings import RecordingError
from pipeline.corpus.transcripts import clean, decode
from pipeline.files import RATE, UserError, sha256, write_array, write_atomically

CHUNK = 64  # utterances a task: large against a task's cost, small against the corpus
BLOCK = 1 << 20  # bytes that are hashed at a time
# The kernel lets one thread at a time write to a file and the others burn time until it is their
# turn; with a lock they sleep.
WRITING = threading.Lock()
WORKER_PATIENCE = 60  # seconds that a cluster may take until it has a worker


@contextlib.contextmanager
def workers(jobs: int, cluster: str) -> Iterator[joblib.Parallel]:
    """Yield joblib's pool: threads of this machine, or the processes of a Dask cluster.

    Threads do because nearly all time is spent in libsndfile, soxr and the kernel, outside Python's
    lock; they start at once and share one process's memory. A cluster's workers must see the
    corpus and the data folder under the same paths, and be able to import `pipeline`.
    """
    with (
        connect(cluster) if cluster else contextlib.nullcontext(),
        joblib.parallel_config(backend="dask" if cluster else "threading", n_jobs=jobs),
        joblib.Parallel(return_as="generator") as parallel,
    ):
        yield parallel


def connect(address: str) -> contextlib.AbstractContextManager:
    """Connect this process to a Dask scheduler, where joblib's backend then finds it."""
    import distributed  # takes a second, which only users of a cluster pay

    try:
        client = distributed.Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise UserError(f"--cluster: no Dask scheduler answers at {address}: {error}") from None
    try:
        client.wait_for_workers(1, timeout=WORKER_PATIENCE)
    except distributed.TimeoutError:
        client.close()
        raise UserError(
            f"--cluster: the scheduler at {address} has no worker: start some"
        ) from None
    return client


def in_chunks(
    parallel: joblib.Parallel, function: Callable, items: list, title: str, *arguments: object
) -> Iterator[list]:
    """Yield the results of `function(chunk, *arguments)` for all chunks of items, in order."""
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    tasks = (joblib.delayed(function)(chunk, *arguments) for chunk in chunks)
    with tqdm(total=len(items), desc=title, unit="utt", disable=None) as bar:
        for results in parallel(tasks):
            yield results
            bar.update(len(results))


def read_texts_and_lengths(
    parallel: joblib.Parallel, root: Path, utterances: list[Utterance], style: str, account: Account
) -> list[Utterance]:
    """Return the utterances with text and length; those that cannot be used are dropped."""
    chunks = in_chunks(
        parallel, read_chunk, utterances, "transcripts, headers", str(root.resolve()), style
    )
    results = chain.from_iterable(chunks)
    kept = []
    for utterance, (text, length, problem) in zip(utterances, results, strict=True):
        if problem:
            account.drop(utterance.id, problem, utterance.where)
        else:
            kept.append(replace(utterance, text=text, length=length))
    return kept


def read_chunk(utterances: list[Utterance], root: str, style: str) -> list[tuple[str, int, str]]:
    """Return (text, length, problem) of each utterance; problem is "" if it can be used."""
    return [read_one(utterance, root, style) for utterance in utterances]


def read_one(utterance: Utterance, root: str, style: str) -> tuple[str, int, str]:
    """Read a transcript and a recording's header."""
    try:
        with open(f"{root}/{utterance.transcript}", "rb") as stream:
            text = clean(decode(stream.read()), style)
        length = recordings.measure(name_file(root, utterance.recording))
    except UnicodeDecodeError:
        return "", 0, "transcript is neither UTF-8 nor cp949"
    except OSError:
        return "", 0, "transcript unreadable"
    except RecordingError as error:
        return "", 0, str(error)
    return text, length, "" if text else "transcript empty after cleaning"


def name_file(root: str | Path, path: str) -> str | bytes:
    """Return a file's name, as bytes if it is no UTF-8: soundfile encodes text and would fail."""
    name = f"{root}/{path}"
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def cut_shards(utterances: list[Utterance], hours: float) -> list[list[Utterance]]:
    """Return the utterances in parts of at most so many hours, in order; 0: in one part."""
    longest = hours * 3600 * RATE or math.inf
    shards, size = [[]], 0
    for utterance in utterances:
        if shards[-1] and size + utterance.length > longest:
            shards.append([])
            size = 0
        shards[-1].append(utterance)
        size += utterance.length
    return shards


@dataclass(frozen=True)
class Copy:
    """A recording's way into the array: from `path` to samples [start, start + length)."""

    path: str | bytes
    start: int
    length: int


def write_audio(
    parallel: joblib.Parallel, root: Path, utterances: list[Utterance], path: Path, account: Account
) -> tuple[list[Utterance], str]:
    """Write recordings one after another as an int16 .npy; return those written and its SHA-256.

    A recording that turns out to hold less than its header says is dropped, and the rest is laid
    out and written again, so that the array has no gaps.
    """
    while utterances:
        copies = lay_out(root.resolve(), utterances)
        with write_atomically(path) as temporary:
            results, digest = copy_all(parallel, copies, temporary, path.name)
        outcomes = list(zip(utterances, results, strict=True))
        utterances = [utterance for utterance, (_, problem) in outcomes if not problem]
        if len(utterances) == len(outcomes):
            for utterance, (remarks, _) in outcomes:
                for remark in remarks:
                    account.note(utterance.id, remark, utterance.recording)
            return utterances, digest
        for utterance, (_, problem) in outcomes:
            if problem:
                account.drop(utterance.id, problem, utterance.where)
    write_array(path, np.zeros(0, np.dtype("<i2")))
    return [], sha256(path)


def lay_out(root: Path, utterances: list[Utterance]) -> list[Copy]:
    """Give every recording its place behind the one before."""
    starts = np.cumsum([0, *(utterance.length for utterance in utterances)])
    return [
        Copy(name_file(root, utterance.recording), int(start), utterance.length)
        for utterance, start in zip(utterances, starts[:-1], strict=True)
    ]


def copy_all(
    parallel: joblib.Parallel, copies: list[Copy], path: Path, title: str
) -> tuple[list[tuple[list[str], str]], str]:
    """Write the array; return (remarks, problem) of each recording and the file's SHA-256.

    What is hashed lies right behind what is being copied, and is still in memory.
    """
    total = copies[-1].start + copies[-1].length
    array = np.lib.format.open_memmap(path, "w+", np.dtype("<i2"), (total,))
    offset, size = array.offset, array.itemsize
    del array
    results, digest = [], hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:  # a buffer would read ahead of the copying
        for chunk in in_chunks(parallel, copy_chunk, copies, title, str(path.resolve()), offset):
            results += chunk
            last = copies[len(results) - 1]
            end = offset + (last.start + last.length) * size
            while left := end - stream.tell():
                digest.update(stream.read(min(left, BLOCK)))
    return results, digest.hexdigest()


def copy_chunk(copies: list[Copy], target: str, offset: int) -> list[tuple[list[str], str]]:
    """Copy recordings to their places behind the `offset` bytes of the array's header.

    Returns (remarks, problem) of each; problem is "" for a recording that was written.
    """
    results = []
    with open(target, "r+b") as stream:
        for copy in copies:
            try:
                samples, remarks = recordings.read(copy.path, copy.length)
            except RecordingError as error:
                results.append(([], str(error)))
                continue
            with WRITING:
                stream.seek(offset + copy.start * samples.itemsize)
                stream.write(samples.astype("<i2", copy=False).data)
            results.append((remarks, ""))
        stream.flush()
        os.fsync(stream.fileno())  # now: at the end all would wait for the disk
    return results
