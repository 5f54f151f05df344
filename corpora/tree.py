"""The folder tree of KEMDy19 or KEMDy20: which corpus it is, where an utterance's files are.

Paths are built from segment IDs and looked up in a list of the files that are there, so an ID can
never lead out of the corpus. No recording and no transcript is opened here.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from common.files import UserError
from corpora.account import Account
from corpora.annotation import ID_PATTERNS
from corpora.source import Source

ANNOTATION_NAMES = {
    "KEMDy19": re.compile(r"Session(?P<session>[0-9]{2,})_(?P<rated>[FM])_res\.csv", re.IGNORECASE),
    "KEMDy20": re.compile(r"Sess(?P<session>[0-9]{2,})_(?P<rated>e)val\.csv", re.IGNORECASE),
}
DIALOGUE_DEPTH = {"KEMDy19": 2, "KEMDy20": 1}  # folders between wav/ and the files
RECORDING, TRANSCRIPT = (".wav", ".flac"), (".txt",)
OTHER_RECORDING = (".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma", ".aif", ".aiff", ".pcm", ".raw")


@dataclass
class Tree(Source):
    """A corpus on disk, in KEMDy's tree.

    annotation: session -> {"F", "M" or "E": path}.  places: the paths of `sizes` by their
    case-folded names, because file systems differ in whether they tell `A.WAV` from `a.wav`.
    """

    annotation: dict[int, dict[str, Path]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def parse(self, identifier: str, session: int) -> re.Match | None:
        """Return the parts of a Segment ID, None if that is no ID of this session.

        Session 17 of KEMDy20 carries another session's prefix, so only KEMDy19's has to agree.
        """
        match = ID_PATTERNS[self.kind].fullmatch(identifier)
        is_other = match and self.kind == "KEMDy19" and int(match["session"]) != session
        return None if is_other else match

    def stem_of(self, identifier: str, session: int) -> str | None:
        """Return the path below root, without extension, of an ID's files; None for no ID."""
        match = self.parse(identifier, session)
        if match is None:
            return None
        if self.kind == "KEMDy20":
            return f"wav/Session{session:02d}/{match[0]}"
        dialogue = f"Sess{match['session']}_{match['scenario']}"
        return f"wav/Session{match['session']}/{dialogue}/{match[0]}"

    def find(self, stem: str) -> tuple[str | None, str | None]:
        """Return the paths below root of a segment's recording and transcript, None for neither."""
        name = stem.casefold()
        wav, flac, transcript = (self.places.get(name + end) for end in (*RECORDING, *TRANSCRIPT))
        return wav or flac, transcript

    def has_files(self, identifier: str, session: int) -> bool:
        """Tell whether an ID of this session has both its recording and its transcript."""
        stem = self.stem_of(identifier, session)
        return bool(stem) and all(self.find(stem))


def find_tree(folder: Path | str, follow_links: bool = False) -> Tree:
    """Recognise the corpus in `folder` or up to two folders below it, and list its files."""
    annotations = find_annotations(Path(folder))
    if len(annotations) != 1:
        roots = ", ".join(str(path.parent) for path in annotations) or "none"
        raise UserError(
            f"{folder}: expected one corpus, a folder with annotation/ and wav/ in it; "
            f"found {roots}"
        )
    tree = recognise(annotations[0], follow_links)
    below = {path.name.casefold(): path for path in sorted(tree.root.iterdir())}
    wav = below.get("wav", tree.root / "wav")
    tree.check_tables()
    if problem := tree.link_problem(wav):
        raise UserError(f"{wav} is a {problem}")
    if not wav.is_dir():
        raise UserError(
            f"{wav} is no folder: the corpus needs its recordings there; a release without "
            "recordings cannot be used"
        )
    depth = DIALOGUE_DEPTH[tree.kind]
    list_files(tree, wav.name, depth)
    if not any(path.casefold().endswith(RECORDING) for path in tree.sizes):
        reasons = Counter(entry["reason"] for entry in tree.account.ignored).most_common(1)
        ignored = "".join(f", {count} {reason}" for reason, count in reasons)
        raise UserError(
            f"{wav}: no recording (.wav, .flac) {depth} folder{'s' * (depth > 1)} below, where "
            f"{tree.kind} has them; found {len(tree.sizes)} transcripts{ignored}: a release or "
            "copy without recordings cannot be used, get them too"
        )
    return tree


