"""Annotation files of KEMDy19 and KEMDy20: CSV -> rated rows. A doubt is an error, never a guess.

A rating is a group of columns, `Emotion Valence Arousal`, from one `Emotion` to the next. Its name,
`Total Evaluation` or a rater's `Eval...`, stands over any of its columns, because cells may have
been merged. The header may have more or fewer rows than the two of the releases. It says where the
labels are; the votes tell whether that is so.
"""

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, zip_longest
from pathlib import Path

from common.files import LABELS, UserError
from corpora.account import Account
from corpora.transcripts import decode

DIALOGUE = r"Sess(?P<session>[0-9]{2,})_(?P<scenario>(?:script|impro)[0-9]{2,})"
ID_PATTERNS = {
    "KEMDy19": re.compile(DIALOGUE + r"_(?P<gender>[FM])[0-9]{3,}"),
    "KEMDy20": re.compile(DIALOGUE + r"_(?P<user>User[0-9]{3,}(?P<gender>[FM]))_[0-9]{3,}"),
}
EXAMPLE_IDS = {"KEMDy19": "Sess01_script01_F001", "KEMDy20": "Sess01_script01_User002M_001"}
MISSPELT = {"disqust": "disgust"}
# Up to so many rows of a file may contradict its votes. A release has odd rows, but few. One
# rater's column in the place of the labels contradicts far more: every tie (6 % of KEMDy19's rows)
# and every row where that rater is outvoted (29 % of the sample corpus's).
MANY = 0.10
FEW = 3  # of a short file, one or two odd rows are more than a tenth; but not all of them are odd

OUTVOTED = "label is not what most raters chose"
OFF_SCALE = "mean valence or arousal outside 1-5"
SILENT_RATERS = "not every rater chose a label"
RATERS = 10  # of a file without a header
TOTAL = "total"
FIELD = re.compile(r"(?:(?:total|eval).*[\W_])?(emotion|valence|arousal)")
NAME = re.compile(r"(total).*|(eval(?!uation).*?)(?:[\W_]*(?:emotion|valence|arousal))?")
LARGEST = 1e9  # what no time, vote or rating is, and every sum of them can hold
SHOWN = 8  # columns of a header that is not understood, from the Segment ID on


@dataclass(frozen=True)
class Columns:
    """The columns that matter.

    emotion, valence, arousal: of the total evaluation.  votes: of each rater's emotion.  start,
    end: seconds in the dialogue, None where no header says `Wav`.  named: whether the header names
    the ratings. If not, they are taken to stand as in the releases, and the votes have to agree
    with the labels in every row.
    """

    id: int
    emotion: int
    valence: int
    arousal: int
    votes: tuple[int, ...]
    start: int | None
    end: int | None
    named: bool = True


@dataclass(frozen=True)
class Row:
    """The rating of one person in one segment.

    labels: majority label, or several that tie, in the file's order.  valence, arousal: means, nan
    where the cell is blank.  votes: raters per label, in the order of LABELS; a rater who names two
    has a vote for each.  voters: raters who named any.  wav_start, wav_end: seconds in the
    dialogue, or nan.  problem: the first unreadable cell, which stops the stage if the row is used;
    remark: one of the times, which does not; "" if there is none.
    """

    id: str
    labels: tuple[str, ...]
    valence: float
    arousal: float
    votes: tuple[int, ...]
    voters: int
    wav_start: float
    wav_end: float
    problem: str
    remark: str
    where: str


