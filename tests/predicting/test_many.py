"""predict.py for many recordings: blocks, several processes, a cluster, a table continued."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from dask_cluster import start_cluster
from small_speech import save_recogniser

from common.files import UserError
from predicting import Recording
from predicting.many import cut_blocks
from predicting.tables import Table

SCRIPT = Path(__file__).resolve().parents[2] / "predict.py"


def sizes(*names):
    """Return the sizes of the blocks of recordings with these speakers and dialogues."""
    files = [Recording(text="x", speaker=speaker, dialogue=dialogue) for speaker, dialogue in names]
    blocks = cut_blocks(files)
    assert [file for block in blocks for file in block] == files
    return [len(block) for block in blocks]


def test_a_block_parts_no_speaker_and_no_dialogue():
    nobody = [("", "")]
    assert sizes() == []
    assert sizes(*nobody * 70) == [32, 32, 6]
    assert sizes(*nobody * 20, *[("Mina", "")] * 30, *nobody * 20) == [50, 20]
    assert sizes(*nobody * 20, *[("", "call")] * 30, *nobody * 20) == [50, 20]
    assert sizes(("Mina", ""), *nobody * 40, ("Mina", "call"), *nobody * 40, ("", "call")) == [83]
    chain = [(f"speaker {number // 2}", f"call {(number + 1) // 2}") for number in range(100)]
    assert sizes(*chain) == [100]  # each row is joined to the next one


def lay_out(folder, talk, calls=24):
    """Write a list of short calls of two known voices, of words alone and of rows that fail."""
    rows = ["path\ttext\tspeaker\tdialogue"]
    for call in range(calls):
        for place, turn in enumerate(talk[:4]):
            who = ("Mina", "Jun")[place % 2]
            path = turn["path"] if call % 10 == 0 else ""
            rows.append(f"{path}\t{turn['text']} {call}\t{who} {call}\tcall {call}")
        rows += [f"\t오늘은 {call} {number}\t\t" for number in range(10)]
        rows += ["\t🙂\t\t"] if call % 7 == 3 else []
    path = folder / "list.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def kill_after(rows, model, *arguments):
    """Start predict.py on a table, and kill it when so many rows are there; return its session."""
    part = Path(f"{arguments[-1]}.part")
    command = (sys.executable, SCRIPT, *arguments, "--model", model)
    running = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (part.exists() and part.read_bytes().count(b"\n") > rows):
        assert running.poll() is None, "it ended before"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    return running.pid


def wait_until_gone(session):
    """Wait until no process of a session is left: the workers of a killed one end, too."""
    for _ in range(600):
        stats = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # gone in this moment
                stats.append(path.read_text())
        rest = [stat.rpartition(")")[2].split() for stat in stats]
        if not any(fields[0] != "Z" and int(fields[3]) == session for fields in rest):
            return
        time.sleep(0.1)
    raise AssertionError("a worker is left")


@pytest.fixture(scope="module")
def listed(talk, tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("listed"), talk)


@pytest.fixture(scope="module")
def whole(run_script, trained, listed):
    """The table without a kill, and what was said."""
    table = listed.parent / "whole.tsv"
    arguments = ("--manifest", listed, "--tsv", table, "--model", trained.outputs)
    done = run_script("predict.py", *arguments)
    assert done.status == 1 and "336 utterances, " in done.stderr
    return table.read_bytes(), done.stderr


def errors(said):
    return [line for line in said.splitlines() if "error: " in line or line.startswith("answered")]


@pytest.fixture(scope="module")
def killed(trained, listed, tmp_path_factory):
    """A folder with what a killed process has left."""
    folder = tmp_path_factory.mktemp("killed")
    kill_after(150, trained.outputs, "--manifest", listed, "--tsv", folder / "answers.tsv")
    return folder


def test_a_killed_table_goes_on_and_is_the_same_to_the_byte(
    run_script, trained, listed, whole, killed, tmp_path
):
    """With half a row at its end; what failed before the kill is said again."""
    table = copytree(killed, tmp_path / "killed") / "answers.tsv"
    with open(f"{table}.part", "ab") as stream:
        stream.write(b"/somewhere/half a ro")
    arguments = ("--manifest", listed, "--tsv", table, "--model", trained.outputs)
    done = run_script("predict.py", *arguments)
    rows = int(done.stderr.partition("is continued after ")[2].split()[0])
    assert 100 < rows < 336
    assert done.status == 1 and errors(done.stderr) == errors(whole[1])
    assert table.read_bytes() == whole[0]
    assert os.listdir(table.parent) == ["answers.tsv"]


@pytest.mark.parametrize("change", ["list", "model", "setting", "record"])
def test_of_something_else_it_is_begun_anew_which_is_said(
    run_script, trained, listed, killed, tmp_path, change
):
    folder = copytree(killed, tmp_path / "killed")
    model, given, settings = trained.outputs, listed, []
    said = "other recordings"
    if change == "list":
        given = listed.with_name("other.tsv")
        given.write_text(listed.read_text("utf-8").replace("오늘은 0 3", "어제는"), "utf-8")
    elif change == "model":
        said = "other model"
        model = copytree(trained.outputs, tmp_path / "model", ignore=ignore_patterns("records"))
        with open(model / "fusion.json", "a") as stream:
            stream.write("\n")
    elif change == "setting":
        (tmp_path / "recogniser").mkdir()
        settings = ["--asr", save_recogniser(tmp_path / "recogniser")]
        said = f"ASR = '{settings[1]}', was ''"
    else:
        (folder / "answers.tsv.part.jsonl").write_text("{")
        said = "it does not say what it is made of"
    arguments = ("--manifest", given, "--tsv", folder / "answers.tsv", *settings)
    done = run_script("predict.py", *arguments, "--model", model)
    assert f"answers.tsv.part is begun anew: {said}" in done.stderr
    table = (folder / "answers.tsv").read_text("utf-8-sig")
    assert table.count("\n") == 337 and ("어제는" in table) == (change == "list")


def test_several_processes_answer_as_one_does(run_script, trained, listed, whole):
    """In order, with the same errors and exit status."""
    arguments = ("predict.py", "--manifest", listed, "--json", "--model", trained.outputs)
    one, several = (run_script(*arguments, "--jobs", jobs) for jobs in (1, 2))
    assert one.stdout == several.stdout and one.stdout.count("\n") == 336
    assert several.status == 1 and errors(several.stderr) == errors(whole[1])


def test_killed_with_several_processes_one_goes_on(run_script, trained, listed, whole, tmp_path):
    arguments = ("--manifest", listed, "--tsv", tmp_path / "answers.tsv")
    killed = kill_after(100, trained.outputs, "--jobs", 2, *arguments)
    done = run_script("predict.py", *arguments, "--model", trained.outputs)
    assert "is continued after " in done.stderr
    assert (tmp_path / "answers.tsv").read_bytes() == whole[0]
    wait_until_gone(killed)


def test_one_speaker_is_for_one_process(run_script, trained, talk, tmp_path):
    """What is remembered of a voice is the same, and why no others help is said."""
    model = copytree(trained.outputs, tmp_path / "outputs")
    paths = [row["path"] for row in talk[:5]]
    arguments = ("predict.py", *paths * 8, "--speaker", "Mina", "--json", "--model", model)
    done = run_script(*arguments, "--jobs", 2)
    assert done.status == 0 and "one process: " in done.stderr
    assert "Mina is known from 40 utterances" in done.stderr
    (model / "speakers" / "Mina.safetensors").unlink()
    assert run_script(*arguments).stdout == done.stdout


def test_embeddings_of_several_processes(run_script, of_encoders, talk, tmp_path):
    found = []
    paths = [row["path"] for row in talk[:5]]
    for jobs in (1, 2):
        path = tmp_path / f"{jobs}.npy"
        arguments = (*paths * 8, "--jobs", jobs, "--embeddings", path, "--model", of_encoders)
        assert run_script("predict.py", *arguments).status == 0
        found.append((np.load(path), np.load(tmp_path / f"{jobs}_index.npy")))
    (one, names), (several, others) = found
    assert one.shape == (40, 192) and np.isfinite(one).all()
    np.testing.assert_array_equal(one, several)
    assert names.tolist() == others.tolist()


def test_a_cluster_answers_as_one_process_does(
    run_script, trained, listed, whole, tmp_path, monkeypatch
):
    """Its worker was started elsewhere, and the paths are relative."""
    pytest.importorskip("distributed")
    monkeypatch.chdir(listed.parent)
    model = os.path.relpath(trained.outputs)
    with start_cluster(tmp_path) as address:
        arguments = ("--manifest", listed.name, "--tsv", "spread.tsv", "--cluster", address)
        done = run_script("predict.py", *arguments, "--model", model)
    assert done.status == 1, done.stderr
    assert errors(done.stderr.replace("list.tsv", str(listed))) == errors(whole[1])
    assert Path("spread.tsv").read_bytes() == whole[0]
    assert "Starting established connection" in (tmp_path / "scheduler.log").read_text()


def test_what_is_read_is_never_written_over(run_script, trained, listed, tmp_path):
    before = listed.read_bytes()
    own = ("--manifest", listed, "--tsv", listed, "--model", trained.outputs)
    done = run_script("predict.py", *own)
    assert done.status == 2 and f"{listed} is what is read" in done.stderr
    assert listed.read_bytes() == before


def test_a_record_ahead_of_its_table_counts_no_block_twice(tmp_path):
    """As a power cut leaves it: the record's last lines are of rows that never reached the disk."""
    made_of = {"settings": {}, "inputs": {}}
    path, header = tmp_path / "a.tsv", "\ufeffx\n"
    part, record = tmp_path / "a.tsv.part", tmp_path / "a.tsv.part.jsonl"
    size = len(header.encode())
    part.write_text(header + "1\n2\n", encoding="utf-8")
    lines = [made_of, [1, size + 2, []], [2, size + 4, []], [3, size + 6, []], [4, size + 8, []]]
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        table = Table(path, ("x",), made_of, print)
        assert table.done[:3] == (2, 2, size + 4)
        assert len(record.read_text().splitlines()) == 3
        with pytest.raises(UserError, match="another predict.py"):
            Table(path, ("x",), made_of, print)
        with pytest.raises(KeyError), table:
            raise KeyError
    assert part.read_text(encoding="utf-8") == header + "1\n2\n"
