"""The order of time: the number of a dialogue in its session, and of a turn in its dialogue.

Both are counted in the annotation's order and not in that of names: in KEMDy19 script01-06 come
before impro01-04. Turns are counted over both speakers. A segment that is annotated but cannot be
used keeps its number, and the gap tells that something was said there; a phantom row stands for no
segment and has none. The `Wav` times are only a check: nobody promises that they are right, so a
dialogue whose times disagree with the order of its rows is noted and keeps that order.
"""

import math

from corpora.account import Account
from corpora.annotation import ID_PATTERNS, Row

# More turns of a dialogue out of place are no slips: its order or its times mean something else.
MANY = 0.10
FEW = 3


def number_turns(
    kind: str, session: int, tables: list[list[Row]], segments: dict[str, Row], account: Account
) -> dict[str, tuple[int, int]]:
    """Return ID -> (number of the dialogue in the session, of the turn in the dialogue), from 1.

    tables: rows of each annotation file, IDs repaired.  segments: ID -> row, of every segment.
    """
    order = merge_orders(session, tables, account)
    dialogues = cut_dialogues(kind, [identifier for identifier in order if identifier in segments])
    for scenario, identifiers in dialogues.items():
        timed = [segments[i] for i in identifiers if not math.isnan(segments[i].start)]
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
    dialogues: dict[str, list[tuple[int, str]]] = {}
    for place, identifier in enumerate(identifiers):
        if match := ID_PATTERNS[kind].fullmatch(identifier):
            dialogues.setdefault(match["scenario"], []).append((place, identifier))
    by_middle = sorted(dialogues.items(), key=lambda item: item[1][len(item[1]) // 2])
    return {name: [identifier for _, identifier in turns] for name, turns in by_middle}


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


def check_times(dialogue: str, rows: list[Row], account: Account) -> None:
    """Note the turns of a dialogue whose `Wav` start is not in the order of the others'.

    Two who speak at once may be listed either way.
    """
    wrong = []
    for place in out_of_order([row.start for row in rows]):
        row, near = rows[place], rows[max(0, place - 1) : place + 2]
        if not any(row.start < o.end and o.start < row.end for o in near if o is not row):
            wrong.append(row)
    if len(wrong) > max(FEW - 1, MANY * len(rows)):
        reason = "turns are not in the order of their Wav times: the annotation's order counts"
        account.note(dialogue, reason, f"{len(wrong)} of {len(rows)} turns, {wrong[0].where} ...")
        return
    for row in wrong:
        account.note(row.id, "Wav start is not in the order of the turns", row.where)


def out_of_order(values: list[float]) -> list[int]:
    """Return the fewest places without which the values never fall."""
    if values == sorted(values):
        return []
    runs: list[list[int]] = []  # of each place the longest rising run that ends there
    for place, value in enumerate(values):
        before = [run for run in runs if values[run[-1]] <= value]
        runs.append([*max(reversed(before), key=len, default=[]), place])
    kept = max(reversed(runs), key=len)
    return [place for place in range(len(values)) if place not in kept]
