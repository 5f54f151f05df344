"""Cross-check of an annotation file: do its labels follow from its votes?

The header says where the labels are; the votes tell whether that is so.
"""

from common.files import LABELS, UserError
from corpora.account import Account
from corpora.annotation import Row
from corpora.header import RATERS, Columns

# Up to so many rows of a file may contradict its votes. A release has odd rows, but few. One
# rater's column in the place of the labels contradicts far more: every tie (6 % of KEMDy19's rows)
# and every row where that rater is outvoted (29 % of the sample corpus's).
MANY = 0.10
FEW = 3  # of a short file, one or two odd rows are more than a tenth; but not all of them are odd

OUTVOTED = "label is not what most raters chose"
OFF_SCALE = "mean valence or arousal outside 1-5"
SILENT_RATERS = "not every rater chose a label"


def check_ratings(rows: list[Row], columns: Columns, where: str, account: Account) -> None:
    """Note every row whose label, means and votes do not go together.

    Raises UserError if those are so many that the columns must be others than they seem, or any
    where no header says which column is which; and if there is no row that can be read.
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
                f"not what {'the header says' if columns.named else 'the releases have'}; the "
                f"first is {wrong[0].where}, {describe(wrong[0])}; correct the file's header, or "
                "take the file as it was released"
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
