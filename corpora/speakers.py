"""Sessions of a corpus that has none: what must not stand in two splits is one session."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from corpora.utterances import number_each

PARTS = 10  # sessions that recordings of unknown speakers are dealt to


@dataclass(frozen=True)
class Spoken:
    """Who said an utterance and where; "" for what is not known.  split: the corpus's own."""

    speaker: str
    dialogue: str
    recording: str
    split: str


def number_sessions(rows: list[Spoken], is_known: bool) -> list[int]:
    """Return the session of each row: a speaker, with those who share a dialogue.

    If nobody knows the speakers, the recordings, those of a dialogue together, are dealt to PARTS
    sessions of each split in the order of their names' hashes: a table is often sorted by label, or
    has the labels in turn.
    """
    parent: dict[tuple, tuple] = {}

    def find(key: tuple) -> tuple:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    keys = []
    for row in rows:
        split = "" if is_known else row.split  # only unknown speakers may stand in two
        who = ("speaker", row.speaker) if is_known else ("file", row.recording)
        keys.append((split, *who))
        if row.dialogue:
            parent[find(keys[-1])] = find((split, "dialogue", row.dialogue))
    groups = [find(key) for key in keys]
    if is_known:
        numbers = number_each(groups)
        return [numbers[group] for group in groups]
    place = {}
    for split in dict.fromkeys(row.split for row in rows):
        own = {group for group, row in zip(groups, rows, strict=True) if row.split == split}
        ordered = sorted(own, key=lambda group: sha256(repr(group).encode()).digest())
        place |= {group: (split, number % PARTS) for number, group in enumerate(ordered)}
    numbers = number_each(place[group] for group in groups)
    return [numbers[place[group]] for group in groups]


def number_turns(rows: Iterable[tuple[int, str]]) -> list[tuple[int, int]]:
    """Return (number of the dialogue in the session, of the turn in the dialogue) of each row.

    rows: (session, name of the dialogue) in the order of time; "": the row is a dialogue.
    """
    dialogues: dict[int, dict[object, list]] = {}
    numbers = []
    for place, (session, name) in enumerate(rows):
        own = dialogues.setdefault(session, {})
        turns = own.setdefault(name or place, [len(own) + 1, 0])
        turns[1] += 1
        numbers.append((turns[0], turns[1]))
    return numbers
