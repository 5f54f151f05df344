"""The folder tree of KEMDy19 or KEMDy20: which corpus it is, where an utterance's files stand.

Paths are built from segment IDs and looked up in a list of what is there, so an ID can never lead
out of the corpus. No recording and no transcript is opened here.
"""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.corpus.account import Account
from pipeline.corpus.annotation import ID_PATTERNS
from pipeline.files import UserError

ANNOTATION_NAMES = {
    "KEMDy19": re.compile(r"Session(?P<session>[0-9]{2,})_(?P<rated>[FM])_res\.csv"),
    "KEMDy20": re.compile(r"Sess(?P<session>[0-9]{2,})_(?P<rated>e)val\.csv"),
}
DIALOGUE_DEPTH = {"KEMDy19": 2, "KEMDy20": 1}  # folders between wav/ and the files
RECORDINGS = (".wav", ".flac")
TRANSCRIPTS = (".txt",)


@dataclass
class Tree:
    """A corpus on disk.

    annotation: session -> {"F", "M" or "e": path}.  sizes: path below root -> bytes, of the
    recordings and transcripts that stand where the corpus has them.  refused: symbolic links that
    lead out of the corpus.
    """

    root: Path
    kind: str
    annotation: dict[int, dict[str, Path]]
    sizes: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

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
        return next((stem + e for e in extensions if stem + e in self.sizes), None)

    def has_files(self, identifier: str, session: int) -> bool:
        """Tell whether an ID of this session has both its recording and its transcript."""
        stem = self.stem_of(identifier, session)
        return bool(stem and self.find(stem, RECORDINGS) and self.find(stem, TRANSCRIPTS))

    def is_refused(self, stem: str) -> bool:
        """Tell whether a segment's files, or a folder above them, are links out of the corpus."""
        parts = stem.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        files = {stem + extension for extension in (*RECORDINGS, *TRANSCRIPTS)}
        return bool(self.refused & (above | files))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the annotation's bytes and of every file's path and size."""
        digest = hashlib.sha256()
        for _, files in sorted(self.annotation.items()):
            for _, path in sorted(files.items()):
                digest.update(path.read_bytes())
        for path, size in sorted(self.sizes.items()):
            digest.update(f"{path}\t{size}\n".encode())
        return digest.hexdigest()


def find_tree(folder: Path | str, account: Account) -> Tree:
    """Recognise the corpus in `folder` or up to two folders below it, and list its files."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the corpus with --corpus FOLDER")
    for pattern in ("annotation", "*/annotation", "*/*/annotation"):
        roots = sorted(path.parent for path in folder.glob(pattern) if path.is_dir())
        if roots:
            break
    if len(roots) != 1:
        found = ", ".join(map(str, roots)) or "none"
        raise UserError(
            f"{folder}: expected one corpus, a folder with annotation/ and wav/ in it; "
            f"found {found}"
        )
    tree = recognise(roots[0], account)
    wav = tree.root / "wav"
    if not wav.is_dir():
        raise UserError(f"{wav} is no folder: the corpus needs its recordings there")
    top = [wav, *(path for files in tree.annotation.values() for path in files.values())]
    for path in top:
        if leads_out(tree.root, path):
            raise UserError(f"{path} is a symbolic link out of the corpus: put the files there")
    list_files(tree, "wav", DIALOGUE_DEPTH[tree.kind], account)
    return tree


def recognise(root: Path, account: Account) -> Tree:
    """Tell KEMDy19 from KEMDy20 by the names of the annotation files."""
    names = sorted(path.name for path in (root / "annotation").iterdir())
    trees = []
    for kind, pattern in ANNOTATION_NAMES.items():
        annotation: dict[int, dict[str, Path]] = {}
        for match in filter(None, map(pattern.fullmatch, names)):
            files = annotation.setdefault(int(match["session"]), {})
            files[match["rated"]] = root / "annotation" / match[0]
        if annotation:
            trees.append(Tree(root, kind, annotation))
    if len(trees) != 1:
        raise UserError(
            f"{root / 'annotation'} is neither KEMDy19 (Session01_F_res.csv, Session01_M_res.csv, "
            f"...) nor KEMDy20 (Sess01_eval.csv, ...): found {', '.join(names[:6]) or 'no file'}"
        )
    known = {path.name for files in trees[0].annotation.values() for path in files.values()}
    for name in sorted(set(names) - known):
        account.ignored.append({"path": f"annotation/{name}", "reason": "not an annotation file"})
    for session, files in trees[0].annotation.items():
        if trees[0].kind == "KEMDy19" and len(files) < 2:
            raise UserError(
                f"{root / 'annotation'}: session {session:02d} has only "
                f"{next(iter(files.values())).name}; both Session{session:02d}_F_res.csv and "
                f"Session{session:02d}_M_res.csv are needed"
            )
    return trees[0]


def list_files(tree: Tree, folder: str, depth: int, account: Account) -> None:
    """List recordings and transcripts exactly `depth` folders below `folder`, a path below root.

    What lies deeper is noted and not read: a `converted/` folder holds files with the names of the
    right ones.
    """
    try:
        with os.scandir(tree.root / folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{tree.root / folder} cannot be listed: {error}") from None
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_symlink() and leads_out(tree.root, Path(entry.path)):
            tree.refused.add(path)
            account.ignored.append({"path": path, "reason": "symbolic link out of the corpus"})
        elif entry.is_dir() and depth:
            list_files(tree, path, depth - 1, account)
        elif entry.is_dir():
            account.ignored.append({"path": path, "reason": "folder below a dialogue"})
        elif entry.is_file() and not depth and path.endswith((*RECORDINGS, *TRANSCRIPTS)):
            tree.sizes[path] = entry.stat().st_size


def leads_out(root: Path, path: Path) -> bool:
    """Tell whether a path ends outside the corpus once symbolic links are followed."""
    return not path.resolve().is_relative_to(root.resolve())
