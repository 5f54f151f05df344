"""How long preprocessing takes at KEMDy19's size, against copying the same bytes, and its memory.

The corpus is 10,000 recordings of noise and invented texts, 16 h in all; `cat` reads all of its
recordings and transcripts and writes one new file. The cache is warm for both.
"""

import subprocess
import tempfile
from pathlib import Path

from benchmarks.measure import alternate, peak_memory, row, run_script, write_corpus

UTTERANCES = 10_000


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        corpus, copy = Path(folder) / "corpus", Path(folder) / "copy"
        write_corpus(corpus, UTTERANCES)
        command = ["preprocess.py", "--corpus", corpus, "--restart", "yes"]
        command += ["--data", Path(folder) / "data", "--outputs", Path(folder) / "outputs"]
        cat = f"find '{corpus}/wav' -type f -print0 | xargs -0 cat > '{copy}'; rm '{copy}'"
        ours, copying = alternate(
            lambda: run_script(*command), lambda: subprocess.run(cat, shell=True, check=True)
        )
        memory = peak_memory(*command)
    name = f"preprocess.py, {UTTERANCES} recordings of 16 h, against cat > file"
    return [
        row(name, "s", ours, copying, most=4),
        row("peak memory of preprocess.py", "GB", memory, most=2),
    ]
