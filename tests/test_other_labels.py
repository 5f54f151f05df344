"""Corpora of other labels than KEMDy's: from the preprocessed data to the table and the page."""

import json
import math

import numpy as np
import pytest
from small_data import ROWS, make_rows, write_data

from common.labels import both_names, english, korean

TWO = ("기쁨", "분노")
MANY = tuple(f"mood {number}" for number in range(20))


@pytest.fixture(scope="module", params=[TWO, MANY], ids=["two", "twenty"])
def other(request, bert, run_script, tmp_path_factory):
    """A run of text and audio model and the baselines on tones of other labels."""
    labels, folder = request.param, tmp_path_factory.mktemp("labels")
    data = write_data(folder / "data", make_rows(labels=labels), labels)
    places = ["--data", data, "--outputs", folder / "outputs"]
    short = ["--epochs", 1, "--batch-size", 8]
    for command in (
        ["text_train.py", *places, *short, "--bert", bert],
        ["text_test.py", *places],
        ["audio_train.py", *places, *short],
        ["audio_test.py", *places],
        ["run_classifier.py", *places, *short, "--bert", bert],
        ["baseline.py", *places],
        ["ensemble.py", *places],
    ):
        done = run_script(*command)
        assert done.status == 0, done.stderr
    return labels, folder, done.stdout


def test_every_file_has_the_corpus_s_labels(other):
    labels, folder, said = other
    outputs = folder / "outputs"
    for model in ("text", "audio", "cmbert", "baseline_both"):
        assert np.load(outputs / f"{model}_output.npy").shape[1] == len(labels)
        assert json.loads((outputs / f"{model}_run.json").read_text())["labels"] == list(labels)
        header = (outputs / f"{model}_rows.tsv").read_text().split("\n")[0].split("\t")
        assert [f"votes_{label}" for label in labels] == [n for n in header if "votes_" in n]
    for model in ("text", "audio", "cmbert"):
        assert json.loads((outputs / model / "config.json").read_text())["labels"] == list(labels)
    assert json.loads((outputs / "fusion.json").read_text())["labels"] == list(labels)
    page = (outputs / "report.html").read_text()
    assert all(label in page for label in labels) and "disgust" not in page
    # The published rules and figures are of the seven emotions.
    assert "the paper's procedure is left out" in said and ".7269" not in page
    results = json.loads((outputs / "ensemble_details.json").read_text())
    assert len(results["support"]) == len(labels) and sum(results["support"]) == ROWS


def test_predicting_names_them(other, run_script):
    labels, folder, _ = other
    table = folder / "asked.tsv"
    table.write_text("text\n오늘은 정말 기분이 좋아요\n갑자기 비가 와서 깜짝 놀랐어\n")
    ask = ["predict.py", "--model", folder / "outputs", "--manifest", table]
    answers = [json.loads(line) for line in run_script(*ask, "--json").stdout.splitlines()]
    assert len(answers) == 2
    for answer in answers:
        assert tuple(answer["probabilities"]) == labels
        assert math.isclose(sum(answer["probabilities"].values()), 1, rel_tol=1e-5)
        assert answer["emotion"] in labels
    lines = run_script(*ask).stdout
    assert all(
        any(both_names(label) in line for label in labels) for line in lines.splitlines()[-2:]
    )
    done = run_script(*ask, "--tsv", folder / "answers.tsv")
    assert done.status == 0
    header = (folder / "answers.tsv").read_text().split("\n")[0].split("\t")
    assert set(labels) < set(header) and f"text_{labels[-1]}" in header


def test_names_in_two_languages():
    assert both_names("happy") == both_names("기쁨") == "기쁨 happy"
    assert both_names("mood 3") == korean("mood 3") == english("mood 3") == "mood 3"


def test_models_of_other_labels_are_not_fused(other, run_script):
    _, folder, _ = other
    path = folder / "outputs" / "audio_run.json"
    run = path.read_text()
    changed = json.loads(run)
    changed["labels"] = changed["labels"][::-1]
    path.write_text(json.dumps(changed))
    (folder / "outputs" / "records" / "audio_test.json").rename(folder / "record")
    done = run_script("ensemble.py", "--data", folder / "data", "--outputs", folder / "outputs")
    path.write_text(run)
    (folder / "record").rename(folder / "outputs" / "records" / "audio_test.json")
    assert done.status == 2 and "audio_run.json" in done.stderr and "labels" in done.stderr


def test_without_validation_rows_every_training_ends_by_its_last_epoch(tmp_path, bert, run_script):
    rows = [row for row in make_rows(labels=TWO) if row["split"] != "valid"]
    data = write_data(tmp_path / "data", rows, TWO)
    places = ["--data", data, "--outputs", tmp_path / "outputs", "--epochs", 1]
    for command in (["audio_train.py"], ["run_classifier.py", "--bert", bert]):
        done = run_script(*command, *places)
        assert done.status == 0, done.stderr
    assert (tmp_path / "outputs" / "audio" / "config.json").is_file()


def test_a_label_is_no_formula(tmp_path):
    from matplotlib.figure import Figure

    from common.plots import save

    def draw():
        figure = Figure()
        figure.subplots().set_title(r"$\bad{x$ and 100$ $_{")
        return figure

    assert save(tmp_path / "plot.png", draw).is_file()
