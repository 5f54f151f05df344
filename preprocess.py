"""Make the aligned files that every later stage reads, from a corpus or from a table of one's own.

    python preprocess.py --corpus data/KEMDy19 --data data/processed
    python preprocess.py --corpus data/mine/list.csv
    python preprocess.py --corpus data/KEMDy19,data/KEMDy20 --test-corpus KEMDy20

Reads a folder of KEMDy19, KEMDy20, KESDy18 or AI Hub's data set 263, or a table (.csv, .tsv, .xlsx)
with the columns path (below the table's folder), label and speaker, and if there are: text,
session, dialogue, turn, start, end (seconds of a piece), valence, arousal, gender, scenario, split,
and the raters' votes: votes_happy ..., or labels, joined by ";". LABEL_MAP joins labels, LABELS
chooses and orders them.
Writes {train,valid,test}.tsv (one utterance a row; dialogue_number is the place of its dialogue in
the session, turn its place in the dialogue, both in the order of time, which is that of the
annotation's rows; level and noise of its recording in dB), {train,valid,test}_audio.npy
(recordings one after another, 16 kHz mono int16),
manifest.json (an account of every annotated utterance, and how the training recordings sound), and
a report with plots under outputs/corpus/.

Several corpora are read as one: the tables get a column `corpus`, IDs and speakers begin with the
folder's or table's name (KEMDy20:User002M), and session 3 of the second corpus is 2003, here and in
the settings. Each gives its last sessions to test and validation, or one is tested as a whole.

For a corpus beyond one machine: `pip install distributed`, start `dask scheduler` on one,
`PYTHONPATH=. dask worker tcp://HOST:8786` in this folder on all, and give --cluster
tcp://HOST:8786. Every machine must see the corpus and the data folder under the same paths.
"""

from common import settings  # first of all: it answers --help

# isort: split

import csv
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from common import sound
from common.files import DIMENSIONS, sha256, write_json, write_text
from common.stages import Stage
from corpora.account import Account, print_account
from corpora.counts import compare_counts, count_utterances, count_verbatim, is_tied
from corpora.labels import choose_labels, hash_map
from corpora.reading import read_texts_and_lengths, start_workers, write_audio
from corpora.report import print_corpus, summarise, write_report
from corpora.several import Corpus, check_use, choose_splits, find_source, join, open_corpus
from corpora.splits import SPLITS, check_not_empty, split_utterances
from corpora.utterances import COLUMNS, EXTRA, VOTES

# ------------------------------------------------------------------------------------------------
CORPUS = "data/KEMDy19"  # a corpus's folder, or one above it, or a table's file; several: "a,b"
DATA = "data/processed"  # where the aligned files go
OUTPUTS = "outputs"  # the report goes to its corpus/
RESTART = False  # yes: also if an earlier run left all of this
TEST_SESSIONS = ""  # "17-20" or "1,3,5-7"; empty: the last fifth of the sessions
TEST_CORPUS = ""  # of several, the one that is tested as a whole, by its folder's or table's name
VALID_SESSIONS = ""  # empty: the last tenth before it; none: no validation, the paper's
LABELS = ""  # the labels that are used, in this order: "angry,happy"; empty: all of the corpus
LABEL_MAP = ""  # "excited=happy,boredom=drop", or a CSV file of two columns, old and new
LABEL_COLUMN = ""  # where a table or AI Hub's data set ("상황") has several, the one that counts
SPEAKERS = "known"  # unknown: of corpora that name none; then one person may stand in two splits
TIES = "first"  # tied labels: first (the paper's), drop
FOLLOW_LINKS = False  # read through symbolic links that lead out of the corpus, such as wav/
TEXT_STYLE = "spoken"  # spoken (what was said), hangul (the paper's: Hangul and blanks)
JOBS = -1  # threads; -1: one a core
CLUSTER = ""  # address of a Dask scheduler, tcp://host:8786; empty: this machine
# ------------------------------------------------------------------------------------------------

MEASURED = 1000  # training recordings, at most, that the reference range is made of


def main() -> None:
    gc.freeze()  # the garbage collector need not look through what was imported: 0.4 s less
    data, report = Path(DATA), Path(OUTPUTS) / "corpus"
    how = FOLLOW_LINKS, LABEL_COLUMN, SPEAKERS
    sources = [find_source(name.strip(), *how) for name in CORPUS.split(",")]
    check_use(sources, LABEL_COLUMN, SPEAKERS)
    inputs = {
        "corpus": " ".join(source.fingerprint() + source.stamp() for source in sources),
        "label_map": hash_map(LABEL_MAP),
        "report": os.path.relpath(report, data),
    }
    stage = Stage("preprocess.py", data, settings.read(globals()), inputs)
    if stage.is_done():
        return
    report.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=report).close()  # before hours of reading: the report is written last
    unfinished = stage.unfinished

    corpora = [open_corpus(source) for source in sources]
    for corpus in corpora:
        print_corpus(corpus)
    corpus = join(corpora)
    mapped = corpus.account, corpus.has_seven, LABELS, LABEL_MAP
    corpus.table, labels = choose_labels(corpus.table, *mapped)
    print(f"labels: {', '.join(labels)}")
    scale = find_scale(corpus)
    blank_off_scale(corpus.table, scale, corpus.account)
    sessions = choose_splits(corpus, TEST_SESSIONS, VALID_SESSIONS, TEST_CORPUS)
    used = apply_tie_rule(corpus.table, labels, corpus.account)
    hashing, hashes = ThreadPoolExecutor(1), {}  # a file is hashed while others are written
    with start_workers(JOBS, CLUSTER) as parallel:
        used = read_texts_and_lengths(parallel, corpus.root, used, TEXT_STYLE, corpus.account)
        used = split_utterances(used, sessions)
        written = []
        for split in SPLITS:
            rows, path = used[used["split"] == split], unfinished / f"{split}_audio.npy"
            written.append(write_audio(parallel, corpus.root, rows, path, corpus.account))
            hashes[split] = hashing.submit(sha256, path)
        used = pd.concat(written, ignore_index=True)
    print_account(corpus.account)
    check_not_empty(used, sessions)

    manifest = describe(corpus, labels, sessions, used) | {"dimension_scale": scale}
    manifest["reference_range"] = measure_reference(unfinished / "train_audio.npy", written[0])
    print("\n".join(summarise(manifest)))
    write_report(report, manifest, used, corpus.account)
    manifest["files"] = {}
    for split, rows in zip(SPLITS, written, strict=True):
        write_table(unfinished / f"{split}.tsv", rows, labels)
        manifest["files"][f"{split}.tsv"] = sha256(unfinished / f"{split}.tsv")
        manifest["files"][f"{split}_audio.npy"] = hashes[split].result()
    write_json(unfinished / "manifest.json", manifest)
    stage.publish()
    names = ", ".join(manifest["files"])
    print(f"written: {names} and manifest.json in {data}; {report / 'report.md'}")


