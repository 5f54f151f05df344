"""The ensemble script on files of simulated models: what it writes, prints, refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from fusion_files import NOTICE, write_models
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score

import ensemble
from fusion import folds, metrics, predictions, scoring
from fusion import stored as fusion
from pipeline.files import UserError
from runs import summarise

DIALOGUE = ["dialogue_past", "dialogue_whole"]
METHODS = ["majority", "text", "audio", "cmbert", "soft", "weighted_soft", "hard", "stacking"]
METHODS += DIALOGUE
SCORES = ["accuracy", "f1", "precision", "recall", "macro_f1", "uar", "ece"]
FUSED = ("soft", "weighted_soft", "hard", "stacking", *DIALOGUE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_script):
    """The outputs folder and the screen of one run with held-out rows."""
    outputs = tmp_path_factory.mktemp("outputs")
    write_models(outputs, range(17, 21), 240, seed=1)
    write_models(outputs / "heldout", range(11, 17), 360, seed=2)
    arguments = ("--outputs", outputs, "--data", outputs / "none")
    return outputs, run_script("ensemble.py", *arguments)


def test_the_script_ends_well_and_says_that_the_data_are_synthetic(finished):
    outputs, done = finished
    assert (done.status, done.stderr) == (0, "")
    written = (outputs / "ensemble.md").read_text(encoding="utf-8")
    for text in (done.stdout, written):
        assert text.count(NOTICE) == 2
        assert "stacking row is in-sample" in text
    assert "Scripted dialogues only" in written and "Improvised dialogues only" in written


def test_the_screen_has_three_tables_and_the_way_to_the_others(finished):
    outputs, done = finished
    titles = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert [title[:15] for title in titles] == ["## Scores", "## Who is bette", "## The paper's "]
    for name in ("ensemble.md", "report.html"):
        assert f"{outputs}/{name}" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("stacking: accuracy ")


def test_called_again_it_shows_the_same_tables(finished, run_script):
    outputs, done = finished
    again = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "none")
    assert "nothing to do" in again.stdout
    assert again.stdout.endswith(done.stdout[done.stdout.index("## Scores") :])


def test_the_rows_are_the_contract(finished):
    outputs, _ = finished
    rows = json.loads((outputs / "ensemble.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in rows] == METHODS
    truth = np.load(outputs / "text_truth.npy")
    for row in rows:
        for score in SCORES:
            if row["method"] == "hard" and score == "ece":
                assert row["ece"] is row["ece_ci"] is None
                continue
            low, high = row[f"{score}_ci"]
            assert 0 <= low <= high <= 1
            assert score == "ece" or low <= row[score] <= high
        assert row["synthetic"] == NOTICE
    by_method = {row["method"]: row for row in rows}
    for method in FUSED:
        pred = np.load(outputs / f"ensemble_{method}_pred.npy")
        assert pred.dtype == np.int64 and pred.shape == (240,)
        assert by_method[method]["accuracy"] == pytest.approx(accuracy_score(truth, pred))
        macro = f1_score(truth, pred, average="macro", zero_division=0)
        assert by_method[method]["macro_f1"] == pytest.approx(macro)
        path = outputs / f"ensemble_{method}_output.npy"
        assert path.exists() == (method != "hard")
        if path.exists():
            probabilities = np.load(path)
            assert (probabilities.argmax(axis=1) == pred).all()
            assert probabilities.sum(axis=1) == pytest.approx(np.ones(240))
    singles = [by_method[model]["accuracy"] for model in MODELS]
    assert by_method["stacking"]["accuracy"] > max(singles)


def test_every_model_has_its_own_row(finished):
    """The models differ: none of their rows can have changed places unseen."""
    outputs, _ = finished
    rows = json.loads((outputs / "ensemble.json").read_text(encoding="utf-8"))
    by_method = {row["method"]: row for row in rows}
    truth = np.load(outputs / "text_truth.npy")
    scores = {}
    for model in MODELS:
        pred = np.load(outputs / f"{model}_pred.npy")
        scores[model] = accuracy_score(truth, pred)
        assert by_method[model]["accuracy"] == pytest.approx(scores[model])
        shares = softmax(np.load(outputs / f"{model}_output.npy"), axis=1)
        error = metrics.calibration_error(truth, pred, shares)
        assert by_method[model]["ece"] == pytest.approx(error, abs=1e-6)
    assert len(set(scores.values())) == 3


def test_the_stored_fusion_predicts_what_stacking_did(finished):
    outputs, done = finished
    stored = fusion.load(outputs / "fusion.json")
    logits = {model: np.load(outputs / f"{model}_output.npy") for model in MODELS}
    stacked = np.load(outputs / "ensemble_stacking_output.npy")
    assert stored.predict(logits) == pytest.approx(stacked, abs=1e-9)
    assert stored.synthetic == NOTICE and stored.fitted_on.startswith("held-out rows (360 rows")
    last = done.stdout.strip().splitlines()[-1]
    how = f"{stored.method(logits)}, chosen by session on the held-out rows"
    assert f"by {how}" in last
    assert f"accuracy; {how}" in (outputs / "report.html").read_text(encoding="utf-8")


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


def test_a_target_of_other_scores_ends_in_one_line(finished, run_script):
    done = run_script("ensemble.py", "--outputs", finished[0], "--target", "ece")
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "TARGET = 'ece': any of accuracy, f1, macro_f1, uar" in done.stderr


def test_scores_without_tied_rows_stand_beside_the_others(finished):
    outputs, done = finished
    rows = json.loads((outputs / "ensemble.json").read_text(encoding="utf-8"))
    kept = np.arange(240) % 16 != 0  # the tied ones of write_models
    truth = np.load(outputs / "text_truth.npy")[kept]
    for row in rows:
        assert row["untied"]["rows"] == 225
        if row["method"] in FUSED:
            pred = np.load(outputs / f"ensemble_{row['method']}_pred.npy")[kept]
            assert row["untied"]["accuracy"] == pytest.approx(accuracy_score(truth, pred))
    assert "accuracy on the 225 rows without tied labels" in done.stdout


def test_every_score_of_every_table_has_its_interval(finished):
    outputs, done = finished
    details = json.loads((outputs / "ensemble_details.json").read_text(encoding="utf-8"))
    parts = [part["scores"] for part in (*details["scenarios"].values(), details["untied"])]
    for scores in (*parts, details["paper"], details["per_class"]):
        for row in scores.values():
            for name in {"accuracy", "f1", "precision", "recall"} & set(row):
                value, bounds = np.array(row[name]), np.array(row[f"{name}_ci"])
                low, high = np.moveaxis(bounds, -1, 0)
                assert (low >= 0).all() and (low <= value + 1e-9).all()
                assert (value <= high + 1e-9).all() and (high <= 1 + 1e-9).all()
    accuracy = details["paper"]["soft"]["accuracy"]
    low, high = details["paper"]["soft"]["accuracy_ci"]
    assert f"{accuracy:.3f} ({low:.2f}-{high:.2f})" in done.stdout
    scores = details["rows"][1]
    low, high = scores["uar_ci"]
    assert f"{scores['uar']:.3f} ({low:.2f}-{high:.2f})" in done.stdout
    written = (outputs / "ensemble.md").read_text(encoding="utf-8")
    assert written.count("4 sessions (few: others may differ by more than these show)") >= 6


def test_the_table_says_what_is_known_of_the_speakers(finished, tmp_path, run_script):
    outputs, done = finished
    shutil.copytree(outputs, tmp_path, dirs_exist_ok=True)

    def set_regime(folder, **known):
        for model, regime in known.items():
            path = folder / f"{model}_run.json"
            run = json.loads(path.read_text(encoding="utf-8")) | {"known": regime}
            path.write_text(json.dumps(run), encoding="utf-8")

    for folder in (tmp_path, tmp_path / "heldout"):
        set_regime(folder, text=None, audio="all", cmbert="past")
    arguments = ("--outputs", tmp_path, "--data", tmp_path)
    done = run_script("ensemble.py", *arguments)
    assert done.status == 0, done.stderr
    said = "every utterance, later ones too, no label (all: transductive) in Audio; the earlier "
    said += "turns (past) in Text-audio (CM-BERT)."
    page = (tmp_path / "ensemble.md").read_text(encoding="utf-8")
    assert page.count(said) == page.count("\n## ")  # every table says so
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")
    row = json.loads((tmp_path / "ensemble.json").read_text(encoding="utf-8"))[0]
    assert row["known"] == {"text": None, "audio": "all", "cmbert": "past"}
    set_regime(tmp_path / "heldout", audio="alone")
    done = run_script("ensemble.py", *arguments)
    assert done.status == 2
    assert "heldout/audio_run.json: speakers known: alone" in done.stderr
    assert done.stderr.count("\n") == 1 and "run audio_test.py again" in done.stderr


def test_without_facts_nothing_is_said_of_ties(tmp_path, run_script):
    write_models(tmp_path, range(17, 21), 120, seed=1)
    for path in tmp_path.glob("*_rows.tsv"):
        path.unlink()
    done = run_script("ensemble.py", "--outputs", tmp_path, "--data", tmp_path)
    assert done.status == 0, done.stderr
    rows = json.loads((tmp_path / "ensemble.json").read_text(encoding="utf-8"))
    assert all(row["untied"] is None for row in rows)
    assert "ithout tied" not in done.stdout


def test_permuted_test_labels_change_no_prediction(finished, tmp_path, run_script):
    outputs, _ = finished
    truth = np.load(outputs / "text_truth.npy")
    other = np.random.default_rng(0).permutation(truth)
    assert (other != truth).any()
    write_models(tmp_path, range(17, 21), 240, seed=1, truth=other)
    write_models(tmp_path / "heldout", range(11, 17), 360, seed=2)
    done = run_script("ensemble.py", "--outputs", tmp_path, "--data", tmp_path)
    assert done.status == 0, done.stderr
    names = [f"ensemble_{method}_pred.npy" for method in FUSED]
    names += [f"ensemble_{method}_output.npy" for method in FUSED if method != "hard"]
    names.append("fusion.json")
    for name in names:
        assert (tmp_path / name).read_bytes() == (outputs / name).read_bytes(), name
    rules = (
        paper.vote_soft,
        paper.vote_weighted_soft,
        paper.vote_hard,
    )
    for rule in rules:
        logits = [predictions.load(folder).logits for folder in (outputs, tmp_path)]
        assert (rule(logits[0]) == rule(logits[1])).all()
    # The published stacking does look at them.
    details = [
        json.loads((folder / "ensemble_details.json").read_text(encoding="utf-8"))["paper"]
        for folder in (outputs, tmp_path)
    ]
    # So does the same rule cross-validated on these rows, if only those of other groups.
    assert details[1]["stacking_cross_validated"] != details[0]["stacking_cross_validated"]
    majority = np.bincount(truth).max() / len(truth)
    assert details[1]["stacking_in_sample"]["accuracy"] > majority + 0.03
    assert details[1]["stacking_honest"]["accuracy"] < majority


def test_the_conversation_can_be_left_out(finished, tmp_path, run_script):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    arguments = ("--outputs", tmp_path, "--data", tmp_path, "--context", "no")
    assert run_script("ensemble.py", *arguments).status == 0
    rows = json.loads((tmp_path / "ensemble.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in rows] == [m for m in METHODS if m not in DIALOGUE]
    assert fusion.load(tmp_path / "fusion.json").dialogue is None


def test_test_files_of_the_original_code_are_enough(tmp_path, run_script):
    write_models(tmp_path, range(17, 21), 240, seed=1)
    for model in MODELS:
        (tmp_path / f"{model}_index.npy").unlink()
        (tmp_path / f"{model}_run.json").unlink()
    (tmp_path / "ensemble_dialogue_past_pred.npy").touch()
    done = run_script("ensemble.py", "--outputs", tmp_path, "--data", tmp_path)
    assert done.status == 0, done.stderr
    assert "the test rows themselves, cross-validated by row (no segment IDs)" in done.stdout
    written = (tmp_path / "ensemble.md").read_text(encoding="utf-8")
    assert "a fit on the labels of the other groups' test rows" in written
    assert "refitted on all of them" not in written and "honest" not in written
    assert "in-sample" in done.stdout and NOTICE not in done.stdout
    rows = json.loads((tmp_path / "ensemble.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in rows] == [m for m in METHODS if m not in DIALOGUE]
    assert "no dialogue rows" in done.stdout
    assert not [*tmp_path.glob("ensemble_dialogue_*")]  # those of an earlier run are gone
    logits = np.stack([np.load(tmp_path / f"{m}_output.npy") for m in MODELS])
    soft = methods.vote_soft(logits.astype(np.float64)).argmax(axis=1)
    assert (np.load(tmp_path / "ensemble_soft_pred.npy") == soft).all()
    assert (tmp_path / "report.html").exists()


def test_one_speaker_and_one_scenario(tmp_path):
    run = {"data_hash": "d", "synthetic": None}
    ids = [f"Sess01_script01_F{number:03d}" for number in range(1, 41)]
    truth = np.arange(40) % 7
    logits = np.random.default_rng(0).normal(size=(40, 7)) + 2 * np.eye(7)[truth]
    for model in MODELS:
        write_outputs(tmp_path, model, ids, truth, logits, run)
    test, learn, fitted_on, _ = folds.join([folds.read(tmp_path)])
    assert "cross-validated by row (there is one speaker)" in fitted_on
    pred, probabilities, *_ = ensemble.fuse(test.logits, {}, learn)
    rules = ensemble.follow_paper(test, learn, is_held_out=False)
    results = scoring.evaluate(test, pred, probabilities, rules)
    assert results["resampled"] == "40 rows (too narrow: one speaker)"
    assert results["scenarios"] == {}


@pytest.mark.parametrize(
    ("name", "stage"),
    [("audio_output.npy", "audio_test.py"), ("heldout/cmbert_pred.npy", "run_classifier.py")],
)
def test_a_missing_file_ends_in_one_line(tmp_path, run_script, name, stage):
    write_models(tmp_path, range(17, 21), 20, seed=1)
    write_models(tmp_path / "heldout", range(11, 17), 20, seed=2)
    (tmp_path / name).unlink()
    done = run_script("ensemble.py", "--outputs", tmp_path)
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    assert f"{name} is missing: run {stage} first" in done.stderr
    assert not (tmp_path / "ensemble.json").exists()


def test_a_held_out_row_that_is_a_test_row_ends_in_one_line(tmp_path, run_script):
    write_models(tmp_path, range(17, 21), 20, seed=1)
    write_models(tmp_path / "heldout", range(16, 18), 20, seed=2)
    done = run_script("ensemble.py", "--outputs", tmp_path)
    assert done.status == 2 and done.stderr.count("\n") == 1
    # Session 16 has rows 0 to 11: three numbers, two scenarios, two speakers.
    assert (
        "heldout/text_index.npy, row 12 (Sess17_impro01_F001): is a test row as well" in done.stderr
    )


def test_agreement_by_hand():
    truth = np.array([0, 0, 0, 0, 0])
    pred = {
        "text": np.array([0, 0, 1, 1, 1]),
        "audio": np.array([0, 0, 1, 0, 1]),
        "cmbert": np.array([0, 1, 1, 1, 1]),
        "stacking": np.array([0, 1, 0, 1, 1]),
    }
    counted = {part["right"]: part for part in scoring.count_agreement(truth, pred)}
    assert len(counted) == 8
    assert {models: (p["rows"], p["stacking"]) for models, p in counted.items() if p["rows"]} == {
        (): (2, 1),
        ("audio",): (1, 0),
        ("text", "audio"): (1, 0),
        ("text", "audio", "cmbert"): (1, 1),
    }


def make_run(accuracy, methods=METHODS):
    row = dict.fromkeys(SCORES, accuracy) | {"synthetic": NOTICE}
    return [row | {"method": m} | ({"ece": None} if m == "hard" else {}) for m in methods]


def test_summary_over_runs_by_hand(tmp_path, run_script):
    for name, accuracy in (("seed1", 0.5), ("seed2", 0.6), ("seed10", 0.7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ensemble.json").write_text(json.dumps(make_run(accuracy)))
    runs = f"{tmp_path}/*/ensemble.json"
    done = run_script("runs/summarise.py", "--runs", runs, "--out", tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.count(NOTICE) == 2
    assert "0.6000 ± 0.1000" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["runs"] == ["seed1", "seed2", "seed10"]
    accuracy = summary["methods"]["stacking"]["accuracy"]
    assert accuracy["values"] == [0.5, 0.6, 0.7]
    assert accuracy["mean"] == pytest.approx(0.6)
    assert accuracy["deviation"] == pytest.approx(0.1)
    assert summary["methods"]["hard"]["ece"]["mean"] is None


def test_a_summary_goes_by_the_names_of_the_rows():
    classics = [*METHODS, *predictions.BASELINES]
    runs = {"seed1": make_run(0.5, classics), "seed2": make_run(0.7, classics[::-1])}
    runs["seed2"][-1]["accuracy"] = 0.2  # majority, the last row here
    methods = summarise.summarise(runs)["methods"]
    assert methods["majority"]["accuracy"]["values"] == [0.5, 0.2]
    assert methods["baseline_audio"]["accuracy"]["values"] == [0.5, 0.7]
    with pytest.raises(UserError, match="seed3/ensemble.json has no row 'baseline_text'"):
        summarise.summarise(runs | {"seed3": make_run(0.6)})


def test_one_run_has_no_deviation():
    summary = summarise.summarise({"only": make_run(0.5)})
    assert summary["methods"]["text"]["f1"]["deviation"] is None
    assert "0.5000 ±" not in summarise.write_page(summary)
