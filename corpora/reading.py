"""Transcripts and recordings, read by all cores: the slow part of preprocessing.

First every transcript and the header of every recording is read, so that the place of each
recording in its split's array is known. Then the workers copy recordings to their places, each
holding one in memory at a time.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from common.files import UserError, write_atomically
from common.sound import measure_level
from corpora import recordings
from corpora.account import Account
from corpora.recordings import ALL, Piece, RecordingError
from corpora.transcripts import clean, decode

BATCH = 64  # utterances a task: large against a task's cost, small against the corpus
WORKER_PATIENCE = 60  # seconds that a cluster may take until it has a worker


@contextlib.contextmanager
def start_workers(jobs: int, cluster: str, processes: bool = False) -> Iterator[joblib.Parallel]:
    """Yield joblib's pool: threads of this machine, or the processes of a Dask cluster.

    Threads, because most time is spent in the kernel, numpy, libsndfile and soxr, outside Python's
    lock. A cluster's workers must see the corpus and the data folder under the same paths, and be
    able to import `corpora`.
    processes: of this machine too, with a thread each, for tasks that are large and Python's.
    """
    options = {"backend": "loky", "inner_max_num_threads": 1} if processes else {}
    options = {"backend": "dask"} if cluster else options or {"backend": "threading"}
    with (
        connect(cluster) if cluster else contextlib.nullcontext(),
        joblib.parallel_config(n_jobs=jobs, **options),
        joblib.Parallel(return_as="generator", batch_size=1 if processes else BATCH) as parallel,
    ):
        yield parallel


def connect(address: str) -> contextlib.AbstractContextManager:
    """Connect this process to a Dask scheduler, where joblib's backend then finds it."""
    try:
        import distributed  # takes a second, which only users of a cluster pay
    except ImportError:
        raise UserError("--cluster needs the package: pip install distributed") from None
    try:
        client = distributed.Client(address, timeout=20)
        client.wait_for_workers(1, timeout=WORKER_PATIENCE)
        if sum(client.ncores().values()) < 2:  # joblib then does the work where it is
            print("--cluster: one core there: this process does the work", file=sys.stderr)
    except (OSError, ValueError, distributed.TimeoutError) as error:
        raise UserError(
            f"--cluster: no Dask scheduler answers at {address}, or none with a worker: {error}"
        ) from None
    return client


def run_all(
    parallel: joblib.Parallel, function: Callable, calls: Iterable[tuple], count: int, title: str
) -> list:
    """Return the results of `function(*arguments)` for all calls, in order, with a progress bar."""
    results = parallel(joblib.delayed(function)(*arguments) for arguments in calls)
    return list(tqdm(results, title, count, unit="utt", disable=None))


def read_texts_and_lengths(
    parallel: joblib.Parallel, root: Path, table: pd.DataFrame, style: str, account: Account
) -> pd.DataFrame:
    """Return the utterances with text and `sample_count`; drop those that cannot be used."""
    folder = f"{root.resolve()}/"
    transcripts = (folder + table["transcript"]).where(table["transcript"] != "", "")
    pieces = zip(table["first_second"], table["last_second"], strict=True)
    columns = (transcripts, folder + table["recording"], table["text"], pieces)
    calls = (
        (transcript, recording, style, text, piece)
        for transcript, recording, text, piece in zip(*columns, strict=True)
    )
    results = run_all(parallel, read_text_and_length, calls, len(table), "transcripts, headers")
    columns = ["text", "sample_count", "problem"]
    read = pd.DataFrame(results, table.index, columns, object).astype({"sample_count": int})
    return drop_problems(table.assign(**read[columns[:2]]), read["problem"], account)


def drop_problems(table: pd.DataFrame, problems: Iterable[str], account: Account) -> pd.DataFrame:
    """Return the rows without a problem; problems: one a row, "" for none."""
    for row, problem in zip(table.itertuples(), problems, strict=True):
        if problem:
            account.drop(row.id, problem, row.where)
    return table[[not problem for problem in problems]].reset_index(drop=True)


def read_text_and_length(
    transcript: str, recording: str, style: str, text: str | None = None, piece: Piece = ALL
) -> tuple[str, int, str]:
    """Return text, samples that the recording's header promises, and the problem, "" for none.

    Without a transcript the words are `text`; None in a corpus without words.
    """
    has_words = bool(transcript) or isinstance(text, str)
    try:
        if transcript:
            text = decode(Path(transcript).read_bytes())
        text = clean(text, style) if has_words else ""
        length = recordings.measure(recording, piece=piece)
    except UnicodeDecodeError:
        return "", 0, "transcript is neither UTF-8 nor cp949"
    except OSError:
        return "", 0, "transcript unreadable"
    except RecordingError as error:
        return "", 0, str(error)
    return text, length, "" if text or not has_words else "transcript empty after cleaning"


def write_audio(
    parallel: joblib.Parallel, root: Path, table: pd.DataFrame, path: Path, account: Account
) -> pd.DataFrame:
    """Write recordings one after another as an int16 .npy; return their rows with `first_sample`.

    The rows get `level` and `noise` as well: how loud the recordings are (common/sound.py), in dB.
    A recording that turns out to hold less than its header says is dropped, and the rest is laid
    out and written again, so that the array has no gaps.
    """
    results = None
    while results is None or any(problem for *_, problem in results):
        if results:
            table = drop_problems(table, [problem for *_, problem in results], account)
        ends = table["sample_count"].cumsum()
        table = table.assign(first_sample=ends - table["sample_count"])
        names = f"{root.resolve()}/" + table["recording"]
        pieces = list(zip(table["first_second"], table["last_second"], strict=True))
        with write_atomically(path) as temporary:
            size = (int(table["sample_count"].sum()),)
            offset = np.lib.format.open_memmap(temporary, "w+", np.dtype("<i2"), size).offset
            places = offset + 2 * table["first_sample"]
            files = zip(names, table["sample_count"], places, pieces, strict=True)
            calls = ((*file, str(temporary.resolve())) for file in files)
            results = run_all(parallel, copy_recording, calls, len(table), path.name)
    for row, (remarks, *_) in zip(table.itertuples(), results, strict=True):
        for remark in remarks:
            account.note(row.id, remark, row.recording)
    levels = np.array([levels for _, levels, _ in results], float).reshape(-1, 2)
    return table.assign(level=levels[:, 0], noise=levels[:, 1])


def copy_recording(
    path: str, length: int, place: int, piece: Piece, target: str
) -> tuple[list[str], tuple[float, float], str]:
    """Copy a recording to its place in a file, a byte number.

    Returns remarks, its level and noise in hundredths of a dB, and the problem, "" for none.
    """
    try:
        samples, remarks = recordings.read(path, length, piece)
    except RecordingError as error:
        return [], (np.nan, np.nan), str(error)
    with open(target, "r+b") as stream:
        stream.seek(place)
        stream.write(samples.astype("<i2", copy=False).data)
    level, noise = measure_level(samples)
    # Rounded, so that every machine writes the same table.
    return remarks, (round(level, 2), round(noise, 2)), ""
