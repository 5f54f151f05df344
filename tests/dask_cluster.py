"""A Dask cluster of one worker, by the commands of the scripts' docstrings."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def start_cluster(folder: Path) -> Iterator[str]:
    """Start a scheduler and a worker in a folder, with their logs; yield the address."""
    dask, address = [sys.executable, "-m", "dask"], f"tcp://127.0.0.1:{free_port()}"
    place = ["--host", "127.0.0.1", "--no-dashboard"]
    with contextlib.ExitStack() as started:
        for program in (
            [*dask, "scheduler", "--port", address.rpartition(":")[2], *place],
            [*dask, "worker", address, *place, "--nthreads", "2", "--no-nanny"],
        ):
            log = started.enter_context(open(folder / f"{program[3]}.log", "wb"))
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(program, cwd=folder, env=environment, stdout=log, stderr=log)
            started.callback(process.wait)
            started.callback(process.terminate)
        yield address


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
