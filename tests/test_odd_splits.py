"""Splits that lack a class or nearly all rows: every stage ends well, its numbers are defined."""

import json

import numpy as np
import pytest
from small_data import make_rows, write_data

MODELS = ("text", "audio", "cmbert")
STAGES = (
    *(("baseline.py",), ("text_train.py", "--epochs", 1), ("text_test.py",)),
    *(("audio_train.py", "--epochs", 1), ("audio_test.py",)),
    *(("run_classifier.py", "--epochs", 1), ("ensemble.py",)),
)


def without(rows, label, *splits):
    """Leave a class out of splits: never rated there."""
    return [row for row in rows if not (row["split"] in splits and row["label"] == label)]


def first_of(rows, split):
    """Keep one utterance of a split."""
    own = [row for row in rows if row["split"] == split]
    return [row for row in rows if row["split"] != split] + own[:1]


ODD = {
    "a class nobody was rated with": lambda rows: without(rows, "fear", "train", "valid", "test"),
    "a test class never trained": lambda rows: without(rows, "fear", "train", "valid"),
    "a validation without a class": lambda rows: without(rows, "fear", "valid"),
    "a test without a class": lambda rows: without(rows, "fear", "test"),
    "one validation utterance": lambda rows: first_of(rows, "valid"),
    "one test utterance": lambda rows: first_of(rows, "test"),
}


@pytest.mark.parametrize("name", ODD)
def test_every_stage_is_defined(name, run_script, bert, tmp_path):
    rows = sorted(ODD[name](make_rows(seed=1)), key=lambda row: row["id"])
    data, outputs = write_data(tmp_path / "data", rows), tmp_path / "outputs"
    for script, *more in STAGES:
        more += ["--bert", bert] if script in ("text_train.py", "run_classifier.py") else []
        done = run_script(script, "--data", data, "--outputs", outputs, *more)
        assert done.status == 0, f"{script}: {done.stderr}"
        assert "Warning" not in done.stderr, f"{script}: {done.stderr}"
    for model in MODELS:
        assert np.isfinite(np.load(outputs / f"{model}_output.npy")).all()
        epochs = json.loads((outputs / model / "history.json").read_text())["epochs"]
        assert all(value == value for value in epochs[0].values())
    table = json.loads((outputs / "ensemble.json").read_text())
    assert {row["method"] for row in table} >= {*MODELS, "soft", "stacking"}
    for row in table:
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["macro_f1"] <= 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_rows_is_refused_by_its_name(split, run_script, bert, tmp_path):
    rows = [row for row in make_rows() if row["split"] != split]
    data = write_data(tmp_path / "data", rows)
    outputs = tmp_path / "outputs"
    scripts = ("baseline.py", "text_train.py", "audio_train.py", "run_classifier.py")
    for script in scripts if split == "train" else ("baseline.py",):
        more = ["--bert", bert] if script in ("text_train.py", "run_classifier.py") else []
        done = run_script(script, "--data", data, "--outputs", outputs, *more)
        assert done.status == 2, f"{script}: {done.stdout}{done.stderr}"
        assert f"{split}.tsv has no rows" in done.stderr and done.stderr.count("\n") == 1
