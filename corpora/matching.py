"""KEMDy19 or KEMDy20 -> a table of utterances, with an account of every row that is not used.

The annotation is read and matched with the files of the tree by segment ID. No recording and no
transcript is opened here.

Dialogues are numbered in their session, and turns in their dialogue, in the annotation's order and
not in that of names: in KEMDy19 script01-06 come before impro01-04. Turns are counted over both
speakers. A segment that is annotated but cannot be used keeps its number, and the gap tells that
something was said there; a phantom row stands for no segment and has none. The `Wav` times are only
a check: nobody promises that they are right.
"""

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise, zip_longest
from pathlib import Path

import pandas as pd

from common.files import LABELS, UserError
from corpora.account import Account
from corpora.annotation import Row, check_ratings, read_annotation
from corpora.tree import TRANSCRIPT, Tree
from corpora.utterances import assemble

# Of a case-folded path without extension: all but the utterance's number.
SPEAKER = re.compile(r"(.*_(?:[fm]|user[0-9]+[fm]_))[0-9]+")
NO_ID = "Segment ID is none of this session"


def read_corpus(tree: Tree) -> pd.DataFrame:
    """Return the utterances that have their speaker's rating and both files, sorted by ID.

    Their texts are not read yet.
    """
    account = tree.account
    listed: list[Row] = []
    spoken_in: list[tuple[int, Row]] = []
    turns: dict[str, tuple[int, int]] = {}
    annotated: set[str] = set()
    for session, files in sorted(tree.annotation.items()):
        tables = [read_table(tree, path) for _, path in sorted(files.items())]
        listed += chain.from_iterable(tables)
        if tree.kind == "KEMDy19":
            account.speaker_rows += len(rows_of_speakers(tree, session, *tables))
            tables = repair_ids(tree, session, *tables)
            spoken = rows_of_speakers(tree, session, *tables)
            drop_strays(tree, session, {row.id for row in spoken}, *tables)
        else:
            spoken = repair_prefixes(tree, session, *tables)
            account.speaker_rows += len(spoken)
            tables = [spoken]
        rows = {row.id: row for row in chain.from_iterable(tables)}
        annotated.update(stem.casefold() for i in rows if (stem := tree.stem_of(i, session)))
        segments = {i: row for i, row in rows.items() if tree.has_files(i, session)}
        segments |= {row.id: row for row in spoken}
        turns |= number_turns(session, tables, segments, account)
        spoken_in += [(session, row) for row in spoken]
    matched = [match_files(tree, *pair, turns) for pair in keep_one_each(tree, spoken_in)]
    utterances = [utterance for utterance in matched if utterance]
    used = {utterance["where"] for utterance in utterances}
    for row in listed:
        if row.problem and row.where not in used:
            reason = "unreadable cell in a row that is not used"
            account.note(row.id, reason, f"{row.where}: {row.problem}")
    list_unmatched(tree, annotated)
    return assemble(utterances, LABELS)


def read_table(tree: Tree, path: Path) -> list[Row]:
    """Read and cross-check one annotation file."""
    rows, columns = read_annotation(path, tree.kind)
    where = f"annotation/{path.name}"
    check_ratings(rows, columns, where, tree.account)
    if columns.start is None:
        reason = "no 'Wav' over a start and an end in the header: times are left blank"
        tree.account.note(where, reason, where)
    tree.account.annotation_files += 1
    tree.account.annotation_rows += len(rows)
    return rows


def rows_of_speakers(tree: Tree, session: int, women: list[Row], men: list[Row]) -> list[Row]:
    """Return the rows of a KEMDy19 session in which the person rated is the one who speaks.

    The F file rates the woman in every segment, hers and his; the M file the man.
    """
    return [
        row
        for rated, table in (("F", women), ("M", men))
        for row in table
        if (match := tree.parse(row.id, session)) and match["gender"] == rated
    ]


def repair_ids(
    tree: Tree, session: int, women: list[Row], men: list[Row]
) -> tuple[list[Row], list[Row]]:
    """Where the two files disagree in a row, replace a wrong ID by the other file's right one.

    An ID is wrong if its own file has it twice or if it has no files; the other one is right if it
    has its files and is missing from this file. KEMDy19 has wrong IDs in F files only, which are
    therefore looked at first.
    """
    tables = list(women), list(men)
    counts = [Counter(row.id for row in table) for table in tables]
    for (table, other), own in zip((tables, tables[::-1]), counts, strict=True):
        for number, (row, right) in enumerate(zip(table, other, strict=False)):
            wrong = own[row.id] > 1 or not tree.has_files(row.id, session)
            missing = not own[right.id] and tree.has_files(right.id, session)
            if wrong and missing:
                table[number] = replace(row, id=right.id)
                own.update({row.id: -1, right.id: 1})
                reason = "wrong Segment ID, taken from the other file of the session"
                tree.account.repair(right.id, row.id, reason, row.where)
    return tables


