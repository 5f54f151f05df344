"""Corpora with mistakes: a small healthy one, and one change for every irregularity.

Every change touches utterances of its own, so that all of them can be made in one corpus.
A change edits the sessions before they are written, or the folder afterwards, and names the entries
of the account that it must lead to: (list, id, reason).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from pipeline.kemdy_tree import (
    KEMDY19,
    KEMDY20,
    Recording,
    Row,
    Segment,
    Session,
    Style,
    Vote,
    row_of_votes,
    unanimous,
    write_kemdy19,
    write_kemdy20,
)
from pipeline.labels import LABELS

SESSIONS = 5
DIALOGUES = ("script01", "script02", "impro01")
TURNS = 5
FRAMES = 1600
SYLLABLES = "가나다라마바사아자차카타파하"


def text_of(number: int) -> str:
    """Return a transcript that no other number has."""
    digits = f"{number:03d}"
    return "그래서 " + "".join(SYLLABLES[int(digit)] for digit in digits) + " 말이야."


def samples_of(number: int, frames: int = FRAMES) -> np.ndarray:
    """Return int16 noise, different for every number and neither clipped nor silent."""
    random = np.random.default_rng(number)
    return random.integers(-9000, 9000, frames).astype(np.int16)


def healthy19() -> list[Session]:
    """Return sessions of KEMDy19: F and M in turn, each rated by both files."""
    sessions, number = [], 0
    for session in range(1, SESSIONS + 1):
        segments = []
        for dialogue in DIALOGUES:
            for turn in range(1, TURNS + 1):
                for letter in "FM":
                    emotion = LABELS[number % len(LABELS)]
                    heard = LABELS[(number + 1) % len(LABELS)]
                    speaker, listener = unanimous(emotion), unanimous(heard)
                    rows = {"F": speaker, "M": listener}
                    if letter == "M":
                        rows = {"F": listener, "M": speaker}
                    segments.append(
                        Segment(
                            id=f"Sess{session:02d}_{dialogue}_{letter}{turn:03d}",
                            rows=rows,
                            text=text_of(number),
                            audio=samples_of(number),
                            start=float(number),
                            end=number + 0.1,
                        )
                    )
                    number += 1
        sessions.append(Session(session, segments))
    return sessions


def healthy20() -> list[Session]:
    """Return sessions of KEMDy20: two speakers a session, one file of ratings."""
    sessions, number = [], 0
    for session in range(1, SESSIONS + 1):
        users = (f"User{2 * session - 1:03d}F", f"User{2 * session:03d}M")
        segments = []
        for dialogue in ("script01", "script02"):
            for turn in range(1, TURNS + 1):
                segments.append(
                    Segment(
                        id=f"Sess{session:02d}_{dialogue}_{users[number % 2]}_{turn:03d}",
                        rows={"eval": unanimous(LABELS[number % len(LABELS)])},
                        text=text_of(number),
                        audio=samples_of(number),
                    )
                )
                number += 1
        sessions.append(Session(session, segments))
    return sessions


@dataclass(frozen=True)
class Change:
    """One irregularity: what is done to the sessions, to the folder, and what has to be said.

    utterances: by how many more (or fewer) the corpus has that can be used.
    """

    name: str
    entries: tuple[tuple[str, str, str], ...] = ()
    edit: Callable[[list[Session]], None] | None = None
    spoil: Callable[[Path], None] | None = None
    utterances: int = 0


def find(sessions: list[Session], identifier: str) -> tuple[list[Segment], int]:
    """Return the list that holds a segment, and its place."""
    segments = sessions[int(identifier[4:6]) - 1].segments
    return segments, [segment.id for segment in segments].index(identifier)


def edit(identifier: str, **changes: object) -> Callable[[list[Session]], None]:
    """Return a change of a segment's own fields."""

    def apply(sessions: list[Session]) -> None:
        segments, place = find(sessions, identifier)
        segments[place] = replace(segments[place], **changes)

    return apply


def edit_row(identifier: str, rated: str, **changes: object) -> Callable[[list[Session]], None]:
    """Return a change of one of a segment's annotation rows."""

    def apply(sessions: list[Session]) -> None:
        segments, place = find(sessions, identifier)
        rows = dict(segments[place].rows)
        rows[rated] = replace(rows[rated], **changes)
        segments[place] = replace(segments[place], rows=rows)

    return apply


