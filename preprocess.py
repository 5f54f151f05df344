"""Make the aligned files that every later stage reads from a KEMDy19 or KEMDy20 corpus.

    python preprocess.py --corpus data/KEMDy19 --data data/processed

Reads the corpus: annotation/*.csv, wav/**/*.{wav,flac} and *.txt, one utterance a pair.
Writes {train,valid,test}.tsv (one utterance a row, and which turn of its dialogue it is),
{train,valid,test}_audio.npy (recordings one after another, 16 kHz mono int16), manifest.json (an
account of every annotated utterance), and a report with plots under outputs/corpus/.

For a corpus beyond one machine: start `dask scheduler` on one, `PYTHONPATH=. dask worker
tcp://HOST:8786` in this folder on all, and give --cluster tcp://HOST:8786. Every machine must see
the corpus and the data folder under the same paths.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import math
import signal
from collections import Counter
from multiprocessing import Process
from pathlib import Path

from pipeline.corpus import known_counts
from pipeline.corpus.account import Account
from pipeline.corpus.ingest import read_texts_and_lengths, workers, write_audio
from pipeline.corpus.matching import Utterance, list_orphans, read_corpus
from pipeline.corpus.report import (
    measure_verbatim,
    print_account,
    print_corpus,
    print_summary,
    write_report,
)
from pipeline.corpus.splits import SPLITS, check_not_empty, split_sessions, split_utterances
from pipeline.corpus.transcripts import DEFAULT_STYLE, STYLES
from pipeline.corpus.tree import Tree, find_tree
from pipeline.files import RATE, UserError, read_json, sha256, write_json, write_text
from pipeline.labels import LABELS

# ------------------------------------------------------------------------------------------------
CORPUS = "data/KEMDy19"  # KEMDy19 or KEMDy20, any release, or a folder above it
DATA = "data/processed"  # where the aligned files go
OUTPUTS = "outputs"  # the report goes to its corpus/
TEST_SESSIONS = ""  # "17-20" or "1,3,5-7"; empty: the last fifth of the sessions
VALID_SESSIONS = ""  # empty: the last tenth before it; none: no validation, the paper's
TIES = "first"  # tied labels: first (the paper's), drop, soft (first; training aims at the votes)
FOLLOW_LINKS = False  # read through symbolic links that lead out of the corpus, such as wav/
TEXT = DEFAULT_STYLE  # spoken (what was said), hangul (the paper's: Hangul and blanks)
JOBS = -1  # threads; -1: one a core
CLUSTER = ""  # address of a Dask scheduler, tcp://host:8786; empty: this machine
# ------------------------------------------------------------------------------------------------

TIE_RULES = ("first", "drop", "soft")
COLUMNS = (
    *("id", "session", "speaker", "gender", "scenario", "turn", "wav_start", "wav_end"),
    *("label", "labels", "text", "valence", "arousal"),
    *(f"votes_{label}" for label in LABELS),
    *("first_sample", "sample_count"),
)


def main() -> None:
    check_settings()
    data, report = Path(DATA), Path(OUTPUTS) / "corpus"
    account = Account()
    tree = find_tree(CORPUS, account, FOLLOW_LINKS)
    # An interrupted run leaves no manifest, so it cannot be mistaken for a finished one.
    (data / "manifest.json").unlink(missing_ok=True)

    matched = read_corpus(tree, account)
    list_orphans(tree, account)
    synthetic = read_notice(tree)
    print_corpus(tree, account, synthetic)
    sessions = split_sessions(tree.annotation, TEST_SESSIONS, VALID_SESSIONS)
    utterances = choose_labels(matched, account)
    with workers(JOBS, CLUSTER) as parallel:
        utterances = read_texts_and_lengths(parallel, tree.root, utterances, TEXT, account)
        splits = split_utterances(utterances, sessions)
        planned = join(splits)
        drawing = draw(report, planned)
        hashes = {}
        for split in SPLITS:
            name = f"{split}_audio.npy"
            splits[split], hashes[name] = write_audio(
                parallel, tree.root, splits[split], data / name, account
            )
    print_account(account)
    check_not_empty(splits, sessions)
    used = join(splits)
    if used != planned:
        drawing.join()
        drawing = draw(report, used)
    names = [name for split in SPLITS for name in (f"{split}.tsv", f"{split}_audio.npy")]
    for split in SPLITS:
        write_table(data / f"{split}.tsv", splits[split])
        hashes[f"{split}.tsv"] = sha256(data / f"{split}.tsv")
    manifest = describe(tree, synthetic, sessions, matched, splits, account)
    print_summary(manifest)
    write_report(report, manifest, used, account)
    drawing.join()
    if drawing.exitcode:
        raise UserError(f"the plots in {report} could not be written")
    manifest["files"] = {name: hashes[name] for name in names}
    write_json(data / "manifest.json", manifest)
    print(f"written: {', '.join(names)} and manifest.json in {data}; {report / 'report.md'}")


def join(splits: dict[str, list[Utterance]]) -> list[Utterance]:
    """Return the utterances of all splits, one split after another."""
    return [utterance for split in SPLITS for utterance in splits[split]]


def draw(report: Path, utterances: list[Utterance]) -> Process:
    """Start to draw the plots: beside the copying, whose threads would wait for Python's lock."""
    process = Process(target=draw_beside, args=(report, utterances))
    process.start()
    return process


