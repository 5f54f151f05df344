"""The account of a corpus: everything that is not used as it stands, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

ENTRIES = ("repaired", "dropped", "orphans", "ignored", "noted")
COUNTS = ("annotation_files", "annotation_rows", "speaker_rows")


@dataclass
class Account:
    """What is to be said of a corpus beside the utterances used.

    claimed: paths, case folded and without extension, that a row of the annotation stands for.
    """

    annotation_files: int = 0
    annotation_rows: int = 0
    speaker_rows: int = 0  # before wrong IDs are repaired
    claimed: set[str] = field(default_factory=set)
    repaired: list[dict] = field(default_factory=list)
    dropped: list[dict] = field(default_factory=list)
    orphans: list[dict] = field(default_factory=list)
    ignored: list[dict] = field(default_factory=list)
    noted: list[dict] = field(default_factory=list)

    def drop(self, identifier: str, reason: str, where: str) -> None:
        self.dropped.append({"id": identifier, "reason": reason, "where": where})

    def note(self, identifier: str, reason: str, where: str) -> None:
        self.noted.append({"id": identifier, "reason": reason, "where": where})

    def named(self, name: str) -> Account:
        """Return a copy whose entries name the corpus before each ID, place and path."""
        named = {
            kind: [
                {key: v if key == "reason" else f"{name}:{v}" for key, v in entry.items()}
                for entry in getattr(self, kind)
            ]
            for kind in ENTRIES
        }
        return replace(self, **named)

    def add(self, other: Account) -> None:
        """Count and list what another account does, behind what is here."""
        for name in (*COUNTS, *ENTRIES):
            setattr(self, name, getattr(self, name) + getattr(other, name))
