"""The ensemble script on files of simulated models: what it writes, prints, refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from fusion_files import MODELS, NOTICE, change_run, read_json, write_baselines, write_models
from sklearn.metrics import accuracy_score, f1_score

from common.files import UserError
from fusion import methods, paper, plots, predictions, stored
from fusion.outputs import BASELINES
from runs import summarise

DIALOGUE = ["dialogue_past", "dialogue_whole"]
FUSED = ["soft", "weighted_soft", "hard", "stacking"]
METHODS = ["majority", *BASELINES, *MODELS, *FUSED, *DIALOGUE]
SCORES = ["accuracy", "f1", "precision", "recall", "macro_f1", "uar", "ece"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_script):
    """The outputs folder and the screen of one run with held-out rows and baselines."""
    outputs = tmp_path_factory.mktemp("outputs")
    truth = write_models(outputs, range(17, 21), 240, seed=1)
    write_baselines(outputs, range(17, 21), 240, seed=3, right=truth)
    write_models(outputs / "heldout", range(11, 17), 360, seed=2)
    done = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "none")
    assert (done.status, done.stderr) == (0, "")
    return outputs, done


@pytest.fixture
def rerun(finished, tmp_path, run_script):
    """Return a function that runs the ensemble on a copy of those outputs."""
    copy = tmp_path / "outputs"
    shutil.copytree(finished[0], copy)

    def run(*arguments):
        return run_script("ensemble.py", "--outputs", copy, "--data", tmp_path / "none", *arguments)

    return copy, run


def test_the_screen_says_the_scores_and_that_the_data_are_synthetic(finished, run_script):
    outputs, done = finished
    titles = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert [title[:15] for title in titles] == ["## Scores", "## Who is bette", "## The paper's "]
    for text in (done.stdout, (outputs / "ensemble.md").read_text(encoding="utf-8")):
        assert text.count(NOTICE) == 2 and "stacking row is in-sample" in text
        assert "4 sessions (few: others may differ by more than these show)" in text
    assert f"{outputs}/report.html" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("stacking: accuracy ")
    again = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "none")
    assert "nothing to do" in again.stdout
    assert again.stdout.endswith(done.stdout[done.stdout.index("## Scores") :])


def test_the_rows_are_the_contract(finished):
    outputs, done = finished
    rows = read_json(outputs / "ensemble.json")
    assert [row["method"] for row in rows] == METHODS
    truth, kept = np.load(outputs / "text_truth.npy"), np.arange(240) % 16 != 0  # not tied
    for row in rows:
        assert row["synthetic"] == NOTICE and row["untied"]["rows"] == 225
        for score in SCORES:
            if row["method"] == "hard" and score == "ece":
                assert row["ece"] is row["ece_ci"] is None
                continue
            low, high = row[f"{score}_ci"]
            assert 0 <= low <= high <= 1
            assert score == "ece" or low <= row[score] <= high
        if row["method"] == "majority":
            continue
        prefix = "ensemble_" * (row["method"] in (*FUSED, *DIALOGUE))
        pred = np.load(outputs / f"{prefix}{row['method']}_pred.npy")
        assert pred.dtype == np.int64 and pred.shape == (240,)
        assert row["accuracy"] == pytest.approx(accuracy_score(truth, pred))
        macro = f1_score(truth, pred, average="macro", zero_division=0)
        assert row["macro_f1"] == pytest.approx(macro)
        assert row["untied"]["accuracy"] == pytest.approx(accuracy_score(truth[kept], pred[kept]))
        path = outputs / f"{prefix}{row['method']}_output.npy"
        assert path.exists() == (row["method"] != "hard")
        if prefix and path.exists():
            probabilities = np.load(path)
            assert (probabilities.argmax(axis=1) == pred).all()
            assert probabilities.sum(axis=1) == pytest.approx(np.ones(240))
    by_method = {row["method"]: row["accuracy"] for row in rows}
    assert by_method["stacking"] > max(by_method[model] for model in MODELS)
    low, high = rows[1]["uar_ci"]
    assert f"{rows[1]['uar']:.3f} ({low:.2f}-{high:.2f})" in done.stdout
    assert "accuracy on the 225 rows without tied labels" in done.stdout


OWN_MODEL = """
from common import settings
from pathlib import Path
import numpy as np
from common.data import load_data
from common.stages import Stage, read_data_hash
from common.testing import write_rows_of
from fusion.outputs import HELD_OUT
# -----
DATA = ""
OUTPUTS = ""
RESTART = False
MINE = "speech_large"
# -----
def main():
    inputs = {"data": read_data_hash(DATA)}
    stage = Stage(f"{MINE}_test.py", Path(OUTPUTS), settings.read(globals()), inputs)
    for split, folder in (("test", stage.unfinished), ("valid", stage.unfinished / HELD_OUT)):
        data = load_data(DATA, split)
        logits = np.eye(7)[data.labels] + np.random.default_rng(len(MINE)).normal(size=(10, 7))
        run = {"data_hash": data.data_hash, "synthetic": data.notice, "speaker_norm": None}
        write_rows_of(folder, MINE, split, data, logits, run)
    stage.publish()
