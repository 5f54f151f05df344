"""What a stage leaves on record: done once, damage noticed, one run at a time."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from pipeline import files, record
from pipeline.record import Work

from common.files import UserError, read_array, read_json, write_array, write_json

SETTINGS = {"restart": False, "outputs": "anywhere", "epochs": 3}


@pytest.fixture(autouse=True)
def no_locks_stay():
    yield
    files.let_go()


def begin(folder, inputs=None, **changes):
    settings = {**SETTINGS, **changes}
    return Work("text_test.py", folder, settings, inputs or {"data": "1"}, folder / "text")


@pytest.fixture
def done(tmp_path):
    """A folder in which a stage wrote an array and, one folder below, a table of numbers."""
    work = begin(tmp_path)
    write_array(tmp_path / "text_output.npy", np.arange(8.0))
    write_json(tmp_path / "valid" / "text_run.json", {"rows": 1})
    work.finish()
    return tmp_path


# --- done once


def test_what_is_whole_and_the_same_is_not_done_again(done, capsys):
    assert begin(done, outputs="elsewhere").is_done()
    assert capsys.readouterr().out == (
        f"nothing to do: {done} is whole and of these settings (--restart starts over)\n"
    )
    assert not begin(done, restart=True).is_done()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 4}, "other settings (EPOCHS = 4, was 3)"),
        ({"inputs": {"data": "2"}}, "other inputs (data)"),
        ({"inputs": {"data": "1", "epochs": "x"}}, "other settings (EPOCHS = None, was 3)"),
    ],
)
def test_whatever_differs_is_named(done, capsys, changes, words):
    assert not begin(done, **changes).is_done()
    assert words in capsys.readouterr().out


def test_changed_code_is_named_but_not_the_settings_in_it(done, capsys, monkeypatch, tmp_path):
    root = tmp_path / "project"
    for room in ("pipeline", "corpora", "extras"):
        shutil.copytree(ROOT / room, root / room)
    shutil.copytree(ROOT / "models", root / "models", ignore=shutil.ignore_patterns("kobert-mini"))
    script = (ROOT / "text_test.py").read_text()
    (root / "text_test.py").write_text(script.replace("BATCH_SIZE = 64", "BATCH_SIZE = 1"))
    monkeypatch.setattr(record, "ROOT", root)
    again = record.code_of.__wrapped__
    assert again("text_test.py") == record.code_of("text_test.py")
    with open(root / "pipeline" / "learning" / "batches.py", "a") as stream:
        stream.write("\nMORE = 1\n")
    monkeypatch.setattr(record, "code_of", again)
    assert begin(done).is_done(), "other code is said and does nothing"
    (line,) = capsys.readouterr().out.splitlines()
    assert "nothing to do" in line and "other code (pipeline/learning/batches.py)" in line
    assert not begin(done, epochs=4).is_done()


def test_the_code_is_what_the_script_reaches():
    reached = set(record.code_of("text_train.py"))
    assert {"text_train.py", "pipeline/learning/text.py", "models/tokenizer.py"} <= reached
    assert "pipeline/files.py" in reached  # imported by what is imported
    assert "fusion/page.py" not in reached  # another table trains nothing again
    inside = "corpora/plots.py"  # imported inside a function
    assert inside in record.code_of("preprocess.py")


@pytest.mark.parametrize("name", ["text_output.npy", "valid/text_run.json"])
@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_damaged_output_is_made_again(done, capsys, name, damage):
    if damage == "missing":
        (done / name).unlink()
    else:
        flip(done / name)
    assert not begin(done).is_done()
    assert f"{done / name} {'is missing' if damage == 'missing' else 'has changed'}" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"settings": 3}', '{"settings": {'])
def test_a_damaged_record_is_no_record(done, capsys, content):
    (done / "records" / "text_test.json").write_text(content)
    assert not begin(done).is_done()
    assert "text_test.json is damaged" in capsys.readouterr().out


# --- damage noticed


def flip(path, place=-1):
    """Change one bit, so that the file still has its size and its form."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_that_still_parses_is_found(done):
    flip(done / "text_output.npy")
    remedy = r"text_output\.npy has changed since text_test\.py wrote it: run text_test\.py again"
    with pytest.raises(UserError, match=remedy):
        read_array(done / "text_output.npy", "text_test.py")
    path = done / "valid" / "text_run.json"
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(UserError, match=r"text_run\.json has changed"):
        read_json(path, "text_test.py")


def test_whose_files_are_the_users_own_are_not_compared(done, tmp_path):
    own = tmp_path / "own_output.npy"
    np.save(own, np.arange(3))
    assert read_array(own, "").tolist() == [0, 1, 2]
    np.save(done / "text_output.npy", np.arange(3))
    with pytest.raises(UserError, match="or remove .*text_test.json if the change is yours"):
        read_array(done / "text_output.npy", "")
    (done / "records" / "text_test.json").unlink()
    assert read_array(done / "text_output.npy", "").tolist() == [0, 1, 2]


def test_a_folder_that_was_moved_is_still_whole(done, tmp_path):
    moved = shutil.copytree(done, tmp_path / "elsewhere")
    read_array(moved / "text_output.npy", "")
    assert begin(moved).is_done()
    flip(moved / "text_output.npy")
    with pytest.raises(UserError, match="has changed"):
        read_array(moved / "text_output.npy", "")


# --- one run at a time

HOLDING = "import sys; from pathlib import Path; from common.files import hold\n"
HOLDING += "hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def test_a_second_run_in_the_same_place_is_refused_until_the_first_is_dead(tmp_path):
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "text")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=rf"text: process {other.pid} on .* is writing there"):
            files.hold(tmp_path / "text")
        files.hold(tmp_path / "audio")  # another stage may run at the same time
        other.kill()
    files.hold(tmp_path / "text")
    assert (tmp_path / "records" / "text.lock").read_text().split()[1] == str(os.getpid())


# --- whence it came


def test_a_record_names_the_code_and_the_environment(done):
    content = json.loads((done / "records" / "text_test.json").read_text())
    assert re.fullmatch(r"unknown|[0-9a-f]+, (unchanged|with changes)", content["commit"])
    assert content["environment"]["torch"].startswith("2.")
    assert content["settings"] == {"epochs": 3}
    assert set(content["outputs"]) == {"text_output.npy", "valid/text_run.json"}


def test_the_commit_is_told_and_whether_the_code_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert record.find_commit() == "unknown"  # even inside another repository
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        (tmp_path / "code.py").write_text("1\n")
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    assert record.find_commit().endswith(", unchanged")
    (tmp_path / "code.py").write_text("2\n")
    assert record.find_commit().endswith(", with changes")
