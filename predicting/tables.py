"""What predict.py writes answer by answer: a table that is continued after a kill, embeddings.

Beside FILE.part, which holds the rows of a table until it is whole, FILE.part.jsonl says what it is
made of, and in a line for every finished block of recordings how far the table goes then.
Shapes: N answers, K numbers of an embedding.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.files import (
    UserError,
    remove,
    sha256,
    unwritable,
    write_array,
    write_atomically,
    write_bytes,
)
from common.stages import differences, find_commit, take_lock
from models import identify
from predicting.answers import as_row, place
from predicting.predicting import Answer
from predicting.recordings import Recording
from predicting.run import Run


class Progress(NamedTuple):
    """How far a table goes: finished blocks, their rows, bytes, and what they have refused."""

    blocks: int = 0
    rows: int = 0
    size: int = 0
    refused: tuple[str, ...] = ()


def describe(settings: dict, run: Run, asr: str, files: Sequence[Recording]) -> dict:
    """Return what the rows of a table depend on, JSON: settings, and a hash of all that is read."""
    content = hashlib.sha256()
    for file in files:
        state = None
        with suppress(OSError):  # without a path, or removed in this moment
            found = os.stat(file.path)
            state = found.st_size, found.st_mtime_ns
        row = (file.path, file.text, file.speaker, file.dialogue, file.start, file.end, state)
        content.update(repr(row).encode("utf-8", "surrogateescape"))
    folders = [run.folder / name for name in run.configs]
    of_models = (path for folder in folders for path in folder.iterdir() if path.is_file())
    model = {str(p): sha256(p) for p in sorted([run.folder / "fusion.json", *of_models])}
    inputs = {"model": model, "recordings": content.hexdigest(), "code": find_commit()}
    inputs |= {"recogniser": identify(asr)} if asr else {}
    return json.loads(json.dumps({"settings": settings, "inputs": inputs}))


class Table:
    """A table under another name until it is whole; `done`: what an earlier call has left of it.

    made_of: `describe`, of a table that is to be continued; None: it is begun anew.
    note: prints for people.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], made_of: dict | None, note: Callable):
        self.path, self.columns, self.note = path, columns, note
        self.part = path.with_name(f"{path.name}.part")
        self.record = path.with_name(f"{path.name}.part.jsonl")
        with self.naming():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = self.take()
            self.done = self.find_progress(made_of)
            if self.done.blocks:
                note(f"{self.part} is continued after {self.done.rows} utterances")
                os.truncate(self.part, self.done.size)
                lines = self.record.read_bytes().splitlines(keepends=True)
                write_bytes(self.record, b"".join(lines[: 1 + self.done.blocks]))
            else:
                header = "\t".join(columns) + "\n"
                self.part.write_text(
                    header, encoding="utf-8-sig", newline="\n"
                )  # spreadsheets' own
                self.record.write_text(json.dumps(made_of) + "\n", encoding="utf-8")
            self.stream = open(self.part, "a", encoding="utf-8", newline="\n")  # noqa: SIM115
            self.log = open(self.record, "a", encoding="utf-8")  # noqa: SIM115
        self.rows = self.done.rows
        # A block that has not ended is answered again, and so is all that is not to be continued.
        self.blocks = self.done.blocks if made_of else -math.inf

    def take(self) -> object:
        """Take the lock by which no other process writes this table."""
        try:
            return take_lock(self.part.with_name(f"{self.part.name}.lock"), blocking=False)
        except TimeoutError:
            raise UserError(
                f"{self.part}: another predict.py is writing it: wait, or give another --tsv"
            ) from None

    def find_progress(self, made_of: dict | None) -> Progress:
        """Return how far an earlier call has come that was made of the same; say if it was not."""
        if made_of is None or not self.part.is_file():
            return Progress()
        progress, why = Progress(), "it does not say what it is made of"
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            first, *lines = self.record.read_text(encoding="utf-8").splitlines(keepends=True)
            why = differences(json.loads(first), made_of)
            for line in lines if not why else ():
                rows, size, refused = json.loads(line)
                if not line.endswith("\n") or size > self.part.stat().st_size:
                    break  # cut off
                refused = (*progress.refused, *refused)
                progress = Progress(progress.blocks + 1, rows, size, refused)
        if why:
            self.note(f"{self.part} is begun anew: {why}")
        return progress

    def add(self, answer: Answer) -> None:
        """Write an answer's row."""
        with self.naming():
            print(as_row(answer, self.columns), file=self.stream, flush=True)
        self.rows += 1

    def end_block(self, refused: Iterable[str]) -> None:
        """Note that all rows of a block are there, and what was refused in it."""
        with self.naming():
            size = os.fstat(self.stream.fileno()).st_size
            self.blocks += 1
            print(json.dumps([self.rows, size, list(refused)]), file=self.log, flush=True)

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Give the table its name if it is whole, or remove one that is whole without a row."""
        with suppress(OSError), self.stream, self.log:  # what a full disk refused was said
            pass
        if self.lock:
            self.lock.release()
            remove(self.part.with_name(f"{self.part.name}.lock"))
        if kind and self.rows:
            then = "goes on" if self.blocks > 0 else "begins anew"
            self.note(f"{self.part} has what was answered until then: the same command {then}")
            return
        with self.naming():
            if self.rows:
                with open(self.part, "rb+") as stream:
                    os.fsync(stream.fileno())
                self.part.replace(self.path)
        remove(self.part)
        remove(self.record)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Say which table cannot be written."""
        try:
            yield
        except OSError as error:
            raise unwritable(self.path, error.strerror) from None


class Embeddings:
    """The embeddings of answers, on the disk until they are written as one array (N, K)."""

    def __init__(self, path: Path):
        self.path, self.names, self.width = path, [], 0
        try:
            self.spooled = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        except OSError as error:
            raise unwritable(path, error.strerror) from None

    def add(self, answer: Answer) -> None:
        """Keep an answer's embedding, nan if it has none, and what the answer is of."""
        if answer.embedding is not None and not self.width:
            self.width = len(answer.embedding)
            self.spooled.write(np.full(len(self.names) * self.width, np.nan, np.float32).data)
        embedding = answer.embedding
        if embedding is None:
            embedding = np.full(self.width, np.nan, np.float32)
        self.spooled.write(embedding.astype(np.float32).data)
        self.names.append(place(answer.recording))

    def write(self) -> None:
        """Write the array, and beside it what each row is."""
        shape = len(self.names), self.width
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        self.spooled.seek(0)
        with write_atomically(self.path) as temporary, open(temporary, "wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            shutil.copyfileobj(self.spooled, stream)
        index = self.path.with_name(f"{self.path.stem}_index.npy")
        write_array(index, np.array(self.names))
