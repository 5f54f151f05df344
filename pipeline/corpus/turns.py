"""The order of time: which dialogue of its session, and which turn of it, an utterance is.

Both are counted in the annotation's order and not in that of names: in KEMDy19 script01-06 come
before impro01-04. Turns are counted over both speakers. A segment that is annotated
but cannot be used keeps its number, and the gap tells that something was said there; a phantom row
stands for no segment and has none. The `Wav` times only bear the order out: nobody promises that
they are right, so a dialogue whose times say something else is noted and keeps its order.
"""

import math
from bisect import bisect_right
from itertools import chain

from pipeline.corpus.account import Account
from pipeline.corpus.annotation import ID_PATTERNS, Row

# More turns of a dialogue out of place are no slips: its order or its times mean something else.
MANY = 0.10
FEW = 3


def number_turns(
    kind: str, session: int, tables: list[list[Row]], spoken: dict[str, Row], account: Account
) -> dict[str, tuple[int, int]]:
    """Return the dialogue's number in the session and the turn in the dialogue, both from 1.

    Of every ID that stands for a segment.  tables: each file's rows, IDs repaired.  spoken: ID ->
    the speaker's row, of every segment.
    """
    order = merge_orders(kind, session, tables, account)
    dialogues = cut_dialogues(kind, [identifier for identifier in order if identifier in spoken])
    for scenario, identifiers in dialogues.items():
        timed = [spoken[i] for i in identifiers if not math.isnan(spoken[i].start)]
        check_times(f"Session{session:02d} {scenario}", timed, account)
    return {
        identifier: (number, turn)
        for number, identifiers in enumerate(dialogues.values(), 1)
        for turn, identifier in enumerate(identifiers, 1)
    }


def cut_dialogues(kind: str, identifiers: list[str]) -> dict[str, list[str]]:
    """Return the IDs of each dialogue by its name; dialogues in the order of their middle rows.

    So a single row in a wrong place moves no dialogue.
    """
    dialogues: dict[str, list[str]] = {}
    for identifier in identifiers:
        if match := ID_PATTERNS[kind].fullmatch(identifier):
            dialogues.setdefault(match["scenario"], []).append(identifier)
    place = {identifier: number for number, identifier in enumerate(identifiers)}
    by_middle = sorted(dialogues.items(), key=lambda item: place[item[1][len(item[1]) // 2]])
    return dict(by_middle)


def merge_orders(kind: str, session: int, tables: list[list[Row]], account: Account) -> list[str]:
    """Return the IDs of all tables in the first one's order, others behind their neighbour above.

    KEMDy19's two files list the same segments, but for mistakes.
    """
    order, *others = [list(dict.fromkeys(row.id for row in table)) for table in tables]
    for other in others:
        known, listed = set(order), set(other)
        ours, theirs = [i for i in order if i in listed], [i for i in other if i in known]
        if ours != theirs:
            own, its = (list(cut_dialogues(kind, each)) for each in (ours, theirs))
            what = "segments" if own == its else "dialogues"
            reason = f"the session's two files list the {what} in different orders, F's counts"
            account.note(f"Session{session:02d}", reason, tables[0][0].where.partition(" ")[0])
        behind: dict[str | None, list[str]] = {}  # neighbour -> IDs that are only in the other
        neighbour = None
        for identifier in other:
            if identifier in known:
                neighbour = identifier
            else:
                behind.setdefault(neighbour, []).append(identifier)
        merged = ([identifier, *behind.get(identifier, ())] for identifier in order)
        order = [*behind.get(None, ()), *chain.from_iterable(merged)]
    return order


def check_times(dialogue: str, rows: list[Row], account: Account) -> None:
    """Note the turns of a dialogue whose `Wav` start is not in the order of the others'.

    Two who speak at once may be listed either way.
    """
    wrong = [
        rows[place]
        for place in out_of_order([row.start for row in rows])
        if not any(at_once(rows[place], other) for other in rows[max(0, place - 1) : place + 2])
    ]
    if len(wrong) > max(FEW - 1, MANY * len(rows)):
        reason = "turns are not in the order of their Wav times: the annotation's order counts"
        account.note(dialogue, reason, f"{len(wrong)} of {len(rows)} turns, {wrong[0].where} ...")
        return
    for row in wrong:
        account.note(row.id, "Wav start is not in the order of the turns", row.where)


def at_once(row: Row, other: Row) -> bool:
    """Tell whether two turns overlap in time."""
    return row is not other and row.start < other.end and other.start < row.end


def out_of_order(values: list[float]) -> list[int]:
    """Return the fewest places without which the values never fall.

    They are what a longest run of rising or equal values leaves out.
    """
    tops: list[float] = []  # the smallest last value of a run of each length
    ends: list[int] = []  # its place
    previous: list[int] = []  # the place before it in its run, -1 for none
    for place, value in enumerate(values):
        length = bisect_right(tops, value)
        previous.append(ends[length - 1] if length else -1)
        tops[length : length + 1] = [value]
        ends[length : length + 1] = [place]
    kept, place = set(), ends[-1] if ends else -1
    while place >= 0:
        kept.add(place)
        place = previous[place]
    return [place for place in range(len(values)) if place not in kept]