def read_annotation(path: Path, kind: str) -> tuple[list[Row], Columns]:
    """Read one annotation file; rows of blank cells are skipped.

    Raises UserError for a file that is no annotation file of `kind`.
    """
    try:
        table = list(csv.reader(decode(path.read_bytes()).splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    header, identifier = read_header(table, kind, path)
    columns = find_columns(header, identifier, str(path))
    rows = [
        read_row(row, columns, f"annotation/{path.name} row {number}")
        for number, row in enumerate(table[len(header) :], len(header) + 1)
        if any(value.strip() for value in row)
    ]
    return rows, columns


def read_header(table: list[list[str]], kind: str, path: Path) -> tuple[list[list[str]], int]:
    """Return the rows above the data, however many, and the column of the Segment IDs.

    Data begin with the first row that holds an ID or a label: the first ID may be a wrong one.
    """
    pattern = ID_PATTERNS[kind]
    ids = ([c for c, text in enumerate(row) if pattern.fullmatch(text.strip())] for row in table)
    first_id, found = next(((n, columns) for n, columns in enumerate(ids) if columns), (0, None))
    if found is None:
        first = ", ".join(filter(None, table[0]))[:100] if table else "an empty file"
        raise UserError(
            f"{path} is no annotation file of {kind}: expected two header rows with 'Segment ID' "
            f"and 'Total Evaluation', then IDs such as {EXAMPLE_IDS[kind]}; found {first}"
        )
    rated = (any(text.strip().lower() in LABELS for text in row) for row in table[:first_id])
    header = table[: next((n for n, is_rated in enumerate(rated) if is_rated), first_id)]
    named = {c for row in header for c in range(len(row)) if cell(row, c).lower() == "segment id"}
    chosen = [column for column in found if column in named or not named]
    if len(chosen) != 1:
        places = (", ".join(str(c + 1) for c in sorted(columns)) for columns in (found, named))
        raise UserError(
            "{}: IDs stand in column {}, the name 'Segment ID' over column {}: one column must "
            "have both".format(path, *places)
        )
    return header, chosen[0]


def cell(row: list[str], column: int | None) -> str:
    """Return a cell without surrounding blanks; "" where the row is too short."""
    return row[column].strip() if column is not None and column < len(row) else ""


def find_columns(header: list[list[str]], identifier: int, where: str) -> Columns:
    """Find the columns of a file whose IDs stand in column `identifier` by its header rows.

    Raises UserError, which begins with `where` and shows the header, if a group lacks its columns
    or if it is not certain which group is the total evaluation.
    """
    rows = [[" ".join(cell.casefold().split()) for cell in row] for row in header]
    # The cells above each column, from the top, without the blank ones.
    words = [list(filter(None, cells)) for cells in zip_longest(*rows, fillvalue="")]
    times = find_times(words)
    rated = range(identifier + 1, identifier + 1 + 3 * (1 + RATERS))
    if not any(words[rated.start : rated.stop]):
        return Columns(identifier, *rated[:3], tuple(rated[3::3]), *times, named=False)
    try:
        total, raters = tell_total(find_groups(words))
    except UserError as error:
        shown = (" | ".join(row[identifier : identifier + SHOWN])[:100] for row in header[-3:])
        raise UserError(
            f"{where}: {error}; expected 'Total Evaluation' and raters such as 'Eval01F', each "
            f"over its own Emotion, Valence, Arousal; the header reads, from the Segment ID "
            f"on: {' / '.join(f'[{line}]' for line in shown)}"
        ) from None
    return Columns(identifier, *total, tuple(rater[0] for rater in raters), *times)


def find_groups(words: list[list[str]]) -> dict[tuple[int, int | None, int | None], set[str]]:
    """Return (emotion, valence, arousal), the columns of each rating, -> the names over them."""
    # A cell near the data says more of its column than one above it, which may be a group's name.
    fields = [[match[1] for match in map(FIELD.fullmatch, cells) if match] for cells in words]
    fields = [found[-1] if found else None for found in fields]
    starts = [column for column, field in enumerate(fields) if field == "emotion"]
    groups = {}
    covered: set[int] = set()
    for first, end in pairwise([*starts, len(words)]):
        inside = {fields[column]: column for column in reversed(range(first, end))}
        group = first, inside.get("valence"), inside.get("arousal")
        columns = range(first, 1 + max(filter(None, group), default=first))
        groups[group] = {name for c in columns for cell in words[c] if (name := name_in(cell))}
        covered.update(columns)
    for column, cells in enumerate(words):
        for cell in cells if column not in covered else ():
            if name_in(cell) or FIELD.fullmatch(cell):
                raise UserError(f"'{cell}' of column {column + 1} is in no group of 'Emotion'")
    return groups


def tell_total(groups: dict[tuple, set[str]]) -> tuple[tuple[int, int, int], list[tuple]]:
    """Return the total evaluation's columns, and those of each rater."""
    for group, names in groups.items():
        if len(names) > 1:
            both = "' and '".join(sorted(names))
            raise UserError(f"'{both}' share the 'Emotion' of column {group[0] + 1}")
    totals = [group for group, names in groups.items() if TOTAL in names]
    if len(totals) != 1:
        raise UserError(f"{len(totals) or 'no'} groups of columns are named 'Total'")
    if None in totals[0]:
        raise UserError("the total evaluation lacks 'Valence' or 'Arousal'")
    raters = [group for group in groups if group != totals[0]]
    nameless = [group[0] + 1 for group in raters if not groups[group]]
    if 0 < len(nameless) < len(raters):
        raise UserError(f"the 'Emotion' of column {nameless[0]} is under no rater's name")
    return totals[0], raters


def name_in(cell: str) -> str | None:
    """Return the name of a group that a cell holds: `total`, or the rater's."""
    match = NAME.fullmatch(cell)
    return match and (match[1] or match[2])


def find_times(words: list[list[str]]) -> tuple[int, int] | tuple[None, None]:
    """Return the columns of start and end under `Wav`, which may stand over either."""
    said = [set(" ".join(cells).split()) for cells in words]
    for start, (here, following) in enumerate(pairwise(said)):
        if "start" in here and "end" in following and "wav" in here | following:
            return start, start + 1
    return None, None


def read_row(row: list[str], columns: Columns, where: str) -> Row:
    """Read one data row; an unreadable cell is left blank, and named in `problem` or `remark`."""
    problems: list[str] = []
    remarks: list[str] = []

    def take(name: str, column: int | None, read: Callable, faults: list[str] = problems) -> object:
        try:
            return read(cell(row, column))
        except ValueError as error:
            faults.append(f"{error} (column {column + 1}, {name})")
            return read("")

    labels = take("Emotion", columns.emotion, read_labels)
    valence = take("Valence", columns.valence, read_number)
    arousal = take("Arousal", columns.arousal, read_number)
    raters = [take("a rater", column, read_labels) for column in columns.votes]
    votes = [label for chosen in raters for label in chosen]
    return Row(
        id=cell(row, columns.id),
        labels=labels,
        valence=valence,
        arousal=arousal,
        votes=tuple(votes.count(label) for label in LABELS),
        voters=sum(map(bool, raters)),
        wav_start=take("Wav start", columns.start, read_number, remarks),
        wav_end=take("Wav end", columns.end, read_number, remarks),
        problem=next(iter(problems), ""),
        remark=next(iter(remarks), ""),
        where=where,
    )


@lru_cache  # a corpus has few different cells
def read_labels(text: str) -> tuple[str, ...]:
    """Split `sad;angry` into labels, each once, in order; ValueError for any other word."""
    words = (word.strip().lower() for word in text.split(";"))
    labels = tuple(dict.fromkeys(MISSPELT.get(word, word) for word in words if word))
    for label in labels:
        if label not in LABELS:
            raise ValueError(f"unknown emotion '{label}': expected one of {', '.join(LABELS)}")
    return labels


def read_number(text: str) -> float:
    """Read a number, not beyond LARGEST; a blank, or the nan that programs write for it, is nan."""
    try:
        number = float(text or "nan")
    except ValueError:
        number = math.inf
    if abs(number) > LARGEST:
        raise ValueError(f"'{text}' is not a number" + " up to 1e9" * math.isfinite(number))
    return number


def check_ratings(rows: list[Row], columns: Columns, where: str, account: Account) -> None:
    """Note every row whose label, means and votes do not go together.

    Raises UserError if those are so many that the columns must be others than they seem, or any
    where no header names them; and if there is no row that can be read.
    """
    readable = [row for row in rows if not row.problem]
    if not readable:
        raise UserError(
            f"{where}: none of its {len(rows)} rows can be read: {rows[0].where}, "
            f"{rows[0].problem}; numbers have a decimal point and emotions are English words: "
            "take the file as it was released"
        )
    if len(columns.votes) != RATERS:
        account.note(where, f"{len(columns.votes)} raters, not {RATERS}", where)
    tolerated = min(max(FEW - 1, MANY * len(readable)), len(readable) - 1) * columns.named
    outvoted = [row for row in readable if columns.votes and set(row.labels) != find_winners(row)]
    off_scale = [
        r for r in readable if any(mean < 1 or mean > 5 for mean in (r.valence, r.arousal))
    ]
    # Raters may be missing, even in a whole session: the labels are right all the same.
    silent = [row for row in readable if row.labels and row.voters < len(columns.votes)]
    for reason, wrong in ((OUTVOTED, outvoted), (OFF_SCALE, off_scale), (SILENT_RATERS, silent)):
        if len(wrong) > tolerated and reason != SILENT_RATERS:
            raise UserError(
                f"{where}: {reason} in {len(wrong)} of {len(readable)} rows, so the columns are "
                f"not those of the header or the releases; the first is {wrong[0].where}, "
                f"{describe(wrong[0])}; correct the header, or take the file as it was released"
            )
        for row in wrong:
            account.note(row.id, reason, f"{row.where}: {describe(row)}")


def find_winners(row: Row) -> set[str]:
    """Return the labels with most votes; none where nobody voted."""
    most = max(row.votes)
    return {label for label, votes in zip(LABELS, row.votes, strict=True) if votes == most > 0}


def describe(row: Row) -> str:
    """Return `Sess01_script01_F001: fear 9 -3, votes happy 10`."""
    votes = [f"{label} {n}" for label, n in zip(LABELS, row.votes, strict=True) if n]
    label = ";".join(row.labels) or "no label"
    return f"{row.id}: {label} {row.valence:g} {row.arousal:g}, votes {' '.join(votes) or 'none'}"
