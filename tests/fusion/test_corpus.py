"""The data behind the scores: those of another corpus are refused, missing ones said."""

import numpy as np
import pytest
from fusion_files import change_run, write_data, write_models

from common.files import UserError
from fusion import corpus, predictions


@pytest.fixture
def outputs(tmp_path):
    write_models(tmp_path / "out", range(17, 21), 40, seed=1)
    return tmp_path / "out"


def read(data, *folders):
    return corpus.read_corpus(str(data), [predictions.load(folder) for folder in folders])


@pytest.mark.parametrize(("folds", "seen"), [(0, [0]), (5, [0, 1, 2])])
def test_validation_sessions_are_training_rows_of_a_model_with_folds(
    folds, seen, outputs, tmp_path
):
    write_data(tmp_path / "data", outputs, train=1, valid=3)
    for path in outputs.glob("*_run.json"):
        change_run(path, settings={"folds": folds})
    assert np.flatnonzero(read(tmp_path / "data", outputs).seen).tolist() == seen


def test_data_of_another_corpus_are_refused_before_anything_is_written(
    outputs, tmp_path, run_script
):
    write_models(tmp_path / "other", range(17, 21), 44, seed=1)
    write_data(tmp_path / "data", tmp_path / "other")
    done = run_script("ensemble.py", "--outputs", outputs, "--data", tmp_path / "data")
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "data/manifest.json: other data (hash " in done.stderr
    assert "give theirs with --data" in done.stderr
    assert not list(outputs.glob("ensemble*"))


def test_a_changed_table_is_refused(outputs, tmp_path):
    write_data(tmp_path / "data", outputs)
    with open(tmp_path / "data" / "test.tsv", "a", encoding="utf-8") as stream:
        stream.write("x\ty\n")
    with pytest.raises(UserError, match=r"test.tsv is not what manifest.json says: run preproc"):
        read(tmp_path / "data", outputs)


def test_missing_data_are_said_not_refused(outputs, tmp_path, run_script):
    done = run_script("ensemble.py", "--outputs", outputs, "--data", tmp_path / "none")
    assert done.status == 0, done.stderr
    html = (outputs / "report.html").read_text(encoding="utf-8")
    assert html.count("none/manifest.json is missing: no transcripts") >= 2
    for path in outputs.glob("*_run.json"):
        path.unlink()
    write_models(tmp_path / "other", range(17, 21), 44, seed=1)
    write_data(tmp_path / "data", tmp_path / "other")
    assert "does not tell what data" in read(tmp_path / "data", outputs).missing


def test_folds_have_a_data_folder_each_of_one_corpus(tmp_path):
    for number, sessions in ((1, range(1, 5)), (2, range(5, 9))):
        write_models(tmp_path / f"fold{number}", sessions, 24, seed=number)
        write_data(tmp_path / f"data{number}", tmp_path / f"fold{number}", train=number)
    folds = [tmp_path / "fold1", tmp_path / "fold2"]
    both = read(f"{tmp_path}/data1,{tmp_path}/data2", *folds)
    assert len(both.transcripts) == 48 and len(both.turns) == 2
    assert np.flatnonzero(both.seen).tolist() == [0, 24, 25]
    with pytest.raises(UserError, match=r"data1/manifest.json: other data .*fold2 were made"):
        read(tmp_path / "data1", *folds)
    with pytest.raises(UserError, match="3 folders, OUTPUTS has 2"):
        read("a,b,c", *folds)
    write_data(tmp_path / "data2", folds[1], fingerprint="another")
    with pytest.raises(UserError, match="data2 is of another corpus than .*data1"):
        read(f"{tmp_path}/data1,{tmp_path}/data2", *folds)
