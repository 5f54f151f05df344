"""How long a script takes until its first step, and until its help is seen.

The first step is what main() does first: everything is imported, nothing is read. The baseline is
what any program with these libraries waits for.
"""

import subprocess
import sys
from collections.abc import Callable

from benchmarks.measure import ROOT, alternate, row

SCRIPTS = (
    *("preprocess", "text_train", "text_test", "audio_train", "audio_test", "run_classifier"),
    *("baseline", "ensemble", "predict", "text_pretrain", "sample_corpus"),
)


def rows() -> list[dict]:
    names = [f"import {name}" for name in SCRIPTS]
    libraries, *imports = alternate(
        *(run("-c", code) for code in ("import torch, transformers", *names)), rounds=3
    )
    nothing, *helps = alternate(
        run("-c", "pass"), *(run(f"{name}.py", "--help") for name in SCRIPTS), rounds=3
    )
    found = [
        row(
            f"start of {name}.py, against import torch, transformers", "s", own, libraries, most=1.3
        )
        for name, own in zip(SCRIPTS, imports, strict=True)
    ]
    slowest = max(range(len(SCRIPTS)), key=helps.__getitem__)
    title = f"slowest --help ({SCRIPTS[slowest]}.py), more than python -c pass"
    return [*found, row(title, "s", helps[slowest] - nothing, most=0.2)]


def run(*arguments: str) -> Callable[[], object]:
    """Return a call that runs Python with these arguments, silently."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
