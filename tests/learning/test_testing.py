"""The scripts that train and test, run for real on small data: what they write and refuse."""

import gc
import shutil
import signal
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from conftest import ROOT
from pipeline.learning import text
from pipeline.learning.dataset import load_utterances
from pipeline.learning.recogniser import predict
from pipeline.learning.run import Run
from pipeline.learning.training import train
from small_data import make_rows, write_data
from stage_settings import stage_settings

from common.files import LABELS, read_json, write_json

MODELS = ("text", "audio", "cmbert")
TRAIN = {"text": "text_train.py", "audio": "audio_train.py", "cmbert": "run_classifier.py"}
TEST = {"text": "text_test.py", "audio": "audio_test.py"}

# Runs a script and ends it without notice after it has written its state some times.
KILLED = """
import os, runpy, signal, sys
import torch
from pipeline.learning.checkpoint import State
torch.set_num_threads(int(sys.argv[1]))
left, write = int(sys.argv[2]), State.save
def save(state):
    global left
    write(state)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
State.save = save
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def options(model, data, outputs, bert, *more):
    """Arguments of a model's training; every script has the batch settings of its own kind."""
    arguments = ["--data", data, "--outputs", outputs, "--epochs", 2, "--batch-size", 8]
    if model != "audio":
        arguments += ["--bert", bert]
    return [*arguments, *more]


