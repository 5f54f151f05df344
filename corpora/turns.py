"""The order of time: the number of a dialogue in its session, and of a turn in its dialogue.

Both are counted in the annotation's order and not in that of names: in KEMDy19 script01-06 come
before impro01-04. Turns are counted over both speakers. A segment that is annotated but cannot be
used keeps its number, and the gap tells that something was said there; a phantom row stands for no
segment and has none. The `Wav` times are only a check: nobody promises that they are right, so a
dialogue whose times disagree with the order of its rows is noted and keeps that order.
"""

import math
from itertools import pairwise

from corpora.account import Account
from corpora.annotation import Row


def number_turns(
    session: int, tables: list[list[Row]], segments: dict[str, Row], account: Account
) -> dict[str, tuple[int, int]]:
    """Return ID -> (number of the dialogue in the session, of the turn in the dialogue), from 1.

    tables: rows of each annotation file, IDs repaired.  segments: ID -> row, of every segment.
    """
    order = [i for i in merge_orders(session, tables, account) if i in segments]
    dialogues: dict[str, list[int]] = {}  # name -> places in the order
    for place, identifier in enumerate(order):
        dialogues.setdefault(identifier.split("_")[1], []).append(place)
    # By their middle rows: so a single row in a wrong place moves no dialogue.
    by_middle = sorted(dialogues.values(), key=lambda places: places[len(places) // 2])
    numbers = {}
    for number, places in enumerate(by_middle, 1):
        check_times([segments[order[place]] for place in places], account)
        numbers |= {order[place]: (number, turn) for turn, place in enumerate(places, 1)}
    return numbers


def merge_orders(session: int, tables: list[list[Row]], account: Account) -> list[str]:
    """Return the IDs of all tables in the first one's order, others behind their neighbour above.

    KEMDy19's two files list the same segments, but for mistakes.
    """
    order, *others = [list(dict.fromkeys(row.id for row in table)) for table in tables]
    for other in others:
        common = set(order) & set(other)
        if [i for i in order if i in common] != [i for i in other if i in common]:
            reason = "the session's two files list the segments in different orders, F's counts"
            account.note(f"Session{session:02d}", reason, tables[0][0].where.partition(" ")[0])
        place = 0
        for identifier in other:
            if identifier in common:
                place = order.index(identifier)
            else:
                order.insert(place, identifier)
            place += 1
    return order


def check_times(rows: list[Row], account: Account) -> None:
    """Note the turns of a dialogue that start before the one above them.

    Two who speak at once may be listed either way.
    """
    for above, row in pairwise(row for row in rows if not math.isnan(row.wav_start)):
        if row.wav_start < above.wav_start and not row.wav_end > above.wav_start:
            account.note(row.id, "Wav start is before that of the turn above", row.where)
