"""What is to be predicted: recordings, their transcripts, lists of them, the turns of a diariser.

Where several are asked for, a mistake costs its own row: it is handed to `refuse`, and the others
go on. Without that the first mistake ends all.

Shapes: S samples (int16, 16 kHz).
"""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import ENAMETOOLONG, ENOENT, ENOTDIR
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from common.files import SAMPLE_RATE, UserError
from corpora import recordings
from corpora.recordings import RecordingError
from corpora.transcripts import decode

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf")
# Recordings too, of telephones and browsers, which libsndfile does not decode.
UNREAD = (".m4a", ".aac", ".webm", ".mp4", ".3gp", ".amr", ".wma", ".mov", ".mkv")
LONGEST = 3600 * SAMPLE_RATE  # of a file, in samples: so much still fits into the memory
COLUMNS = ("path", "text", "speaker", "dialogue", "start", "end")
SEPARATORS = "\t;,"  # between the cells of a list; Excel's commas are semicolons in some countries
NUMBER = r"(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
# Kind, file, channel, start, duration, two blanks, speaker, and up to two blanks or scores: what
# stands around the names is known, as they may have blanks in them.
RTTM_TURN = re.compile(
    rf"SPEAKER\s+(.+)\s+\S+\s+{NUMBER}\s+{NUMBER}\s+\S+\s+\S+\s+(\S.*?)"
    r"(?:\s+(?:<NA>|\d*\.\d+)){0,2}\s*"
)
# What to do about a recording that cannot be read, by the beginning of the reason.
CONVERT = "convert it (ffmpeg -i THIS new.wav)"
REMEDIES = {
    "recording truncated": "its end is missing: copy it again",
    "recording empty": "it has a header and no sound: record it again, or leave it out",
    "recording longer": "cut it into shorter ones",
    "recording of too many samples": "convert it to 16 kHz and one channel",
    "recording unreadable": f"damaged, or not {', '.join(SUFFIXES)}: copy it again",
}

Refuse = Callable[[UserError], None]


def give_up(error: UserError) -> None:
    """Let a row's mistake end all: for whoever asks for one."""
    raise error


@dataclass(frozen=True, eq=False)
class Recording:
    """An utterance to be predicted, or a long recording of several: voice, words or both.

    path or samples (S,): the voice; neither: the words alone.  text: the transcript; "": none.
    speaker: whoever has the same name is one person, known better turn by turn; "": nobody.
    dialogue: whose turns are given in order; "": none.  start, end: seconds within the file.
    where: list and line that ask for it, if any do.
    """

    path: str = ""
    text: str = ""
    speaker: str = ""
    dialogue: str = ""
    start: float | None = None
    end: float | None = None
    samples: np.ndarray | None = None
    where: str = ""

    @property
    def has_voice(self) -> bool:
        return bool(self.path) or self.samples is not None


def of_row(recording: Recording, error: UserError) -> UserError:
    """Return the error with the list and the line that asked for the recording."""
    return UserError(f"{recording.where}: {error}") if recording.where else error


def readable(name: str) -> str:
    """Return a name for people; bytes that are no UTF-8 are cp949, as in zip files of Windows.

    What neither code explains is escaped. Parts of a path may be in different codes.
    """

    def decode(part: str) -> str:
        for code in ("utf-8", "cp949"):
            with suppress(UnicodeError):
                return os.fsencode(part).decode(code)
        return part.encode("utf-8", "backslashreplace").decode("utf-8")

    return "/".join(map(decode, name.split("/")))


def normal(name: str) -> str:
    """Return a name as it is compared: composed, whatever its bytes are."""
    return unicodedata.normalize("NFC", readable(name))


def locate(path: Path) -> Path:
    """Return the path, or where it is missing the one with the same letters in other bytes."""
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = locate(path.parent)
    with suppress(OSError, ValueError):
        names = list_names(str(folder), os.stat(folder).st_mtime_ns)
        return folder / names.get(normal(path.name), path.name)
    return path


@lru_cache(maxsize=64)
def list_names(folder: str, changed: int) -> dict[str, str]:
    """Return a folder's names by their normal forms; `changed` differs when they do."""
    return {normal(name): name for name in sorted(os.listdir(folder), reverse=True)}


