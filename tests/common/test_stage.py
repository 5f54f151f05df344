"""Finished or not: what a stage is made of; killed anywhere, the same command goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import load_file

from common import stages
from common.files import UserError, write_text
from common.stages import Stage, check_whole

SETTINGS = {"restart": False, "seed": 1, "outputs": "anywhere", "save_minutes": 3.0}


@pytest.fixture(autouse=True)
def locks():
    stages.let_go()
    yield
    stages.let_go()


def make(folder, seed=1, content="a", names=("a.txt", "sub/b.txt"), **more):
    """Run a stage that writes these files; return whether it did."""
    settings = SETTINGS | {"seed": seed} | {k: v for k, v in more.items() if k == "restart"}
    stage = Stage("a_stage.py", folder, settings, {"data": more.get("data", "1")})
    if stage.is_done():
        return False
    for name in names:
        write_text(stage.unfinished / name, content)
    stage.publish()
    return True


def test_it_is_done_once_and_again_when_what_it_is_made_of_differs(tmp_path, capsys):
    assert make(tmp_path) and not make(tmp_path)
    assert "nothing to do" in capsys.readouterr().out
    assert make(tmp_path, seed=2) and "SEED = 2, was 1" in capsys.readouterr().out
    assert make(tmp_path, seed=2, data="2") and "other data" in capsys.readouterr().out
    assert make(tmp_path, seed=2, data="2", restart=True)
    assert not make(tmp_path, seed=2, data="2")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "record"])
def test_outputs_that_are_not_whole_are_named_and_made_again(tmp_path, capsys, damage):
    make(tmp_path, content="content of it")
    path = tmp_path / ("records/a_stage.json" if damage == "record" else "sub/b.txt")
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:4] if damage == "truncated" else content)
    if damage != "record":
        with pytest.raises(UserError, match=r"b\.txt .* since a_stage.py wrote it"):
            check_whole(tmp_path, "a_stage.py")
    assert make(tmp_path, content="content of it")
    assert path.name in capsys.readouterr().out
    assert (tmp_path / "sub/b.txt").read_text() == "content of it" and not make(tmp_path)


def test_what_only_an_earlier_run_wrote_is_removed_and_nothing_else(tmp_path):
    make(tmp_path)
    (tmp_path / "mine.txt").write_text("not the stage's")
    make(tmp_path, seed=2, names=("a.txt",))
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.txt")}
    assert found == {"a.txt", "mine.txt"}


def test_a_record_that_names_files_elsewhere_removes_none(tmp_path):
    folder = tmp_path / "outputs"
    make(folder)
    (tmp_path / "precious.txt").write_text("x")
    record = json.loads((folder / "records/a_stage.json").read_text())
    record["outputs"] |= {"../precious.txt": "0", str(tmp_path / "precious.txt"): "0"}
    (folder / "records/a_stage.json").write_text(json.dumps(record))
    make(folder, seed=2)
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_while_publishing_is_completed(tmp_path, monkeypatch, moves):
    """Whenever it dies, readers find the earlier files, or at the next start all new ones."""
    make(tmp_path, content="old")
    real, left = stages.Path.replace, [moves]

    def replace(self, target):
        if (
            self.parent.parts[-1] != "records"
            and "unfinished" in str(self)
            and ".partial" not in self.name
        ):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        return real(self, target)

    monkeypatch.setattr(stages.Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, seed=2, content="new")
    monkeypatch.undo()
    stages.let_go()
    assert not make(tmp_path, seed=2, content="never")
    assert {p.read_text() for p in tmp_path.rglob("*.txt")} == {"new"}
    assert not (tmp_path / "unfinished-a_stage").exists()


def test_another_writer_of_the_same_folder_is_refused(tmp_path):
    code = "import sys, time\nfrom pathlib import Path\nfrom common.stages import Stage\n"
    code += "s = Stage('a_stage.py', Path(sys.argv[1]), {'restart': False}, {})\n"
    code += "print('held', flush=True)\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another run of a_stage.py is writing there"):
            make(tmp_path)
        other.kill()
    assert make(tmp_path)


# --- trainings that are killed


def command(script, data, bert, outputs, *more):
    own = ["--data", data, "--outputs", outputs, "--epochs", 3, "--batch-size", 8]
    own += ["--precision", "float32", "--save-minutes", 0]
    own += [] if script == "audio_train.py" else ["--bert", bert]
    return [script, *map(str, [*own, *more])]


SCRIPTS = {"text_train.py": "text", "audio_train.py": "audio", "run_classifier.py": "cmbert"}
HEARD = ("--conditions", "noise:10,telephone", "--condition-prob", 0.5)
MISHEARD = ("--conditions", "words:.5", "--condition-prob", 0.5, "--token-mask-prob", 0.3)
BOTH = ("--conditions", "words:.5,telephone", "--condition-prob", 0.5)


@pytest.mark.parametrize(
    ("script", "more"),
    [
        *[(script, ()) for script in SCRIPTS],
        ("audio_train.py", HEARD),
        ("text_train.py", MISHEARD),
        ("run_classifier.py", BOTH),
    ],
)
def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(
    script, more, data, bert, tmp_path, run_script
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = run_script(*command(script, data, bert, whole, *more))
    assert done.status == 0, done.stderr
    model = SCRIPTS[script]
    state = parts / model / f"unfinished-{script[:-3]}" / "state.pt"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for how, saves in ((signal.SIGKILL, 2), (signal.SIGTERM, 2)):
        running = subprocess.Popen(
            [sys.executable, *command(script, data, bert, parts, *more)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        seen, deadline = set(), time.monotonic() + 120
        while len(seen) <= saves and running.poll() is None and time.monotonic() < deadline:
            if state.exists():
                seen.add(state.stat().st_mtime_ns)
            time.sleep(0.002)
        running.send_signal(how)
        running.communicate()
        assert running.returncode != 0 and state.exists()
    other = run_script(*command(script, data, bert, parts, *more, "--seed", 2))
    assert other.status == 2 and "SEED = 2, was 1" in other.stderr and state.exists()
    done = run_script(*command(script, data, bert, parts, *more))
    assert done.status == 0 and "going on in epoch" in done.stdout, done.stderr
    weights = [load_file(folder / model / "model.safetensors") for folder in (whole, parts)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)
    histories = [(f / model / "history.json").read_text() for f in (whole, parts)]
    assert histories[0] == histories[1]
    assert not list((parts / model).rglob("state.pt"))


def test_a_damaged_state_is_one_line(data, bert, tmp_path, run_script):
    script = command("text_train.py", data, bert, tmp_path)
    unfinished = tmp_path / "text" / "unfinished-text_train"
    with pytest.MonkeyPatch.context() as patch:
        from common import checkpoint

        def interrupted(*_):
            raise KeyboardInterrupt

        patch.setattr(checkpoint, "save_file", interrupted)
        assert run_script(*script).status == 130
    content = bytearray((unfinished / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (unfinished / "state.pt").write_bytes(content)
    done = run_script(*script)
    assert done.status == 2 and done.stderr.count("\n") == 1 and "state.pt" in done.stderr
    assert run_script(*script, "--restart").status == 0


def test_a_loss_that_is_no_number_names_its_utterances(data, bert, tmp_path, run_script):
    broken = tmp_path / "bert"
    shutil.copytree(bert, broken)
    from safetensors.numpy import save_file

    weights = load_file(broken / "model.safetensors")
    name = next(n for n in weights if n.endswith("word_embeddings.weight"))
    weights[name] = np.full_like(weights[name], np.inf)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    done = run_script(*command("text_train.py", data, broken, tmp_path / "outputs"))
    assert done.status == 2 and "in step 1, over Sess0" in done.stderr
    assert not (tmp_path / "outputs" / "text" / "model.safetensors").exists()


def in_two_processes(command_line):
    """Run a command as torchrun does in two processes."""
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    return subprocess.run(
        [*torchrun, *map(str, command_line)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def still(bert, tmp_path_factory):
    """The tiny encoder without dropout, which each process draws for itself."""
    folder = shutil.copytree(bert, tmp_path_factory.mktemp("bert") / "still")
    sizes = json.loads((folder / "config.json").read_text())
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(sizes))
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_processes_find_the_losses_of_one_and_one_of_them_writes(
    script, data, still, tmp_path, run_script
):
    # 20 rows in batches of 19 and of 1: fewer rows than processes. The small rate is that of a warm
    # beginning; later the order of the same sums tells.
    rates = ("--lr", "1e-5") if script == "audio_train.py" else ("--lr-head", "1e-4")
    more = ("--dropout", 0, "--epochs", 3, "--batch-size", 19, "--precision", "float32", *rates)
    if script == "run_classifier.py":
        more += ("--attention-dropout", 0)
    losses = []
    for processes in (1, 2):
        outputs = tmp_path / f"{processes}"
        command_line = command(script, data, still, outputs, *more)
        done = in_two_processes(command_line) if processes == 2 else run_script(*command_line)
        status = done.returncode if processes == 2 else done.status
        assert status == 0, done.stderr[-2000:]
        assert done.stdout.count("epoch 1: ") == 1
        folder = outputs / SCRIPTS[script]
        check_whole(folder, script)
        assert not (folder / f"unfinished-{script[:-3]}").exists()
        history = json.loads((folder / "history.json").read_text())
        losses.append([[e["loss"], e["valid_loss"]] for e in history["epochs"]])
        if script == "run_classifier.py":
            assert len(np.load(outputs / "cmbert_output.npy")) == 10
            assert done.stdout.count("words masked") == 1
    # Batch normalisation takes each process's own half of a batch.
    close = 0.5 if script == "audio_train.py" else 1e-4
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=close)


def test_many_clips_have_fewer_epochs_and_their_schedule_ends_with_the_last(
    data, tmp_path, run_script
):
    more = ("--batch-size", 20, "--save-minutes", 10, "--epochs", 3)
    rates = ("--schedule", "linear", "--warmup", 0)
    found = []
    for name, limits in (("clips", ("--clips", 45)), ("epochs", ("--epochs", 2))):
        outputs = tmp_path / name  # 20 rows: 45 clips are two epochs
        command_line = command("audio_train.py", data, None, outputs, *more, *rates, *limits)
        done = run_script(*command_line)
        assert done.status == 0, done.stderr[-2000:]
        found.append(json.loads((outputs / "audio" / "history.json").read_text())["epochs"])
    assert [epoch["epoch"] for epoch in found[0]] == [1, 2]
    losses = [[epoch["loss"] for epoch in own] for own in found]
    assert losses[0] == losses[1]


def test_a_mistake_is_one_line_for_all_processes(tmp_path):
    done = in_two_processes(["text_train.py", "--data", tmp_path])
    assert done.returncode != 0 and done.stderr.count("text_train.py: error: ") == 1