def add(session: int, segment: Segment) -> Callable[[list[Session]], None]:
    """Return the addition of a segment at the end of a session."""
    return lambda sessions: sessions[session - 1].segments.append(segment)


def repeat(identifier: str) -> Callable[[list[Session]], None]:
    """Return the addition of a segment that is already there."""

    def apply(sessions: list[Session]) -> None:
        segments, place = find(sessions, identifier)
        segments.append(segments[place])

    return apply


def wav_bytes(samples: np.ndarray, keep: int | None = None) -> bytes:
    """Return the bytes of a 16 kHz WAV file, the first `keep` of them."""
    header = np.array([36 + 2 * len(samples), 16, 16000, 32000, 2 * len(samples)], "<u4").tobytes()
    layout = np.array([1, 1], "<u2").tobytes()
    width = np.array([2, 16], "<u2").tobytes()
    content = b"RIFF" + header[:4] + b"WAVEfmt " + header[4:8] + layout + header[8:16] + width
    return (content + b"data" + header[16:] + samples.astype("<i2").tobytes())[:keep]


def write_flac(identifier: str) -> Callable[[Path], None]:
    """Return the replacement of a recording by a FLAC file at 44.1 kHz."""

    def apply(root: Path) -> None:
        path = next(root.glob(f"wav/*/*/{identifier}.wav"))
        samples = samples_of(7, 4410)
        path.unlink()
        soundfile.write(path.with_suffix(".flac"), samples, 44100, "PCM_16")

    return apply


def link_out(identifier: str) -> Callable[[Path], None]:
    """Return the replacement of a recording by a symbolic link to one beside the corpus."""

    def apply(root: Path) -> None:
        path = next(root.glob(f"wav/*/*/{identifier}.wav"))
        outside = root.parent / "outside.wav"
        path.rename(outside)
        path.symlink_to(outside)

    return apply


def sine(rate: int, seconds: float, level: float) -> np.ndarray:
    """Return a 440 Hz tone, float32."""
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype("f4")


TIED = row_of_votes((Vote("sad", 2, 2), Vote("neutral", 3, 3)) * 5)
MISSPELT = Row("disqust", 2.0, 3.0, (Vote("disqust", 2, 3),) * 10)
NO_LABEL = Row("", "", "", ())
NOT_FINITE = np.where(np.arange(1600) == 5, np.nan, sine(16000, 0.1, 0.3)).astype("f4")
CLIPPED = np.clip(samples_of(1).astype(int) * 40, -32768, 32767).astype(np.int16)
WRONG_ID = "wrong Segment ID, taken from the other file of the session"
PHANTOM = "phantom row: a segment without files, not rated in its speaker's own file"

