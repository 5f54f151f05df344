"""How long preprocessing takes at full size, against copying the same bytes and against librosa.

    python benchmarks/preprocess.py --corpus data/sample

Writes to the work folder a corpus of KEMDy19's size made by repeating the recordings of another
one, then prints the time of preprocess.py, its largest memory, and two ratios: to `cat` of all the
corpus's files into one new file, and to a loop of librosa.load. The cache is warm for all.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.corpus import recordings
from pipeline.corpus.account import Account
from pipeline.corpus.matching import read_corpus
from pipeline.corpus.tree import find_tree
from pipeline.files import RATE
from pipeline.labels import LABELS
from pipeline.sample.writer import Segment, Session, unanimous, write_kemdy19

# ------------------------------------------------------------------------------------------------
CORPUS = "data/sample"  # whose recordings are repeated
WORK = "outputs/benchmark_corpus"  # the large corpus and what is made of it
UTTERANCES = 10000
HOURS = 16.0  # recordings are repeated or cut in proportion
JOBS = -1  # as in preprocess.py
ROUNDS = 3  # the best of so many
# ------------------------------------------------------------------------------------------------

SESSIONS = 20
DIALOGUES = 10


def main() -> None:
    corpus = Path(WORK) / "KEMDy19"
    if not corpus.exists():
        write_large_corpus(corpus)
    recordings = sorted(map(str, corpus.glob("wav/*/*/*.wav")))
    gigabytes = sum(Path(path).stat().st_size for path in recordings) / 1e9
    print(f"{len(recordings)} recordings, {gigabytes:.2f} GB, best of {ROUNDS} rounds")
    rivals = {
        "preprocess.py": lambda: preprocess(corpus),
        "cat": lambda: copy_with_cat(corpus),
        "cat and sync": lambda: copy_with_cat(corpus, sync=True),
        "librosa.load": lambda: load_with_librosa(recordings),
    }
    times = {name: [timed(rival) for _ in range(ROUNDS)] for name, rival in rivals.items()}
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    own = min(times["preprocess.py"])
    for name, rounds in times.items():
        wall, cpu = min(rounds)
        print(
            f"{name:14} {wall:7.2f} s, processor {cpu:6.2f} s; preprocess.py takes "
            f"{own[0] / wall:.2f} times as long, {own[1] / cpu:.2f} times the processor"
        )
    print(f"largest memory of preprocess.py: {memory:.2f} GB")


def write_large_corpus(folder: Path) -> None:
    """Write KEMDy19's tree: 20 sessions of 10 dialogues, F and M in turn."""
    tree = find_tree(CORPUS, Account())
    sources = read_corpus(tree, Account())
    clips = [recordings.read(str(tree.root / source.recording))[0] for source in sources]
    stretch = HOURS * 3600 * RATE / UTTERANCES / np.mean([len(clip) for clip in clips])
    text = (tree.root / sources[0].transcript).read_text(encoding="utf-8").strip()
    each = UTTERANCES // (SESSIONS * DIALOGUES)
    number = 0
    for session in range(1, SESSIONS + 1):
        segments = []
        for dialogue in range(DIALOGUES):
            scenario = f"script{dialogue + 1:02d}" if dialogue < 6 else f"impro{dialogue - 5:02d}"
            for turn in range(each):
                clip = clips[number % len(clips)]
                emotion = unanimous(LABELS[number % len(LABELS)])
                segments.append(
                    Segment(
                        id=f"Sess{session:02d}_{scenario}_{'FM'[turn % 2]}{turn // 2 + 1:03d}",
                        rows={"F": emotion, "M": emotion},
                        text=f"{text} {number}",
                        audio=np.resize(clip, round(len(clip) * stretch)),
                    )
                )
                number += 1
        write_kemdy19(folder, [Session(session, segments)])


def timed(function: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds that a call takes, and those of the processor, child processes included.

    On a busy machine only the latter tell much.
    """
    wall, before = time.perf_counter(), os.times()
    function()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


def copy_with_cat(corpus: Path, sync: bool = False) -> None:
    """Read all of the corpus's recordings and transcripts, write them to one file."""
    copy = corpus.with_name("copy")
    copy.unlink(missing_ok=True)
    command = f"find '{corpus}/wav' -type f -print0 | xargs -0 cat > '{copy}'"
    subprocess.run(command + (f" && sync '{copy}'" if sync else ""), shell=True, check=True)


def preprocess(corpus: Path) -> None:
    """Run the stage as a user does."""
    script = Path(__file__).resolve().parent.parent / "preprocess.py"
    folders = ["--data", f"{WORK}/processed", "--outputs", f"{WORK}/outputs"]
    command = [sys.executable, str(script), "--corpus", str(corpus), *folders, "--jobs", str(JOBS)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def load_with_librosa(paths: list[str]) -> None:
    """Load every recording with librosa, one after another."""
    for path in paths:
        librosa.load(path, sr=RATE)


if __name__ == "__main__":
    config.run(main)
