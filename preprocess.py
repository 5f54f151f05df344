"""Make the aligned files that every later stage reads from a KEMDy19 or KEMDy20 corpus.

    python preprocess.py --corpus data/KEMDy19 --data data/processed
    python preprocess.py --corpus data/KEMDy19,data/KEMDy20 --test-corpus KEMDy20

Reads the corpus: annotation/*.csv, wav/**/*.{wav,flac} and *.txt, one utterance a pair.
Writes {train,valid,test}.tsv (one utterance a row; dialogue_number, turn: its place in the order
of time, which is that of the annotation's rows: the dialogue's in the session, its own in that),
{train,valid,test}_audio.npy (recordings one after another, 16 kHz mono int16; where --shard-hours
cuts them _audio-00000.npy, _audio-00001.npy ..., samples counted over all), manifest.json (an
account of every annotated utterance), and a report with plots under outputs/corpus/.

Several corpora are read as one: the tables get a column `corpus`, IDs and speakers begin with the
folder's name (KEMDy20:User002M), and session 3 of the second corpus is 2003, here and in the
settings. Each gives its last sessions to test and validation, or one is tested as a whole.

For a corpus beyond one machine: start `dask scheduler` on one, `PYTHONPATH=. dask worker
tcp://HOST:8786` in this folder on all, and give --cluster tcp://HOST:8786. Every machine must see
the corpus and the data folder under the same paths.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import math
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Process, parent_process
from pathlib import Path
from threading import Thread

from joblib import Parallel

from pipeline.corpus import known_counts
from pipeline.corpus.account import Account
from pipeline.corpus.ingest import cut_shards, read_texts_and_lengths, workers, write_audio
from pipeline.corpus.matching import Utterance
from pipeline.corpus.report import (
    measure_verbatim,
    print_account,
    print_corpus,
    print_summary,
    write_report,
)
from pipeline.corpus.source import Source, join, read_source
from pipeline.corpus.splits import SPLITS, check_not_empty, split_sessions, split_utterances
from pipeline.corpus.tree import find_tree
from pipeline.files import RATE, WRITTEN, UserError, hold, sha256, write_json, write_text
from pipeline.labels import LABELS
from pipeline.record import Work

# ------------------------------------------------------------------------------------------------
CORPUS = "data/KEMDy19"  # KEMDy19 or KEMDy20, any release, or a folder above it; several: "a,b"
DATA = "data/processed"  # where the aligned files go
OUTPUTS = "outputs"  # the report goes to its corpus/
RESTART = False  # yes: also if an earlier run left all of this
TEST_SESSIONS = ""  # "17-20" or "1,3,5-7"; empty: the last fifth of the sessions
TEST_CORPUS = ""  # of several, the one that is tested as a whole, by its folder's name
VALID_SESSIONS = ""  # empty: the last tenth before it; none: no validation, the paper's
TIES = "first"  # tied labels: first (the paper's), drop, soft (first; training aims at the votes)
FOLLOW_LINKS = False  # read through symbolic links that lead out of the corpus, such as wav/
TEXT = "spoken"  # spoken (what was said), hangul (the paper's: Hangul and blanks)
SHARD_HOURS = 0.0  # of recordings in a file; a longer split has several; 0: one file a split
JOBS = -1  # threads; -1: one a core
CLUSTER = ""  # address of a Dask scheduler, tcp://host:8786; empty: this machine
# ------------------------------------------------------------------------------------------------

COLUMNS = (
    *("id", "session", "speaker", "gender", "scenario", "dialogue_number", "turn"),
    *("wav_start", "wav_end"),
    *("label", "labels", "text", "valence", "arousal"),
    *(f"votes_{label}" for label in LABELS),
    *("first_sample", "sample_count"),
)


def main() -> None:
    data, report = Path(DATA), Path(OUTPUTS) / "corpus"
    folders = [folder.strip() for folder in CORPUS.split(",")]
    accounts = [Account() for _ in folders]
    trees = [find_tree(*each, FOLLOW_LINKS) for each in zip(folders, accounts, strict=True)]
    inputs = {
        "corpus": " ".join(tree.fingerprint + tree.stamp for tree in trees),
        "report": os.path.relpath(report, data),
    }
    work = Work("preprocess.py", data, config.settings(globals()), inputs, data / "data")
    made = data / "unfinished"  # an earlier run's data stand until these are whole
    hold(report)  # which is written last, and may be where nothing can be written
    work.take_up(made)
    if work.is_done():
        return
    shutil.rmtree(made, ignore_errors=True)

    sources = list(map(read_source, trees, accounts))
    for source in sources:
        print_corpus(source)
    source = join(sources)
    account = source.account
    sessions = split_sessions(source.sessions, TEST_SESSIONS, VALID_SESSIONS, TEST_CORPUS)
    utterances = choose_labels(source.utterances, account)
    with drawing(report) as draw:
        with workers(JOBS, CLUSTER) as parallel:
            utterances = read_texts_and_lengths(parallel, source.root, utterances, TEXT, account)
            splits = split_utterances(utterances, sessions)
            planned, hashes = join_splits(splits), {}
            draw(planned)
            for split in SPLITS:
                splits[split], hashes[split] = write_recordings(
                    parallel, source, split, splits[split], made
                )
        print_account(account)
        check_not_empty(splits, sessions)
        used = join_splits(splits)
        if used != planned:
            draw(used)
        manifest = describe(source, sessions, splits)
        print_summary(manifest)
        write_report(report, manifest, used, account)
        manifest["files"] = {}
        for split in SPLITS:
            table = made / f"{split}.tsv"
            write_table(table, splits[split])
            manifest["files"] |= {table.name: sha256(table), **hashes[split]}
    WRITTEN.extend(sorted(report.glob("*.png")))  # by another process
    write_json(made / "manifest.json", manifest)
    work.complete(made, manifest["files"])  # hashed while they were copied
    names = ", ".join(manifest["files"])
    print(f"written: {names} and manifest.json in {data}; {report / 'report.md'}")


def write_recordings(
    parallel: Parallel, source: Source, split: str, utterances: list[Utterance], folder: Path
) -> tuple[list[Utterance], dict[str, str]]:
    """Write a split's recordings; return the utterances written, and the hash of each file."""
    shards, written, hashes = cut_shards(utterances, SHARD_HOURS), [], {}
    for number, shard in enumerate(shards):
        name = f"{split}_audio-{number:05d}.npy" if len(shards) > 1 else f"{split}_audio.npy"
        kept, hashes[name] = write_audio(
            parallel, source.root, shard, folder / name, source.account
        )
        written += kept
    return written, hashes