def apply_tie_rule(table: pd.DataFrame, labels: list[str], account: Account) -> pd.DataFrame:
    """Drop the utterances that TIES excludes, and say what it does to the classes."""
    tied = is_tied(table)
    print(f"ties: {tied.sum()} of {len(table)} utterances have several labels;", end=" ")
    if TIES == "drop":
        print("dropped")
        for row in table[tied].itertuples():
            account.drop(row.id, "tied labels (--ties drop)", row.where)
        return table[~tied]
    first = (tied & (table["label"] == labels[0])).sum()
    said = f"makes {first} of them {labels[0]} ({labels[0]} comes first)"
    print(f"the first one counts, which {said}")
    return table


def describe(
    corpus: Corpus, labels: list[str], sessions: dict[str, list[int]], used: pd.DataFrame
) -> dict:
    """Return the manifest without the files' hashes: the corpus, and what became of its rows."""
    account, known_counts = corpus.account, None
    # The published counts are of one corpus: of several, each is checked when it is read alone.
    if len(corpus.sources) == 1 and not corpus.synthetic and not LABELS and not LABEL_MAP:
        paper_rules = (TIES, TEXT_STYLE) == ("first", "hangul")
        known_counts = compare_counts(corpus.sources[0], corpus.table, used, paper_rules)
    return {
        "corpus": corpus.describe(),
        "synthetic": corpus.synthetic,
        "settings": settings.read(globals()),
        "labels": labels,
        "speakers": corpus.speakers,
        "warnings": corpus.warnings,
        "has_words": bool((used["text"] != "").any()),
        "sessions": sessions,
        "counts": count_utterances(used, labels),
        "known_counts": known_counts,
        "verbatim": count_verbatim(used),
        "repaired": account.repaired,
        "dropped": account.dropped,
        "orphans": account.orphans,
        "ignored": account.ignored,
        "noted": account.noted,
    }


def find_scale(corpus: Corpus) -> list[float]:
    """Return the lowest and the highest valence or arousal that a rater can give.

    ETRI's raters gave 1 to 5; of a table of one's own all rows tell.
    """
    if any(source.kind == "table" for source in corpus.sources):
        rated = corpus.table[[*DIMENSIONS]].to_numpy(float)
        rated = rated[np.isfinite(rated)]
        if len(np.unique(rated)) > 1:
            return [float(rated.min()), float(rated.max())]
    return [1.0, 5.0]


def blank_off_scale(table: pd.DataFrame, scale: list[float], account: Account) -> None:
    """Blank a valence or arousal that no rater can have given, a lost decimal point perhaps."""
    for name in DIMENSIONS:
        is_off = (table[name] < scale[0]) | (table[name] > scale[1])
        for row in table[is_off].itertuples():
            reason = f"{name} outside {scale[0]:g}-{scale[1]:g}: left blank"
            account.note(row.id, reason, f"{row.where}: {getattr(row, name):g}")
        table.loc[is_off, name] = float("nan")


def measure_reference(path: Path, rows: pd.DataFrame) -> dict[str, list[float]]:
    """Return how the training recordings sound, by MEASURED of them at most: {name: [low, high]}.

    Predicting says of a recording beyond it that it is unlike the training.
    """
    samples = np.load(path, mmap_mode="r", allow_pickle=False)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MEASURED)).round().astype(int)
    clips = (
        samples[first : first + count]
        for first, count in rows[["first_sample", "sample_count"]].to_numpy()[chosen]
    )
    pool = Parallel(n_jobs=JOBS, backend="threading")
    return sound.reference_range(pool(delayed(sound.measure)(clip) for clip in clips))


def write_table(path: Path, rows: pd.DataFrame, labels: list[str]) -> None:
    """Write a split's table; nothing in it has a tab or a line break, so nothing is quoted."""
    columns = [*COLUMNS, *(f"{VOTES}{label}" for label in labels), "first_sample", "sample_count"]
    columns += ["level", "noise"]
    columns += [name for name in (*EXTRA, "corpus") if name in rows]
    style = {"sep": "\t", "quoting": csv.QUOTE_NONE, "lineterminator": "\n"}
    write_text(path, rows[columns].to_csv(index=False, float_format="%.10g", **style))


if __name__ == "__main__":
    settings.run(main)
