"""A table of one's own -> utterances: a row names a recording, or a piece of one, and its label.

Columns are found by their names in the first row. What is wrong with a row costs that row, which is
accounted for; what is wrong with the table, or leads out of its folder, ends in one line.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from common.files import LABELS, UserError
from corpora.account import Account
from corpora.annotation import LARGEST, OUTVOTED, read_number
from corpora.labels import differ_in_case
from corpora.sheets import names_of, read_sheet
from corpora.source import KNOWN, UNKNOWN, UNKNOWN_SPEAKERS, Finder, Source, normal
from corpora.speakers import PARTS, Spoken, number_sessions, number_turns
from corpora.splits import SPLITS
from corpora.utterances import GENDERS, VOTES, assemble, keep_one_each, number_each

COLUMNS = ("path", "label", "labels", "text", "speaker", "session", "dialogue", "turn", "start")
COLUMNS += ("end", "valence", "arousal", "gender", "split", "scenario")
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f]")  # in a table without quotation marks
NOWHERE = -1  # the session of a row that has none
BLANKS = ("nan", "NaN")  # what programs write where nothing is


@dataclass
class Table(Source):
    """A table and the recordings in its folder.

    rows: each row's number and cells, by column, with `recording`, the path below root, and
    `problem`, why there is none.  votes: label -> column.  label: the column that has it, or "".
    """

    path: Path = Path()
    columns: set[str] = field(default_factory=set)
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    votes: dict[str, str] = field(default_factory=dict)
    label: str = "label"

    def where(self, number: int) -> str:
        """Return `list.csv row 3`."""
        return f"{self.path.name} row {number}"


def find_table(path: Path, follow_links: bool, label_column: str, speakers: str) -> Table:
    """Read a table and look for its recordings; label_column, speakers: the settings.

    Raises UserError for a table that lacks a column, and for a path out of its folder.
    """
    root = path.parent
    table = Table(root, "table", follow_links, Account(), [path], speakers=speakers, path=path)
    (wanted,) = names_of([label_column or "label"])
    (_, header), *rows = read_sheet(path, {*COLUMNS, wanted})
    read_names(table, header, wanted)
    names = names_of(header)
    finder = Finder(table)
    for number, cells in rows:
        where = table.where(number)
        cells = ["" if cell in BLANKS else cell for cell in cells]
        row = dict(zip(names, cells, strict=False)) | {"problem": ""}
        row = dict.fromkeys((*COLUMNS, table.label, *table.votes.values()), "") | row
        if any("\n" in cell for cell in cells):
            table.account.note(where, "a cell has a line break in it", where)
        if any(cells[len(names) :]):
            row["problem"] = "more cells than columns: quotation marks belong around commas"
        row["recording"], problem = row["path"], "no path"
        if row["path"]:
            row["recording"], problem = finder.find(row["path"], where)
        row["problem"] = row["problem"] or problem
        table.rows.append((number, row))
    if not table.rows:
        raise UserError(f"{path} has no row below its header: give a recording a row")
    return table


def read_names(table: Table, header: list[str], wanted: str) -> None:
    """Understand the header of a table; wanted: the column of the label, and else it is `label`."""
    names = names_of(header)
    while names and not names[-1]:  # a spreadsheet's empty columns
        names.pop()
    table.columns = {*names}
    table.label = next((name for name in (wanted, "label") if name in names), "")
    if "speaker" in names:
        table.speakers = KNOWN
    for name, written in zip(names, header, strict=False):
        if name.startswith(VOTES):
            own = normal(written).strip()[len(VOTES) :].strip()
            if not own or ";" in own:
                problem = "a label has no ';'" if own else "no label behind votes_"
                raise UserError(f"{table.path}: column '{written}': {problem}")
            table.votes[own] = name
        elif name and name not in {*COLUMNS, table.label} - ({"label"} - {table.label}):
            table.account.note(table.path.name, f"column '{written}' is not read", "row 1")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{table.path}: the first row has '{twice[0]}' over two columns")
    missing = [] if "path" in names else ["path"]
    if not table.label and not table.votes and "labels" not in names:
        missing.append(wanted)
    if missing:
        raise UserError(
            f"{table.path}: no column '{missing[0]}': the first row has {', '.join(header)[:200]}; "
            "needed are path, label and speaker"
        )
    if "speaker" not in names and table.speakers != UNKNOWN:
        raise UserError(
            f"{table.path}: no column 'speaker': without it nobody can tell whether a person "
            "stands in training and in test; add it, or say --speakers unknown"
        )
    if "turn" in names and "dialogue" not in names:
        raise UserError(f"{table.path}: 'turn' counts the turns of a 'dialogue', a column too")


def read_table(table: Table) -> pd.DataFrame:
    """Return the utterances of a table; rows that cannot be used are in its account."""
    account, rows = table.account, [row for _, row in table.rows]
    account.annotation_files, account.annotation_rows = 1, len(rows)
    account.speaker_rows = len(rows)
    if "split" in table.columns:
        check_splits(table, "speaker")
    sessions = find_sessions(table, rows)
    numbers = number_turns(zip(sessions, (row["dialogue"] for row in rows), strict=True))
    utterances = []
    for (number, row), session, (dialogue_number, turn) in zip(
        table.rows, sessions, numbers, strict=True
    ):
        where = table.where(number)
        try:
            if row["session"] and session == NOWHERE:
                raise ValueError(f"session is no number up to {LARGEST:,.0f}", row["session"])
            utterance = read_row(table, row)
        except ValueError as error:
            reason, *cell = error.args
            account.drop(row["recording"] or where, reason, ": ".join([where, *cell]))
            continue
        if utterance.pop("is_outvoted"):
            account.note(utterance["id"], OUTVOTED, where)
        places = {"session": session, "dialogue_number": dialogue_number, "where": where}
        utterances.append({"turn": turn} | utterance | places)
    utterances = keep_one_each(utterances, account, table.path)
    labels = {label for u in utterances for label in (*u["votes"], *u["labels"].split(";"))}
    for same in differ_in_case(u["speaker"] for u in utterances):
        table.remarks.append(f"speakers: {same} differ in case only, and are taken for several")
    say_how(table, len(set(sessions) - {NOWHERE}), len({u["speaker"] for u in utterances}))
    return assemble(utterances, sorted(labels - {""}))


def check_splits(table: Table, kind: str) -> None:
    """Refuse an unknown split, and a speaker or session in two of them."""
    remedy = f"correct it, or leave out the column '{kind}'"
    if kind == "speaker":
        remedy += " and say --speakers unknown"
    first: dict[str, tuple[str, int]] = {}
    for number, row in table.rows:
        name, split = row[kind], row["split"].casefold()
        row["split"] = split
        if split not in ("", *SPLITS):
            raise UserError(f"{table.where(number)}: split '{split}': give train, valid or test")
        if not name or not split:
            continue
        above, above_number = first.setdefault(name, (split, number))
        if above != split:
            raise UserError(
                f"{table.where(number)}: {kind} '{name}' is in {split}, but in row {above_number} "
                f"in {above}: no {kind} stands in two splits; {remedy}"
            )


def find_sessions(table: Table, rows: list[dict[str, str]]) -> list[int]:
    """Return the session of each row: the column's, or one made of speakers and dialogues.

    NOWHERE stands for a row that says neither, or a too large number, and is not used.
    """
    if "session" in table.columns:
        if "split" in table.columns:
            check_splits(table, "session")
        names = [row["session"] for row in rows]
        if all(name.isascii() and name.isdigit() for name in names if name):
            places = (float(name or NOWHERE) for name in names)
            return [int(place) if place <= LARGEST else NOWHERE for place in places]
        numbers = number_each(filter(None, names))
        said = ", ".join(f"{number} = {name}" for name, number in numbers.items())
        table.remarks.append(f"sessions are numbered as they come: {said[:500]}")
        return [numbers.get(name, NOWHERE) for name in names]
    is_known = table.speakers != UNKNOWN
    fields = ("speaker", "dialogue", "recording", "split")
    spoken = {
        place: Spoken(*(row[name] for name in fields))
        for place, row in enumerate(rows)
        if row["speaker"] or not is_known
    }
    found = dict(zip(spoken, number_sessions([*spoken.values()], is_known), strict=True))
    sessions = [found.get(place, NOWHERE) for place in range(len(rows))]
    splits: dict[int, str] = {}
    for (number, row), session in zip(table.rows, sessions, strict=True):
        if session == NOWHERE or not row["split"]:
            continue
        if splits.setdefault(session, row["split"]) != row["split"]:
            raise UserError(
                f"{table.where(number)}: dialogue '{row['dialogue']}' has speakers of "
                f"{splits[session]} and of {row['split']}: put all of a dialogue into one split"
            )
    return sessions


def read_row(table: Table, row: dict[str, str]) -> dict:
    """Return the utterance of a row; ValueError(reason, cell) if it cannot be used."""
    if row["problem"]:
        raise ValueError(row["problem"])
    for column in ("session", "split"):
        if column in table.columns and not row[column]:
            raise ValueError(f"no {column}")
    if not row["speaker"] and table.speakers != UNKNOWN:
        raise ValueError("no speaker")
    start, end = read_seconds(row, "start"), read_seconds(row, "end")
    if start >= end:
        raise ValueError("start is not before end", f"{row['start']} to {row['end']}")
    times = ["" if math.isnan(time) else f"{time:.10g}" for time in (start, end)]
    identifier = row["recording"] + ("@" + "-".join(times) if any(times) else "")
    if UNWRITABLE.search(identifier):
        raise ValueError("a tab, a line break or the like in the path")
    turn = {"turn": read_whole(row, "turn")} if row["turn"] else {}
    return {
        **{"id": identifier, "recording": row["recording"], **turn, **read_labels(table, row)},
        "speaker": " ".join(row["speaker"].split()) or identifier,
        "is_known": table.speakers == KNOWN,
        "gender": GENDERS.get(row["gender"].casefold(), one_line(row["gender"])),
        "scenario": one_line(row["scenario"]) or "all",
        "text": row["text"] if "text" in table.columns else None,
        "split": row["split"],
        **{"first_second": start, "last_second": end, "wav_start": start, "wav_end": end},
        **{name: read_measure(row, name) for name in ("valence", "arousal")},
    }


def read_labels(table: Table, row: dict[str, str]) -> dict:
    """Return label, all that are tied, votes, and whether the label has not most of them.

    `labels` are the raters' own, or, beside columns of votes, those that are tied.
    """
    listed = [name.strip() for name in row["labels"].split(";") if name.strip()]
    votes = {label: read_whole(row, column) for label, column in table.votes.items()}
    votes = {label: count for label, count in votes.items() if count}
    if not table.votes:
        votes = dict(Counter(listed))
    label = row[table.label] if table.label else ""
    if ";" in label:
        raise ValueError(f"label '{one_line(label)}' has a ';', which parts the column 'labels'")
    if table.label and not label:
        raise ValueError("no label")
    if not label:
        return {"label": "", "labels": "", "votes": votes, "is_outvoted": False}
    if not table.votes and "labels" not in table.columns:
        votes = {label: 1}
    tied = {name for name, count in votes.items() if count == max(votes.values())}
    is_outvoted = bool(votes) and label not in tied
    others = [name for name in LABELS if name in tied]
    others += sorted(tied - {*LABELS}, key=str.casefold)
    if table.votes and listed:
        others = listed
    labels = dict.fromkeys([label, *others]) if not is_outvoted else [label]
    return {"label": label, "labels": ";".join(labels), "votes": votes, "is_outvoted": is_outvoted}


def read_measure(row: dict[str, str], name: str) -> float:
    """Return a number, nan for a blank cell."""
    try:
        return read_number(row[name])
    except ValueError:
        raise ValueError(f"{name} is no number up to {LARGEST:,.0f}", row[name]) from None


def read_seconds(row: dict[str, str], name: str) -> float:
    """Return a time, nan for a blank cell."""
    seconds = read_measure(row, name)
    if seconds < 0:
        raise ValueError(f"{name} is before the recording", row[name])
    return seconds


def read_whole(row: dict[str, str], name: str) -> int:
    """Return a whole number, 0 for a blank cell."""
    number = read_measure(row, name)
    if not math.isnan(number) and (number < 0 or number != int(number)):
        raise ValueError(f"{name} is no whole number", row[name])
    return 0 if math.isnan(number) else int(number)


def one_line(text: str) -> str:
    """Return a cell with single blanks for all white space, as it stands in a table with tabs."""
    return " ".join(text.split())


def say_how(table: Table, sessions: int, speakers: int) -> None:
    """Say by which rule the sessions were made, and what else the table leaves open."""
    if table.speakers == UNKNOWN:
        table.warnings.append(UNKNOWN_SPEAKERS)
    if "session" not in table.columns:
        each = "each a speaker, with those who share a dialogue"
        table.unit = "speaker" if sessions == speakers else "speaker group"
        if table.speakers == UNKNOWN:
            table.unit = "recording"
            each = f"to which the recordings are dealt by a hash ({PARTS} at most of a split)"
        table.remarks.append(f"no column 'session': {sessions} sessions are made, {each}")
    if "text" not in table.columns:
        table.remarks.append("no column 'text': there are no words, models of text learn nothing")
