"""KEMDy19 or KEMDy20 -> utterances, with an account of everything that is not used.

The annotation is read and matched with the files of the tree by segment ID. No recording and no
transcript is opened here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

from pipeline.corpus.account import Account
from pipeline.corpus.annotation import ID_PATTERNS, Row, read_annotation
from pipeline.corpus.ratings import check_ratings
from pipeline.corpus.tree import RECORDINGS, TRANSCRIPTS, Tree
from pipeline.corpus.turns import number_turns
from pipeline.files import UserError

# Of a case-folded path without extension: all but the utterance's number.
SPEAKER = re.compile(r"(.*_(?:[fm]|user[0-9]+[fm]_))[0-9]+")


@dataclass(frozen=True)
class Utterance:
    """One utterance of a speaker. text and length (samples) are known once its files are read.

    dialogue_number: 1, 2, ... of its dialogue in the session, in the order of time.  turn: 1, 2,
    ... in its dialogue, both speakers counted.  wav_start, wav_end: seconds in the dialogue, nan
    where the annotation does not say.  corpus: its name where there are several.
    """

    id: str
    session: int
    speaker: str
    gender: str
    scenario: str
    dialogue_number: int
    turn: int
    wav_start: float
    wav_end: float
    labels: tuple[str, ...]
    valence: float
    arousal: float
    votes: tuple[int, ...]
    recording: str
    transcript: str
    where: str
    text: str = ""
    length: int = 0
    corpus: str = ""

    @property
    def label(self) -> str:
        """The label that counts: of tied ones the first, as the paper chose."""
        return self.labels[0]


def read_corpus(tree: Tree, account: Account) -> list[Utterance]:
    """Return the utterances that have their speaker's rating and both files, sorted by ID."""
    rows: list[tuple[int, Row]] = []
    turns: dict[str, tuple[int, int]] = {}
    listed: list[Row] = []
    for session, files in sorted(tree.annotation.items()):
        tables = [read_table(tree, path, account) for _, path in sorted(files.items())]
        listed += chain.from_iterable(tables)
        if tree.kind == "KEMDy19":
            account.speaker_rows += len(own_rows(tree, session, *tables))
            tables = repair_ids(tree, session, *tables, account)
            found = own_rows(tree, session, *tables)
            drop_strays(tree, session, {row.id for row in found}, *tables, account)
        else:
            found = right_prefixes(tree, session, *tables, account)
            account.speaker_rows += len(found)
            tables = (found,)
        segments = find_segments(tree, session, tables, found)
        turns |= number_turns(tree.kind, session, tables, segments, account)
        rows += [(session, row) for row in found]
    rows = keep_one_each(rows, account)
    matched = (match_files(tree, session, row, turns, account) for session, row in rows)
    utterances = sorted(filter(None, matched), key=lambda utterance: utterance.id)
    used = {utterance.where for utterance in utterances}
    for row in listed:
        if row.problem and row.where not in used:
            reason = "unreadable cell in a row that is not used"
            account.note(row.id, reason, f"{row.where}: {row.problem}")
    return utterances


def read_table(tree: Tree, path: Path, account: Account) -> list[Row]:
    """Read and cross-check one annotation file."""
    rows, columns = read_annotation(path, tree.kind)
    where = f"annotation/{path.name}"
    check_ratings(rows, columns, where, account)
    if columns.start is None:
        reason = "no 'Wav' over a start and an end in the header: times are left blank"
        account.note(where, reason, where)
    account.annotation_files += 1
    account.annotation_rows += len(rows)
    return rows


def find_segments(
    tree: Tree, session: int, tables: Sequence[list[Row]], found: list[Row]
) -> dict[str, Row]:
    """Return ID -> row of every segment: the speaker's row, or another if only that has files."""
    segments = {
        row.id: row
        for row in chain.from_iterable(tables)
        if speaker_of(tree.kind, session, row) and tree.has_files(row.id, session)
    }
    return segments | {row.id: row for row in found}


def speaker_of(kind: str, session: int, row: Row) -> str | None:
    """Return the F or M of a row's Segment ID, None if that is no ID of this session.

    Session 17 of KEMDy20 carries another session's prefix, so only KEMDy19's has to agree.
    """
    match = ID_PATTERNS[kind].fullmatch(row.id)
    if match is None or (kind == "KEMDy19" and int(match["session"]) != session):
        return None
    return match["gender"]


def own_rows(tree: Tree, session: int, women: list[Row], men: list[Row]) -> list[Row]:
    """Return the rows of a KEMDy19 session in which the person rated is the one who speaks.

    The F file rates the woman in every segment, hers and his; the M file the man.
    """
    return [row for row in women if speaker_of(tree.kind, session, row) == "F"] + [
        row for row in men if speaker_of(tree.kind, session, row) == "M"
    ]


def repair_ids(
    tree: Tree, session: int, women: list[Row], men: list[Row], account: Account
) -> tuple[list[Row], list[Row]]:
    """Where the two files disagree in a row, replace a wrong ID by the other file's right one.

    An ID is wrong if its own file has it twice or it has no files; the other one is right if it has
    its files and is missing from this file. KEMDy19 has such IDs in F files only, which are
    therefore looked at first.
    """
    women, men = list(women), list(men)
    counts = {id(table): Counter(row.id for row in table) for table in (women, men)}
    for table, other in ((women, men), (men, women)):
        own = counts[id(table)]
        for number, (row, right) in enumerate(zip(table, other, strict=False)):
            wrong = own[row.id] > 1 or not tree.has_files(row.id, session)
            if row.id != right.id and wrong and not own[right.id]:
                if not tree.has_files(right.id, session):
                    continue
                table[number] = replace(row, id=right.id)
                own.update({row.id: -1, right.id: 1})
                account.repaired.append(
                    {
                        "id": right.id,
                        "was": row.id,
                        "reason": "wrong Segment ID, taken from the other file of the session",
                        "where": row.where,
                    }
                )
    return women, men


