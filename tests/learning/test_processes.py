"""Two processes, started as the README says, against one."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from pipeline.learning import cmbert, processes
from pipeline.learning.batches import made_ahead
from stage_settings import stage_settings

from common.files import UserError

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")  # is torchrun
TEXT, AUDIO, CMBERT = "text_train.py", "audio_train.py", "run_classifier.py"
PRETRAIN = "text_pretrain.py"
# 20 rows in batches of 19 and of 1: fewer rows than processes. The audio model cuts them twice.
EPOCHS = {TEXT: 10, AUDIO: 4, CMBERT: 10}
WORDS = "재미있다 무섭다 좋은 영화 너무 길어ㅠㅠ 잘 봤다ㅋㅋ 배우가 슬프다 그냥"
FOLDER = {TEXT: "text", AUDIO: "audio", CMBERT: "cmbert", PRETRAIN: "encoder"}


def start(*command):
    """Start two processes, with nothing in the environment but what torchrun sets itself."""
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*TORCHRUN, *map(str, command)], cwd=ROOT, env=environment, **pipes)


def end(process):
    """Return exit status, output and errors; two processes that wait for ever are ended."""
    try:
        stdout, stderr = process.communicate(timeout=400)
    finally:
        process.terminate()  # takes its children along
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def still(bert, tmp_path_factory):
    """The tiny encoder without dropout, which is drawn for each process apart."""
    folder = shutil.copytree(bert, tmp_path_factory.mktemp("bert") / "still")
    sizes = json.loads((folder / "config.json").read_text())
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(sizes))
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Reviews to pretrain on."""
    random = np.random.default_rng(0)
    words = WORDS.split()
    path = tmp_path_factory.mktemp("lines") / "reviews.tsv"
    texts = [" ".join(random.choice(words, random.integers(2, 12))) for _ in range(200)]
    path.write_text("".join(f"{random.integers(1, 11)}\t{text}\n" for text in texts))
    return path


def command(script, data, bert, lines, outputs):
    """Return a training of 20 steps or more: script and settings."""
    both = {"outputs": outputs, "precision": "float32"}
    if script == PRETRAIN:
        sizes = {"vocabulary": 120, "width": 32, "layers": 1, "heads": 1, "feed_forward": 32}
        steps = {"steps": 20, "save_steps": 1, "held_out": 40, "decay_steps": 5}
        settings = {"text": lines, **sizes, **steps, "batch_tokens": 128}
    else:
        settings = {"data": data, "epochs": EPOCHS[script], "batch_size": 19, "dropout": 0}
        # As in the first steps of a long training, where it warms up; at full rate the small audio
        # model's losses soon tell one order of the same sums from another.
        settings |= {"learning_rate": 1e-5, "patience": 99}
        settings |= {} if script == AUDIO else {"bert": bert}
        settings |= {"attention_dropout": 0} if script == CMBERT else {}
    return script, *(f"--{name}={value}" for name, value in {**settings, **both}.items())


@pytest.fixture(scope="module")
def both(data, still, lines, run_script, tmp_path_factory):
    """The outputs of all trainings by one process and by two, and what the two printed."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    running = {s: start(*command(s, data, still, lines, two)) for s in FOLDER}
    for script in FOLDER:
        done = run_script(*command(script, data, still, lines, one))
        assert done.status == 0, done.stderr
    printed = {script: end(process) for script, process in running.items()}
    for script, (status, stdout, stderr) in printed.items():
        assert status == 0, (script, stderr + stdout)
    return one, two, printed


def read_history(outputs, script):
    """Return a training's records, round by round, as arrays by name."""
    content = json.loads((outputs / FOLDER[script] / "history.json").read_text())
    records = content.get("epochs") or content["history"]
    names = {name for record in records for name in record}
    return {name: np.array([record.get(name, np.nan) for record in records]) for name in names}


@pytest.mark.parametrize("script", FOLDER)
def test_two_processes_find_the_losses_of_one(both, script):
    one, two = (read_history(outputs, script) for outputs in both[:2])
    assert one.keys() == two.keys() and len(one["loss"]) == EPOCHS.get(script, 20)
    assert np.ptp(one["loss"]) > 1e-3, "something is learned"
    for name in one:
        if name.endswith("loss") or name == "learning_rate":
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-4, err_msg=name)


def test_one_process_writes_and_tests(both):
    one, two, printed = both
    written = [
        {path.relative_to(folder) for path in folder.rglob("*") if "records" not in path.parts}
        for folder in (one, two)
    ]
    assert written[0] == written[1]
    stdout = printed[CMBERT][1]
    assert stdout.count("epoch 3: ") == stdout.count("words masked") == 1
    for name in ("truth", "index"):
        arrays = [np.load(folder / f"cmbert_{name}.npy") for folder in (one, two)]
        np.testing.assert_array_equal(*arrays)
    outputs = [np.load(folder / "cmbert_output.npy") for folder in (one, two)]
    np.testing.assert_allclose(*outputs, atol=1e-3)


def test_a_test_stage_is_left_to_one_process(both, data, tmp_path):
    outputs = shutil.copytree(both[1], tmp_path / "outputs")
    status, stdout, stderr = end(start("text_test.py", "--data", data, "--outputs", outputs))
    assert status == 0, stderr
    assert stdout.count("held-out") == 1
    assert np.load(outputs / "text_output.npy").shape == (10, 7)


KILLED = """
import os, runpy, signal, sys
from pipeline.learning.checkpoint import State
add = State.add
def die(state, *found):
    if state.step == 7 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    add(state, *found)
State.add, sys.argv = die, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_two_processes_go_on_where_one_of_them_was_killed(
    both, data, still, lines, run_script, tmp_path
):
    driver = tmp_path / "driver.py"
    driver.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{KILLED}")
    training = [*command(TEXT, data, still, lines, tmp_path), "--save-minutes=0"]
    status, _, stderr = end(start(driver, *training))
    assert status != 0
    assert stderr.count("another process of this training has ended") <= 1
    assert "SIGKILL" in stderr
    alone = run_script(*training)
    assert (alone.status, "PROCESSES = 1, was 2" in alone.stderr) == (2, True), alone.stderr
    status, stdout, stderr = end(start(*training))
    assert status == 0, stderr
    assert re.search("going on in epoch 4 after batch [12]", stdout)
    whole, parts = (read_history(outputs, TEXT) for outputs in (both[0], tmp_path))
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=0, atol=1e-4)


def test_a_mistake_is_one_line_for_all_processes(tmp_path):
    status, _, stderr = end(start(TEXT, "--data", tmp_path))
    assert status != 0  # torchrun's own is 1, whatever the processes' is
    assert stderr.count("text_train.py: error: ") == 1
    assert "exitcode  : 2" in stderr


def test_a_norm_over_a_whole_batch_wants_one_process(bert, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UserError, match="SCALE = 'batch'.*one process"):
        cmbert.create(stage_settings("cmbert", bert=str(bert), scale="batch"))


def test_inputs_are_made_ahead_in_order_and_their_errors_come_out():
    made = []

    def make(number):
        if number == 5:
            raise UserError("row 5")
        made.append(number)
        return -number

    steps = made_ahead(make, range(9))
    assert next(steps) == (0, 0)
    found = [next(steps) for _ in range(4)]
    assert found == [(1, -1), (2, -2), (3, -3), (4, -4)]
    with pytest.raises(UserError, match="row 5"):
        next(steps)
    made.clear()
    steps = made_ahead(make, iter(range(4)))
    next(steps)
    steps.close()  # a training that is interrupted
    assert len(made) <= 3
