"""LOG: a training's epochs in TensorBoard are those of history.json, whatever it went through."""

import json
from pathlib import Path

import pytest
from accelerate.tracking import GeneralTracker

from common.checkpoint import Checkpoint
from common.tracking import Trackers

SCRIPTS = {"text_train.py": "text", "audio_train.py": "audio", "run_classifier.py": "cmbert"}


def command(script, data, bert, outputs, *more):
    own = ["--data", data, "--outputs", outputs, "--batch-size", 8, "--precision", "float32"]
    return [script, *own, *([] if script == "audio_train.py" else ["--bert", bert]), *more]


def numbers_of(folder):
    """Return history.json as {epoch: {name: number}}."""
    epochs = json.loads((folder / "history.json").read_text())["epochs"]
    for record in epochs:
        rates = record.pop("learning_rate")
        record |= {f"learning_rate/{n}" if n else "learning_rate": r for n, r in rates.items()}
    return {record.pop("epoch"): record for record in epochs}


def read_events(folder):
    """Return what TensorBoard reads in one folder of event files, as `numbers_of` does."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(folder)).Reload()
    found, names = {}, events.Tags()["scalars"]
    for name in names:
        for event in events.Scalars(name):
            assert name not in found.setdefault(event.step, {}), "an epoch is there twice"
            found[event.step][name] = event.value
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for epoch, numbers in expected.items():
        assert found[epoch] == pytest.approx(numbers, rel=1e-6), epoch  # events are float32


class Lines(GeneralTracker):
    """A tracker of Accelerate's kind whose run is a file, one line an epoch."""

    name, requires_logging_directory, tracker = "tensorboard", True, None

    def __init__(self, run, folder):
        super().__init__()
        self.path = Path(folder, f"{run.replace('/', '_')}.jsonl")

    def start(self):
        self.path.write_text("")

    def log(self, values, step=None, **kwargs):
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps([step, values]) + "\n")


@pytest.fixture
def lines(monkeypatch):
    """TensorBoard's place taken, where it need not be installed; read what was written so."""
    monkeypatch.setattr("common.tracking.find_spec", lambda name: name)
    monkeypatch.setattr("common.tracking.TensorBoardTracker", Lines)

    def read(path):
        found = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(dict(found)) == len(found)
        return dict(found)

    return read


def break_off(monkeypatch, epoch):
    """Let the next training be killed after an epoch was told of, before it is saved."""
    save = Checkpoint.save

    def killed(self):
        if self.epoch == epoch:
            monkeypatch.setattr(Checkpoint, "save", save)
            raise KeyboardInterrupt
        save(self)

    monkeypatch.setattr(Checkpoint, "save", killed)


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_has_the_numbers_of_the_history(script, data, bert, tmp_path, run_script, lines):
    more = ("--epochs", 2, "--log", "tensorboard")
    done = run_script(*command(script, data, bert, tmp_path, *more))
    assert done.status == 0, done.stderr
    model = SCRIPTS[script]
    found = lines(tmp_path / "logs" / f"{model}.jsonl")
    assert found == numbers_of(tmp_path / model) and {"valid_loss", "uar"} <= found[2].keys()
    assert "log" not in json.loads((tmp_path / model / "config.json").read_text())["settings"]


def test_a_training_that_was_killed_goes_on_in_its_run(
    data, bert, tmp_path, run_script, monkeypatch
):
    pytest.importorskip("tensorboard")
    line = command("text_train.py", data, bert, tmp_path, "--epochs", 3, "--log", "tensorboard")
    break_off(monkeypatch, 2)
    assert run_script(*line).status == 130
    folder = tmp_path / "logs" / "text"
    assert read_events(folder).keys() == {1, 2}
    assert run_script(*line).status == 0
    assert_same(read_events(folder), numbers_of(tmp_path / "text"))
    assert run_script(*line, "--restart", "--seed", 2).status == 0  # nothing of the old model
    assert_same(read_events(folder), numbers_of(tmp_path / "text"))


def test_it_is_no_part_of_the_model(data, bert, tmp_path, run_script, monkeypatch, lines):
    """Begun without, gone on with, done: nothing is refused, no epoch is missing."""
    line = command("text_train.py", data, bert, tmp_path, "--epochs", 3)
    break_off(monkeypatch, 2)
    assert run_script(*line).status == 130
    done = run_script(*line, "--log", "tensorboard")
    assert done.status == 0 and "going on in epoch 2" in done.stdout, done.stderr
    path = tmp_path / "logs" / "text.jsonl"
    assert lines(path) == numbers_of(tmp_path / "text")
    path.unlink()
    assert "nothing to do" in run_script(*line, "--log", "tensorboard").stdout
    assert "nothing to do" in run_script(*line).stdout


def test_each_fold_is_a_run(data, bert, tmp_path, run_script, lines):
    line = command("text_train.py", data, bert, tmp_path, "--epochs", 1, "--folds", 2)
    line += ["--dimensions", "0"]
    assert run_script(*line, "--log", "tensorboard").status == 0
    for run in ("text", "text/fold0", "text/fold1"):
        path = tmp_path / "logs" / f"{run.replace('/', '_')}.jsonl"
        assert lines(path) == numbers_of(tmp_path / run), run


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_package_is_one_line_before_anything(script, tmp_path, run_script, monkeypatch):
    monkeypatch.setattr("common.tracking.find_spec", lambda name: None)
    done = run_script(script, "--data", tmp_path / "none", "--log", "tensorboard")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert "pip install tensorboard" in done.stderr


def test_one_that_does_not_start_is_one_line(data, bert, tmp_path, run_script, monkeypatch, lines):
    def refuse(self, name, run_id):
        raise RuntimeError("No API key\nconfigured")

    monkeypatch.setattr(Trackers, "make", refuse)
    line = command("text_train.py", data, bert, tmp_path, "--epochs", 1)
    done = run_script(*line, "--log", "wandb")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert "LOG = 'wandb' does not start (No API key configured)" in done.stderr
    assert run_script(*line).status == 0