@pytest.fixture(scope="module")
def outputs(data, bert, run_script, tmp_path_factory):
    """The results of all training and test scripts; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "outputs"
    for model in MODELS:
        done = run_script(TRAIN[model], *options(model, data, folder, bert))
        assert done.status == 0, done.stderr
        if model in TEST:
            done = run_script(TEST[model], "--data", data, "--outputs", folder)
            assert done.status == 0, done.stderr
        assert "tones of a test" in done.stdout  # scores are labelled as synthetic
    return folder


@pytest.fixture
def own_outputs(outputs, tmp_path):
    """A copy of the results that a test may damage."""
    return shutil.copytree(outputs, tmp_path / "outputs")


def refused(done, words):
    """The run ended in one line that holds `words`, and status 2."""
    assert done.status == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "error: " in done.stderr
    assert words in done.stderr


def read(folder, model, kind):
    return np.load(folder / f"{model}_{kind}.npy", allow_pickle=False)


# --- what is written


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", ["test", "valid"])
def test_every_row_is_predicted_once_in_the_tables_order(outputs, rows, model, part):
    folder = outputs if part == "test" else outputs / "heldout"
    expected = [row for row in rows if row["split"] == part]
    assert read(folder, model, "index").tolist() == [row["id"] for row in expected]
    truth, pred, logits = (read(folder, model, kind) for kind in ("truth", "pred", "output"))
    assert [LABELS[i] for i in truth] == [row["label"] for row in expected]
    assert (truth.dtype, pred.dtype, logits.dtype) == (np.int64, np.int64, np.float32)
    assert logits.shape == (len(expected), 7)
    assert np.isfinite(logits).all()
    assert pred.tolist() == logits.argmax(1).tolist()
    assert len(np.unique(logits, axis=0)) == len(expected)  # no row was given another's output


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_carries_what_testing_needs(outputs, data, model):
    folder = outputs / model
    left = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "history.json"} <= left
    assert not left & {"state.pt", "running.json"}
    assert ("spiece.model" in left) == (model != "audio")
    config = read_json(folder / "config.json", "")
    assert config["labels"] == list(LABELS)
    assert config["synthetic"] == "tones of a test"
    assert config["held_out"] == [3]
    assert config["settings"]["epochs"] == 2
    assert config["settings"]["seed"] == 1
    assert {"torch", "python"} <= set(config["versions"])
    history = read_json(folder / "history.json", "")
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert {"loss", "learning_rate", "valid_loss", "macro_f1"} <= set(history["epochs"][0])


def test_testing_needs_no_encoder_and_forgets_no_setting(own_outputs, data, run_script, tmp_path):
    """The checkpoint alone, moved elsewhere, predicts what it predicted before."""
    moved = shutil.move(own_outputs, tmp_path / "elsewhere")
    for model, script in TEST.items():
        before = {p.name: p.read_bytes() for p in moved.rglob(f"{model}_*.npy")}
        for path in moved.rglob(f"{model}_*.npy"):
            path.unlink()
        assert run_script(script, "--data", data, "--outputs", moved).status == 0
        assert {p.name: p.read_bytes() for p in moved.rglob(f"{model}_*.npy")} == before
        assert len(before) == 4


@pytest.mark.parametrize("model", TEST)
def test_predictions_do_not_depend_on_the_batches(own_outputs, outputs, data, run_script, model):
    arguments = ("--data", data, "--outputs", own_outputs, "--batch-size", 1)
    assert run_script(TEST[model], *arguments).status == 0
    for folder in ("", "heldout"):
        together = read(outputs / folder, model, "output")
        alone = read(own_outputs / folder, model, "output")
        assert np.abs(alone - together).max() < 1e-4


# --- the same again


def same_weights(first, second):
    name = "model.safetensors"
    return (first / name).read_bytes() == (second / name).read_bytes()


def kill(script, saves, *arguments):
    """Run a script in a process of its own until SIGKILL, right after its `saves`-th state."""
    command = [sys.executable, "-c", KILLED, torch.get_num_threads(), saves, script, *arguments]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture(scope="module")
def killed(data, bert, tmp_path_factory):
    """What run_classifier.py leaves when it is killed in its second epoch; not to be changed."""
    folder = tmp_path_factory.mktemp("killed") / "outputs"
    arguments = options("cmbert", data, folder, bert, "--save-minutes", 0)
    kill("run_classifier.py", 6, *arguments)  # three batches and the epoch's end, two batches
    return folder


@pytest.fixture
def unfinished(killed, tmp_path):
    """A copy of what the kill left, to go on from or to damage."""
    return shutil.copytree(killed, tmp_path / "unfinished")


def test_cmbert_killed_and_started_again_gives_the_same(
    data, bert, outputs, run_script, unfinished
):
    assert not (unfinished / "cmbert" / "model.safetensors").exists()
    marker = unfinished / "cmbert" / "unfinished" / "running.json"
    begun = read_json(marker, "")
    begun["code"]["models/cmbert.py"] = "0" * 64  # as if a comment had been edited since
    write_json(marker, begun)
    arguments = options("cmbert", data, unfinished, bert, "--save-minutes", 0)
    done = run_script("run_classifier.py", *arguments)
    assert done.status == 0, done.stderr
    said = "going on with the unfinished run of these settings, begun by other code"
    assert f"{said} (models/cmbert.py)\n" in done.stdout
    assert "going on in epoch 2 after batch 2" in done.stdout
    for name in ("cmbert/model.safetensors", "cmbert/history.json", "cmbert_output.npy"):
        assert (unfinished / name).read_bytes() == (outputs / name).read_bytes(), name


def test_audio_killed_and_started_again_gives_the_same(data, bert, run_script, tmp_path):
    """In float32; the augmentation's random numbers go on where they were."""
    results = {}
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        arguments = options(
            "audio", data, folder, bert, "--precision", "float32", "--save-minutes", 0
        )
        if folder.name == "parts":
            # three mixed batches, four speakers, the epoch's end, one more
            kill("audio_train.py", 9, *arguments)
            done = run_script("audio_test.py", "--data", data, "--outputs", folder)
            refused(done, "is unfinished: run audio_train.py again")
        done = run_script("audio_train.py", *arguments)
        assert done.status == 0, done.stderr
        files = ("model.safetensors", "history.json")
        results[folder.name] = [(folder / "audio" / name).read_bytes() for name in files]
    assert "going on in epoch 2 after batch 1" in done.stdout
    assert results["whole"] == results["parts"]


