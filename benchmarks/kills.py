"""Kill every stage at random moments, start it again, and compare with a run that was left alone.

    python -m benchmarks.kills

Each stage is killed KILLS times, by turns at a random one of its operations on files (so within
saves, renames, clearing away) and after a random time, and then started once more. Every file that
the stages write must be the same bytes as in the run that was left alone. Prints the count, and
ends with status 1 if anything was lost. Stages are forked from one process that has imported the
libraries, so that a start takes no time.
"""

from common import settings  # first of all: it answers --help

# isort: split

import os
import random
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path

from common.stages import ROOT

# ----------------------------------------------------------------------------------------------
KILLS = 5  # of each stage
SEED = 1
STAGES = ()  # names of scripts; empty: all
# ----------------------------------------------------------------------------------------------

PLACES = ["--data", "data", "--outputs", "outputs"]
TRAINING = [*PLACES, "--epochs", "2", "--precision", "float32", "--save-minutes", "0"]
WORDS = ["--bert", str(ROOT / "models" / "kobert-mini"), "--batch-size", "16"]
# No stage may depend on one that is left out: a test takes the first few.
COMMANDS = {
    "sample_corpus.py": ["--corpus", "corpus", "--sessions", "5", "--utterances", "20"],
    "preprocess.py": ["--corpus", "corpus", *PLACES],
    "text_pretrain.py": [
        *("--text", "lines.txt", "--outputs", "outputs", "--precision", "float32"),
        *("--vocabulary", "300", "--width", "32", "--heads", "2", "--layers", "1"),
        *("--feed-forward", "64", "--batch-tokens", "256", "--held-out", "20", "--steps", "12"),
        *("--warmup-steps", "2", "--decay-steps", "4", "--save-steps", "3"),
    ],
    "text_train.py": [*TRAINING, *WORDS],
    "text_test.py": PLACES,
    "audio_train.py": [*TRAINING, "--batch-size", "8"],
    "audio_test.py": PLACES,
    "run_classifier.py": [*TRAINING, *WORDS],
    "baseline.py": PLACES,
    "ensemble.py": PLACES,
}
WORDS_OF_LINES = ("오늘", "기분이", "정말", "좋아요", "너무", "무서워서", "집에", "갔어", "아파")
# What names the date or the machine.
DATED = ("ensemble.md", "ensemble.tex", "ensemble_details.json", "report.html", "records")
ON_FILES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "fcntl.flock")


def main() -> None:
    chosen = STAGES or tuple(COMMANDS)
    with tempfile.TemporaryDirectory() as scratch:
        whole, parts = Path(scratch) / "whole", Path(scratch) / "parts"
        for folder in (whole, parts):
            folder.mkdir()
            write_lines(folder / "lines.txt")
        killed = lost = 0
        draw = random.Random(SEED)
        for script in chosen:
            runpy.run_path(str(ROOT / script), run_name="imported")  # and so the libraries
            seconds, operations = measure(script, whole)
            died = 0
            for number in range(KILLS):
                if number % 2:
                    died += start(script, parts, seconds=draw.uniform(0, seconds)) != 0
                else:
                    died += start(script, parts, operation=draw.randrange(operations)) != 0
            status = start(script, parts)
            wrong = compare(whole, parts)
            killed, lost = killed + died, lost + bool(status or wrong)
            if status:
                print((parts / "log.txt").read_text().splitlines()[-1])
            result = ", ".join(wrong[:5]) or f"the same {len(list_files(whole))} files"
            print(f"{script}: killed {died} times, then status {status}: {result}", flush=True)
    print(f"{killed} kills of {len(chosen)} stages; stages that lost something: {lost}")
    sys.exit(bool(lost))


def write_lines(path: Path) -> None:
    """Write lines for pretraining: no sense, but words that come back."""
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS_OF_LINES, k=6)) for _ in range(200)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(script: str, folder: Path) -> tuple[float, int]:
    """Run a stage undisturbed; return its seconds and its operations on files."""
    began, log = time.monotonic(), folder / f"{script}.count"
    if status := start(script, folder, count=log):
        raise SystemExit(f"{script} ended with status {status}: {(folder / 'log.txt').read_text()}")
    operations = int(log.read_text())
    log.unlink()
    return time.monotonic() - began, operations


def start(
    script: str, folder: Path, operation: int = -1, seconds: float = 0.0, count: Path | None = None
) -> int:
    """Run a stage in a forked process; return its exit status, of a killed one the signal.

    operation: before which of its operations on files it kills itself.  seconds: after which time
    it is killed.  count: where to write how many such operations there were.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        os.chdir(folder)
        sys.argv = [script, *COMMANDS[script]]
        sys.stdout = sys.stderr = open("log.txt", "a")  # noqa: SIM115 - ends with the process
        done = count_operations(operation)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # its signal ends the process
        runpy.run_path(str(ROOT / script), run_name="__main__")
        status = 0
        if count:
            count.write_text(str(done[0]))
    except SystemExit as leaving:
        status = leaving.code
    finally:
        sys.stdout.flush()
        os._exit(status)


def count_operations(last: int) -> list[int]:
    """Count this process's operations on files in a list of one number; before `last`, die."""
    done = [0]

    def count(event: str, arguments: tuple) -> None:
        if event in ON_FILES:
            if done[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)
            done[0] += 1

    sys.addaudithook(count)
    return done


def list_files(folder: Path) -> list[Path]:
    """Return what the stages wrote, apart from what names the date."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [name for name in names if name.name != "log.txt" and not set(name.parts) & set(DATED)]


def compare(whole: Path, parts: Path) -> list[str]:
    """Name the files that are missing, left over or different."""
    expected, found = set(list_files(whole)), set(list_files(parts))
    both = expected & found
    changed = {n for n in both if (whole / n).read_bytes() != (parts / n).read_bytes()}
    return sorted(map(str, (expected ^ found) | changed))


if __name__ == "__main__":
    settings.run(main)