def join_splits(splits: dict[str, list[Utterance]]) -> list[Utterance]:
    """Return the utterances of all splits, one split after another."""
    return [utterance for split in SPLITS for utterance in splits[split]]


@contextmanager
def drawing(report: Path) -> Iterator[Callable[[list[Utterance]], None]]:
    """Yield a function that starts to draw the plots of utterances, in place of those begun before.

    They are drawn beside the copying, by another process: threads would wait for Python's lock.
    Leaving waits for them, but if the run fails it ends them: another run may begin at once.
    """
    begun = []

    def end() -> None:
        for process in begun:
            process.terminate()
            process.join()

    def draw(utterances: list[Utterance]) -> None:
        end()
        begun[:] = [Process(target=draw_beside, args=(report, utterances))]
        begun[0].start()

    try:
        yield draw
        begun[0].join()
        if begun[0].exitcode:
            raise UserError(f"the plots in {report} could not be written")
    finally:
        end()


def draw_beside(report: Path, utterances: list[Utterance]) -> None:
    """Draw the plots, in a process of its own that ends if the stage's is killed."""
    from pipeline.figures.corpus import draw_all  # here: takes a second

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage itself says that it is interrupted
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    draw_all(report, utterances)


def choose_labels(utterances: list[Utterance], account: Account) -> list[Utterance]:
    """Drop what the rule for ties drops, and say what it does to the classes."""
    tied = [utterance for utterance in utterances if len(utterance.labels) > 1]
    neutral = sum(utterance.label == "neutral" for utterance in tied)
    print(f"ties: {len(tied)} of {len(utterances)} utterances have several labels;", end=" ")
    if TIES == "drop":
        print("dropped")
        for utterance in tied:
            account.drop(utterance.id, "tied labels (--ties drop)", utterance.where)
        return [utterance for utterance in utterances if len(utterance.labels) == 1]
    print(f"the first one counts, which makes {neutral} of them neutral (neutral comes first)")
    if TIES == "soft":
        for utterance in utterances:
            if not sum(utterance.votes):
                account.drop(utterance.id, "no votes (--ties soft)", utterance.where)
        return [utterance for utterance in utterances if sum(utterance.votes)]
    return utterances