def files_of(folder):
    """Every file below a folder but its locks, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("case", [*MODELS, "folds"])
def test_a_finished_model_is_left_alone_by_another_runs_state(
    case, data, bert, outputs, folds, run_script, tmp_path
):
    """A is done, B is killed, A again, B goes on: each ends as if there had been no other."""
    model, more = ("text", ("--folds", 2)) if case == "folds" else (case, ())
    own = shutil.copytree(folds if case == "folds" else outputs, tmp_path / "outputs")
    first = options(model, data, own, bert, *more)
    other = (*first, "--seed", 7, "--learning-rate", 1e-3, "--save-minutes", 0)
    before = files_of(own / model)
    kill(TRAIN[model], 2, *other)
    unfinished = files_of(own / model)
    assert before.items() < unfinished.items() and any("state.pt" in name for name in unfinished)
    done = run_script(TRAIN[model], *first)
    assert done.status == 0, done.stderr
    assert "nothing to do" in done.stdout and "going on" not in done.stdout
    assert files_of(own / model) == unfinished
    third = (*first, "--seed", 8)
    refused(run_script(TRAIN[model], *third), "other settings (SEED = 8, was 7")
    assert files_of(own / model) == unfinished
    done = run_script(TRAIN[model], *other)
    assert done.status == 0 and "going on in epoch" in done.stdout, done.stderr
    alone = [tmp_path / "alone" if word == own else word for word in other]
    assert run_script(TRAIN[model], *alone).status == 0
    for folder in [own / model, *sorted((own / model).glob("fold*"))]:
        settings = read_json(folder / "config.json", "")["settings"]
        assert (settings["seed"], settings["learning_rate"]) == (7, 1e-3)
        expected = tmp_path / "alone" / folder.relative_to(own)
        assert same_weights(folder, expected)
        assert (folder / "history.json").read_bytes() == (expected / "history.json").read_bytes()


@pytest.mark.parametrize("change", ["settings", "data", "encoder"])
def test_an_unfinished_run_of_other_things_is_refused_and_kept(
    data, bert, outputs, run_script, unfinished, tmp_path, change
):
    more, words = ("--save-minutes", 0), "other inputs (data_hash)"
    first = options("cmbert", data, unfinished, bert, *more)
    if change == "settings":
        more += ("--seed", 2)
        words = "other settings (SEED = 2, was 1)"
    elif change == "data":
        data = write_data(tmp_path / "other", make_rows(seed=1))
    else:  # of the same name as before
        path = shutil.copytree(bert, tmp_path / "bert") / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        bert, words = path.parent, "other inputs (bert)"
    arguments, before = options("cmbert", data, unfinished, bert, *more), files_of(unfinished)
    refused(run_script("run_classifier.py", *arguments), words)
    assert files_of(unfinished) == before
    done = run_script("run_classifier.py", *first)
    assert done.status == 0 and "going on in epoch 2" in done.stdout, done.stderr
    assert same_weights(unfinished / "cmbert", outputs / "cmbert")


def test_who_starts_over_does_not_go_on(data, bert, outputs, run_script, unfinished):
    arguments = options("cmbert", data, unfinished, bert, "--seed", 2, "--restart")
    done = run_script("run_classifier.py", *arguments)
    assert done.status == 0, done.stderr
    assert "going on" not in done.stdout
    assert not same_weights(unfinished / "cmbert", outputs / "cmbert")


def test_damaged_state_is_one_line(data, bert, run_script, unfinished):
    state = unfinished / "cmbert" / "unfinished" / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    arguments = options("cmbert", data, unfinished, bert, "--save-minutes", 0)
    refused(run_script("run_classifier.py", *arguments), "state.pt cannot be read")
    state.unlink()  # as the message says
    done = run_script("run_classifier.py", *arguments)
    assert done.status == 0, done.stderr


def test_the_same_seed_gives_the_same_weights(data, bert, outputs, run_script, tmp_path):
    for folder, more in (("again", ()), ("other", ("--seed", 2))):
        done = run_script("text_train.py", *options("text", data, tmp_path / folder, bert, *more))
        assert done.status == 0, done.stderr
    assert same_weights(outputs / "text", tmp_path / "again" / "text")
    assert not same_weights(outputs / "text", tmp_path / "other" / "text")


# --- folds


@pytest.fixture(scope="module")
def folds(data, bert, run_script, tmp_path_factory):
    """Results of the text model in two folds: sessions 1 and 3, session 2."""
    folder = tmp_path_factory.mktemp("folds") / "outputs"
    done = run_script("text_train.py", *options("text", data, folder, bert, "--folds", 2))
    assert done.status == 0, done.stderr
    done = run_script("text_test.py", "--data", data, "--outputs", folder)
    assert done.status == 0, done.stderr
    return folder


def test_folds_predict_every_training_row_once(folds, rows):
    expected = [row["id"] for row in rows if row["split"] != "test"]
    assert read(folds / "heldout", "text", "index").tolist() == expected
    assert len(read(folds, "text", "index")) == 10
    held_out = [read_json(folds / f"text/fold{k}/config.json", "")["held_out"] for k in (0, 1)]
    assert held_out == [[1, 3], [2]]
    assert read_json(folds / "text/config.json", "")["held_out"] == []


def test_every_fold_is_a_model_of_its_own(folds, data, tmp_path):
    """A fold's folder, moved elsewhere, predicts what the test stage wrote."""
    model = text.load(shutil.copytree(folds / "text/fold1", tmp_path / "elsewhere"))
    mine = load_utterances(data, "train")
    mine = mine.select((mine.table["session"] == 2).to_numpy())
    found = predict(model, model.prepare(mine), "past", (4096, 64), "")
    place = np.isin(read(folds / "heldout", "text", "index"), mine.ids)
    written = read(folds / "heldout", "text", "output")[place]
    np.testing.assert_allclose(found, written, atol=1e-5)


