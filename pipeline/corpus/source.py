"""A corpus on disk with what became of its rows; or several as one, their names kept apart.

One of several gives its folder's name to what is its own: `KEMDy20:Sess01_script01_User002M_001` is
an ID, `KEMDy20:User002M` a speaker, and session 3 of the second corpus given is session 2003.
"""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.corpus.account import Account
from pipeline.corpus.matching import Utterance, list_orphans, note_pairs, read_corpus
from pipeline.corpus.tree import Tree
from pipeline.files import UserError, read_json

APART = 1000  # added to the session numbers of the first corpus of several; twice to the second's
NAME = re.compile(r"[\w.-]+")  # a name is part of IDs, which stand in tables


@dataclass(frozen=True)
class Source:
    """What preprocess.py reads.

    sessions: of each corpus, by its name.  root: the folder that the utterances' paths are below.
    synthetic: what a corpus that no person spoke says of itself, else None.
    """

    trees: list[Tree]
    sessions: dict[str, list[int]]
    root: Path
    utterances: list[Utterance]
    account: Account
    synthetic: str | None

    def describe(self) -> dict:
        """Return the manifest's `corpus`; of several, `parts` says which sessions are whose."""
        kinds = dict.fromkeys(tree.kind for tree in self.trees)
        prints = [tree.fingerprint for tree in self.trees]
        described = {
            "kind": " + ".join(kinds),
            "name": " + ".join(self.sessions),
            "fingerprint": prints[0],
            "annotation_files": self.account.annotation_files,
            "annotation_rows": self.account.annotation_rows,
            "speaker_rows": self.account.speaker_rows,
        }
        if len(prints) > 1:
            described["fingerprint"] = hashlib.sha256("".join(prints).encode()).hexdigest()
            described["parts"] = [
                {"name": name, "kind": tree.kind, "fingerprint": own, "sessions": sessions}
                for (name, sessions), tree, own in zip(
                    self.sessions.items(), self.trees, prints, strict=True
                )
            ]
        return described


def read_source(tree: Tree, account: Account) -> Source:
    """Read a corpus's annotation and match it with the files."""
    utterances = read_corpus(tree, account)
    note_pairs(tree, account)
    list_orphans(tree, account)
    sessions = {tree.root.resolve().name: sorted(tree.annotation)}
    return Source([tree], sessions, tree.root, utterances, account, read_notice(tree))


def read_notice(tree: Tree) -> str | None:
    """Return what a corpus that no person spoke says of itself; None for a real one."""
    path = tree.root / "SYNTHETIC.json"
    if not path.exists():
        return None
    content = read_json(path, "sample_corpus.py")
    notice = content.get("notice") if isinstance(content, dict) else None
    if not notice or not isinstance(notice, str):
        raise UserError(
            f"{path} has no text under 'notice': run sample_corpus.py again, or remove the file if "
            "people speak in this corpus"
        )
    return notice


def join(sources: list[Source]) -> Source:
    """Return several corpora as one, in the order given; a single one stays as it is."""
    if len(sources) == 1:
        return sources[0]
    names = [name for source in sources for name in source.sessions]
    for name in names:
        if names.count(name) > 1 or not NAME.fullmatch(name):
            raise UserError(
                f"--corpus: a folder named '{name}' cannot be one of several corpora: each needs a "
                "name of its own, of letters, digits, '.', '_' and '-'; rename it"
            )
    root = Path(os.path.commonpath([source.root.resolve() for source in sources]))
    apart = [keep_apart(source, number, root) for number, source in enumerate(sources, 1)]
    account = Account()
    for source in apart:
        account.add(source.account)
    notices = dict.fromkeys(source.synthetic for source in apart if source.synthetic)
    return Source(
        trees=[source.trees[0] for source in apart],
        sessions={name: own for source in apart for name, own in source.sessions.items()},
        root=root,
        utterances=sorted((u for s in apart for u in s.utterances), key=lambda u: u.id),
        account=account,
        synthetic=" ".join(notices) or None,
    )


def keep_apart(source: Source, number: int, root: Path) -> Source:
    """Return a corpus, the number-th of several, under names and paths that no other one has."""
    ((name, sessions),) = source.sessions.items()
    if sessions[-1] >= APART:
        raise UserError(
            f"{source.root}: session {sessions[-1]}: one of several corpora numbers its sessions "
            f"below {APART}"
        )
    folder = source.root.resolve().relative_to(root).as_posix()
    utterances = [
        replace(
            u,
            id=f"{name}:{u.id}",
            corpus=name,
            session=number * APART + u.session,
            speaker=f"{name}:{u.speaker}",
            recording=f"{folder}/{u.recording}",
            transcript=f"{folder}/{u.transcript}",
            where=f"{name}:{u.where}",
        )
        for u in source.utterances
    ]
    return replace(
        source,
        sessions={name: [number * APART + session for session in sessions]},
        utterances=utterances,
        account=source.account.named(name),
    )
