"""Annotation files of KEMDy19 and KEMDy20: CSV -> rated rows, columns found by their header."""

import csv
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.corpus.transcripts import decode
from pipeline.files import UserError
from pipeline.labels import LABELS

ID_PATTERNS = {
    "KEMDy19": re.compile(
        r"Sess(?P<session>[0-9]{2,})_(?P<scenario>(?:script|impro)[0-9]{2,})"
        r"_(?P<gender>[FM])[0-9]{3,}"
    ),
    "KEMDy20": re.compile(
        r"Sess(?P<session>[0-9]{2,})_(?P<scenario>(?:script|impro)[0-9]{2,})"
        r"_(?P<user>User[0-9]{3,}(?P<gender>[FM]))_[0-9]{3,}"
    ),
}
EXAMPLE_IDS = {"KEMDy19": "Sess01_script01_F001", "KEMDy20": "Sess01_script01_User002M_001"}
# Where `Segment ID` stands if no header says so; Total Evaluation and the raters follow it.
ID_COLUMNS = {"KEMDy19": 9, "KEMDy20": 3}
RATERS = 10
MISSPELT = {"disqust": "disgust"}


@dataclass(frozen=True)
class Row:
    """One person rated in one segment.

    labels: majority label, or several that tie, in the file's order.  votes: raters per label, in
    the order of LABELS.  valence, arousal: means, nan where the cell is blank.
    """

    id: str
    labels: tuple[str, ...]
    valence: float
    arousal: float
    votes: tuple[int, ...]
    where: str


@dataclass(frozen=True)
class Columns:
    """Positions of the cells that matter."""

    id: int
    emotion: int
    valence: int
    arousal: int
    votes: tuple[int, ...]


def find_columns(top: list[str], second: list[str], kind: str) -> Columns:
    """Find the columns by the two header rows; what they do not say is found by position.

    The first header row names groups over the columns of the second. Group names may stand over
    any column of their group, sensor columns anywhere.
    """
    top = [cell.strip().casefold() for cell in top]
    second = [cell.strip().casefold() for cell in second]
    emotions = [column for column, cell in enumerate(second) if cell == "emotion"]
    if "segment id" in top + second:
        identifier = (top if "segment id" in top else second).index("segment id")
    else:
        identifier = emotions[0] - 1 if emotions else ID_COLUMNS[kind]
    if not emotions:
        emotions = [identifier + 1 + 3 * group for group in range(RATERS + 1)]
    total = emotions[0]
    if "total evaluation" in top:
        name = top.index("total evaluation")
        total = max((column for column in emotions if column <= name), default=total)
    means = {
        name: second.index(name, total) if name in second[total:] else total + offset
        for name, offset in (("valence", 1), ("arousal", 2))
    }
    votes = tuple(column for column in emotions if column != total)
    return Columns(identifier, total, means["valence"], means["arousal"], votes)


def read_annotation(path: Path, kind: str) -> list[Row]:
    """Read one annotation file; rows of blank cells are skipped.

    Raises UserError for a file that is no annotation file of `kind`, and for a cell that is neither
    blank nor what belongs there, with its row as a spreadsheet counts it.
    """
    try:
        table = list(csv.reader(decode(path.read_bytes()).splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    top, second = (*table[:2], [], [])[:2]
    columns = find_columns(top, second, kind)
    pattern = ID_PATTERNS[kind]
    is_data = [pattern.fullmatch(cell(row, columns.id)) is not None for row in table]
    if not any(is_data):
        raise UserError(
            f"{path} is no annotation file of {kind}: expected two header rows with 'Segment ID' "
            f"and 'Total Evaluation', then IDs such as {EXAMPLE_IDS[kind]}; found {describe(table)}"
        )
    header_rows = min(2, is_data.index(True))
    return [
        read_row(row, columns, f"annotation/{path.name} row {number}")
        for number, row in enumerate(table[header_rows:], header_rows + 1)
        if any(value.strip() for value in row)
    ]


def describe(table: list[list[str]]) -> str:
    """Say what a file that is not understood begins with."""
    if not table:
        return "an empty file"
    names = [value.strip() for value in table[0] if value.strip()]
    return f"{len(table)} rows, the first one: {', '.join(names)[:100]}"


def cell(row: list[str], column: int) -> str:
    """Return a cell without surrounding blanks; "" where the row is too short."""
    return row[column].strip() if column < len(row) else ""


def read_row(row: list[str], columns: Columns, where: str) -> Row:
    """Read one data row."""
    votes = [label for column in columns.votes for label in read_labels(cell(row, column), where)]
    return Row(
        id=cell(row, columns.id),
        labels=read_labels(cell(row, columns.emotion), where),
        valence=read_number(cell(row, columns.valence), where),
        arousal=read_number(cell(row, columns.arousal), where),
        votes=tuple(votes.count(label) for label in LABELS),
        where=where,
    )


def read_labels(text: str, where: str) -> tuple[str, ...]:
    """Split `sad;angry` into labels, each once, in order."""
    labels = split_labels(text)
    for label in labels:
        if label not in LABELS:
            raise UserError(
                f"{where}: unknown emotion '{label}': expected one of {', '.join(LABELS)}; "
                "correct the cell"
            )
    return labels


@lru_cache
def split_labels(text: str) -> tuple[str, ...]:
    """Split a cell into words, misspellings corrected; a corpus has few different cells."""
    words = (word.strip().lower() for word in text.split(";"))
    return tuple(dict.fromkeys(MISSPELT.get(word, word) for word in words if word))


def read_number(text: str, where: str) -> float:
    """Read a mean rating; a blank is nan."""
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: '{text}' is not a number; correct the cell") from None
