"""Lists of recordings: a table of one's own, or the turns that a diariser found in a recording."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from common.files import UserError
from corpora.transcripts import decode
from predicting.recordings import Recording, Refuse, give_up, locate, normal, readable

COLUMNS = ("path", "text", "speaker", "dialogue", "start", "end")
SEPARATORS = "\t;,"  # between the cells of a list; Excel's commas are semicolons in some countries
NUMBER = r"(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
# Kind, file, channel, start, duration, two blanks, speaker, and up to two blanks or scores: what
# stands around the names is known, as they may have blanks in them.
RTTM_TURN = re.compile(
    rf"SPEAKER\s+(.+)\s+\S+\s+{NUMBER}\s+{NUMBER}\s+\S+\s+\S+\s+(\S.*?)"
    r"(?:\s+(?:<NA>|\d*\.\d+)){0,2}\s*"
)


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
