"""A corpus as it is read; or several as one, their names kept apart.

The folder's name of one of several stands before its IDs and speakers:
`KEMDy20:Sess01_script01_User002M_001` is an ID, `KEMDy20:User002M` a speaker. Session 3 of the
second corpus given is session 2003.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.files import UserError, read_json
from corpora.account import Account
from corpora.matching import read_corpus
from corpora.tree import Tree

APART = 1000  # added to the session numbers of the first corpus of several; twice to the second's
NAME = re.compile(r"[\w.-]+")  # a name is part of IDs, which stand in tables


@dataclass
class Corpus:
    """One corpus, or several as one.

    trees: of each on disk.  sessions: of each, by its name.  root: the folder that the paths of the
    recordings are below.  table: the utterances.  synthetic: the notice of a corpus that no person
    spoke, else None.
    """

    trees: list[Tree]
    sessions: dict[str, list[int]]
    root: Path
    table: pd.DataFrame
    account: Account
    synthetic: str | None

    def describe(self) -> dict:
        """Return the manifest's `corpus`; of several, `parts` says which sessions are whose."""
        parts = [
            {"name": name, "kind": tree.kind, "fingerprint": tree.fingerprint(), "sessions": own}
            for (name, own), tree in zip(self.sessions.items(), self.trees, strict=True)
        ]
        prints = "".join(part["fingerprint"] for part in parts)
        several = {"parts": parts} if len(parts) > 1 else {}
        return {
            "kind": " + ".join(dict.fromkeys(part["kind"] for part in parts)),
            "name": " + ".join(self.sessions),
            "fingerprint": hashlib.sha256(prints.encode()).hexdigest() if several else prints,
            "annotation_files": self.account.annotation_files,
            "annotation_rows": self.account.annotation_rows,
            "speaker_rows": self.account.speaker_rows,
            **several,
        }


def open_corpus(tree: Tree) -> Corpus:
    """Read a corpus's annotation and match it with the files."""
    sessions = {tree.root.resolve().name: sorted(tree.annotation)}
    notice, path = None, tree.root / "SYNTHETIC.json"
    if path.exists():
        content = read_json(path, "sample_corpus.py")
        notice = content.get("notice") if isinstance(content, dict) else None
        if not notice or not isinstance(notice, str):
            raise UserError(
                f"{path} has no text under 'notice': run sample_corpus.py again, or remove the "
                "file if people speak in this corpus"
            )
    return Corpus([tree], sessions, tree.root, read_corpus(tree), tree.account, notice)


def join(corpora: list[Corpus]) -> Corpus:
    """Return several corpora as one, in the order given; a single one stays as it is."""
    if len(corpora) == 1:
        return corpora[0]
    root = Path(os.path.commonpath([corpus.root.resolve() for corpus in corpora]))
    joined = Corpus([], {}, root, pd.DataFrame(), Account(), None)
    tables, notices = [], {}
    for number, corpus in enumerate(corpora, 1):
        ((name, sessions),) = corpus.sessions.items()
        if name in joined.sessions or not NAME.fullmatch(name):
            raise UserError(
                f"--corpus: a folder named '{name}' cannot be one of several corpora: each needs a "
                "name of its own, of letters, digits, '.', '_' and '-'; rename it"
            )
        if sessions[-1] >= APART:
            raise UserError(
                f"{corpus.root}: session {sessions[-1]}: one of several corpora numbers its "
                f"sessions below {APART}"
            )
        joined.trees += corpus.trees
        joined.sessions[name] = [number * APART + session for session in sessions]
        joined.account.add(corpus.account, name)
        notices[corpus.synthetic] = None
        table, folder = corpus.table, corpus.root.resolve().relative_to(root).as_posix()
        named = {column: f"{name}:" + table[column] for column in ("id", "speaker", "where")}
        placed = {column: f"{folder}/" + table[column] for column in ("recording", "transcript")}
        session = number * APART + table["session"]
        tables.append(table.assign(**named, **placed, session=session, corpus=name))
    joined.table = pd.concat(tables).sort_values("id", ignore_index=True)
    joined.synthetic = " ".join(filter(None, notices)) or None
    return joined
