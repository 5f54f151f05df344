"""The classic tools beside the networks: scored and compared, never fused."""

import json

import numpy as np
import pytest
from fusion_files import write_baselines, write_models
from sklearn.metrics import accuracy_score

from fusion import metrics, predictions
from fusion.predictions import BASELINES


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_script):
    """The outputs folder of a run with classics, and the screen."""
    outputs = tmp_path_factory.mktemp("outputs")
    truth = write_models(outputs, range(17, 21), 160, seed=1)
    write_baselines(outputs, range(17, 21), 160, seed=3, right=truth)
    done = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "none")
    assert done.status == 0, done.stderr
    return outputs, done


def read_details(outputs):
    return json.loads((outputs / "ensemble_details.json").read_text(encoding="utf-8"))


def test_classics_are_scored_like_the_others(finished):
    outputs, done = finished
    rows = {row["method"]: row for row in json.loads((outputs / "ensemble.json").read_text())}
    truth = np.load(outputs / "text_truth.npy")
    for name in BASELINES:
        accuracy = accuracy_score(truth, np.load(outputs / f"{name}_pred.npy"))
        assert rows[name]["accuracy"] == pytest.approx(accuracy)
        assert rows[name]["accuracy_ci"][0] < accuracy < rows[name]["accuracy_ci"][1]
        assert rows[name]["ece"] is not None
    assert "Words: TF-IDF + logistic regression" in done.stdout


def test_each_network_is_tested_against_its_classic(finished):
    outputs, _ = finished
    compared = {(row["first"], row["second"]): row for row in read_details(outputs)["comparisons"]}
    truth, sessions = np.load(outputs / "text_truth.npy"), predictions.load(outputs)
    groups = np.unique(sessions.groups("session"), return_inverse=True)[1]
    for first, second in (("text", "baseline_text"), ("audio", "baseline_audio")):
        pred, other = (np.load(outputs / f"{name}_pred.npy") for name in (first, second))
        expected = metrics.compare(truth, pred, other, groups)
        assert compared[first, second] == {"first": first, "second": second, **expected}
    assert {("stacking", "baseline_both"), ("stacking", "text"), ("cmbert", "text")} <= {*compared}


def test_classics_are_not_fused(finished, tmp_path, run_script):
    """Other classics change no fusion, nor are theirs the held-out rows that models learn from."""
    outputs, done = finished
    assert "no held-out rows" in done.stdout
    truth = write_models(tmp_path, range(17, 21), 160, seed=1)
    write_baselines(tmp_path, range(17, 21), 160, seed=3, right=(truth + 1) % 7)
    (tmp_path / "valid").mkdir()  # where baseline.py alone has written
    for path in tmp_path.glob("baseline_*"):
        (tmp_path / "valid" / path.name).write_bytes(path.read_bytes())
    done = run_script("ensemble.py", "--outputs", tmp_path, "--data", tmp_path / "none")
    assert done.status == 0, done.stderr
    for method in ("weighted_soft", "stacking"):
        name = f"ensemble_{method}_output.npy"
        assert (tmp_path / name).read_bytes() == (outputs / name).read_bytes()


def test_classics_of_folds_are_joined_and_may_not_be_missing_in_one(tmp_path, run_script):
    for number, sessions in ((1, range(1, 5)), (2, range(5, 9))):
        truth = write_models(tmp_path / f"fold{number}", sessions, 48, seed=number)
        write_baselines(tmp_path / f"fold{number}", sessions, 48, seed=number, right=truth)
    folders = [tmp_path / "fold1", tmp_path / "fold2"]
    arguments = ["--outputs", ",".join(map(str, folders)), "--results", tmp_path / "all"]
    done = run_script("ensemble.py", *arguments, "--data", tmp_path / "none")
    assert done.status == 0, done.stderr
    rows = {row["method"]: row for row in read_details(tmp_path / "all")["rows"]}
    truth, pred = (
        np.concatenate([np.load(folder / f"baseline_audio_{name}.npy") for folder in folders])
        for name in ("truth", "pred")
    )
    assert rows["baseline_audio"]["accuracy"] == pytest.approx(accuracy_score(truth, pred))
    for path in folders[1].glob("baseline_*"):
        path.unlink()
    done = run_script("ensemble.py", *arguments, "--data", tmp_path / "none")
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "fold2 has no baselines, another folder has: run baseline.py there" in done.stderr
