"""The account of a corpus: every row and file that is not used as it stands, with its reason."""

from collections import Counter
from dataclasses import dataclass, field

LISTS = ("repaired", "dropped", "orphans", "ignored", "noted")


@dataclass
class Account:
    """Counts of the annotation, and lists of entries {id or path, reason, where ...}.

    speaker_rows: rows that rate the speaker of their segment, before wrong IDs are repaired.
    """

    annotation_files: int = 0
    annotation_rows: int = 0
    speaker_rows: int = 0
    repaired: list[dict] = field(default_factory=list)
    dropped: list[dict] = field(default_factory=list)
    orphans: list[dict] = field(default_factory=list)
    ignored: list[dict] = field(default_factory=list)
    noted: list[dict] = field(default_factory=list)

    def drop(self, identifier: str, reason: str, where: str) -> None:
        self.dropped.append({"id": identifier, "reason": reason, "where": where})

    def repair(self, identifier: str, was: str, reason: str, where: str) -> None:
        self.repaired.append({"id": identifier, "was": was, "reason": reason, "where": where})

    def note(self, identifier: str, reason: str, where: str) -> None:
        self.noted.append({"id": identifier, "reason": reason, "where": where})

    def ignore(self, path: str, reason: str) -> None:
        self.ignored.append({"path": path, "reason": reason})

    def orphan(self, identifier: str, reason: str, path: str) -> None:
        self.orphans.append({"id": identifier, "reason": reason, "path": path})

    def add(self, other: "Account", corpus: str) -> None:
        """Add the counts and entries of a corpus, whose name then stands before IDs and paths."""
        for name, value in vars(other).items():
            if name in LISTS:
                value = [
                    {k: v if k == "reason" else f"{corpus}:{v}" for k, v in entry.items()}
                    for entry in value
                ]
            setattr(self, name, getattr(self, name) + value)

    def count_reasons(self) -> list[tuple[str, int, str]]:
        """Return (list, number of entries, reason), of each list the commonest reason first."""
        return [
            (name, count, reason)
            for name in LISTS
            for reason, count in Counter(e["reason"] for e in getattr(self, name)).most_common()
        ]


def print_account(account: Account) -> None:
    """Say how many utterances were repaired, dropped or noted, by reason."""
    for name, count, reason in account.count_reasons():
        print(f"{name + ':':9} {count:5d}  {reason}")
