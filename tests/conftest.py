"""What several test modules share: small preprocessed data, a tiny encoder, running a script."""

import io
import os
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_data import make_rows, write_data
from small_encoder import make_small_encoder
from threadpoolctl import threadpool_limits
from trained_run import (  # noqa: F401 - fixtures
    expected,
    handed_on,
    of_encoders,
    of_the_paper,
    talk,
    trained,
)

# One thread, here and in the scripts that tests start: more threads round differently.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
threadpool_limits(1)  # numpy's BLAS, which was loaded before

ROOT = Path(__file__).resolve().parents[1]
# The longest files, begun first: else one process has a long one left when the others have ended.
LONGEST = ("export", "stage", "damage", "parallel", "runs", "preprocess", "kills", "odd_splits")
LONGEST += ("stages", "training", "ensemble", "matching")


def pytest_collection_modifyitems(items):
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@dataclass
class Done:
    """A script's exit status and what it printed."""

    status: int
    stdout: str
    stderr: str


def run_in_process(script: str, *arguments: object) -> Done:
    """Run a script of the project as the shell would, but without another start of Python."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = [script, *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        status = 0
    except SystemExit as leaving:
        status = leaving.code
    finally:
        sys.argv = before
    return Done(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def run_script():
    return run_in_process


@pytest.fixture(scope="session")
def rows():
    """All utterances of the small data, sorted by id, each with its samples."""
    return make_rows()


@pytest.fixture(scope="session")
def data(tmp_path_factory, rows):
    """Folder of small preprocessed data; not to be changed."""
    return write_data(tmp_path_factory.mktemp("data") / "processed", rows)


@pytest.fixture(scope="session")
def bert(tmp_path_factory, rows):
    """Folder of a tiny text encoder with random weights, 32 wide."""
    folder = tmp_path_factory.mktemp("bert")
    make_small_encoder([row["text"] for row in rows], folder, seed=0, width=32, vocabulary=200)
    return folder