def drop_strays(
    tree: Tree,
    session: int,
    spoken: set[str],
    women: list[Row],
    men: list[Row],
    account: Account,
) -> None:
    """Drop the rows of both files that stand for no spoken segment: one entry a pair of rows."""
    for pair in zip_longest(women, men):
        strays = [row for row in pair if row and row.id not in spoken]
        if not strays:
            continue
        if all(speaker_of(tree.kind, session, row) is None for row in strays):
            reason = "Segment ID is none of this session"
        elif any(tree.has_files(row.id, session) for row in strays):
            reason = "not rated in its speaker's own file"
        else:
            reason = "phantom row: a segment without files, not rated in its speaker's own file"
        where = "; ".join(f"{row.where} ({row.id})" for row in strays)
        stems = filter(None, (tree.stem_of(row.id, session) for row in strays))
        account.claimed.update(map(str.casefold, stems))
        account.drop(strays[0].id, reason, where)


def right_prefixes(tree: Tree, session: int, rows: list[Row], account: Account) -> list[Row]:
    """Return the rows of a KEMDy20 session, with the IDs that its files have."""
    kept = []
    for row in rows:
        match = ID_PATTERNS[tree.kind].fullmatch(row.id)
        if match is None:
            account.drop(row.id, "Segment ID is none of this session", row.where)
            continue
        own = f"Sess{session:02d}{row.id.removeprefix('Sess' + match['session'])}"
        if own != row.id and tree.has_files(row.id, session):
            account.note(row.id, "ID carries another session's prefix", row.where)
        elif own != row.id and tree.has_files(own, session):
            reason = "ID carried another session's prefix, the files have their own"
            account.repaired.append(
                {"id": own, "was": row.id, "reason": reason, "where": row.where}
            )
            row = replace(row, id=own)
        kept.append(row)
    return kept


def keep_one_each(rows: list[tuple[int, Row]], account: Account) -> list[tuple[int, Row]]:
    """Keep one of several identical rows with the same ID; contradictory ones are the user's."""
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
        account.note(row.id, "identical row again", f"{row.where}, kept {first.where}")
    return list(kept.values())


def match_files(
    tree: Tree, session: int, row: Row, turns: dict[str, tuple[int, int]], account: Account
) -> Utterance | None:
    """Join a row with its recording and transcript; None, and an entry, if that cannot be done.

    turns: of every ID, see `number_turns`.
    Raises UserError for a cell that cannot be read.
    """
    match = ID_PATTERNS[tree.kind].fullmatch(row.id)
    stem = tree.stem_of(row.id, session)
    account.claimed.add(stem.casefold())
    recording, transcript = tree.find(stem, RECORDINGS), tree.find(stem, TRANSCRIPTS)
    if not recording or not transcript:
        missing = [n for n, f in (("recording", recording), ("transcript", transcript)) if not f]
        reason = f"no {' and no '.join(missing)}"
        account.drop(row.id, tree.refusal(stem) or reason, row.where)
        return None
    if row.problem:
        raise UserError(f"{row.where}: {row.problem}; correct the cell")
    if not row.labels:
        account.drop(row.id, "no majority label", row.where)
        return None
    if row.remark:
        account.note(row.id, "Wav time unreadable, left blank", f"{row.where}: {row.remark}")
    gender = match["gender"]
    dialogue_number, turn = turns[row.id]
    return Utterance(
        id=row.id,
        session=session,
        speaker=match["user"] if tree.kind == "KEMDy20" else f"Sess{session:02d}{gender}",
        gender=gender,
        scenario=match["scenario"],
        dialogue_number=dialogue_number,
        turn=turn,
        wav_start=row.start,
        wav_end=row.end,
        labels=row.labels,
        valence=row.valence,
        arousal=row.arousal,
        votes=row.votes,
        recording=recording,
        transcript=transcript,
        where=row.where,
    )


def note_pairs(tree: Tree, account: Account) -> None:
    """Name the recording and the transcript that may be one utterance's under two numbers.

    They are the only ones of their speaker in a dialogue that lack the other file, one each.
    Nothing is joined: nobody has said that they belong together.
    """
    halves: dict[str, tuple[list[str], list[str]]] = {}
    for path in sorted(tree.sizes):
        stem = path.rpartition(".")[0]
        whole = tree.find(stem, RECORDINGS) and tree.find(stem, TRANSCRIPTS)
        speaker = SPEAKER.fullmatch(stem.casefold())
        if speaker and not whole and not tree.refusal(stem):
            is_text = path.casefold().endswith(TRANSCRIPTS)
            halves.setdefault(speaker[1], ([], []))[is_text].append(path)
    for spoken, written in halves.values():
        if len(spoken) == len(written) == 1:
            names = [path.rpartition("/")[2] for path in (*spoken, *written)]
            reason = (
                f"{names[0]} has no transcript and {names[1]} no recording: perhaps one utterance"
            )
            account.note(names[0].rpartition(".")[0], reason, "; ".join((*spoken, *written)))


def list_orphans(tree: Tree, account: Account) -> None:
    """Note the recordings and transcripts whose segment has no annotation row, one entry each."""
    for path in sorted(tree.sizes):
        stem = path.rpartition(".")[0]
        if stem.casefold() not in account.claimed:
            is_text = path.casefold().endswith(TRANSCRIPTS)
            kind = "transcript" if is_text else "recording"
            reason = f"{kind} without an annotation row"
            entry = {"id": stem.rpartition("/")[2], "reason": reason, "path": path}
            account.orphans.append(entry)
