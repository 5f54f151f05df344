"""Write a folder tree in the shape of KEMDy19 or KEMDy20 from plain records.

The sample corpus and the tests make their corpora with it. A record says what is in the files,
right or wrong: a row without files, files without a row, a wrong ID in one of the two annotation
files, bytes that are no WAV. Nothing is checked here, because corpora with mistakes are what the
reader is tested on.
"""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

# The order in which KEMDy joins tied labels (not the order of the label ids in pipeline.labels).
TIE_ORDER = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
RATERS = tuple(f"Eval{number:02d}{'MF'[number % 2]}" for number in range(1, 11))
SENSORS = ("ECG", "E4-EDA", "E4-TEMP")


@dataclass(frozen=True)
class Vote:
    """One rater's opinion: a label, valence and arousal from 1 to 5."""

    emotion: str
    valence: int | str
    arousal: int | str


@dataclass(frozen=True)
class Row:
    """One person rated in one segment, as one annotation file has it.

    `id`: what the file says in `Segment ID` where that is not the segment's own ID.
    """

    emotion: str
    valence: float | str
    arousal: float | str
    votes: tuple[Vote, ...]
    id: str | None = None


@dataclass(frozen=True)
class Recording:
    """Samples, shape (n,) or (n, channels), and how they are stored."""

    samples: np.ndarray
    rate: int = 16000
    subtype: str = "PCM_16"


@dataclass(frozen=True)
class Segment:
    """One utterance: its files and its annotation rows.

    `rows`: KEMDy19 has {"F": woman's row, "M": man's row}, KEMDy20 {"eval": row}; a missing key is
    a missing row.
    `text`: None writes no .txt; str is written in the tree's encoding with a line end; bytes are
    written as they are.
    `audio`: None writes no .wav; an int16 array is 16 kHz mono; a Recording has its own rate and
    subtype; bytes are written as they are.
    `start`, `end`: seconds, the cells under `Wav`.
    `converted`: a recording of the same name in the dialogue's `converted/` sub-folder.
    `sensors`: cells of the sensor columns, two a sensor.
    """

    id: str
    rows: dict[str, Row]
    text: str | bytes | None = None
    audio: np.ndarray | Recording | bytes | None = None
    start: float | str = 0.0
    end: float | str = 1.0
    sensors: tuple[str, ...] = ("",) * (2 * len(SENSORS))
    converted: np.ndarray | Recording | bytes | None = None


@dataclass(frozen=True)
class Session:
    """One session: its segments in the order of their rows, and its own codes for the raters."""

    number: int
    segments: list[Segment] = field(default_factory=list)
    raters: tuple[str, ...] = RATERS


@dataclass(frozen=True)
class Style:
    """What differs between releases: header words, sensor columns, encodings, line ends."""

    blank: str = ""
    start: str = "start"
    end: str = "end"
    sensors: tuple[str, ...] = SENSORS
    csv_encoding: str = "utf-8"  # "utf-8-sig" writes a BOM
    newline: str = "\n"
    text_encoding: str = "utf-8"


KEMDY19 = Style()
KEMDY20 = Style(blank=" ", sensors=(), text_encoding="cp949")


def row_of_votes(votes: tuple[Vote, ...]) -> Row:
    """Return the row that KEMDy makes of ten votes: majority label, ties joined, mean values."""
    counts = Counter(vote.emotion for vote in votes)
    most = max(counts.values())
    # A misspelt or unknown label comes after the seven.
    winners = [label for label in dict.fromkeys((*TIE_ORDER, *counts)) if counts[label] == most]
    valence = sum(vote.valence for vote in votes) / len(votes)
    arousal = sum(vote.arousal for vote in votes) / len(votes)
    return Row(";".join(winners), valence, arousal, tuple(votes))


def unanimous(emotion: str, valence: int = 3, arousal: int = 3) -> Row:
    """Return a row on which all ten raters agree."""
    return row_of_votes((Vote(emotion, valence, arousal),) * len(RATERS))


