"""Tables that people write: CSV and TSV of any usual code and delimiter, and Excel's .xlsx -> rows.

A row is its number, as a spreadsheet shows it, and its cells as text without surrounding blanks.
"""

import csv
import io
import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from common.files import UserError
from corpora.source import normal
from corpora.transcripts import decode

DELIMITERS = ("\t", ",", ";")  # Excel's commas are semicolons in some countries
TEXTS, BOOK = (".csv", ".tsv", ".txt"), ".xlsx"
LARGEST = 1 << 30  # bytes that a workbook may unpack to

Rows = list[tuple[int, list[str]]]


def read_sheet(path: Path, wanted: Collection[str] = ()) -> Rows:
    """Return the rows of a table that are not blank.

    wanted: names of which the header has at least one (see `names_of`); by them the delimiter is
    told. Raises UserError for a file that is no table, or empty.
    """
    try:
        rows = read_book(path) if path.suffix.casefold() == BOOK else read_text(path, wanted)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    rows = [(number, [normal(cell).strip() for cell in cells]) for number, cells in rows]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if not rows:
        raise UserError(f"{path} is empty: a table has a header and a row for each recording")
    return rows


def names_of(header: list[str]) -> list[str]:
    """Return the names of columns as they are compared: no blanks, one case."""
    return ["".join(normal(name).casefold().split()) for name in header]


def read_text(path: Path, wanted: Collection[str]) -> Rows:
    """Read CSV or TSV: UTF-8 with or without a BOM, UTF-16 with one, or cp949."""
    try:
        text = decode(path.read_bytes())
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is neither UTF-8, UTF-16 nor cp949: save the table as CSV (UTF-8) or .xlsx"
        ) from None
    found: dict[str, Rows] = {}
    problem = ""
    for delimiter in DELIMITERS:
        try:
            found[delimiter] = split_rows(text, delimiter)
        except csv.Error as error:
            problem = problem or str(error)
    headers = {
        delimiter: names_of(next((cells for _, cells in rows if any(cells)), []))
        for delimiter, rows in found.items()
    }
    # The delimiter by which most of the wanted names are cells, and else the one of most cells.
    best = max(headers, default="", key=lambda d: (len({*headers[d]} & {*wanted}), len(headers[d])))
    first = text.lstrip().partition("\n")[0]
    if problem and (not best or first.count(best) < max(map(first.count, DELIMITERS))):
        raise UserError(
            f"{path} cannot be cut into cells ({problem}): a cell with a quotation mark or a line "
            "break in it stands in quotation marks, those in it doubled; save it by a spreadsheet"
        )
    check_quotes(path, found[best], best)
    return found[best]


def check_quotes(path: Path, rows: Rows, delimiter: str) -> None:
    """Refuse a cell that has swallowed rows, because its quotation mark was closed too late.

    Such a cell has the delimiters of a whole row to each line break. Those of prose are followed by
    blanks, and not counted.
    """
    width = next((len(cells) for _, cells in rows if any(cells)), 0)
    for number, cells in rows:
        for cell in cells:
            below, cuts = cell.strip().count("\n"), len(re.findall(f"{delimiter}(?! )", cell))
            if width > 1 and below and cuts >= below * (width - 1):
                raise UserError(
                    f"{path} row {number}: a quotation mark makes one cell of this row and "
                    f"{below} below ({' '.join(cell.split())[:60]} ...): take it away or close it"
                )


def split_rows(text: str, delimiter: str) -> Rows:
    """Return the rows of a text whose cells may stand in quotation marks; csv.Error if they don't.

    In a table with tabs that no spreadsheet wrote, quotation marks are letters: some close no cell,
    or other cells.
    """
    lines = io.StringIO(text, newline=None).readlines()
    plain = [line.rstrip("\n").split(delimiter) for line in lines]
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        if delimiter != "\t":
            raise
        rows = plain
    fits = delimiter == "\t" and all(len(cells) <= len(plain[0]) for cells in plain)
    return list(enumerate(plain if fits and len(plain) > len(rows) else rows, 1))


def read_book(path: Path) -> Rows:
    """Read the first sheet of a workbook; a formula counts as the value that was saved with it."""
    import openpyxl  # here: it takes a third of a second

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise UserError(f"{path} unpacks to {size >> 20} MiB: save the table as CSV")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        first, *others = book.worksheets
        first.reset_dimensions()  # some programs write wrong ones
        rows = [list(map(show, cells)) for cells in first.values]
        book.close()
        if others:
            print(f"{path}: of {1 + len(others)} sheets the first is read, '{first.title}'")
    except (UserError, OSError):
        raise
    except Exception as error:  # a damaged workbook fails in any of its layers
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise UserError(
            f"{path} is no workbook that can be read ({reason}): save the table again as .xlsx or "
            "CSV"
        ) from None
    return list(enumerate(rows, 1))


def show(value: object) -> str:
    """Return a cell's value as text: whole numbers without a point."""
    if value is None:
        return ""
    return f"{value:.15g}" if isinstance(value, float) else str(value)