def find_recordings(words: Iterable[str], refuse: Refuse = give_up) -> list[Recording]:
    """Return the files that are named, and of folders all recordings in them, by name."""
    found, kinds = [], (*SUFFIXES, *UNREAD)  # of the latter, the check says what to do
    for word in words:
        path = locate(Path(word))
        try:
            if os.path.isdir(path):
                paths = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in kinds)
            else:
                os.stat(path)
                paths = [word if os.path.lexists(word) else str(path)]
        except OSError as error:
            refuse(unreadable(word, error))
            continue
        if not paths:
            refuse(UserError(f"{readable(word)} has no recording in it ({', '.join(SUFFIXES)})"))
        found += map(Recording, paths)
    return found


def read_list(path: str) -> tuple[Path, str]:
    """Return where a list lies, and what is in it."""
    place = locate(Path(path))
    try:
        return place, decode(place.read_bytes()).replace("\0", "\ufffd")  # csv reads no NUL
    except OSError as error:
        raise UserError(f"{readable(path)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{readable(path)} cannot be read: neither UTF-8, UTF-16 nor cp949; save it as UTF-8"
        ) from None


def read_manifest(path: str, refuse: Refuse = give_up) -> list[Recording]:
    """Read a table of recordings, turns in order: a header with any of COLUMNS, rows without gaps.

    Tabs, semicolons or commas part the cells. Paths are relative to the table's folder.
    """
    table, text = read_list(path)
    path = readable(path)
    for separator in SEPARATORS:
        (_, header), *rows = split_rows(text, separator) or [(1, [])]
        names = [name.strip().lower() for name in header]
        while names and not names[-1]:  # a spreadsheet's empty columns
            names.pop()
        if set(names) <= set(COLUMNS) and {"path", "text"} & set(names):
            break
    else:
        first = text.partition("\n")[0].strip()
        raise UserError(
            f"{path}: the first row is '{first}': give path or text, and any of "
            f"{', '.join(COLUMNS)}, with tabs, semicolons or commas between them"
        )
    if len(set(names)) < len(names):
        raise UserError(f"{path}: the first row names a column twice: {', '.join(names)}")
    rows = [(number, cells) for number, cells in rows if any(map(str.strip, cells))]
    if not rows:
        raise UserError(f"{path} has no row below its header: give a recording or a text a row")
    found = []
    for number, cells in rows:
        try:
            found.append(read_row(names, cells, table, f"{path}, line {number}"))
        except UserError as error:
            refuse(error)
    return found


