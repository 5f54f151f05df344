"""Measure how fast the project is, side by side with what it is to be compared with.

    python benchmarks/run.py
    python benchmarks/run.py preprocess growth

Writes  RESULTS/<machine>.json and .md: a row for every comparison, with its target

Without names all of DEFAULT are run.
Rows of an earlier run on the same machine stay until their benchmark is run again.
"""

import sys
from pathlib import Path

# Not this folder, whose fusion.py would stand in for the package of that name.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import settings  # first of all: it answers --help

# isort: split

import os
import platform
import re
import time
from importlib import import_module
from importlib.metadata import version

import torch

from common.files import UserError, read_json, write_json, write_text

# --------------------------------------------------------------------------------------
NAMES = ()  # benchmarks: given without a name
RESULTS = "benchmarks/results"
# --------------------------------------------------------------------------------------

DEFAULT = ("preprocess", "fusion")
NAMED = ("growth",)  # takes long
PACKAGES = ("torch", "transformers", "numpy", "scipy", "librosa", "scikit-learn", "matplotlib")
COLUMNS = ("benchmark", "name", "unit", "ours", "baseline", "ratio", "target", "met", "date")


def main() -> None:
    unknown = set(NAMES) - {*DEFAULT, *NAMED}
    if unknown:
        known = ", ".join((*DEFAULT, *NAMED))
        raise UserError(f"no benchmark '{min(unknown)}': there are {known}")
    machine = describe_machine()
    path = Path(RESULTS) / f"{machine['name']}.json"
    for name in NAMES or DEFAULT:
        start = time.perf_counter()
        rows = import_module(f"benchmarks.{name}").rows()
        today = time.strftime("%Y-%m-%d")
        rows = [{"benchmark": name, **row, "date": today} for row in rows]
        print(f"{name}, {time.perf_counter() - start:.0f} s\n\n{tabulate(rows)}", flush=True)
        earlier = read_json(path, "benchmarks/run.py")["rows"] if path.is_file() else []
        rows = [row for row in earlier if row["benchmark"] != name] + rows
        rows.sort(key=lambda row: (*DEFAULT, *NAMED).index(row["benchmark"]))
        write_json(path, {"machine": machine, "rows": rows})
        write_text(path.with_suffix(".md"), write_page(machine, rows))
    print(f"written: {path} and .md")


def describe_machine() -> dict[str, str | int]:
    """Return what a figure depends on beside the code."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        cpu = re.search(r"model name\s*: (.*)", info.read_text())
        cpu = cpu[1] if cpu else platform.machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    cores = len(os.sched_getaffinity(0))
    name = re.sub(r"\(R\)|[^a-z0-9]+", "-", f"{device or cpu} {cores} cores".lower()).strip("-")
    return {
        "name": name,
        "cpu": cpu,
        "cores": cores,
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "gpu": device or "none",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def tabulate(rows: list[dict]) -> str:
    """Return rows as a table in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        lines.append("| " + " | ".join(format_cell(row[column]) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def format_cell(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return f"{value:.3g}" if isinstance(value, float) and value < 1000 else str(value)


def write_page(machine: dict, rows: list[dict]) -> str:
    """Return the page of a machine: what it is, and its table."""
    described = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "name")
    note = "A target is of the ratio ours / baseline, of ours where there is no baseline."
    return f"# {machine['name']}\n\n{described}\n\n{note}\n\n{tabulate(rows)}"


if __name__ == "__main__":
    settings.run(main, words="names")