def find_annotations(folder: Path) -> list[Path]:
    """Return the folders `annotation` in a folder, or else one or two folders below it."""
    for pattern in ("*", "*/*", "*/*/*"):
        found = (path for path in folder.glob(pattern) if path.name.casefold() == "annotation")
        if annotations := sorted(path for path in found if path.is_dir()):
            return annotations
    return []


def has_kemdy(folder: Path) -> bool:
    """Tell whether a folder has annotation of KEMDy's names in it."""
    return any(
        pattern.fullmatch(path.name)
        for annotation in find_annotations(folder)
        for path in annotation.iterdir()
        for pattern in ANNOTATION_NAMES.values()
    )


def recognise(folder: Path, follow_links: bool) -> Tree:
    """Tell KEMDy19 from KEMDy20 by the names of the annotation files, which are in `folder`."""
    names = sorted(path.name for path in folder.iterdir())
    found = {
        kind: [match for match in map(pattern.fullmatch, names) if match]
        for kind, pattern in ANNOTATION_NAMES.items()
    }
    kinds = [kind for kind, matches in found.items() if matches]
    if len(kinds) != 1:
        raise UserError(
            f"{folder} is neither KEMDy19 (Session01_F_res.csv, Session01_M_res.csv, ...) nor "
            f"KEMDy20 (Sess01_eval.csv, ...): found {', '.join(names[:6]) or 'no file'}"
        )
    tree = Tree(folder.parent, kinds[0], follow_links, Account())
    for match in found[tree.kind]:
        files = tree.annotation.setdefault(int(match["session"]), {})
        first = files.setdefault(match["rated"].upper(), folder / match[0])
        if first.name != match[0]:
            raise UserError(f"{folder}: {first.name} and {match[0]} are for the same: keep one")
    for name in sorted(set(names) - {match[0] for match in found[tree.kind]}):
        tree.account.ignore(f"annotation/{name}", "not an annotation file")
    for session, files in tree.annotation.items():
        if tree.kind == "KEMDy19" and len(files) < 2:
            raise UserError(
                f"{folder}: session {session:02d} has only {next(iter(files.values())).name}; both "
                f"Session{session:02d}_F_res.csv and Session{session:02d}_M_res.csv are needed"
            )
    sessions = sorted(tree.annotation.items())
    tree.tables = [path for _, files in sessions for _, path in sorted(files.items())]
    return tree


def list_files(tree: Tree, folder: str, depth: int) -> None:
    """List recordings and transcripts exactly `depth` folders below `folder`, a path below root.

    All other files are named in the account and not read: a `converted/` folder holds files with
    the names of the right ones.
    """
    try:
        entries = sorted(os.scandir(tree.root / folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{tree.root / folder} cannot be listed: {error}") from None
    for entry in entries:
        path = f"{folder}/{entry.name}"
        reason = tree.link_problem(Path(entry.path)) if entry.is_symlink() else ""
        if not reason and entry.is_dir():
            if depth:
                list_files(tree, path, depth - 1)
                continue
            reason = "folder below a dialogue"
        if reason := reason or file_problem(tree, path, depth):
            tree.account.ignore(path, reason)
        else:
            tree.sizes[path] = entry.stat().st_size
            tree.places[path.casefold()] = path


def file_problem(tree: Tree, path: str, depth: int) -> str:
    """Return why a file `depth` folders above its dialogue's folder is not read, or ""."""
    name = path.rpartition("/")[2].casefold()
    if name.startswith("."):
        return "hidden file"
    if name.endswith(OTHER_RECORDING):
        return "recording in a format that is not read: convert it to .wav or .flac"
    if not name.endswith((*RECORDING, *TRANSCRIPT)):
        return "neither recording nor transcript"
    if depth:
        return "not in the folder of its dialogue"
    if path.casefold() in tree.places:
        return "same name as another file but for upper and lower case"
    return ""
