"""AI Hub's data set 263, "감정 분류를 위한 대화 음성 데이터셋" -> utterances.

Three releases, each a CSV (cp949, or copies with tabs in UTF-8, under any name) and WAV files named
by `wav_id`. Five raters each name an emotion and its strength, 0 to 2; `상황` is what the line was
written to convey. Nobody has seen the data itself: all this is from published readers of it.

There is no speaker. A `wav_id` is an object ID, whose first eight hexadecimal digits are seconds
since 1970. Recordings made one after another by somebody of the same age and sex are taken for one
person's: a supposed speaker. Who came back after a longer pause is taken for another.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pandas as pd

from common.files import LABELS, UserError
from corpora.account import Account
from corpora.annotation import SILENT_RATERS, read_number
from corpora.sheets import DELIMITERS, TEXTS, names_of, read_sheet
from corpora.source import SUPPOSED, Source, list_recordings, normal
from corpora.transcripts import decode
from corpora.utterances import GENDERS, assemble, fold_label, keep_one_each

KIND = "AI Hub 263"
ID, TEXT, INTENDED, AGE, SEX = "wav_id", "발화문", "상황", "나이", "성별"
RATERS = range(1, 6)
# Blanks in the names of columns differ: `4번감정세기` has none where the others have one.
NEEDED = (ID, TEXT, INTENDED, *(f"{n}번감정" for n in RATERS), AGE, SEX)
STRENGTHS = tuple(f"{n}번감정세기" for n in RATERS)
OBJECT_ID = re.compile(r"[0-9a-f]{24}", re.IGNORECASE)
PAUSE = 30 * 60  # seconds after which the next recording is taken for another person's
DEPTH = 3  # folders between the corpus's and its recordings, at most
HEAD = 4096  # bytes that have the header


@dataclass
class AIHub(Source):
    """The releases and their recordings.

    sheets: name of the release -> rows, (number, cells by column).  recordings: case-folded wav_id
    -> path below root.  label: the column of the label, "" for the raters' majority.
    """

    sheets: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    recordings: dict[str, str] = field(default_factory=dict)
    label: str = ""


def find_releases(folder: Path) -> list[Path]:
    """Return the tables of the data set that lie in a folder, or else one or two below it."""
    for pattern in ("*", "*/*", "*/*/*"):
        files = (path for path in folder.glob(pattern) if path.suffix.casefold() in TEXTS)
        if found := sorted(path for path in files if path.is_file() and has_header(path)):
            return found
    return []


def has_header(path: Path) -> bool:
    """Tell whether a table's first row names a `wav_id` and a first rater's emotion."""
    try:
        with open(path, "rb") as stream:
            line = decode(stream.read(HEAD).partition(b"\n")[0])
    except (OSError, UnicodeDecodeError):
        return False
    cells = names_of(re.split("|".join(DELIMITERS), line.replace('"', "")))
    return ID in cells and "1번감정" in cells


def find_aihub(folder: Path, follow_links: bool, label_column: str) -> AIHub:
    """Read the tables in a folder and list the recordings; label_column: the setting."""
    tables = find_releases(folder)
    root = Path(os.path.commonpath([path.parent for path in tables]))
    if root.name.casefold() == "annotation":  # beside wav/, as somebody laid them out
        root = root.parent
    source = AIHub(root, KIND, follow_links, Account(), tables, speakers=SUPPOSED)
    source.unit = "supposed speaker"
    source.check_tables()
    source.label = INTENDED if names_of([label_column]) == [INTENDED] else ""
    for path, release in zip(tables, name_releases(root, tables), strict=True):
        (_, header), *rows = read_sheet(path, NEEDED)
        names = names_of(header)
        if missing := [name for name in NEEDED if name not in names]:
            raise UserError(f"{path}: no column '{missing[0]}': found {', '.join(header)}")
        blank = dict.fromkeys((*NEEDED, *STRENGTHS), "")
        filled = [(number, blank | dict(zip(names, row, strict=False))) for number, row in rows]
        source.sheets[release] = filled
    for name, paths in list_recordings(source, DEPTH, (".wav",)).items():
        source.recordings[name] = paths[0]
        source.sizes[paths[0]] = (root / paths[0]).stat().st_size
        for other in paths[1:]:
            source.account.ignore(other, f"a recording of the same name is read: {paths[0]}")
    check_unpacked(source)
    return source


def name_releases(root: Path, tables: list[Path]) -> list[str]:
    """Return what the releases are called: as their tables, else their folders, else both."""
    for names in (
        [path.stem for path in tables],
        [path.parent.name for path in tables],
    ):
        if len({*map(normal, names)}) == len(tables):
            return [*map(normal, names)]
    return [normal(path.relative_to(root).as_posix()) for path in tables]


def check_unpacked(source: AIHub) -> None:
    """Refuse a release of which no recording is there."""
    archives = {normal(path.stem): path for path in sorted(source.root.glob("*.zip"))}
    for name, rows in source.sheets.items():
        if any(row[ID].casefold() in source.recordings for _, row in rows):
            continue
        remedy = f"lay them into {source.root / name}"
        if archives and (name in archives or not source.recordings):
            zipped = archives.get(name, next(iter(archives.values())))
            remedy = f"unzip {zipped} into {source.root / name}"
        raise UserError(
            f"{source.root}: no recording of the {len(rows)} rows of '{name}' "
            f"(<wav_id>.wav, at most {DEPTH} folders below): {remedy}, or take its table away"
        )


def read_aihub(source: AIHub) -> pd.DataFrame:
    """Return the utterances; the rows that cannot be used are in the account."""
    account, utterances, listed = source.account, [], set()
    for release, rows in source.sheets.items():
        account.annotation_files += 1
        account.annotation_rows += len(rows)
        for number, row in rows:
            where = f"{release} row {number}"
            listed.add(row[ID].casefold())
            try:
                utterances.append(read_row(source, row, where) | {"scenario": release})
            except ValueError as error:
                reason, *cell = error.args
                account.drop(row[ID] or where, reason, ": ".join([where, *cell]))
    account.speaker_rows = account.annotation_rows
    for name in sorted(source.recordings.keys() - listed):
        account.orphan(name, "recording without an annotation row", source.recordings[name])
    utterances = keep_one_each(utterances, account, source.root)
    suppose_speakers(utterances)
    number_by_release(utterances)
    rule = f"same age and sex, no pause of more than {PAUSE // 60} minutes"
    source.remarks.append(f"there are no speakers, so they are supposed: {rule}")
    source.warnings.append(f"Speakers are supposed ({rule}): one person may be taken for several.")
    return assemble(utterances, LABELS)


def read_row(source: AIHub, row: dict[str, str], where: str) -> dict:
    """Return the utterance of a row; ValueError(reason, cell) if it cannot be used."""
    identifier = row[ID].casefold()
    if identifier not in source.recordings:
        raise ValueError("no recording")
    if not OBJECT_ID.fullmatch(identifier):
        raise ValueError("wav_id is no object ID, so that its time is unknown")
    chosen = {n: read_emotion(row[f"{n}번감정"], f"rater {n}") for n in RATERS}
    if not all(chosen.values()):
        source.account.note(identifier, SILENT_RATERS, where)
    label = ""
    if source.label:
        label = read_emotion(row[source.label], source.label)
        if not label:
            raise ValueError(f"no {source.label}")
    strengths = [read_strength(row[column]) for column in STRENGTHS if row[column]]
    sex = GENDERS.get(row[SEX].casefold(), row[SEX])
    return {
        **{"id": identifier, "recording": source.recordings[identifier], "where": where},
        **{"label": label, "labels": label, "votes": Counter(filter(None, chosen.values()))},
        **{"text": row[TEXT], "gender": sex, "age": row[AGE]},
        **dict.fromkeys(("valence", "arousal", "wav_start", "wav_end"), float("nan")),
        "strength": sum(strengths) / len(strengths) if strengths else float("nan"),
    }


def read_emotion(cell: str, whose: str) -> str:
    """Return KEMDy's name of an emotion, "" for a blank cell; ValueError for any other word."""
    try:
        return fold_label(cell)
    except ValueError:
        raise ValueError(f"unknown emotion of {whose}", cell) from None