settings.run(main)
"""


def test_a_fourth_model_is_added_by_a_script_of_its_own(tmp_path, data, run_script):
    """The recipe of CONTRIBUTING.md; a flipped byte of its files is found afterwards."""
    script, outputs = tmp_path / "speech_large_test.py", tmp_path / "outputs"
    script.write_text(OWN_MODEL)
    names = (*MODELS, "speech_large")
    for name in names:
        done = run_script(script, "--mine", name, "--data", data, "--outputs", outputs)
        assert done.status == 0, done.stderr
    done = run_script("ensemble.py", "--data", data, "--outputs", outputs)
    assert done.status == 0, done.stderr
    rows = read_json(outputs / "ensemble.json")
    assert [row["method"] for row in rows] == ["majority", *names, *FUSED, *DIALOGUE]
    assert "| Speech large " in done.stdout and "in-sample as published" in done.stdout
    fusion = stored.load(outputs / "fusion.json")
    assert list(fusion.temperatures) == [*names] and len(fusion.forms) == 15
    logits = {name: np.load(outputs / f"{name}_output.npy") for name in names}
    stacked = np.load(outputs / "ensemble_stacking_output.npy")
    assert fusion.predict(logits) == pytest.approx(stacked, abs=1e-9)
    page = (outputs / "report.html").read_text(encoding="utf-8")
    assert "<summary>Speech large</summary>" in page
    path = outputs / "heldout" / "speech_large_output.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = run_script("ensemble.py", "--data", data, "--outputs", outputs)
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "speech_large_output.npy has changed since speech_large_test.py wrote" in done.stderr


def test_refusals_name_the_command_of_a_model_of_another_name(
    of_encoders, data, tmp_path, run_script
):
    outputs = shutil.copytree(of_encoders, tmp_path / "outputs")
    run = read_json(outputs / "speech_run.json")
    assert (run["script"], run["input"]) == ("audio_test.py", "audio")
    (outputs / "speech" / "history.json").write_text("{")
    with pytest.raises(
        UserError, match=r"history\.json .* run audio_train\.py --name speech again"
    ):
        plots.read_histories(outputs, ("speech",))
    both = ("--outputs", outputs, "--data", data)
    done = run_script("audio_test.py", "--name", "speech", *both)
    assert done.status == 2 and "run audio_train.py --name speech again" in done.stderr
    (outputs / "speech_run.json").write_text("{")  # who tests it the other files tell
    done = run_script("ensemble.py", *both)
    assert done.status == 2 and done.stderr.count("\n") == 1
    said = "speech_run.json has changed since audio_test.py --name speech wrote it: run audio_test"
    assert said in done.stderr


def test_two_models_are_enough_and_the_papers_block_is_left_out_with_a_line(rerun):
    outputs, run = rerun
    for path in (*outputs.rglob("cmbert_*"), *outputs.glob("baseline_*")):
        path.unlink()
    done = run()
    assert done.status == 0, done.stderr
    assert "the paper's procedure is left out: no outputs of cmbert" in done.stdout
    rows = [row["method"] for row in read_json(outputs / "ensemble.json")]
    assert rows == ["majority", "text", "audio", *FUSED, *DIALOGUE]
    assert "in-sample" not in (outputs / "ensemble.md").read_text(encoding="utf-8")
    assert len(stored.load(outputs / "fusion.json").forms) == 3
    for path in outputs.rglob("audio_*"):
        path.unlink()
    done = run()  # one model alone is calibrated, scored and stored like several
    assert done.status == 0, done.stderr
    rows = [row["method"] for row in read_json(outputs / "ensemble.json")]
    assert rows == ["majority", "text", *FUSED, *DIALOGUE]
    assert list(stored.load(outputs / "fusion.json").forms) == [("text",)]
    for path in outputs.rglob("text_*"):
        path.unlink()
    done = run()
    assert done.status == 2 and "no model's outputs" in done.stderr


def test_baselines_are_not_fused_nor_are_theirs_the_held_out_rows(rerun, finished):
    outputs, run = rerun
    shutil.rmtree(outputs / "heldout")
    (outputs / "heldout").mkdir()  # where baseline.py alone has written
    for path in outputs.glob("baseline_*"):
        (outputs / "heldout" / path.name).write_bytes(path.read_bytes())
    fused = []
    for right in (0, 1):
        labels = (np.load(outputs / "text_truth.npy") + right) % 7
        write_baselines(outputs, range(17, 21), 240, seed=3, right=labels)
        done = run()
        assert done.status == 0 and "no held-out rows" in done.stdout
        fused.append((outputs / "ensemble_stacking_output.npy").read_bytes())
    assert fused[0] == fused[1]


def test_with_folds_the_models_held_out_rows_are_more_than_the_baselines(rerun):
    outputs, run = rerun
    ids = np.load(outputs / "heldout" / "text_index.npy")
    truth = np.load(outputs / "heldout" / "text_truth.npy")
    sessions = range(int(ids[0][4:6]), int(ids[0][4:6]) + 1)
    write_baselines(outputs / "heldout", sessions, 8, seed=3, right=truth[:8])
    done = run()
    assert done.status == 0, done.stderr


def test_permuted_test_labels_change_no_prediction(rerun, finished):
    outputs, run = rerun
    truth = np.load(outputs / "text_truth.npy")
    other = np.random.default_rng(0).permutation(truth)
    for path in outputs.glob("baseline_*"):
        path.unlink()
    write_models(outputs, range(17, 21), 240, seed=1, truth=other)
    done = run()
    assert done.status == 0, done.stderr
    names = [f"ensemble_{method}_pred.npy" for method in (*FUSED, *DIALOGUE)]
    names += [f"ensemble_{m}_output.npy" for m in (*FUSED, *DIALOGUE) if m != "hard"]
    for name in (*names, "fusion.json"):
        assert (outputs / name).read_bytes() == (finished[0] / name).read_bytes(), name
    for rule in (paper.vote_soft, paper.vote_hard):
        logits = [predictions.load(folder).logits for folder in (outputs, finished[0])]
        assert (rule(logits[0]) == rule(logits[1])).all()
    # The published stacking does look at them, and so does the same rule cross-validated.
    before, after = (
        read_json(folder / "ensemble_details.json")["paper"] for folder in (finished[0], outputs)
    )
    assert before["stacking_cross_validated"] != after["stacking_cross_validated"]
    majority = np.bincount(truth).max() / len(truth)
    assert after["stacking_in_sample"]["accuracy"] > majority + 0.03
    assert after["stacking_honest"]["accuracy"] < majority


def test_without_dialogue_context_and_by_another_speaker_normalisation(rerun):
    outputs, run = rerun
    assert run().status == 0
    norms = {"text": None, "audio": "all", "cmbert": "past"}
    for folder in (outputs, outputs / "heldout"):
        for model, norm in norms.items():
            change_run(folder / f"{model}_run.json", speaker_norm=norm)
    assert run("--context", "no").status == 0
    said = "Speaker normalisation: Audio all, Text-audio (CM-BERT) past."
    for name in ("ensemble.md", "report.html"):
        assert said in (outputs / name).read_text(encoding="utf-8")
    rows = read_json(outputs / "ensemble.json")
    assert rows[0]["speaker_norm"] == norms
    assert [row["method"] for row in rows] == [m for m in METHODS if m not in DIALOGUE]
    assert stored.load(outputs / "fusion.json").dialogue is None
    assert not [*outputs.glob("ensemble_dialogue_*")]  # those of an earlier run are gone
    change_run(outputs / "heldout" / "audio_run.json", speaker_norm="utterance")
    done = run()
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "heldout/audio_run.json: speaker_norm utterance" in done.stderr
    assert "run audio_test.py again" in done.stderr


def test_without_openmp_for_lightgbm_it_ends_in_one_line_before_any_work(finished, tmp_path):
    """LightGBM's Linux wheel takes libgomp from the system, unlike scikit-learn's and torch's."""
    lack = 'raise OSError("libgomp.so.1: cannot open shared object file: No such file")'
    (tmp_path / "lightgbm.py").write_text(lack)
    copy = shutil.copytree(finished[0], tmp_path / "outputs", ignore=lambda *_: ["records"])
    (copy / "text_output.npy").unlink()  # which would be said if anything were read
    done = subprocess.run(
        [sys.executable, ROOT / "ensemble.py", "--outputs", copy, "--data", tmp_path],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "libgomp.so.1: cannot open" in done.stderr
    assert "apt-get install libgomp1" in done.stderr and "brew install libomp" in done.stderr


def test_test_files_of_the_original_code_are_enough(tmp_path, run_script):
    write_models(tmp_path, range(17, 21), 240, seed=1)
    for path in (*tmp_path.glob("*_index.npy"), *tmp_path.glob("*_run.json")):
        path.unlink()
    done = run_script("ensemble.py", "--outputs", tmp_path, "--data", tmp_path)
    assert done.status == 0, done.stderr
    assert "the test rows themselves, cross-validated: other test labels" in done.stdout
    assert "no dialogue rows" in done.stdout and NOTICE not in done.stdout
    written = (tmp_path / "ensemble.md").read_text(encoding="utf-8")
    assert "in-sample" in written and "honest" not in written
    rows = [row["method"] for row in read_json(tmp_path / "ensemble.json")]
    assert rows == [m for m in METHODS if m not in (*DIALOGUE, *BASELINES)]
    logits = np.stack([np.load(tmp_path / f"{m}_output.npy") for m in MODELS])
    soft = methods.vote_soft(logits.astype(np.float64)).argmax(axis=1)
    assert (np.load(tmp_path / "ensemble_soft_pred.npy") == soft).all()
    assert (tmp_path / "report.html").exists()


def make_run(accuracy, methods=METHODS):
    row = dict.fromkeys(SCORES, accuracy) | {"synthetic": NOTICE}
    return [row | {"method": m} | ({"ece": None} if m == "hard" else {}) for m in methods]


def test_summary_over_runs_by_hand_goes_by_the_names_of_the_rows(tmp_path, run_script):
    for name, accuracy in (("seed1", 0.5), ("seed2", 0.6), ("seed10", 0.7)):
        methods = METHODS[::-1] if name == "seed2" else METHODS
        rows = make_run(accuracy, methods)
        (tmp_path / name).mkdir()
        (tmp_path / name / "ensemble.json").write_text(json.dumps(rows))
    runs = f"{tmp_path}/*/ensemble.json"
    done = run_script("runs/summarise.py", "--runs", runs, "--out", tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.count(NOTICE) == 2 and "0.6000 ± 0.1000" in done.stdout
    summary = read_json(tmp_path / "summary.json")
    assert summary["runs"] == ["seed1", "seed2", "seed10"]
    assert summary["methods"]["stacking"]["accuracy"]["values"] == [0.5, 0.6, 0.7]
    assert summary["methods"]["hard"]["ece"]["mean"] is None
    with pytest.raises(UserError, match="seed3/ensemble.json has no row 'baseline_text'"):
        runs = {"seed1": make_run(0.5), "seed3": make_run(0.6, [*MODELS, "majority"])}
        summarise.summarise(runs)
