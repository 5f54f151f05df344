"""A corpus as it is read, of any kind; or several as one, their names kept apart.

The name of one of several, its folder's or its table's, stands before its IDs and speakers:
`KEMDy20:Sess01_script01_User002M_001` is an ID, `KEMDy20:User002M` a speaker. Session 3 of the
second corpus given is session 2003; where a corpus has a thousand sessions, 20003, and so on.
"""

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd

from common.files import UserError, read_json
from corpora.account import Account
from corpora.aihub import INTENDED, AIHub, find_aihub, find_releases, read_aihub
from corpora.kesdy import KESDy, find_kesdy, find_workbooks, read_kesdy
from corpora.matching import read_corpus
from corpora.sheets import BOOK, TEXTS, names_of
from corpora.source import KNOWN, SUPPOSED, UNKNOWN, Source, find_path, normal
from corpora.splits import SPLITS, split_sessions
from corpora.table import Table, find_table, read_table
from corpora.tree import Tree, find_tree, has_kemdy

READERS = {Tree: read_corpus, Table: read_table, AIHub: read_aihub, KESDy: read_kesdy}
APART = 1000  # added to the session numbers of the first corpus of several; twice to the second's
CERTAINTY = (KNOWN, SUPPOSED, UNKNOWN)
NAME = re.compile(r"[\w.-]+")  # a name is part of IDs, which stand in tables


def find_source(
    name: str, follow_links: bool = False, label_column: str = "", speakers: str = KNOWN
) -> Source:
    """Recognise a corpus: a table, or a folder of KEMDy19, KEMDy20, AI Hub's 263 or KESDy18.

    It is called as its file or folder is here, whatever folder below that it lies in.
    """
    path = find_path(Path(name))
    source = recognise(path, follow_links, label_column, speakers)
    given = Path(os.path.abspath(path))  # of a link its own name
    source.name = normal(given.stem if path.is_file() else given.name)
    return source


def recognise(path: Path, follow_links: bool, label_column: str, speakers: str) -> Source:
    """Return the corpus of a path, by what lies there."""
    if path.is_file():
        if path.suffix.casefold() not in (*TEXTS, BOOK):
            raise UserError(
                f"{path} is neither a folder nor a table ({', '.join((*TEXTS, BOOK))}): unzip an "
                "archive, save a spreadsheet as .xlsx or CSV"
            )
        return find_table(path, follow_links, label_column, speakers)
    if not path.is_dir():
        raise UserError(f"{path} is no folder and no table: give the corpus with --corpus")
    if not has_kemdy(path):
        if find_releases(path):
            return find_aihub(path, follow_links, label_column)
        if find_workbooks(path):
            return find_kesdy(path, follow_links, speakers)
    return find_tree(path, follow_links)


def check_use(sources: list[Source], label_column: str, speakers: str) -> None:
    """Refuse settings that none of the corpora has a use for; the others pass over them."""
    columns = [source.label for source in sources if isinstance(source, Table | AIHub)]
    if label_column and names_of([label_column])[0] not in columns:
        raise UserError(
            f"LABEL_COLUMN = '{label_column}': no table has that column, and the releases of AI "
            f"Hub 263 have {INTENDED}: correct it, or leave it out"
        )
    if speakers == UNKNOWN and all(source.speakers != UNKNOWN for source in sources):
        raise UserError(
            f"SPEAKERS = '{speakers}' is for tables without a column 'speaker', and for KESDy18 "
            "where the names of the files tell no actors: leave it out"
        )


@dataclass
class Corpus:
    """One corpus, or several as one.

    sources: of each on disk.  sessions: of each, by its name.  root: the folder that the paths of
    the recordings are below.  table: the utterances.  synthetic: the notice of a corpus that no
    person spoke, else None.
    """

    sources: list[Source]
    sessions: dict[str, list[int]]
    root: Path
    table: pd.DataFrame
    account: Account
    synthetic: str | None

    @property
    def has_seven(self) -> bool:
        """Whether KEMDy is among the corpora, whose seven labels are classes in any case."""
        return any(isinstance(source, Tree) for source in self.sources)

    @property
    def speakers(self) -> str:
        """How the speakers are known: of several corpora, those that are known least."""
        return max((source.speakers for source in self.sources), key=CERTAINTY.index)

    @property
    def warnings(self) -> list[str]:
        """What is to be said beside every score, of one of several corpora with its name."""
        several = len(self.sources) > 1
        return [
            f"{source.name}: {said}" if several else said
            for source in self.sources
            for said in source.warnings
        ]

    def describe(self) -> dict:
        """Return the manifest's `corpus`; of several, `parts` says which sessions are whose."""
        parts = [
            {
                **{"name": name, "kind": source.kind, "fingerprint": source.fingerprint()},
                **{"sessions": own, "speakers": source.speakers, "remarks": source.remarks},
            }
            for (name, own), source in zip(self.sessions.items(), self.sources, strict=True)
        ]
        prints = "".join(part["fingerprint"] for part in parts)
        several = {"parts": parts} if len(parts) > 1 else {"remarks": parts[0]["remarks"]}
        return {
            "kind": " + ".join(dict.fromkeys(part["kind"] for part in parts)),
            "name": " + ".join(self.sessions),
            "fingerprint": prints if len(parts) == 1 else sha256(prints.encode()).hexdigest(),
            "annotation_files": self.account.annotation_files,
            "annotation_rows": self.account.annotation_rows,
            "speaker_rows": self.account.speaker_rows,
            **several,
        }

    def own_splits(self) -> dict[str, dict[str, list[int]]]:
        """Return the sessions of each split of the tables that have a column of them, by name."""
        given = self.table[self.table["split"] != ""]
        split_of = dict(zip(given["session"], given["split"], strict=True))
        return {
            name: {split: [s for s in own if split_of.get(s) == split] for split in SPLITS}
            for name, own in self.sessions.items()
            if split_of.keys() & {*own}
        }

    def say(self, name: str, said: str) -> None:
        """Print a remark on the corpus of that name, and keep it for the report."""
        print(f"{name}: {said}")
        (source,) = (source for source in self.sources if source.name == name)
        source.remarks.append(said if len(self.sources) == 1 else f"{name}: {said}")