def draw_beside(report: Path, utterances: list[Utterance]) -> None:
    """Draw the plots, in a process of its own."""
    from pipeline.figures.corpus import draw_all  # here: takes a second

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage itself says that it is interrupted
    draw_all(report, utterances)


def check_settings() -> None:
    """Refuse words that a setting does not know, before anything is read."""
    for name, value, allowed in (("ties", TIES, TIE_RULES), ("text", TEXT, STYLES)):
        if value not in allowed:
            raise UserError(f"--{name}: '{value}' is none of {', '.join(allowed)}")
    if JOBS == 0:
        raise UserError("--jobs: 0 threads do nothing; -1 is one a core")


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
    lines = ["\t".join(COLUMNS)]
    first_sample = 0
    for u in utterances:
        cells = (u.id, u.session, u.speaker, u.gender, u.scenario, u.turn)
        times = map(blank_nan, (u.wav_start, u.wav_end))
        said = (u.label, ";".join(u.labels), u.text, blank_nan(u.valence), blank_nan(u.arousal))
        lines.append("\t".join(map(str, (*cells, *times, *said, *u.votes, first_sample, u.length))))
        first_sample += u.length
    write_text(path, "\n".join(lines) + "\n")


def blank_nan(value: float) -> str:
    """Write a number; nothing for nan, which readers of the table take for text."""
    return "" if math.isnan(value) else f"{value:.10g}"


def describe(
    tree: Tree,
    synthetic: str | None,
    sessions: dict[str, list[int]],
    matched: list[Utterance],
    splits: dict[str, list[Utterance]],
    account: Account,
) -> dict:
    """Return the manifest without the files' hashes: what went in and what became of it."""
    used = join(splits)
    known = None
    if not synthetic and known_counts.is_full(tree, matched):
        paper_rules = (TIES, TEXT) == ("first", "hangul")
        known = known_counts.compare(tree, account, matched, used, paper_rules)
    return {
        "corpus": {
            "kind": tree.kind,
            "name": tree.root.resolve().name,
            "fingerprint": tree.fingerprint,
            "annotation_files": account.annotation_files,
            "annotation_rows": account.annotation_rows,
            "speaker_rows": account.speaker_rows,
        },
        "synthetic": synthetic,
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
    used = join(splits)
    return {
        "used": len(used),
        "split": {split: len(splits[split]) for split in SPLITS},
        "class": {
            split: {label: sum(u.label == label for u in splits[split]) for label in LABELS}
            for split in SPLITS
        },
        "session": dict(sorted(Counter(u.session for u in used).items())),
        "tied": {split: sum(len(u.labels) > 1 for u in splits[split]) for split in SPLITS},
        "seconds": {
            split: round(sum(u.length for u in splits[split]) / RATE, 2) for split in SPLITS
        },
    }


if __name__ == "__main__":
    config.run(main)
