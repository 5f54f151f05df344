"""A trained run on the small data, and its test rows as files: what predict.py reads."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from small_speech import save_checkpoint

TRAIN = ("text_train.py", "audio_train.py", "run_classifier.py")
PAPER = {
    "audio": {"features": "paper", "tempos": (1.0,)},
    "cmbert": {
        "audio": "paper",
        "max_length": 100,
        "voice": "weights",
        "pooling": "cls",
        "scale": "batch",
        "pad_id": 0,
        "frozen": ("encoder.embeddings", "classifier"),
    },
}


@dataclass
class Trained:
    """A run's folder, the folder of its data, and of the same run tested with `utterance`."""

    outputs: Path
    data: Path
    alone: Path


def make_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first of pytest's processes has made for all of them."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    whole = folder.with_suffix(".whole")
    with FileLock(folder.with_suffix(".lock")):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def trained(data, bert, run_script, tmp_path_factory):
    """Two epochs of every model, tested and fused; not to be changed.

    All but the text model have learned valence and arousal.
    """
    folder = make_once(
        tmp_path_factory, "trained", lambda folder: train_all(folder, data, bert, run_script)
    )
    return Trained(folder / "outputs", data, folder / "alone")


@pytest.fixture(scope="session")
def handed_on(trained, run_script, tmp_path_factory):
    """The trained run exported, which takes half a minute; not to be changed."""

    def export(folder):
        done = run_script("predict.py", "--model", trained.outputs, "--export", folder / "run")
        assert done.status == 0 and "no ONNX" not in done.stdout, done

    return make_once(tmp_path_factory, "handed_on", export) / "run"


def train_all(folder: Path, data: Path, bert: Path, run_script) -> None:
    """Train, test and fuse all models below a folder."""
    outputs, alone = folder / "outputs", folder / "alone"
    for script in TRAIN:
        arguments = ["--data", data, "--outputs", outputs, "--epochs", 2, "--batch-size", 8]
        arguments += ["--dimensions", 0.0 if script == "text_train.py" else 0.3]
        arguments += [] if script == "audio_train.py" else ["--bert", bert]
        run(run_script, script, *arguments)
    for script in ("text_test.py", "audio_test.py"):
        run(run_script, script, "--data", data, "--outputs", outputs)
    nowhere = folder / "no data for the report page"
    run(run_script, "ensemble.py", "--data", nowhere, "--outputs", outputs)
    shutil.copytree(outputs, alone)
    both = ("--data", data, "--outputs", alone, "--speaker-norm", "utterance")
    run(run_script, "audio_test.py", *both)
    run(run_script, "run_classifier.py", *both, "--train", "no")


@pytest.fixture(scope="session")
def of_the_paper(data, bert, run_script, tmp_path_factory):
    """The outputs of the two models with the published features, an epoch of each."""

    def train(folder):
        for name, script in (("audio", "audio_train.py"), ("cmbert", "run_classifier.py")):
            settings = dict(PAPER[name], data=data, outputs=folder, epochs=1, augment=0.0)
            settings["dimensions"] = 0.0
            if name == "cmbert":
                frozen = ",".join(settings["frozen"])
                settings |= {"bert": bert, "text_drop_prob": 0.0, "frozen": frozen}
                settings["batch_size"] = 8
            run(run_script, script, *[f"--{name}={value}" for name, value in settings.items()])
        run(run_script, "audio_test.py", "--data", data, "--outputs", folder)

    return make_once(tmp_path_factory, "of_the_paper", train)


@pytest.fixture(scope="session")
def of_encoders(trained, data, bert, run_script, tmp_path_factory):
    """The trained run with a fourth model, speech; CM-BERT hears a tiny speech encoder's frames.

    An epoch of each; the four are fused.
    """

    def train(folder):
        outputs, encoder = folder / "outputs", save_checkpoint(folder / "encoder")
        shutil.copytree(trained.outputs, outputs)
        both = ("--data", data, "--outputs", outputs)
        speech, once = (*both, "--name", "speech"), ("--epochs", 1, "--dimensions", 0.3)
        run(run_script, "audio_train.py", *speech, "--encoder", encoder, *once)
        run(run_script, "audio_test.py", *speech)
        words = ("--audio", encoder, "--bert", bert, "--batch-size", 8)
        run(run_script, "run_classifier.py", *both, *words, *once)
        run(run_script, "ensemble.py", "--data", folder / "none", "--outputs", outputs)

    return make_once(tmp_path_factory, "of_encoders", train) / "outputs"


def run(run_script, *command):
    done = run_script(*command)
    assert done.status == 0, done.stderr


@pytest.fixture(scope="session")
def talk(rows, tmp_path_factory):
    """The test rows in the order of their turns, each with the path of its recording."""
    folder = tmp_path_factory.mktemp("talk")
    spoken = sorted((row for row in rows if row["split"] == "test"), key=lambda row: row["turn"])
    spoken = [row | {"path": str(folder / f"{row['id']}.wav")} for row in spoken]
    for row in spoken:
        soundfile.write(row["path"], row["samples"], 16_000)
    return spoken


@pytest.fixture(scope="session")
def expected(trained):
    """What the test stages wrote: (regime, model) -> {id: logits}."""
    found = {}
    for regime, folder in (("past", trained.outputs), ("utterance", trained.alone)):
        for model in ("text", "audio", "cmbert"):
            ids = np.load(folder / f"{model}_index.npy")
            logits = np.load(folder / f"{model}_output.npy")
            found[regime, model] = dict(zip(ids.tolist(), logits, strict=True))
    return found
