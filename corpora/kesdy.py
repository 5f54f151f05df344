"""KESDy18 -> utterances: 30 actors, 2,880 recordings, four emotions.

The annotation is a workbook (.xlsx) with two header rows; its columns 1 to 4 are the name of the
file, emotion, valence and arousal, and those of the raters follow as in KEMDy19. Nobody has seen
the data itself. How the files are named is not published: the actors are told by the part of the
names that has 30 values, or not at all.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from common.files import LABELS, UserError
from corpora.account import Account
from corpora.annotation import OUTVOTED, read_number
from corpora.sheets import BOOK, names_of, read_sheet
from corpora.source import KNOWN, UNKNOWN, UNKNOWN_SPEAKERS, Source, list_recordings
from corpora.speakers import Spoken, number_sessions
from corpora.utterances import assemble, fold_label, keep_one_each

KIND = "KESDy18"
ACTORS, HEADER = 30, 2
RATED = 4  # columns: file, emotion, valence, arousal; the raters' follow
RECORDING = re.compile(r".*\.wav", re.IGNORECASE)
DEPTH = 3  # folders between the corpus's and its recordings, at most


@dataclass
class KESDy(Source):
    """The workbook's rows, (number, cells), and the recordings.

    actors: of each row, "" if they are unknown.  raters: columns of their emotions.  recordings:
    case-folded name without suffix -> path below root.  texts: the same of transcripts.
    """

    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    actors: list[str] = field(default_factory=list)
    raters: list[int] = field(default_factory=list)
    recordings: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def find_workbooks(folder: Path) -> list[Path]:
    """Return the workbooks in a folder, or else one or two folders below it."""
    for pattern in ("*", "*/*", "*/*/*"):
        files = (path for path in folder.glob(pattern) if path.suffix.casefold() == BOOK)
        if found := sorted(path for path in files if not path.name.startswith("~$")):
            return found
    return []


def find_kesdy(folder: Path, follow_links: bool, speakers: str) -> KESDy:
    """Read the workbook in a folder and list the recordings; speakers: the setting."""
    books = find_workbooks(folder)
    if len(books) > 1:
        raise UserError(f"{folder}: one workbook is needed, found {', '.join(map(str, books[:4]))}")
    root = books[0].parent
    if root.name.casefold() == "annotation":
        root = root.parent
    source = KESDy(root, KIND, follow_links, Account(), books, speakers=speakers)
    source.unit = "speaker"
    source.check_tables()
    rows = read_sheet(books[0])
    source.rows = [(number, cells) for number, cells in rows if RECORDING.fullmatch(cells[0])]
    above = [cells for number, cells in rows if not source.rows or number < source.rows[0][0]]
    if not source.rows or len(above) != HEADER:
        shown = " / ".join(" | ".join(cells[:6]) for cells in above[:3])[:200]
        raise UserError(
            f"{books[0]}: {KIND} has two header rows, then file names that end in .wav, emotion, "
            f"valence, arousal; found {len(above)} rows above the first name: {shown}"
        )
    source.actors = find_actors(source, [Path(cells[0]).stem for _, cells in source.rows])
    names = enumerate(zip_longest(*above, fillvalue=""))
    source.raters = [c for c, said in names if c >= RATED and "emotion" in names_of(said)]
    for number, cells in rows[HEADER:]:
        if not RECORDING.fullmatch(cells[0]):
            where = f"{books[0].name} row {number}"
            source.account.drop(where, "no file name in the first column", where)
    for found, suffixes in ((source.recordings, (".wav",)), (source.texts, (".txt",))):
        for name, paths in list_recordings(source, DEPTH, suffixes).items():
            found[name] = paths[0]
            source.sizes[paths[0]] = (root / paths[0]).stat().st_size
            for other in paths[1:]:
                source.account.ignore(other, f"a file of the same name is read: {paths[0]}")
    return source


def read_kesdy(source: KESDy) -> pd.DataFrame:
    """Return the utterances; the rows that cannot be used are in the account."""
    account, utterances = source.account, []
    book = source.tables[0].name
    stems = [Path(cells[0]).stem for _, cells in source.rows]
    actors = source.actors
    spoken = [Spoken(actor, "", stem, "") for actor, stem in zip(actors, stems, strict=True)]
    sessions = number_sessions(spoken, source.speakers == KNOWN)
    for (number, cells), stem, actor, session in zip(
        source.rows, stems, actors, sessions, strict=True
    ):
        where = f"{book} row {number}"
        try:
            utterance = read_row(source, stem, [*cells, *[""] * RATED])
        except ValueError as error:
            reason, *cell = error.args
            account.drop(stem, reason, ": ".join([where, *cell]))
            continue
        place = {"session": session, "speaker": actor or f"{stem}.wav", "where": where, "turn": 1}
        utterances.append(utterance | place | {"is_known": source.speakers == KNOWN})
    account.annotation_files = 1
    account.annotation_rows = account.speaker_rows = len(source.rows)
    for name in sorted(source.recordings.keys() - {stem.casefold() for stem in stems}):
        account.orphan(name, "recording without an annotation row", source.recordings[name])
    utterances = keep_one_each(utterances, account, source.tables[0])
    said: Counter = Counter()
    for utterance in utterances:
        said[utterance["session"]] += 1
        utterance["dialogue_number"] = said[utterance["session"]]
    return assemble(utterances, LABELS)


def find_actors(source: KESDy, stems: list[str]) -> list[str]:
    """Return the actor of each file: of the name's parts those that have 30 values together.

    If no part tells them: none with SPEAKERS = unknown, else UserError.
    """
    parts = [re.split(r"[_\-\s.]+", stem) for stem in stems]
    for count in range(1, max(map(len, parts)) + 1):
        for chosen in (slice(0, count), slice(count - 1, count)):
            names = ["_".join(part[chosen]) for part in parts]
            if len(set(names)) == ACTORS:
                said = f"actors are told by the names of the files: {names[0]} of {stems[0]}"
                source.remarks.append(said)
                source.speakers = KNOWN
                return names
    if source.speakers == UNKNOWN:
        source.warnings.append(UNKNOWN_SPEAKERS)
        return [""] * len(stems)
    raise UserError(
        f"{source.tables[0]}: no part of the file names ({stems[0]}, ...) has {ACTORS} values, by "
        f"which {KIND}'s {ACTORS} actors could be told: say --speakers unknown, or write a table "
        "with a column 'speaker'"
    )


def read_row(source: KESDy, stem: str, cells: list[str]) -> dict:
    """Return the utterance of a row; ValueError(reason, cell) if it cannot be used."""
    name = stem.casefold()
    if name not in source.recordings:
        raise ValueError("no recording")
    transcript = source.texts.get(name, "")
    if source.texts and not transcript:
        raise ValueError("no transcript")
    labels = read_labels(cells[1])
    if not labels:
        raise ValueError("no majority label")
    rated = (cells[column] for column in source.raters if column < len(cells))
    votes = Counter(label for cell in rated for label in read_labels(cell))
    if not source.raters:
        votes = Counter(labels[:1])
    if votes and votes[labels[0]] < max(votes.values()):
        source.account.note(stem, OUTVOTED, stem)
    measures = {}
    for column, measure in ((2, "valence"), (3, "arousal")):
        try:
            measures[measure] = read_number(cells[column])
        except ValueError:
            raise ValueError(f"{measure} is no number", cells[column]) from None
    return {
        **{"id": f"{stem}.wav", "recording": source.recordings[name], "transcript": transcript},
        **{"label": labels[0], "labels": ";".join(labels), "votes": votes, **measures},
        **{"gender": "", "scenario": "all"},
        **dict.fromkeys(("wav_start", "wav_end"), float("nan")),
    }


def read_labels(cell: str) -> list[str]:
    """Split `sad;angry` into KEMDy's names; ValueError(reason, cell) for any other word."""
    try:
        return list(dict.fromkeys(filter(None, map(fold_label, cell.split(";")))))
    except ValueError:
        raise ValueError("unknown emotion", cell) from None