def split_rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Return every row's first line, from 1, and its cells, which may be in quotation marks.

    In a table that no spreadsheet wrote the marks are letters: some close no cell, or other cells.
    """
    lines = io.StringIO(text, newline=None).readlines()
    reader, rows, first = csv.reader(lines, delimiter=separator, strict=True), [], 1
    try:
        for cells in reader:
            rows.append((first, cells))
            first = reader.line_num + 1
        swallowed = separator == "\t" and any("\t" in cell for _, cells in rows for cell in cells)
    except csv.Error:
        swallowed = True
    if swallowed:
        plain = (line.rstrip("\n").split(separator) for line in lines)
        return list(enumerate(plain, start=1))
    return rows


def read_row(names: list[str], cells: list[str], table: Path, where: str) -> Recording:
    """Return one row of a manifest; `where` names table and line."""
    if any(map(str.strip, cells[len(names) :])):
        raise UserError(f"{where}: more cells than columns")
    row = dict(zip(names, map(str.strip, cells), strict=False))
    if not row.get("path") and not row.get("text"):
        raise UserError(f"{where}: neither a path nor a text")
    for name in {"speaker", "dialogue"} & row.keys():  # one person is one, in either form
        row[name] = normal(row[name])
    if row.get("path"):
        row["path"] = str(locate(table.parent / row["path"]))
    for name in {"start", "end"} & row.keys():
        try:
            row[name] = float(row[name]) if row[name] else None
        except ValueError:
            raise UserError(
                f"{where}: '{row[name]}' is not a number of seconds: write it as 83.5"
            ) from None
    return Recording(**row, where=where)


def read_turns(path: str, files: list[Recording], refuse: Refuse = give_up) -> list[Recording]:
    """Return the turns that a diariser found in the files, in order, each with its speaker.

    path: RTTM, whose file names are the recordings' without suffix. A file's speakers are named
    `file/speaker`, as the same name in another file is another person.
    """
    lines, path = read_list(path)[1].splitlines(), readable(path)
    turns = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line.split()[:1] != ["SPEAKER"]:
            continue
        where, fields = f"{path}, line {number}", RTTM_TURN.fullmatch(line)
        if not fields:
            refuse(UserError(f"{where}: no turn of an RTTM file: '{line}'"))
            continue
        name, start, length, speaker = fields.groups()
        turn = (float(start), float(start) + float(length), normal(speaker), where)
        turns.setdefault(normal(name), []).append(turn)
    found = []
    for recording in files:
        name = normal(Path(recording.path).stem)
        if name not in turns:
            known = ", ".join(turns) or "nothing"
            refuse(UserError(f"{path} has no turns of {name}, only of {known}"))
        for start, end, speaker, where in sorted(turns.get(name, [])):
            own = {"start": start, "end": end, "dialogue": recording.path, "where": where}
            found.append(replace(recording, speaker=f"{name}/{speaker}", **own))
    return found


def check(files: Iterable[Recording], refuse: Refuse = give_up) -> list[Recording]:
    """Return those that can be read, by their headers, before anything is predicted."""
    measure_once, good = cache(measure), []
    for recording in files:
        try:
            if recording.path:
                measure_once(recording.path)
            good.append(recording)
        except UserError as error:
            refuse(of_row(recording, error))
    return good


def measure(path: str) -> int:
    """Return how many samples a file promises to have; UserError for one that cannot be read."""
    if os.path.isdir(path):
        raise UserError(f"{readable(path)} is a folder: give the recordings in it, one a row")
    if os.path.exists(path) and not os.path.isfile(path):  # it would wait
        raise UserError(f"{readable(path)} is a device or a pipe: save the recording first")
    try:
        return recordings.measure(path, LONGEST)
    except RecordingError as error:
        raise unreadable(path, error) from None


def read(recording: Recording) -> tuple[np.ndarray, list[str]]:
    """Return the samples (S,) of a recording between its start and end, and remarks on them."""
    samples, remarks = recording.samples, []
    if samples is None:
        samples, remarks = read_file(recording.path)
    elif samples.dtype != np.int16 or samples.ndim != 1:
        raise UserError("samples are to be (S,) int16 at 16 kHz")
    seconds, start = len(samples) / SAMPLE_RATE, recording.start or 0.0
    end = seconds if recording.end is None else recording.end
    if not (0 <= start < min(end, seconds) and end <= seconds + 1):  # a diariser may round up
        raise UserError(
            f"{readable(recording.path) or 'samples'}: no turn from {start:g} to {end:g} s in a "
            f"recording of {seconds:.1f} s: correct its times"
        )
    return samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], remarks


@lru_cache(maxsize=1)  # the turns of one file follow one another
def read_file(path: str) -> tuple[np.ndarray, list[str]]:
    """Return all samples of a file, and remarks on them."""
    length = measure(path)
    try:
        return recordings.read(path, length)
    except RecordingError as error:
        raise unreadable(path, error) from None


def unreadable(path: str, error: RecordingError | OSError) -> UserError:
    """Return what is wrong with a recording, and what can be done about it."""
    name, kind = readable(path), Path(path).suffix.lower()
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in (ENOENT, ENOTDIR, ENAMETOOLONG):
        return UserError(f"{name} is missing: correct its name, or leave it out")
    if isinstance(cause, OSError):
        reason = f"{name} cannot be read ({cause.strerror})"
        return UserError(f"{reason}: look after its disk and its permissions, or leave it out")
    if kind in UNREAD:
        return UserError(f"{name}: {kind[1:].upper()} cannot be decoded here: {CONVERT}")
    remedies = (what for start, what in REMEDIES.items() if str(error).startswith(start))
    return UserError(f"{name}: {error}: {next(remedies, CONVERT)}")
