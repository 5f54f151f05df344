"""Write a folder tree in the shape of KEMDy19 or KEMDy20 from plain records, right or wrong.

Both the sample corpus and the tests are made by this. Nothing is checked: the readers are tested on
rows without files, files without a row, wrong IDs, bytes that are no WAV.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

# The order in which KEMDy joins tied labels (not the order of the label ids in common/files.py).
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
    """The rating of one person in one segment; id: a Segment ID that is not the segment's own."""

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

    rows: KEMDy19 has {"F": woman's row, "M": man's row}, KEMDy20 {"eval": row}; a missing key is a
    missing row.  text, audio: None writes no file, bytes are written as they are; an int16 array is
    16 kHz mono.  start, end: seconds, the cells under `Wav`.  sensors: two cells a sensor.
    converted: a recording of the same name in the dialogue's `converted/` sub-folder.
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
    for session in sessions:
        name = f"Session{session.number:02d}"
        for rated in "FM":
            path = Path(root) / "annotation" / f"{name}_{rated}_res.csv"
            write_table(path, make_table(session, rated, style, sensors_first=True), style)
        for segment in session.segments:
            dialogue = segment.id.rpartition("_")[0]
            write_files(Path(root) / "wav" / name / dialogue, segment, style)


def write_kemdy20(root: Path | str, sessions: list[Session], style: Style = KEMDY20) -> None:
    """Write annotation/SessNN_eval.csv and wav/SessionNN/<id>.{wav,txt}."""
    for session in sessions:
        path = Path(root) / "annotation" / f"Sess{session.number:02d}_eval.csv"
        write_table(path, make_table(session, "eval", style, sensors_first=False), style)
        for segment in session.segments:
            write_files(Path(root) / "wav" / f"Session{session.number:02d}", segment, style)


def make_table(session: Session, rated: str, style: Style, sensors_first: bool) -> list[list]:
    """Return an annotation file's rows: two of the header, then each segment rated.

    sensors_first: KEMDy19 has the sensors' columns before the Segment ID, KEMDy20 at the end.
    """

    def arrange(front: list, sensors: Sequence[str], back: list) -> list:
        return [*front, *sensors, *back] if sensors_first else [*front, *back, *sensors]

    blank, times = style.blank, (style.start, style.end)
    sensors = [cell for name in style.sensors for cell in (name, blank)]
    names = ["Segment ID"]
    for name in ("Total Evaluation", *session.raters):
        names += [name, blank, blank]
    fields = [blank, *["Emotion", "Valence", "Arousal"] * (1 + len(session.raters))]
    rows = [
        arrange(["Numb", "Wav", blank], sensors, names),
        arrange([blank, *times], times * len(style.sensors), fields),
    ]
    segments = (segment for segment in session.segments if rated in segment.rows)
    for number, segment in enumerate(segments, start=1):
        row = segment.rows[rated]
        cells = [row.id or segment.id, row.emotion, cell(row.valence, 1), cell(row.arousal, 1)]
        for vote in row.votes:
            cells += [vote.emotion, vote.valence, vote.arousal]
        front = [number, cell(segment.start, 3), cell(segment.end, 3)]
        rows.append(arrange(front, segment.sensors[: len(sensors)], cells))
    return rows


def cell(value: float | str, digits: int) -> str:
    """Return a number with so many decimals; text as it is."""
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def write_table(path: Path, rows: list[list], style: Style) -> None:
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
    else:
        recording = audio if isinstance(audio, Recording) else Recording(audio)
        soundfile.write(path, recording.samples, recording.rate, recording.subtype, format="WAV")