def write_table(path: Path, utterances: list[Utterance]) -> None:
    """Write a split's table; texts hold neither tabs nor quotation marks, so nothing is quoted."""
    has_corpora = any(u.corpus for u in utterances)
    lines = ["\t".join([*COLUMNS, *["corpus"] * has_corpora])]
    first_sample = 0
    for u in utterances:
        cells = (u.id, u.session, u.speaker, u.gender, u.scenario)
        when = (u.dialogue_number, u.turn)
        times = map(blank_nan, (u.wav_start, u.wav_end))
        said = (u.label, ";".join(u.labels), u.text, blank_nan(u.valence), blank_nan(u.arousal))
        place = (first_sample, u.length, *[u.corpus] * has_corpora)
        lines.append("\t".join(map(str, (*cells, *when, *times, *said, *u.votes, *place))))
        first_sample += u.length
    write_text(path, "\n".join(lines) + "\n")


def blank_nan(value: float) -> str:
    """Write a number; nothing for nan, which readers of the table take for text."""
    return "" if math.isnan(value) else f"{value:.10g}"


def describe(
    source: Source, sessions: dict[str, list[int]], splits: dict[str, list[Utterance]]
) -> dict:
    """Return the manifest without the files' hashes: what went in and what became of it."""
    used = join_splits(splits)
    matched, account, known = source.utterances, source.account, None
    # The published counts are of one corpus: of several, each is checked when it is read alone.
    tree = source.trees[0] if len(source.trees) == 1 and not source.synthetic else None
    if tree and known_counts.is_full(tree, matched):
        paper_rules = (TIES, TEXT) == ("first", "hangul")
        known = known_counts.compare(tree, account, matched, used, paper_rules)
    return {
        "corpus": source.describe(),
        "synthetic": source.synthetic,
        "settings": config.settings(globals()),
        "labels": list(LABELS),
        "sessions": sessions,
        "counts": count_utterances(splits),
        "known_counts": known,
        "verbatim": measure_verbatim(splits),
        "repaired": account.repaired,
        "dropped": account.dropped,
        "orphans": account.orphans,
        "ignored": account.ignored,
        "noted": account.noted,
    }


def count_utterances(splits: dict[str, list[Utterance]]) -> dict:
    """Return utterances in all, by split, class and session, tied ones, and seconds."""
    used = join_splits(splits)
    return {
        "used": len(used),
        "split": {split: len(splits[split]) for split in SPLITS},
        "class": {
            split: {label: sum(u.label == label for u in splits[split]) for label in LABELS}
            for split in SPLITS
        },
        "session": dict(sorted(Counter(u.session for u in used).items())),
        **({"corpus": Counter(u.corpus for u in used)} if any(u.corpus for u in used) else {}),
        "tied": {split: sum(len(u.labels) > 1 for u in splits[split]) for split in SPLITS},
        "seconds": {
            split: round(sum(u.length for u in splits[split]) / RATE, 2) for split in SPLITS
        },
    }


if __name__ == "__main__":
    config.run(main)