def test_a_finished_fold_does_not_stay_in_memory(data, bert, tmp_path):
    settings = stage_settings(
        "text", data=data, outputs=tmp_path, bert=str(bert), epochs=1, folds=2
    )
    run, networks = Run(text, settings), []
    for part, model in run.trainings():
        train(model, part, {"": 1e-3})
        run.save(part, model)
        networks.append(weakref.ref(model.network))
    del model
    gc.collect()
    assert [network() for network in networks] == [None] * 3


def test_finished_folds_are_not_trained_again(data, bert, tmp_path):
    """A run that ended between two trainings goes on with the next one."""
    changes = {"data": str(data), "outputs": str(tmp_path), "bert": str(bert)}
    settings = stage_settings("text", **changes, epochs=1, folds=2)
    run = Run(text, settings)
    part, model = next(run.trainings())
    train(model, part, {"": 1e-3})
    run.save(part, model)
    before = {path.name: path.stat().st_mtime_ns for path in part.folder.iterdir()}
    left = [other.folder for other, _ in Run(text, settings).trainings()]
    assert part.folder.name == "fold0" and len(left) == 2 and part.folder not in left
    assert {path.name: path.stat().st_mtime_ns for path in part.folder.iterdir()} == before


def test_folds_of_an_earlier_run_predict_nothing(folds, data, bert, run_script, rows, tmp_path):
    """A run without folds clears theirs away: only its own validation session is held out."""
    outputs = shutil.copytree(folds, tmp_path / "outputs")
    done = run_script("text_train.py", *options("text", data, outputs, bert))
    assert done.status == 0, done.stderr
    assert not [*outputs.glob("text/fold*/*.safetensors"), *outputs.glob("text/fold*/config.json")]
    assert run_script("text_test.py", "--data", data, "--outputs", outputs).status == 0
    held_out = [row["id"] for row in rows if row["split"] == "valid"]
    assert read(outputs / "heldout", "text", "index").tolist() == held_out


def test_no_fold_has_seen_what_it_predicts(folds, rows, bert, run_script, tmp_path):
    """Other labels and recordings in session 2 change the models that saw it, and no other."""
    changed = [dict(row) for row in rows]
    for row in changed:
        if row["session"] == 2:
            row["label"] = LABELS[(LABELS.index(row["label"]) + 1) % 7]
            row["text"] = " ".join(reversed(row["text"].split()))
    data = write_data(tmp_path / "data", changed)
    folder = tmp_path / "outputs"
    done = run_script("text_train.py", *options("text", data, folder, bert, "--folds", 2))
    assert done.status == 0, done.stderr
    assert same_weights(folds / "text/fold1", folder / "text/fold1")
    assert not same_weights(folds / "text/fold0", folder / "text/fold0")
    assert not same_weights(folds / "text", folder / "text")


def test_each_row_is_predicted_by_its_own_fold(folds, data, run_script, tmp_path):
    """With fold 1's model in every place, only session 2 keeps its outputs."""
    outputs = shutil.copytree(folds, tmp_path / "outputs")
    name = "model.safetensors"
    for place in ("text", "text/fold0"):
        shutil.copy(folds / "text/fold1" / name, outputs / place / name)
    shutil.rmtree(outputs / "text" / "records")  # which would tell
    assert run_script("text_test.py", "--data", data, "--outputs", outputs).status == 0
    sessions = np.array([int(i[4:6]) for i in read(folds / "heldout", "text", "index")])
    before, after = (read(f / "heldout", "text", "output") for f in (folds, outputs))
    assert np.array_equal(before[sessions == 2], after[sessions == 2])
    assert (before[sessions != 2] != after[sessions != 2]).any(1).all()


# --- what is known of a speaker


@pytest.mark.parametrize("model", ["audio", "cmbert"])
def test_a_trained_model_is_tested_in_any_regime(own_outputs, outputs, data, run_script, model):
    script, more = ("audio_test.py", ()) if model == "audio" else (TRAIN[model], ("--train", "no"))
    weights = (own_outputs / model / "model.safetensors").read_bytes()
    found = {"past": read(outputs, model, "output")}
    for regime in ("utterance", "all"):
        arguments = ("--data", data, "--outputs", own_outputs, *more, "--speaker-norm", regime)
        done = run_script(script, *arguments)
        assert done.status == 0, done.stderr
        assert f"speakers known: {regime}" in done.stdout
        for folder in (own_outputs, own_outputs / "heldout"):
            assert read_json(folder / f"{model}_run.json", "")["speaker_norm"] == regime
        found[regime] = read(own_outputs, model, "output")
    assert read_json(outputs / f"{model}_run.json", "")["speaker_norm"] == "past"
    assert (own_outputs / model / "model.safetensors").read_bytes() == weights
    for one, other in (("utterance", "past"), ("utterance", "all"), ("past", "all")):
        assert np.abs(found[one] - found[other]).max() > 1e-4


