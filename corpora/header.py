"""The header of an annotation file -> which column holds what. A doubt is an error, never a guess.

Each rating is a group of columns, `Emotion Valence Arousal`. Above them stand the groups' names,
`Total Evaluation` and one `Eval...` a rater, over any column of their group, because cells may have
been merged. The header may have more or fewer rows than the two of the releases.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from common.files import UserError

RATERS = 10  # of a file without a header
TOTAL = "total"
FIELD = re.compile(r"(?:(?:total|eval).*[\W_])?(emotion|valence|arousal)")
RATER = re.compile(r"eval(?!uation)")
SHOWN = 8  # columns of a header that is not understood, from the Segment ID on


class HeaderError(Exception):
    """A header that leaves a doubt about its columns; the message says which."""


@dataclass(frozen=True)
class Group:
    """The columns of one rating; valence or arousal is None where the group lacks it."""

    emotion: int
    valence: int | None
    arousal: int | None

    def covers(self, column: int) -> bool:
        """Tell whether a name over this column is a name of this group."""
        return self.emotion <= column <= max(self.emotion, self.valence or 0, self.arousal or 0)


@dataclass(frozen=True)
class Columns:
    """The columns that matter.

    start, end: seconds in the dialogue, None where no header says `Wav`.  named: whether the header
    says where the total evaluation is. If not, it is taken to come first, and the votes have to
    agree with it in every row.
    """

    id: int
    total: Group
    votes: tuple[int, ...]
    start: int | None
    end: int | None
    named: bool


def find_columns(header: list[list[str]], identifier: int, where: str) -> Columns:
    """Find the columns of a file whose IDs stand in column `identifier` by its header rows.

    Raises UserError, which begins with `where` and shows the header, if a group lacks its columns
    or if it is not certain which group is the total evaluation.
    """
    rows = [[" ".join(cell.casefold().split()) for cell in row] for row in header]
    width = max(map(len, rows), default=0)
    # The cells above each column, from the top, without the blank ones.
    words = [[row[c] for row in rows if c < len(row) and row[c]] for c in range(width)]
    start, end = find_times(words)
    rated = range(identifier + 1, identifier + 1 + 3 * (1 + RATERS))
    if not any(words[rated.start : rated.stop]):
        total, *raters = (Group(c, c + 1, c + 2) for c in rated[::3])
        return Columns(identifier, total, tuple(g.emotion for g in raters), start, end, False)
    try:
        groups = find_groups(words)
        names = name_groups(groups, words)
        total = find_total(groups, names, words)
    except HeaderError as error:
        shown = (" | ".join(row[identifier : identifier + SHOWN])[:100] for row in header[-3:])
        raise UserError(
            f"{where}: {error}; expected 'Total Evaluation' and raters such as 'Eval01F', each "
            f"over its own Emotion, Valence, Arousal; the header reads, from the Segment ID "
            f"on: {' / '.join(f'[{line}]' for line in shown)}"
        ) from None
    votes = tuple(group.emotion for group in groups if group != total)
    return Columns(identifier, total, votes, start, end, any(names.values()))


def find_groups(words: list[list[str]]) -> list[Group]:
    """Return the ratings, each from one `Emotion` to the next.

    A cell near the data says more of its column than one above it, which may be a group's name.
    """
    fields = []
    for cells in words:
        found = [match[1] for match in map(FIELD.fullmatch, cells) if match]
        fields.append(found[-1] if found else None)
    starts = [column for column, field in enumerate(fields) if field == "emotion"]
    groups = []
    for first, end in pairwise([*starts, len(words)]):
        inside = {fields[column]: column for column in reversed(range(first, end))}
        groups.append(Group(first, inside.get("valence"), inside.get("arousal")))
    return groups


def name_groups(groups: list[Group], words: list[list[str]]) -> dict[Group, str]:
    """Return the name of each group, "" for none; HeaderError for a name without a group."""
    if not groups:
        raise HeaderError("no column is headed 'Emotion'")
    names = dict.fromkeys(groups, "")
    for column, cells in enumerate(words):
        for cell in cells:
            if not cell.startswith(TOTAL) and not RATER.match(cell):
                continue
            owner = next((group for group in groups if group.covers(column)), None)
            if owner is None:
                raise HeaderError(f"'{cell}' stands over column {column + 1} and has no 'Emotion'")
            name = re.sub(r"[\W_]*(emotion|valence|arousal)$", "", cell)
            name = TOTAL if cell.startswith(TOTAL) else name
            if names[owner] not in ("", name):
                both = "' and '".join(sorted((names[owner], name)))
                raise HeaderError(f"'{both}' share the 'Emotion' of column {owner.emotion + 1}")
            names[owner] = name
    return names


def find_total(groups: list[Group], names: dict[Group, str], words: list[list[str]]) -> Group:
    """Return the total evaluation's group.

    Raises HeaderError for none or two of them, for ratings without a name where others have one,
    and for columns of ratings outside all groups.
    """
    named = any(names.values())
    totals = [group for group in groups if names[group] == TOTAL] if named else groups[:1]
    if len(totals) != 1:
        raise HeaderError(f"{len(totals) or 'no'} groups of columns are named 'Total'")
    (total,) = totals
    if total.valence is None or total.arousal is None:
        raise HeaderError("the total evaluation lacks 'Valence' or 'Arousal'")
    raters = [group for group in groups if group != total]
    nameless = [group.emotion + 1 for group in raters if not names[group]]
    if nameless and len(nameless) < len(raters):
        raise HeaderError(f"the 'Emotion' of column {nameless[0]} is under no rater's name")
    for column, cells in enumerate(words):
        if any(map(FIELD.fullmatch, cells)) and not any(group.covers(column) for group in groups):
            raise HeaderError(f"'{cells[-1]}' of column {column + 1} has no 'Emotion' before it")
    return total


def find_times(words: list[list[str]]) -> tuple[int, int] | tuple[None, None]:
    """Return the columns of start and end under `Wav`, which may stand over either."""
    said = [set(" ".join(cells).split()) for cells in words]
    for start, (here, following) in enumerate(pairwise(said)):
        if "start" in here and "end" in following and "wav" in here | following:
            return start, start + 1
    return None, None
