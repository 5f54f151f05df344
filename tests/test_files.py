"""Writing where nothing can be written: one line, nothing half-written, what was there stays."""

import errno
import fcntl
import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from matplotlib.figure import Figure

from common import plots, settings, stages
from common.checkpoint import write_state, write_weights
from common.files import UserError, write_array, write_json, write_text

NETWORK = torch.nn.Linear(64, 64)
WRITERS = {
    "array.npy": lambda path: write_array(path, np.zeros(5000)),
    "table.tsv": lambda path: write_text(path, "x" * 20_000),
    "numbers.json": lambda path: write_json(path, list(range(5000))),
    "state.pt": lambda path: write_state(path, {"network": NETWORK.state_dict()}),
    "encoder.safetensors": lambda path: write_weights(NETWORK, path),
    "plot.png": lambda path: plots.save(path, draw_noise, pdf=True),
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


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_without_modes_is_written_to(name, tmp_path, monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for way in ("chmod", "fchmod", "lchmod", "chown"):
        monkeypatch.setattr(os, way, refuse, raising=False)
    WRITERS[name](tmp_path / name)
    left = ["plot.pdf", "plot.png"] if name == "plot.png" else [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    stages.hold(tmp_path / "records" / "stage.lock", tmp_path, "stage.py")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mask", [0o027, 0o022])
def test_others_may_read_a_file_as_the_user_lets_them(name, mask, tmp_path):
    (tmp_path / f".partial-{name}").touch(0o600)  # of a process that was killed
    before = os.umask(mask)
    try:
        WRITERS[name](tmp_path / name)
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_nothing_of_the_process_is_changed_by_an_import():
    code = "import os; os.umask = None; from common import files, ranges, settings, stages"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- locks


@pytest.fixture
def locks():
    """No lock that another test of this process holds, and none left."""
    stages.let_go()
    stages.say_no_locks.cache_clear()
    yield
    stages.let_go()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL])
def test_without_locks_it_is_said_and_gone_on(number, tmp_path, monkeypatch, capsys, locks):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    stages.hold(tmp_path / "records" / "text.lock", tmp_path, "text.py")
    printed = capsys.readouterr()
    assert printed.out.count("no locks on this file system") == 1 and not printed.err
    assert printed.out.count("\n") == 1 and "start no second run" in printed.out


def test_a_place_that_cannot_be_written_is_named(tmp_path, locks):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(UserError, match=r"outputs cannot be written"):
        stages.hold(tmp_path / "outputs" / "records" / "text.lock", tmp_path / "outputs", "x.py")


FORKING = """
import os, sys, time
from pathlib import Path
from common.stages import hold
hold(Path(sys.argv[1]) / 'text.lock', Path(sys.argv[1]), 'text.py')
begun, begin = os.pipe()
if os.fork() == 0:
    os.write(begin, b".")
    time.sleep(60)
    os._exit(0)
os.read(begun, 1)
os.kill(os.getpid(), 9)
"""


def test_a_killed_owner_lets_go_even_if_its_child_lives(tmp_path, locks):
    subprocess.run([sys.executable, "-c", FORKING, str(tmp_path)], cwd=ROOT)
    stages.hold(tmp_path / "text.lock", tmp_path, "text.py")


# --- what only POSIX has

# Before anything else: Python as it is on Windows, as far as libraries of this system do with it.
ELSEWHERE = """
import importlib, os, runpy, signal, sys, warnings
sys.modules |= dict.fromkeys(("fcntl", "resource", "pwd", "grp", "pty", "syslog"))
for name in {os_names}:
    delattr(os, name)
for name in {signal_names}:
    delattr(signal, name)
"""
NEEDED = ("getuid", "geteuid", "fork", "fchmod", "umask")  # by libraries of this system
POSIX = {
    "os_names": ("getgid", "killpg", "setsid", "nice", "mkfifo", "chown"),
    "signal_names": ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGQUIT", "setitimer", "alarm"),
}


def run_elsewhere(code, *arguments):
    """Run Python code without what only POSIX has."""
    command = [sys.executable, "-c", ELSEWHERE.format(**POSIX) + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def modules():
    """Return the names of all modules of the program whose libraries are installed here."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("runs/*.py")]
    rooms = ("models", "common", "corpora", "fusion", "predicting", "extras")
    paths += [path for room in rooms for path in ROOT.glob(f"{room}/**/*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    names -= {"extras.demo.picture"} if not find_spec("selenium") else set()
    names -= {"extras.demo.page"} if not find_spec("gradio") else set()
    return sorted(name for name in names if not name.endswith("__init__"))


def test_no_module_imports_what_only_posix_has():
    done = run_elsewhere("for name in sys.argv[1:]: importlib.import_module(name)", *modules())
    assert done.returncode == 0, done.stderr


def test_no_module_uses_what_only_posix_has():
    for module in modules():
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        for name in (*POSIX["os_names"], *POSIX["signal_names"], *NEEDED):
            used = re.search(rf"\b(os|signal)\.{name}\b", source)
            assert not used or f'hasattr(os, "{name}")' in source, (module, name)


def test_a_stage_without_what_only_posix_has(data, tmp_path):
    code = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run_elsewhere(code, "text_train.py", "--help")
    assert (done.returncode, done.stderr) == (0, "") and "Settings (override" in done.stdout
    done = run_elsewhere(code, "baseline.py", "--data", data, "--outputs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no locks on this file system") == 1
    assert (tmp_path / "baseline_both_pred.npy").is_file()


def run_script(main, monkeypatch):
    """Run a script of one setting whose main() is this."""
    monkeypatch.setattr("sys.argv", ["stage.py"])
    monkeypatch.setattr(settings, "read", lambda namespace: {})
    settings.run(main)


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