def write_kemdy19(root: Path | str, sessions: list[Session], style: Style = KEMDY19) -> None:
    """Write annotation/SessionNN_{F,M}_res.csv and wav/SessionNN/<dialogue>/<id>.{wav,txt}."""
    root = Path(root)
    for session in sessions:
        for letter in "FM":
            path = root / "annotation" / f"Session{session.number:02d}_{letter}_res.csv"
            write_table(path, table19(session, letter, style), style)
        for segment in session.segments:
            dialogue = segment.id.rpartition("_")[0]
            folder = root / "wav" / f"Session{session.number:02d}" / dialogue
            write_files(folder, segment, style)


def write_kemdy20(root: Path | str, sessions: list[Session], style: Style = KEMDY20) -> None:
    """Write annotation/SessNN_eval.csv and wav/SessionNN/<id>.{wav,txt}."""
    root = Path(root)
    for session in sessions:
        path = root / "annotation" / f"Sess{session.number:02d}_eval.csv"
        write_table(path, table20(session, style), style)
        for segment in session.segments:
            write_files(root / "wav" / f"Session{session.number:02d}", segment, style)


def table19(session: Session, letter: str, style: Style) -> list[list[str]]:
    """Return KEMDy19's table, 43 columns: the sensors' stand before the Segment ID."""
    top, second = header(session.raters, style)
    sensor_top, sensor_second = [], []
    for name in style.sensors:
        sensor_top += [name, style.blank]
        sensor_second += [style.start, style.end]
    rows = [top[:3] + sensor_top + top[3:], second[:3] + sensor_second + second[3:]]
    for number, segment in enumerate((s for s in session.segments if letter in s.rows), start=1):
        front, back = cells(number, segment, segment.rows[letter])
        rows.append(front + list(segment.sensors[: len(sensor_top)]) + back)
    return rows


def table20(session: Session, style: Style) -> list[list[str]]:
    """Return KEMDy20's table, 37 columns; a later release has its sensors' at the end."""
    top, second = header(session.raters, style)
    for name in style.sensors:
        top += [name, style.blank]
        second += [style.start, style.end]
    rows = [top, second]
    for number, segment in enumerate((s for s in session.segments if "eval" in s.rows), start=1):
        front, back = cells(number, segment, segment.rows["eval"])
        rows.append(front + back + list(segment.sensors[: 2 * len(style.sensors)]))
    return rows


def header(raters: tuple[str, ...], style: Style) -> tuple[list[str], list[str]]:
    """Return the two header rows without sensor columns."""
    blank = style.blank
    top = ["Numb", "Wav", blank, "Segment ID"]
    second = [blank, style.start, style.end, blank]
    for name in ("Total Evaluation", *raters):
        top += [name, blank, blank]
        second += ["Emotion", "Valence", "Arousal"]
    return top, second


def cells(number: int, segment: Segment, row: Row) -> tuple[list[str], list[str]]:
    """Return a data row's cells before KEMDy19's sensor columns, and from the Segment ID on."""
    front = [str(number), cell(segment.start, 3), cell(segment.end, 3)]
    back = [row.id or segment.id, row.emotion, cell(row.valence, 1), cell(row.arousal, 1)]
    for vote in row.votes:
        back += [vote.emotion, str(vote.valence), str(vote.arousal)]
    return front, back


def cell(value: float | str, digits: int) -> str:
    """Return a number with so many decimals; text as it is."""
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def write_table(path: Path, rows: list[list[str]], style: Style) -> None:
    """Write one annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=style.csv_encoding, newline="") as stream:
        csv.writer(stream, lineterminator=style.newline).writerows(rows)


def write_files(folder: Path, segment: Segment, style: Style) -> None:
    """Write a segment's .wav and .txt, and its namesake under converted/, where it has them."""
    if segment.text is not None:
        text = segment.text
        if isinstance(text, str):
            text = (text + style.newline).encode(style.text_encoding)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{segment.id}.txt").write_bytes(text)
    write_audio(folder / f"{segment.id}.wav", segment.audio)
    write_audio(folder / "converted" / f"{segment.id}.wav", segment.converted)


def write_audio(path: Path, audio: np.ndarray | Recording | bytes | None) -> None:
    """Write a WAV file from samples, or the bytes given in its place; nothing for None."""
    if audio is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(audio, bytes):
        path.write_bytes(audio)
        return
    recording = audio if isinstance(audio, Recording) else Recording(audio)
    soundfile.write(path, recording.samples, recording.rate, recording.subtype, format="WAV")
