"""Corpora with mistakes: a small healthy one, and the means to change it.

A change edits the sessions before they are written, or the folder afterwards, and names the entries
of the account that it must lead to: (list, id, reason). irregularities.py has them all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from common.files import LABELS
from corpora.account import Account
from corpora.matching import read_corpus
from corpora.tree import find_tree
from extras.sample.writer import (
    KEMDY19,
    KEMDY20,
    Segment,
    Session,
    Style,
    unanimous,
    write_kemdy19,
    write_kemdy20,
)

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


def read(root: Path, follow_links: bool = False) -> tuple[dict, Account]:
    """Return the utterances of a corpus, {id: row of the table}, and its account."""
    tree = find_tree(root, follow_links)
    return {row.id: row for row in read_corpus(tree).itertuples()}, tree.account


def votes_of(row) -> tuple[int, ...]:
    """Return the votes of an utterance, in the order of LABELS."""
    return tuple(getattr(row, f"votes_{label}") for label in LABELS)


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
