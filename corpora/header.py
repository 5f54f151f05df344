"""The header of an annotation file -> which column holds what. A doubt is an error, never a guess.

A rating is a group of columns, `Emotion Valence Arousal`, from one `Emotion` to the next. Its name,
`Total Evaluation` or a rater's `Eval...`, stands over any of its columns, because cells may have
been merged. The header may have more or fewer rows than the two of the releases.
"""

import re
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from common.files import UserError

RATERS = 10  # of a file without a header
TOTAL = "total"
FIELD = re.compile(r"(?:(?:total|eval).*[\W_])?(emotion|valence|arousal)")
NAME = re.compile(r"(total).*|(eval(?!uation).*?)(?:[\W_]*(?:emotion|valence|arousal))?")
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
