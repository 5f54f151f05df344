"""Which rows fusions learn from, in one run and in several folds."""

import json

import numpy as np
import pytest
from fusion_files import MODELS, change_run, write_models

from fusion import fitting, methods, stored


def load(folder, count, held_out=0):
    write_models(folder, range(17, 21), count, seed=1, notice=None)
    if held_out:
        write_models(folder / "heldout", range(11, 17), held_out, seed=2)
    return fitting.read_fold(folder)


def test_with_test_files_alone_learning_leaves_each_session_out(tmp_path):
    fold, seen = load(tmp_path, 80), []
    assert "other test labels are learned from" in fold.fitted_on

    def spy(rows):
        seen.append(set(rows.groups.tolist()))
        return methods.fit_majority(rows)

    probabilities, _ = fold.learn(spy)
    assert sorted(map(len, seen)) == [3, 3, 3, 3, 4]
    for session in ("17", "18", "19", "20"):
        left_out = fold.test.groups("session") == session
        shares = np.bincount(fold.test.truth[~left_out], minlength=7)
        assert left_out.any()
        assert (probabilities[left_out] == shares / shares.sum()).all()


def test_held_out_rows_are_all_that_learning_sees(tmp_path):
    fold = load(tmp_path, 80, held_out=72)
    assert fold.fitted_on == "held-out rows (72 rows of 6 sessions, 12 speakers)"

    def spy(rows):
        assert len(rows.truth) == 72 and len(set(rows.groups)) == 6
        return methods.fit_majority(rows)

    assert fold.learn(spy)[0].shape == (80, 7)


@pytest.mark.parametrize(("trained_in", "said"), [(0, True), (5, False)])
def test_rows_that_chose_the_epochs_are_said_to_have(tmp_path, capsys, trained_in, said):
    load(tmp_path, 40, held_out=36)
    for model in MODELS:
        change_run(tmp_path / "heldout" / f"{model}_run.json", settings={"folds": trained_in})
    capsys.readouterr()
    fold = fitting.read_fold(tmp_path)
    for text in (fold.fitted_on, capsys.readouterr().out):
        assert ("chose the models' epochs as well" in text) == said


@pytest.fixture(scope="module")
def two_folds(tmp_path_factory, run_script):
    """Folders of two folds and of the results, and what was printed."""
    place = tmp_path_factory.mktemp("folds")
    for name, tested, held_out in (
        ("fold1", range(17, 19), range(11, 14)),
        ("fold2", range(19, 21), range(14, 17)),
    ):
        write_models(place / name, tested, 80, seed=tested[0])
        write_models(place / name / "heldout", held_out, 120, seed=held_out[0])
    both = f"{place / 'fold1'},{place / 'fold2'}"
    arguments = ("--outputs", both, "--results", place / "all", "--data", place / "none")
    return place, run_script("ensemble.py", *arguments)


def test_of_several_folds_each_is_fused_by_its_own_held_out_rows(two_folds, tmp_path, run_script):
    place, done = two_folds
    assert done.status == 0, done.stderr
    parts = []
    for name in ("fold1", "fold2"):
        fusion = stored.load(place / name / "fusion.json")
        logits = {model: np.load(place / name / f"{model}_output.npy") for model in MODELS}
        parts.append(fusion.predict(logits))
        assert not (place / name / "ensemble.json").exists()
    stacked = np.load(place / "all" / "ensemble_stacking_output.npy")
    assert stacked == pytest.approx(np.concatenate(parts), abs=1e-9)
    alone = run_script(
        "ensemble.py",
        *("--outputs", place / "fold2", "--results", tmp_path, "--data", place / "none"),
    )
    assert alone.status == 0, alone.stderr
    soft = np.load(place / "all" / "ensemble_weighted_soft_output.npy")
    assert (soft[80:] == np.load(tmp_path / "ensemble_weighted_soft_output.npy")).all()


def test_of_several_folds_all_test_rows_are_scored_together(two_folds):
    place, done = two_folds
    truth = np.concatenate([np.load(place / f"fold{k}" / "text_truth.npy") for k in (1, 2)])
    pred = np.load(place / "all" / "ensemble_stacking_pred.npy")
    details = json.loads((place / "all" / "ensemble_details.json").read_text(encoding="utf-8"))
    (stacking,) = (row for row in details["rows"] if row["method"] == "stacking")
    assert stacking["accuracy"] == pytest.approx((truth == pred).mean())
    assert details["resampled"].startswith("4 sessions")
    assert [*details["parts"]][:4] == [f"session {number}" for number in range(17, 21)]
    assert "160 rows of 4 sessions, 8 speakers" in done.stdout
    assert "of the same fold, of 2: held-out rows (120 rows of 3 sessions, 6 spe" in done.stdout


def test_a_folds_fusion_that_is_missing_is_written_again(two_folds, run_script):
    place, _ = two_folds
    whole = (place / "fold2" / "fusion.json").read_bytes()
    (place / "fold2" / "fusion.json").unlink()
    both = f"{place / 'fold1'},{place / 'fold2'}"
    arguments = ("--outputs", both, "--results", place / "all", "--data", place / "none")
    assert "nothing to do" in run_script("ensemble.py", *arguments).stdout
    assert (place / "fold2" / "fusion.json").read_bytes() == whole


@pytest.mark.parametrize(
    ("sessions", "notice", "message"),
    [
        (range(19, 21), "drawn", "fold2/text_run.json: synthetic drawn"),
        (range(18, 20), None, "fold2/text_index.npy, row 0 (Sess18_impro01_F001): is a test row"),
    ],
)
def test_folds_that_do_not_go_together_are_refused(sessions, notice, message, tmp_path, run_script):
    write_models(tmp_path / "fold1", range(17, 19), 40, seed=1, notice=None)
    write_models(tmp_path / "fold2", sessions, 40, seed=1, notice=notice)
    both = f"{tmp_path / 'fold1'},{tmp_path / 'fold2'}"
    done = run_script("ensemble.py", "--outputs", both, "--results", tmp_path / "all")
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr
