"""What is to be predicted: recordings, their transcripts, lists of them, the turns of a diariser.

Shapes: S samples (int16, 16 kHz).
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from corpora import recordings
from corpora.recordings import RecordingError
from corpora.transcripts import decode
from pipeline.files import RATE, UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
LONGEST = 3600 * RATE  # of a file, in samples: so much still fits into the memory
COLUMNS = ("path", "text", "speaker", "dialogue", "start", "end")
RTTM_FIELDS = 8  # kind, file, channel, start, duration, two blanks, speaker; blanks may follow


@dataclass(frozen=True, eq=False)
class Recording:
    """An utterance to be predicted, or a long recording of several: voice, words or both.

    path or samples (S,): the voice; neither: the words alone.  text: the transcript; "": none.
    speaker: whoever has the same name is one person, known better turn by turn; "": a stranger.
    dialogue: whose turns are given in order; "": none.  start, end: seconds within the file.
    """

    path: str = ""
    text: str = ""
    speaker: str = ""
    dialogue: str = ""
    start: float | None = None
    end: float | None = None
    samples: np.ndarray | None = None

    @property
    def has_voice(self) -> bool:
        return bool(self.path) or self.samples is not None


def find_recordings(words: Iterable[str]) -> list[Recording]:
    """Return the files that are named, and of folders all recordings in them, by name."""
    found = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"{word} has no recording in it ({', '.join(SUFFIXES)})")
            found += [Recording(str(p)) for p in inside]
        elif path.is_file():
            found.append(Recording(word))
        else:
            raise UserError(f"{word} is missing: give a recording, or a folder of recordings")
    return found


def read_manifest(path: str) -> list[Recording]:
    """Read a table of recordings, turns in order: TSV with a header, any of COLUMNS.

    Paths are relative to the table's folder.
    """
    try:
        lines = io.StringIO(decode(Path(path).read_bytes()))
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        names, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:  # Python 3.10 reads no NUL
        raise UserError(f"{path} cannot be read: {error}") from None
    if set(names) - set(COLUMNS) or not {"path", "text"} & set(names):
        raise UserError(
            f"{path}: the first row has {', '.join(names or ['nothing'])}; give path or "
            f"text, and any of {', '.join(COLUMNS)}, with tabs between them"
        )
    return [read_row(row, Path(path), number) for number, row in enumerate(rows, start=2)]


def read_row(row: dict, table: Path, number: int) -> Recording:
    """Return one row of a manifest; `number` is its line's."""
    where = f"{table}, line {number}"
    if None in row:
        raise UserError(f"{where}: more cells than columns")
    cells = {name: (cell or "").strip() for name, cell in row.items()}
    if not cells.get("path") and not cells.get("text"):
        raise UserError(f"{where}: neither a path nor a text")
    if cells.get("path"):
        cells["path"] = str(table.parent / cells["path"])
    for name in {"start", "end"} & cells.keys():
        cells[name] = read_seconds(cells[name], where) if cells[name] else None
    return Recording(**cells)


def read_seconds(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: '{text}' is not a number of seconds") from None


def read_turns(path: str, files: list[Recording]) -> list[Recording]:
    """Return the turns that a diariser found in the files, in order, each with its speaker.

    path: RTTM, whose file names are the recordings' without suffix. A file's speakers are named
    `file/speaker`, as the same name in another file is another person.
    """
    try:
        lines = decode(Path(path).read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    turns = {}
    for number, line in enumerate(lines, start=1):
        fields, where = line.split(), f"{path}, line {number}"
        if not fields or fields[0] != "SPEAKER":
            continue
        if len(fields) < RTTM_FIELDS:
            raise UserError(f"{where}: no turn of an RTTM file: '{line}'")
        start, length = (read_seconds(field, where) for field in fields[3:5])
        turns.setdefault(fields[1], []).append((start, start + length, fields[7]))
    found = []
    for recording in files:
        name = Path(recording.path).stem
        if name not in turns:
            known = ", ".join(turns) or "nothing"
            raise UserError(f"{path} has no turns of {name}, only of {known}")
        for start, end, speaker in sorted(turns[name]):
            where = {"start": start, "end": end, "dialogue": recording.path}
            found.append(replace(recording, speaker=f"{name}/{speaker}", **where))
    return found


def check(files: Iterable[Recording]) -> None:
    """Refuse files that cannot be read, by their headers, before anything is predicted."""
    for path in dict.fromkeys(recording.path for recording in files if recording.path):
        try:
            recordings.measure(path, LONGEST)
        except RecordingError as error:
            raise unreadable(path, error) from None


def read(recording: Recording) -> tuple[np.ndarray, list[str]]:
    """Return the samples (S,) of a recording between its start and end, and remarks on them."""
    samples, remarks = recording.samples, []
    if samples is None:
        samples, remarks = read_file(recording.path)
    elif samples.dtype != np.int16 or samples.ndim != 1:
        raise UserError("samples are to be (S,) int16 at 16 kHz")
    seconds = len(samples) / RATE
    start = recording.start or 0.0
    end = seconds if recording.end is None else recording.end
    if not (0 <= start < min(end, seconds) and end <= seconds + 1):  # a diariser may round up
        raise UserError(
            f"{recording.path or 'samples'}: no turn from {start:g} to {end:g} s in a recording of "
            f"{seconds:.1f} s"
        )
    return samples[round(start * RATE) : round(end * RATE)], remarks


@lru_cache(maxsize=1)  # the turns of one file follow one another
def read_file(path: str) -> tuple[np.ndarray, list[str]]:
    """Return all samples of a file, and remarks on them."""
    try:
        return recordings.read(path, recordings.measure(path, LONGEST))
    except RecordingError as error:
        raise unreadable(path, error) from None


def unreadable(path: str, error: RecordingError) -> UserError:
    formats = ", ".join(suffix[1:].upper() for suffix in SUFFIXES)
    return UserError(f"{path}: {error}: give a whole file ({formats}), or leave it out")