CHANGES19 = [
    Change(
        "wrong ID in an F file",
        (("repaired", "Sess01_script01_F001", WRONG_ID),),
        edit_row("Sess01_script01_F001", "F", id="Sess01_script01_M001"),
    ),
    Change(
        "wrong ID in an M file",
        (("repaired", "Sess01_script02_M002", WRONG_ID),),
        edit_row("Sess01_script02_M002", "M", id="Sess01_script02_F002"),
    ),
    Change(
        "phantom row",
        (("dropped", "Sess01_impro01_M031", PHANTOM),),
        add(
            1,
            Segment(
                "none",
                {
                    "F": replace(unanimous("sad"), id="Sess01_impro01_M031"),
                    "M": replace(unanimous("sad"), id="Sess01_impro01_F031"),
                },
            ),
        ),
    ),
    Change(
        "annotated without files",
        (("dropped", "Sess02_script01_F001", "no recording and no transcript"),),
        edit("Sess02_script01_F001", audio=None, text=None),
        utterances=-1,
    ),
    Change(
        "no recording",
        (("dropped", "Sess02_script01_M001", "no recording"),),
        edit("Sess02_script01_M001", audio=None),
        utterances=-1,
    ),
    Change(
        "no transcript",
        (("dropped", "Sess02_script01_F002", "no transcript"),),
        edit("Sess02_script01_F002", text=None),
        utterances=-1,
    ),
    Change(
        "transcript without annotation",
        (
            (
                "orphans",
                "Sess02_script01/Sess02_script01_F099.txt",
                "transcript without an annotation row",
            ),
        ),
        add(2, Segment("Sess02_script01_F099", {}, text="들리나요")),
    ),
    Change(
        "rated in the other file only",
        (("dropped", "Sess02_script01_M003", "not rated in its speaker's own file"),),
        edit("Sess02_script01_M003", rows={"F": unanimous("sad")}),
        utterances=-1,
    ),
    Change(
        "converted folder",
        (("ignored", "wav/Session02/Sess02_script02/converted", "folder below a dialogue"),),
        edit("Sess02_script02_F001", converted=samples_of(999)),
    ),
    Change(
        "transcript of tags only",
        (("dropped", "Sess03_script01_F001", "transcript empty after cleaning"),),
        edit("Sess03_script01_F001", text="b/ n/ ."),
        utterances=-1,
    ),
    Change("tied labels", (), edit("Sess03_script01_F002", rows={"F": TIED, "M": TIED})),
    Change("misspelt label", (), edit("Sess03_script01_F003", rows={"F": MISSPELT, "M": TIED})),
    Change(
        "no majority label",
        (("dropped", "Sess03_script01_M001", "no majority label"),),
        edit("Sess03_script01_M001", rows={"F": NO_LABEL, "M": NO_LABEL}),
        utterances=-1,
    ),
    Change("cp949 transcript", (), edit("Sess03_script01_M002", text="뭐라고요?".encode("cp949"))),
    Change(
        "transcript with BOM", (), edit("Sess03_script01_M003", text="\ufeff뭐라고요?\r\n".encode())
    ),
    Change(
        "transcript in no encoding",
        (("dropped", "Sess03_script01_M004", "transcript is neither UTF-8 nor cp949"),),
        edit("Sess03_script01_M004", text=b"\xff\xff\x00\xff"),
        utterances=-1,
    ),
    Change(
        "ID that leads out of the corpus",
        (("dropped", "../../outside", "Segment ID is none of this session"),),
        add(3, Segment("none", {key: replace(TIED, id="../../outside") for key in "FM"})),
    ),
    Change(
        "ID of another session",
        (("dropped", "Sess04_script01_F002", "Segment ID is none of this session"),),
        add(3, Segment("none", {key: replace(TIED, id="Sess04_script01_F002") for key in "FM"})),
    ),
    Change(
        "identical row twice",
        (("noted", "Sess04_script01_F001", "identical row again"),),
        repeat("Sess04_script01_F001"),
    ),
    Change(
        "empty file",
        (("dropped", "Sess04_script01_M001", "recording unreadable"),),
        edit("Sess04_script01_M001", audio=b""),
        utterances=-1,
    ),
    Change(
        "recording of no samples",
        (("dropped", "Sess04_script01_M002", "recording empty"),),
        edit("Sess04_script01_M002", audio=wav_bytes(samples_of(0, 0))),
        utterances=-1,
    ),
    Change(
        "truncated recording",
        (("dropped", "Sess04_script01_M003", "recording truncated"),),
        edit("Sess04_script01_M003", audio=wav_bytes(samples_of(0), keep=1000)),
        utterances=-1,
    ),
    Change(
        "not a recording",
        (("dropped", "Sess04_script01_M004", "recording unreadable"),),
        edit("Sess04_script01_M004", audio=b"this is no recording at all" * 99),
        utterances=-1,
    ),
    Change(
        "stereo 44.1 kHz float",
        (),
        edit(
            "Sess05_script01_F001",
            audio=Recording(np.stack([sine(44100, 0.5, 0.4)] * 2, 1), 44100, "FLOAT"),
        ),
    ),
    Change(
        "8 bit", (), edit("Sess05_script01_F002", audio=Recording(samples_of(2), 8000, "PCM_U8"))
    ),
    Change(
        "24 bit", (), edit("Sess05_script01_F003", audio=Recording(samples_of(3), 16000, "PCM_24"))
    ),
    Change(
        "32 bit", (), edit("Sess05_script01_F004", audio=Recording(samples_of(4), 48000, "PCM_32"))
    ),
    Change("FLAC", (), spoil=write_flac("Sess05_script01_F005")),
    Change(
        "not a number in a recording",
        (("noted", "Sess05_script01_M001", "samples not finite, set to zero"),),
        edit("Sess05_script01_M001", audio=Recording(NOT_FINITE, 16000, "FLOAT")),
    ),
    Change(
        "clipped recording",
        (("noted", "Sess05_script01_M002", "clipped"),),
        edit("Sess05_script01_M002", audio=CLIPPED),
    ),
    Change(
        "near-silent recording",
        (("noted", "Sess05_script01_M003", "near-silent"),),
        edit("Sess05_script01_M003", audio=(samples_of(5) // 1000).astype(np.int16)),
    ),
    Change(
        "symbolic link out of the corpus",
        (
            ("ignored", "Sess05_script01_M004.wav", "symbolic link out of the corpus"),
            ("dropped", "Sess05_script01_M004", "symbolic link out of the corpus"),
        ),
        spoil=link_out("Sess05_script01_M004"),
        utterances=-1,
    ),
    Change(
        "other CSV file beside the annotation",
        (("ignored", "annotation/notes.csv", "not an annotation file"),),
        spoil=lambda root: (root / "annotation" / "notes.csv").write_text("a,b\n"),
    ),
]

CHANGES20 = [
    Change(
        "another session's prefix, files too",
        (("noted", "Sess01_script01_User999F_001", "ID carries another session's prefix"),),
        add(
            2,
            Segment(
                "Sess01_script01_User999F_001",
                {"eval": unanimous("sad")},
                text="뭐라고",
                audio=samples_of(1),
            ),
        ),
        utterances=1,
    ),
    Change(
        "another session's prefix in the annotation only",
        (
            (
                "repaired",
                "Sess03_script01_User005F_001",
                "ID carried another session's prefix, the files have their own",
            ),
        ),
        edit_row("Sess03_script01_User005F_001", "eval", id="Sess01_script01_User005F_001"),
    ),
    Change("misspelt label", (), edit("Sess03_script01_User006M_002", rows={"eval": MISSPELT})),
    Change("UTF-8 transcript", (), edit("Sess03_script01_User005F_003", text="뭐라고요?".encode())),
    Change(
        "annotated without files",
        (("dropped", "Sess04_script01_User007F_003", "no recording and no transcript"),),
        edit("Sess04_script01_User007F_003", audio=None, text=None),
        utterances=-1,
    ),
    Change(
        "ID that leads out of the corpus",
        (("dropped", "../../outside", "Segment ID is none of this session"),),
        add(3, Segment("none", {"eval": replace(TIED, id="../../outside")})),
    ),
    Change(
        "identical row twice",
        (("noted", "Sess05_script01_User009F_001", "identical row again"),),
        repeat("Sess05_script01_User009F_001"),
    ),
]

STYLES19 = {
    "as released": KEMDY19,
    "one blank between names": replace(KEMDY19, blank=" "),
    "BOM, CRLF, upper case": Style(
        start="Start", end="END", csv_encoding="utf-8-sig", newline="\r\n"
    ),
    "no sensors": replace(KEMDY19, sensors=()),
    "fewer sensors": replace(KEMDY19, sensors=("ECG",)),
    "cp949 transcripts": replace(KEMDY19, text_encoding="cp949"),
}
STYLES20 = {
    "as released": KEMDY20,
    "no blank between names": replace(KEMDY20, blank=""),
    "BOM, CRLF": replace(KEMDY20, csv_encoding="utf-8-sig", newline="\r\n"),
    "sensors at the end": replace(KEMDY20, sensors=("E4-EDA", "E4-TEMP")),
    "UTF-8 transcripts": replace(KEMDY20, text_encoding="utf-8"),
}


def write(root: Path, kind: str, changes: list[Change], style: Style | None = None) -> None:
    """Write the healthy corpus of a kind with these changes."""
    is_19 = kind == "KEMDy19"
    sessions = healthy19() if is_19 else healthy20()
    for change in changes:
        if change.edit:
            change.edit(sessions)
    if is_19:
        write_kemdy19(root, sessions, style or KEMDY19)
    else:
        write_kemdy20(root, sessions, style or KEMDY20)
    for change in changes:
        if change.spoil:
            change.spoil(root)
