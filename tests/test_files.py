"""Writing where nothing can be written: one line, nothing half-written, what was there stays."""

import errno
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pipeline import config, files
from pipeline.figures import style
from pipeline.files import UserError, together, write_array, write_json, write_text
from pipeline.learning.checkpoint import State, save_weights
from pipeline.learning.profile import SpeakerProfile

NETWORK = torch.nn.Linear(64, 64)
WRITERS = {
    "array.npy": lambda path: write_array(path, np.zeros(5000)),
    "table.tsv": lambda path: write_text(path, "x" * 20_000),
    "numbers.json": lambda path: write_json(path, list(range(5000))),
    "model.safetensors": lambda path: save_weights(NETWORK, path),
    "state.pt": lambda path: State(path, NETWORK, torch.optim.SGD(NETWORK.parameters())).save(),
    "voice.profile": lambda path: SpeakerProfile({"sums": np.zeros(5000)}, "a model").save(path),
    "plot.png": lambda path: style.save(path, draw_noise),
}


def draw_noise() -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.subplots().imshow(np.random.default_rng(0).random((50, 50)))
    return figure


@contextmanager
def files_of_at_most(size: int):
    """Let no file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder: Path, options: str):
    """Mount a disk in memory; skip the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        # -l: torch leaves a file open that it could not write
        subprocess.run(["umount", "-l", folder], check=True)


def refused(name: str, path: Path) -> str:
    """Try to write over "before"; return what is said, if that is all that happened."""
    with pytest.raises(UserError) as error:
        WRITERS[name](path)
    assert path.read_text() == "before"
    assert [own.name for own in path.parent.iterdir()] == [name]
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_does_not_fit_leaves_the_earlier_one(name, tmp_path):
    (tmp_path / name).write_text("before")
    with files_of_at_most(4096):
        assert "cannot be written" in refused(name, tmp_path / name)
    WRITERS[name](tmp_path / name)  # with room it is written
    assert (tmp_path / name).stat().st_size > 4096


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_earlier_file(name, tmp_path):
    with small_disk(tmp_path / "disk", "size=12k"):
        (tmp_path / "disk" / name).write_text("before")
        refused(name, tmp_path / "disk" / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_read_only_is_named(name, tmp_path):
    place = tmp_path / "disk"
    with small_disk(place, "size=1m"):
        (place / name).write_text("before")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        assert "Read-only" in refused(name, place / name)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(UserError, match=r"outputs/a\.json cannot be written \((Not a dir|File ex)"):
        write_json(tmp_path / "outputs" / "a.json", {})
    assert (tmp_path / "outputs").read_text() == "a file"


def test_files_that_belong_together_change_together(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        write_text(path, "before")
    with pytest.raises(UserError, match="c cannot be written"), together():
        write_text(paths[0], "after")
        write_text(paths[1], "after")
        with files_of_at_most(10):
            write_text(paths[2], "after that")
            write_text(paths[2], "too much for it")
    assert [path.read_text() for path in paths] == ["before"] * 3
    assert sorted(tmp_path.iterdir()) == paths
    with together():
        for path in paths:
            write_text(path, "after")
        assert [path.read_text() for path in paths] == ["before"] * 3
    assert [path.read_text() for path in paths] == ["after"] * 3
    assert sorted(tmp_path.iterdir()) == paths and not files.WAITING


def run_script(main, monkeypatch):
    """Run a script of one setting whose main() is this."""
    monkeypatch.setattr("sys.argv", ["stage.py"])
    monkeypatch.setattr(config, "settings", lambda namespace: {})
    config.run(main)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_a_disk_refuses_is_one_line_of_a_script(number, capsys, monkeypatch):
    def main():
        raise OSError(number, "is refused", "/some/file")

    with pytest.raises(SystemExit) as leaving:
        run_script(main, monkeypatch)
    assert leaving.value.code == 2
    assert capsys.readouterr().err == "stage.py: error: /some/file: is refused\n"


def test_a_file_that_our_code_mislaid_keeps_its_traceback(monkeypatch):
    def main():
        open("/no such/file")  # noqa: SIM115

    with pytest.raises(FileNotFoundError):
        run_script(main, monkeypatch)
