"""The folder tree of KEMDy19 or KEMDy20: which corpus it is, where an utterance's files stand.

Paths are built from segment IDs and looked up in a list of what is there, so an ID can never lead
out of the corpus. No recording and no transcript is opened here.
"""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pipeline.corpus.account import Account
from pipeline.corpus.annotation import ID_PATTERNS
from pipeline.files import UserError, find_path

ANNOTATION_NAMES = {
    "KEMDy19": re.compile(r"Session(?P<session>[0-9]{2,})_(?P<rated>[FM])_res\.csv", re.IGNORECASE),
    "KEMDy20": re.compile(r"Sess(?P<session>[0-9]{2,})_(?P<rated>e)val\.csv", re.IGNORECASE),
}
DIALOGUE_DEPTH = {"KEMDy19": 2, "KEMDy20": 1}  # folders between wav/ and the files
RECORDINGS = (".wav", ".flac")
TRANSCRIPTS = (".txt",)
OTHER_RECORDINGS = (
    ".mp3",
    ".m4a",
    ".aac",
    ".ogg",
    ".opus",
    ".wma",
    ".aif",
    ".aiff",
    ".pcm",
    ".raw",
)
LEADS_OUT = "symbolic link out of the corpus (--follow-links yes allows it)"


@dataclass
class Tree:
    """A corpus on disk.

    annotation: session -> {"F", "M" or "E": path}.  sizes: path below root -> bytes, of the
    recordings and transcripts that stand where the corpus has them.  places: the same paths, found
    by their case-folded names: file systems differ in whether they tell `A.WAV` from `a.wav`.
    refused: case-folded paths of symbolic links that are not followed -> why.
    """

    root: Path
    kind: str
    annotation: dict[int, dict[str, Path]]
    follow_links: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def stem_of(self, identifier: str, session: int) -> str | None:
        """Return the path below root, without extension, of an ID's files; None for no ID."""
        match = ID_PATTERNS[self.kind].fullmatch(identifier)
        if match is None:
            return None
        if self.kind == "KEMDy20":
            return f"wav/Session{session:02d}/{match[0]}"
        dialogue = f"Sess{match['session']}_{match['scenario']}"
        return f"wav/Session{match['session']}/{dialogue}/{match[0]}"

    def find(self, stem: str, extensions: tuple[str, ...]) -> str | None:
        """Return the path below root of a file with the first of these extensions."""
        names = (stem.casefold() + extension for extension in extensions)
        return next(filter(None, map(self.places.get, names)), None)

    def has_files(self, identifier: str, session: int) -> bool:
        """Tell whether an ID of this session has both its recording and its transcript."""
        stem = self.stem_of(identifier, session)
        return bool(stem and self.find(stem, RECORDINGS) and self.find(stem, TRANSCRIPTS))

    def refusal(self, stem: str) -> str | None:
        """Return why a segment's files, or a folder above them, are links not followed."""
        parts = stem.casefold().split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        files = [stem.casefold() + extension for extension in (*RECORDINGS, *TRANSCRIPTS)]
        return next((self.refused[p] for p in (*above, *files) if p in self.refused), None)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the annotation's bytes and of every file's path and size."""
        digest = hashlib.sha256()
        for _, files in sorted(self.annotation.items()):
            for _, path in sorted(files.items()):
                digest.update(path.read_bytes())
        for path, size in sorted(self.sizes.items()):
            # A name that is no UTF-8 counts by its bytes.
            digest.update(f"{path}\t{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @property
    def stamp(self) -> str:
        """SHA-256 of when every file was last changed."""
        digest = hashlib.sha256()
        for path in sorted(self.sizes):
            digest.update(f"{(self.root / path).stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()


def find_tree(folder: Path | str, account: Account, follow_links: bool = False) -> Tree:
    """Recognise the corpus in `folder` or up to two folders below it, and list its files."""
    folder = find_path(Path(folder))
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the corpus with --corpus FOLDER")
    for pattern in ("*", "*/*", "*/*/*"):
        found = (path for path in folder.glob(pattern) if path.name.casefold() == "annotation")
        if annotations := sorted(path for path in found if path.is_dir()):
            break
    if len(annotations) != 1:
        roots = ", ".join(str(path.parent) for path in annotations) or "none"
        raise UserError(
            f"{folder}: expected one corpus, a folder with annotation/ and wav/ in it; "
            f"found {roots}"
        )
    tree = recognise(annotations[0], account)
    tree.follow_links = follow_links
    below = {path.name.casefold(): path for path in sorted(tree.root.iterdir())}
    wav = below.get("wav", tree.root / "wav")
    for path in (wav, *chain.from_iterable(files.values() for files in tree.annotation.values())):
        if problem := link_problem(tree, path):
            raise UserError(f"{path} is a {problem}")
    if not wav.is_dir():
        raise UserError(
            f"{wav} is no folder: the corpus needs its recordings there; a release without "
            "recordings cannot be used"
        )
    list_files(tree, wav.name, DIALOGUE_DEPTH[tree.kind], account)
    if not any(path.casefold().endswith(RECORDINGS) for path in tree.sizes):
        raise UserError(f"{wav}: {describe_silence(tree, account)}")
    return tree


def describe_silence(tree: Tree, account: Account) -> str:
    """Say what a corpus without recordings has in their place."""
    where = f"{DIALOGUE_DEPTH[tree.kind]} folder{'s' * (DIALOGUE_DEPTH[tree.kind] > 1)} below"
    reasons = Counter(entry["reason"] for entry in account.ignored)
    ignored = "".join(f", {count} {reason}" for reason, count in reasons.most_common(1))
    return (
        f"no recording (.wav, .flac) {where}, where {tree.kind} has them; found "
        f"{len(tree.sizes)} transcripts{ignored}: a release or copy without recordings cannot be "
        "used, get them too"
    )


def recognise(folder: Path, account: Account) -> Tree:
    """Tell KEMDy19 from KEMDy20 by the names of the annotation files, which are in `folder`."""
    names = sorted(path.name for path in folder.iterdir())
    trees = []
    for kind, pattern in ANNOTATION_NAMES.items():
        annotation: dict[int, dict[str, Path]] = {}
        for match in filter(None, map(pattern.fullmatch, names)):
            files = annotation.setdefault(int(match["session"]), {})
            first = files.setdefault(match["rated"].upper(), folder / match[0])
            if first.name != match[0]:
                raise UserError(f"{folder}: {first.name} and {match[0]} are for the same: keep one")
        if annotation:
            trees.append(Tree(folder.parent, kind, annotation))
    if len(trees) != 1:
        raise UserError(
            f"{folder} is neither KEMDy19 (Session01_F_res.csv, Session01_M_res.csv, ...) nor "
            f"KEMDy20 (Sess01_eval.csv, ...): found {', '.join(names[:6]) or 'no file'}"
        )
    known = {path.name for files in trees[0].annotation.values() for path in files.values()}
    for name in sorted(set(names) - known):
        account.ignored.append({"path": f"annotation/{name}", "reason": "not an annotation file"})
    for session, files in trees[0].annotation.items():
        if trees[0].kind == "KEMDy19" and len(files) < 2:
            raise UserError(
                f"{folder}: session {session:02d} has only {next(iter(files.values())).name}; both "
                f"Session{session:02d}_F_res.csv and Session{session:02d}_M_res.csv are needed"
            )
    return trees[0]


def list_files(tree: Tree, folder: str, depth: int, account: Account) -> None:
    """List recordings and transcripts exactly `depth` folders below `folder`, a path below root.

    Everything else is noted and not read: a `converted/` folder holds files with the names of the
    right ones.
    """
    try:
        with os.scandir(tree.root / folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{tree.root / folder} cannot be listed: {error}") from None
    for entry in entries:
        path = f"{folder}/{entry.name}"
        reason = link_problem(tree, Path(entry.path)) if entry.is_symlink() else ""
        if reason:
            tree.refused[path.casefold()] = reason
        elif entry.is_dir():
            if depth:
                list_files(tree, path, depth - 1, account)
            else:
                reason = "folder below a dialogue"
        else:
            reason = file_problem(tree, path, depth)
            if not reason:
                tree.sizes[path] = entry.stat().st_size
                tree.places[path.casefold()] = path
        if reason:
            account.ignored.append({"path": path, "reason": reason})


def file_problem(tree: Tree, path: str, depth: int) -> str:
    """Return why a file `depth` folders above the corpus's own is not read; "" if it is."""
    name = path.rpartition("/")[2].casefold()
    if name.startswith("."):
        return "hidden file"
    if name.endswith(OTHER_RECORDINGS):
        return "recording in a format that is not read: convert it to .wav or .flac"
    if not name.endswith((*RECORDINGS, *TRANSCRIPTS)):
        return "neither recording nor transcript"
    if depth:
        return "not in the folder of its dialogue"
    if path.casefold() in tree.places:
        return "same name as another file but for upper and lower case"
    return ""


def link_problem(tree: Tree, path: Path) -> str:
    """Return why a path is not followed if it is a symbolic link; "" for one that is."""
    if not path.is_symlink() and not path.exists():
        return ""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop is one or the other, as Python's versions have it
        return "symbolic link to nothing or to itself"
    if path.parent.resolve().is_relative_to(target):
        return "symbolic link to a folder above it"
    leads_out = not target.is_relative_to(tree.root.resolve())
    return LEADS_OUT if leads_out and not tree.follow_links else ""