def test_a_test_has_only_its_own_settings_on_record(own_outputs, data, run_script):
    record = own_outputs / "records" / "run_classifier.json"
    arguments = ("--data", data, "--outputs", own_outputs, "--train", "no", "--batch-size", 8)
    for more in (("--learning-rate", 0.5), ("--epochs", 99)):  # of a training that there is not
        refused(run_script("run_classifier.py", *arguments, *more), "has no effect with TRAIN")
        done = run_script("run_classifier.py", *arguments)
        assert done.status == 0 and "nothing to do" in done.stdout, done.stderr
        assert not {"learning_rate", "epochs", "train"} & set(read_json(record, "")["settings"])


def test_text_knows_no_speaker(outputs):
    assert read_json(outputs / "text_run.json", "")["speaker_norm"] is None


def test_the_ablation_has_the_three_regimes(outputs):
    rows = read_json(outputs / "cmbert" / "ablation.json", "")
    whole = [row["speaker_norm"] for row in rows if row["input"] == "words and voice"]
    assert sorted(whole) == ["all", "past", "utterance"] and whole[0] == "past"
    assert len(rows) == 6
    for row in rows:
        low, high = row["macro_f1_ci"]
        assert 0 <= low <= row["macro_f1"] <= high <= 1 and low < high


# --- refusals


@pytest.mark.parametrize("model", TEST)
def test_a_checkpoint_of_other_data_is_refused(outputs, run_script, tmp_path, model):
    other = write_data(tmp_path / "other", make_rows(seed=1))
    done = run_script(TEST[model], "--data", other, "--outputs", outputs)
    refused(done, f"was trained on other preprocessed data: run {TRAIN[model]} again")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "spiece.model"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_checkpoint(own_outputs, data, run_script, name, damage):
    path = own_outputs / "text" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    done = run_script("text_test.py", "--data", data, "--outputs", own_outputs)
    refused(done, name if name != "spiece.model" else str(own_outputs / "text"))


@pytest.mark.parametrize("script", ["audio_test.py", "run_classifier.py"])
def test_an_unknown_regime_is_refused(outputs, data, run_script, script):
    arguments = ("--data", data, "--outputs", outputs, "--speaker-norm", "future")
    refused(
        run_script(script, *arguments), "SPEAKER_NORM = 'future': give utterance or past or all"
    )


@pytest.mark.parametrize("script", [*TRAIN.values(), *TEST.values()])
def test_no_preprocessed_data(outputs, bert, run_script, tmp_path, script):
    arguments = ("--data", tmp_path / "nothing", "--outputs", outputs)
    refused(run_script(script, *arguments), "manifest.json is missing: run preprocess.py first")


def test_nothing_trained(data, run_script, tmp_path):
    for model, script in TEST.items():
        done = run_script(script, "--data", data, "--outputs", tmp_path)
        refused(done, f"config.json is missing: run {TRAIN[model]} first")


@pytest.mark.parametrize(
    ("script", "more", "words"),
    [
        ("text_train.py", ("--precision", "half"), "PRECISION = 'half'"),
        ("text_train.py", ("--folds", 9), "FOLDS = 9: give 0, or 2 to 3"),
        ("text_train.py", ("--epoch", 9), "did you mean --epochs?"),
        ("text_train.py", ("--head", "max"), "max"),
        ("text_train.py", ("--schedule", "step"), "step"),
        ("audio_train.py", ("--pooling", "max"), "max"),
        ("audio_train.py", ("--pooling", "sum"), "FEATURES"),
        ("audio_train.py", ("--features", "mfcc"), "mfcc"),
        ("run_classifier.py", ("--audio", "mfcc"), "mfcc"),
        ("run_classifier.py", ("--audio", "paper"), "MAX_LENGTH = 128: AUDIO = 'paper' lays"),
        ("run_classifier.py", ("--voice", "none"), "none"),
        ("run_classifier.py", ("--scale", "row"), "row"),
    ],
)
def test_a_wrong_setting_is_one_line(data, bert, run_script, tmp_path, script, more, words):
    model = next(model for model, name in TRAIN.items() if name == script)
    refused(run_script(script, *options(model, data, tmp_path, bert, *more)), words)