def open_corpus(source: Source) -> Corpus:
    """Read a corpus's annotation and match it with the files."""
    notice, path = None, source.root / "SYNTHETIC.json"
    if path.exists():
        content = read_json(path, "sample_corpus.py")
        notice = content.get("notice") if isinstance(content, dict) else None
        if not notice or not isinstance(notice, str):
            raise UserError(
                f"{path} has no text under 'notice': run sample_corpus.py again, or remove the "
                "file if people speak in this corpus"
            )
    table = READERS[type(source)](source)
    # Of KEMDy all that are annotated; elsewhere they are made of the rows that can be used.
    found = source.annotation if isinstance(source, Tree) else map(int, table["session"].unique())
    return Corpus(
        [source], {source.name: sorted(found)}, source.root, table, source.account, notice
    )


def join(corpora: list[Corpus]) -> Corpus:
    """Return several corpora as one, in the order given; a single one stays as it is."""
    if len(corpora) == 1:
        return corpora[0]
    root = Path(os.path.commonpath([corpus.root.resolve() for corpus in corpora]))
    joined = Corpus([], {}, root, pd.DataFrame(), Account(), None)
    most = max(sessions[-1] for corpus in corpora for sessions in corpus.sessions.values())
    apart = max(APART, 10 ** len(str(most)))
    tables, notices = [], {}
    for number, corpus in enumerate(corpora, 1):
        ((name, sessions),) = corpus.sessions.items()
        if name in joined.sessions or not NAME.fullmatch(name):
            raise UserError(
                f"--corpus: a folder or table named '{name}' cannot be one of several corpora: "
                "each needs a name of its own, of letters, digits, '.', '_' and '-'; rename it"
            )
        joined.sources += corpus.sources
        joined.sessions[name] = [number * apart + session for session in sessions]
        joined.account.add(corpus.account, name)
        notices[corpus.synthetic] = None
        table, folder = corpus.table, corpus.root.resolve().relative_to(root).as_posix()
        named = {column: f"{name}:" + table[column] for column in ("id", "speaker", "where")}
        placed = {
            column: (f"{folder}/" + table[column]).where(table[column] != "", "")
            for column in ("recording", "transcript")
        }
        session = number * apart + table["session"]
        tables.append(table.assign(**named, **placed, session=session, corpus=name))
    joined.table = pd.concat(tables).sort_values("id", ignore_index=True)
    joined.synthetic = " ".join(filter(None, notices)) or None
    return joined


def choose_splits(corpus: Corpus, test: str, valid: str, tested: str) -> dict[str, list[int]]:
    """Return the sessions of each split: a table's own, of other corpora by the settings.

    tested: TEST_CORPUS. All of it is tested, whatever its own splits; of the other tables with
    splits the test rows are left out.
    """
    own, tested = corpus.own_splits(), normal(tested)
    if tested and tested not in corpus.sessions:
        raise UserError(f"--test-corpus: '{tested}' is none of {', '.join(corpus.sessions)}")
    if tested in own:
        corpus.say(tested, "column 'split' is not read: TEST_CORPUS is tested as a whole")
        del own[tested]
    others = {name: found for name, found in corpus.sessions.items() if name not in own}
    if own and not others.keys() - {tested}:
        for name, value in (("TEST_SESSIONS", test), ("VALID_SESSIONS", valid)):
            if value:
                raise UserError(f"{name}: the table has a column 'split': leave one of both out")
        chosen = {"train": [], "valid": [], "test": others.get(tested, [])}
    else:
        unit = corpus.sources[0].unit if len(corpus.sources) == 1 else ""
        chosen = split_sessions(others, test, valid, tested, unit)
    for name in own if tested else ():
        leave_out(corpus, name, own[name].pop("test"))
    for splits in own.values():
        chosen = {split: sorted(chosen[split] + splits.get(split, [])) for split in SPLITS}
    for split in ("train", "test"):
        if not chosen[split]:
            names = " + ".join(corpus.sessions)
            raise UserError(f"{names}: no row that can be used has the split '{split}'")
    return chosen


def leave_out(corpus: Corpus, name: str, sessions: list[int]) -> None:
    """Drop a corpus's test rows, because another one is tested."""
    is_out = corpus.table["session"].isin(sessions)
    if is_out.any():
        corpus.say(name, f"{is_out.sum()} test rows are left out: TEST_CORPUS is another")
    for row in corpus.table[is_out].itertuples():
        corpus.account.drop(row.id, "test row, and TEST_CORPUS is another", row.where)
    corpus.table = corpus.table[~is_out].reset_index(drop=True)
