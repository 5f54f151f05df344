"""What stands behind the scores: data of another corpus are refused, and the page says the rest."""

import json
import re
import shutil

import numpy as np
import pytest
from fusion_files import write_data, write_models

from common.files import UserError
from fusion import metrics, origin, predictions


@pytest.fixture
def outputs(tmp_path):
    write_models(tmp_path / "out", range(17, 21), 40, seed=1)
    return tmp_path / "out"


def read(data, *folders):
    return origin.read_corpus(str(data), [predictions.load(folder) for folder in folders])


def test_validation_sessions_are_training_rows_of_a_model_with_folds(outputs, tmp_path):
    data = tmp_path / "data"
    write_data(data, outputs)
    texts = (data / "valid.tsv", data / "test.tsv")
    shutil.copy(texts[1], texts[0])
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["valid.tsv"] = manifest["files"]["test.tsv"]
    (data / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    def seen(folds):
        for path in outputs.glob("*_run.json"):
            run = {"data_hash": origin.hash_data(manifest["files"]), "settings": {"folds": folds}}
            path.write_text(json.dumps(run), encoding="utf-8")
        return read(data, outputs).seen

    assert not seen(0).any() and seen(5).all()


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
    assert html.count("none/manifest.json is missing: no transcripts, no counts") >= 2
    for path in outputs.glob("*_run.json"):
        path.unlink()
    write_models(tmp_path / "other", range(17, 21), 44, seed=1)
    write_data(tmp_path / "data", tmp_path / "other")
    assert "does not tell what data" in read(tmp_path / "data", outputs).missing


def test_folds_have_a_data_folder_each_of_one_corpus(tmp_path):
    for number, sessions in ((1, range(1, 5)), (2, range(5, 9))):
        write_models(tmp_path / f"fold{number}", sessions, 24, seed=number)
        write_data(tmp_path / f"data{number}", tmp_path / f"fold{number}", also_train=number)
    folds = [tmp_path / "fold1", tmp_path / "fold2"]
    corpus = read(f"{tmp_path}/data1,{tmp_path}/data2", *folds)
    assert len(corpus.transcripts) == 48 and len(corpus.manifests) == 2
    assert np.flatnonzero(corpus.seen).tolist() == [0, 24, 25]
    with pytest.raises(UserError, match=r"data1/manifest.json: other data .*fold2 were made"):
        read(tmp_path / "data1", *folds)
    with pytest.raises(UserError, match="3 folders, OUTPUTS has 2"):
        read("a,b,c", *folds)
    write_data(tmp_path / "data2", folds[1], fingerprint="another")
    with pytest.raises(UserError, match="data2 is of another corpus than .*data1"):
        read(f"{tmp_path}/data1,{tmp_path}/data2", *folds)


def test_the_ablation_is_shown_if_it_is_of_these_predictions(outputs, run_script):
    test = predictions.load(outputs)
    row = metrics.measure(
        test.truth, test.logits[2].argmax(1), None, test.facts["session"].to_numpy() - 17
    )
    rows = [
        {"input": "words and voice", "speaker_norm": None, **row},
        {"input": "voice zeroed", "speaker_norm": None, **row},
    ]
    (outputs / "cmbert").mkdir()
    path = outputs / "cmbert_ablation.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert origin.read_ablation(test) == rows
    done = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "none")
    assert done.status == 0, done.stderr
    low, high = row["accuracy_ci"]
    cells = rf"\| voice zeroed +\| {row['accuracy']:.3f} \({low:.2f}-{high:.2f}\) \|"
    assert re.search(cells, (outputs / "ensemble.md").read_text(encoding="utf-8"))
    rows[0]["accuracy"] += 0.025
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert origin.read_ablation(test) == []