def read_strength(cell: str) -> float:
    """Return a strength; ValueError if it is none."""
    try:
        return read_number(cell)
    except ValueError:
        raise ValueError("strength is no number", cell) from None


def suppose_speakers(utterances: list[dict]) -> None:
    """Name the supposed speaker of each utterance: recordings in a row by one age and sex."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for utterance in sorted(utterances, key=lambda utterance: utterance["id"]):
        groups.setdefault((utterance["age"], utterance["gender"]), []).append(utterance)
    for own in groups.values():
        own[0]["speaker"] = own[0]["id"]
        for before, utterance in pairwise(own):
            pause = seconds_of(utterance["id"]) - seconds_of(before["id"])
            utterance["speaker"] = utterance["id"] if pause > PAUSE else before["speaker"]


def seconds_of(identifier: str) -> int:
    """Return when an object ID was made, in seconds since 1970."""
    return int(identifier[:8], 16)


def number_by_release(utterances: list[dict]) -> None:
    """Make each supposed speaker a session, and each utterance a dialogue, in the order of time.

    The numbers go through all releases alike, so that each gives its share to every split.
    """
    utterances.sort(key=lambda utterance: utterance["id"])
    first = {utterance["speaker"]: utterance for utterance in reversed(utterances)}
    order = sorted(first.values(), key=lambda utterance: utterance["id"])
    count = Counter(utterance["scenario"] for utterance in order)
    place: Counter = Counter()
    shares = {}
    for utterance in order:
        release = utterance["scenario"]
        shares[utterance["speaker"]] = (place[release] + 0.5) / count[release]
        place[release] += 1
    ranked = sorted(shares, key=lambda speaker: (shares[speaker], speaker))
    numbers = {speaker: number for number, speaker in enumerate(ranked, 1)}
    spoken: Counter = Counter()
    for utterance in utterances:
        utterance["session"] = numbers[utterance["speaker"]]
        spoken[utterance["session"]] += 1
        utterance |= {"dialogue_number": spoken[utterance["session"]], "turn": 1}
        utterance["speaker"] = f"supposed{utterance['session']:04d}"
