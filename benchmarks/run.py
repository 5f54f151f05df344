"""Measure how fast the project is, side by side with what it is to be compared with.

    python benchmarks/run.py
    python benchmarks/run.py start training
    python benchmarks/run.py training --worlds avx2

Writes  RESULTS/<machine>.json and .md: a row for every comparison, with its target

Without names all of DEFAULT are run. Each is run in a process of its own, as the machine is and as
one with AVX2 alone, which most have; what depends on threads, with all cores and with one.
Rows of an earlier run on the same machine stay until their benchmark is run again.
"""

import sys
from pathlib import Path

# Not this folder, whose fusion.py would stand in for the package of that name.
if Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import settings  # first of all: it answers --help

# isort: split

import json
import os
import platform
import re
import subprocess
import time
from importlib import import_module
from importlib.metadata import version

import torch

from common.files import UserError, read_json, write_json, write_text
from common.stages import ROOT

# --------------------------------------------------------------------------------------
NAMES = ()  # benchmarks: given without a name
WORLDS = ("machine", "avx2")
RESULTS = "benchmarks/results"
# --------------------------------------------------------------------------------------

DEFAULT = ("start", "preprocess", "fusion", "training", "encoding", "predicting", "memory")
NAMED = ("growth",)  # takes long
# Of each world, what torch and oneDNN are told. MKL is not: it tells by the processor.
ENVIRONMENTS = {
    "machine": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
CHILD = """
import json, torch
from benchmarks.{0} import rows
found, world = rows(), torch.backends.cpu.get_cpu_capability()
world = "GPU" if torch.cuda.is_available() else world
print(json.dumps([dict(row, world=world, threads=torch.get_num_threads()) for row in found]))
"""
PACKAGES = ("torch", "transformers", "numpy", "scipy", "librosa", "scikit-learn", "matplotlib")
COLUMNS = ("benchmark", "name", "world", "threads", "unit", "ours", "baseline", "ratio")
COLUMNS += ("target", "met", "date")


def main() -> None:
    unknown = set(NAMES) - {*DEFAULT, *NAMED}
    if unknown:
        known = ", ".join((*DEFAULT, *NAMED))
        raise UserError(f"no benchmark '{min(unknown)}': there are {known}")
    unknown = set(WORLDS) - {*ENVIRONMENTS}
    if unknown:
        raise UserError(f"WORLDS: no '{min(unknown)}': there are {', '.join(ENVIRONMENTS)}")
    machine = describe_machine()
    path = Path(RESULTS) / f"{machine['name']}.json"
    for name in NAMES or DEFAULT:
        start = time.perf_counter()
        today = time.strftime("%Y-%m-%d")
        rows = [{"benchmark": name, **row, "date": today} for row in measure(name)]
        print(f"{name}, {time.perf_counter() - start:.0f} s\n\n{tabulate(rows)}", flush=True)
        measured = {place_of(row) for row in rows}
        earlier = read_json(path, "benchmarks/run.py")["rows"] if path.is_file() else []
        rows = [row for row in earlier if place_of(row) not in measured] + rows
        rows.sort(key=lambda row: (*DEFAULT, *NAMED).index(row["benchmark"]))
        write_json(path, {"machine": machine, "rows": rows})
        write_text(path.with_suffix(".md"), write_page(machine, rows))
    print(f"written: {path} and .md")


def measure(name: str) -> list[dict]:
    """Return the rows of a benchmark in every world, with each of its THREADS (0: all cores)."""
    threads = getattr(import_module(f"benchmarks.{name}"), "THREADS", (0,))
    rows = []
    for world in WORLDS:
        if world == "avx2" and WORLDS != ("avx2",) and not has_more_than_avx2():
            continue
        for count in threads:
            environment = os.environ | ENVIRONMENTS[world]
            environment |= {"OMP_NUM_THREADS": str(count)} if count else {}
            command = [sys.executable, "-c", CHILD.format(name)]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise UserError(f"{name} in {world}: {done.stderr[-2000:]}")
            rows += json.loads(done.stdout.splitlines()[-1])
    return rows


def has_more_than_avx2() -> bool:
    """Tell whether this machine is faster than one with AVX2: has AVX-512 or a GPU."""
    return torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() == "AVX512"


def place_of(row: dict) -> tuple[str, str | None, int | None]:
    """Return a row's benchmark, and the world and the threads of its measuring."""
    return row["benchmark"], row.get("world"), row.get("threads")


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
        lines.append("| " + " | ".join(format_cell(row.get(column)) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def format_cell(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return f"{value:.3g}" if isinstance(value, float) and value < 1000 else str(value)


def write_page(machine: dict, rows: list[dict]) -> str:
    """Return the page of a machine: what it is, and its table."""
    described = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "name")
    note = "A target is of the ratio ours / baseline, of ours where there is no baseline."
    note += " World: the instructions that torch and oneDNN may use."
    return f"# {machine['name']}\n\n{described}\n\n{note}\n\n{tabulate(rows)}"


if __name__ == "__main__":
    settings.run(main, words="names")
