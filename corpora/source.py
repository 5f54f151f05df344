"""A corpus on disk, whatever its kind: its folder, its files, and what becomes of them.

Nothing outside the folder is read, whatever a table or a symbolic link says, unless the user allows
links. No recording is opened here.
"""

import hashlib
import os
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from common.files import UserError
from corpora.account import Account

LEADS_OUT = "symbolic link out of the corpus (--follow-links yes allows it)"
KNOWN, SUPPOSED, UNKNOWN = "known", "supposed", "unknown"
UNKNOWN_SPEAKERS = (
    "Speakers are unknown (SPEAKERS = unknown): one person may stand in two splits, and the "
)
UNKNOWN_SPEAKERS += "scores may be those of known voices."


@dataclass
class Source:
    """A corpus on disk.

    tables: the files that say what the recordings are.  sizes: path below root -> bytes, of the
    files that are read.  speakers: how they are known: KNOWN by name, SUPPOSED by a rule, or
    UNKNOWN.  remarks: what is to be said of how the corpus was read, a sentence each.  warnings:
    what is to be said beside every score.  unit: what a session is made of where the corpus has
    none, `speaker` or the like.  name: what the corpus is called among several, as it was given.
    """

    root: Path
    kind: str
    follow_links: bool
    account: Account
    tables: list[Path] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    speakers: str = KNOWN
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unit: str = ""
    name: str = ""

    def fingerprint(self) -> str:
        """Return the SHA-256 of the tables' bytes and of every file's path and size."""
        digest = hashlib.sha256()
        for path in self.tables:
            digest.update(path.read_bytes())
        for path, size in sorted(self.sizes.items()):
            # A name that is no UTF-8 counts by its bytes.
            digest.update(f"{path}\t{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def stamp(self) -> str:
        """Return the SHA-256 of the times at which the files were last changed."""
        times = [os.stat(f"{self.root}/{path}").st_mtime_ns for path in sorted(self.sizes)]
        return hashlib.sha256(repr(times).encode()).hexdigest()

    def link_problem(self, path: Path) -> str:
        """Return why a path is a symbolic link that is not followed; "" for any other path."""
        if not path.is_symlink() and not path.exists():
            return ""
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # a loop is one or the other, as Python's versions have it
            return "symbolic link to nothing or to itself"
        if path.parent.resolve().is_relative_to(target):
            return "symbolic link to a folder above it"
        leads_out = not target.is_relative_to(self.root.resolve())
        return LEADS_OUT if leads_out and not self.follow_links else ""

    def check_tables(self) -> None:
        """Refuse a table that is a link out of the corpus."""
        for path in self.tables:
            if problem := self.link_problem(path):
                raise UserError(f"{path} is a {problem}")


@dataclass
class Finder:
    """Finds files of a source by names that somebody wrote, in either normal form (NFC, NFD).

    listed: folder -> {composed name: name on the disk}.
    """

    source: Source
    listed: dict[Path, dict[str, str]] = field(default_factory=dict)

    def find(self, written: str, where: str) -> tuple[str, str]:
        """Return the path below root of a recording, and why it cannot be read, "" if it can.

        Raises UserError, which begins with `where`, for a path that leads out of the folder.
        """
        parts = PurePosixPath(written.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts or parts[0].endswith(":"):
            raise UserError(
                f"{where}: '{written}' leads out of the table's folder: write paths relative to "
                f"{self.source.root}, and lay the recordings in it"
            )
        path = self.source.root
        for part in parts:
            path = path / part
            if not os.path.lexists(path):
                path = path.parent / self.names_in(path.parent).get(normal(part), part)
        name = path.relative_to(self.source.root).as_posix()
        problem = self.source.link_problem(path)
        if not problem and not path.is_file():
            problem = "recording is a folder" if path.is_dir() else "no recording"
        if not problem:
            self.source.sizes[name] = path.stat().st_size
        return name, problem

    def names_in(self, folder: Path) -> dict[str, str]:
        """Return a folder's names by their normal forms; none if it cannot be listed."""
        if folder not in self.listed:
            self.listed[folder] = {}
            with suppress(OSError):
                self.listed[folder] = {normal(name): name for name in sorted(os.listdir(folder))}
        return self.listed[folder]


def normal(name: str) -> str:
    """Return a name as it is compared: composed."""
    return unicodedata.normalize("NFC", name)


def find_path(path: Path) -> Path:
    """Return a path as the disk has it, whose names may be in another normal form (NFC, NFD).

    One that is nowhere stays as it is.
    """
    if path.exists() or path.name in ("", ".."):
        return path
    parent, name = find_path(path.parent), normal(path.name)
    with suppress(OSError):
        for found in os.listdir(parent):
            if normal(found) == name:
                return parent / found
    return path


def list_recordings(source: Source, depth: int, suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the files with these suffixes: case-folded name without suffix -> paths below root.

    They may lie up to `depth` folders below root. A link that is not followed is ignored, and said.
    """
    found: dict[str, list[str]] = {}

    def look(folder: Path, left: int) -> None:
        for path in sorted(folder.iterdir()):
            name = path.relative_to(source.root).as_posix()
            if path.is_symlink() and (problem := source.link_problem(path)):
                source.account.ignore(name, problem)
            elif path.is_dir():
                if left:
                    look(path, left - 1)
            elif path.suffix.casefold() in suffixes:
                if path.name.startswith("."):
                    source.account.ignore(name, "hidden file")
                else:
                    found.setdefault(normal(path.stem).casefold(), []).append(name)

    look(source.root, depth)
    return found