def drop_strays(
    tree: Tree, session: int, spoken: set[str], women: list[Row], men: list[Row]
) -> None:
    """Drop the rows of both files that stand for no spoken segment: one entry a pair of rows."""
    for pair in zip_longest(women, men):
        strays = [row for row in pair if row and row.id not in spoken]
        if not strays:
            continue
        if not any(tree.parse(row.id, session) for row in strays):
            reason = NO_ID
        elif any(tree.has_files(row.id, session) for row in strays):
            reason = "not rated in its speaker's own file"
        else:
            reason = "phantom row: a segment without files, not rated in its speaker's own file"
        where = "; ".join(f"{row.where} ({row.id})" for row in strays)
        tree.account.drop(strays[0].id, reason, where)


def repair_prefixes(tree: Tree, session: int, rows: list[Row]) -> list[Row]:
    """Return the rows of a KEMDy20 session, with the IDs that its files have."""
    kept = []
    for row in rows:
        match = tree.parse(row.id, session)
        if match is None:
            tree.account.drop(row.id, NO_ID, row.where)
            continue
        own = f"Sess{session:02d}{row.id.removeprefix('Sess' + match['session'])}"
        if own != row.id and tree.has_files(row.id, session):
            tree.account.note(row.id, "ID carries another session's prefix", row.where)
        elif own != row.id and tree.has_files(own, session):
            reason = "ID carried another session's prefix, the files have their own"
            tree.account.repair(own, row.id, reason, row.where)
            row = replace(row, id=own)
        kept.append(row)
    return kept


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


def keep_one_each(tree: Tree, rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Keep one of several identical rows with the same ID; refuse contradictory ones."""
    kept: dict[str, tuple[int, Row]] = {}
    for session, row in rows:
        first_session, first = kept.setdefault(row.id, (session, row))
        if first is row:
            continue
        if first_session != session or replace(first, where="") != replace(row, where=""):
            raise UserError(
                f"{row.id} is rated twice and differently: {first.where} and {row.where}; "
                "remove the wrong row"
            )
        tree.account.note(row.id, "identical row again", f"{row.where}, kept {first.where}")
    return list(kept.values())


def match_files(
    tree: Tree, session: int, row: Row, turns: dict[str, tuple[int, int]]
) -> dict | None:
    """Join a row with its recording and transcript; None, and an entry, if that cannot be done.

    turns: ID -> (number of the dialogue, of the turn).  Raises UserError for an unreadable cell.
    """
    match = tree.parse(row.id, session)
    stem = tree.stem_of(row.id, session)
    recording, transcript = tree.find(stem)
    if not recording or not transcript:
        missing = ["no recording"] * (not recording) + ["no transcript"] * (not transcript)
        tree.account.drop(row.id, " and ".join(missing), row.where)
        return None
    if row.problem:
        raise UserError(f"{row.where}: {row.problem}; correct the cell")
    if not row.labels:
        tree.account.drop(row.id, "no majority label", row.where)
        return None
    if row.remark:
        reason = "Wav time unreadable, left blank"
        tree.account.note(row.id, reason, f"{row.where}: {row.remark}")
    dialogue_number, turn = turns[row.id]
    is_19 = tree.kind == "KEMDy19"
    return {
        **vars(row),
        "votes": dict(zip(LABELS, row.votes, strict=True)),
        "session": session,
        "speaker": f"Sess{session:02d}{match['gender']}" if is_19 else match["user"],
        "gender": match["gender"],
        "scenario": match["scenario"],
        "dialogue_number": dialogue_number,
        "turn": turn,
        "label": row.labels[0],
        "labels": ";".join(row.labels),
        "recording": recording,
        "transcript": transcript,
    }


def list_unmatched(tree: Tree, annotated: set[str]) -> None:
    """Name the files without an annotation row, and halves that may be one utterance's.

    Those are the only recording and the only transcript of their speaker in a dialogue that lack
    the other file. Nothing is joined: nobody has said that they belong together.
    annotated: case-folded paths without extension that a row of the annotation stands for.
    """
    halves: dict[str, tuple[list[str], list[str]]] = {}
    for path in sorted(tree.sizes):
        stem, is_text = path.rpartition(".")[0], path.casefold().endswith(TRANSCRIPT)
        if stem.casefold() not in annotated:
            reason = f"{'transcript' if is_text else 'recording'} without an annotation row"
            tree.account.orphan(stem.rpartition("/")[2], reason, path)
        speaker = SPEAKER.fullmatch(stem.casefold())
        if speaker and not all(tree.find(stem)):
            halves.setdefault(speaker[1], ([], []))[is_text].append(path)
    for spoken, written in halves.values():
        if len(spoken) == len(written) == 1:
            recording, transcript = (path.rpartition("/")[2] for path in (*spoken, *written))
            reason = f"{recording} has no transcript and {transcript} no recording: "
            reason += "perhaps one utterance"
            where = "; ".join((*spoken, *written))
            tree.account.note(recording.rpartition(".")[0], reason, where)
