"""Valence and arousal of an answer: what the tests wrote, fused, whatever the company."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from common.files import DIMENSIONS, LABELS, UserError
from fusion import stored as fusion
from predicting import Recording, load_run, predict
from predicting.answers import COLUMNS

RECORDS = shutil.ignore_patterns("records")  # which would tell of the change


@pytest.fixture(scope="module")
def run(trained):
    """Of its models audio and cmbert have learned both, text has not."""
    return load_run(trained.outputs)


def values_of(answers):
    """Valence and arousal of answers, (N, 2), nan where not known."""
    return np.array([[answer.dimensions[name] for name in DIMENSIONS] for answer in answers], float)


def recordings_of(talk, **changes):
    return [Recording(**{"path": row["path"], "text": row["text"], **changes}) for row in talk]


def test_the_test_rows_get_what_ensemble_made_of_them(trained, run, talk):
    spoken = [Recording(row["path"], row["text"], row["speaker"]) for row in talk]
    found = values_of(predict(run, spoken))
    ids = np.load(trained.outputs / "audio_index.npy").tolist()
    tested = np.load(trained.outputs / "ensemble_dims.npy")[[ids.index(row["id"]) for row in talk]]
    np.testing.assert_allclose(found, tested, atol=1e-4)
    assert found.min() >= 1 and found.max() <= 5 and np.ptp(found, axis=0).min() > 1e-3


def test_a_voice_alone_gets_what_its_model_says_of_it(trained, run, talk):
    """As the test stage heard it, by the utterance alone."""
    found = values_of(predict(run, recordings_of(talk, text="")))
    ids = np.load(trained.alone / "audio_index.npy").tolist()
    tested = np.load(trained.alone / "audio_dims.npy")[[ids.index(row["id"]) for row in talk]]
    expected = run.fusion.predict_dimensions({"audio": tested})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_company_changes_no_answer(run, talk):
    """The loss is over the batch; the prediction is not."""
    files = recordings_of(talk)
    together = values_of(predict(run, files))
    alone = np.vstack([values_of(predict(run, [file])) for file in files])
    reversed_ = values_of(predict(run, files[::-1]))[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, reversed_, atol=1e-5)


def test_where_no_model_has_learned_them_they_are_not_known(run, talk):
    silent = Recording(samples=np.zeros(16_000, np.int16))
    for answer in predict(run, [Recording(text=talk[0]["text"]), silent]):
        assert answer.dimensions == {"valence": None, "arousal": None}


def forms(run_script, *arguments):
    """What predict.py answers first: line, object, and row."""
    lines = []
    for form in ((), ("--json",), ("--tsv", "-")):
        done = run_script("predict.py", *arguments, *form)
        assert done.status == 0, done.stderr
        lines.append(done.stdout)
    row = next(csv.DictReader(io.StringIO(lines[2]), delimiter="\t"))
    return lines[0].splitlines()[0], json.loads(lines[1].splitlines()[0]), row


def test_every_form_of_an_answer_says_them(run_script, trained, talk):
    spoken = ("--text", talk[0]["text"], "--model", trained.outputs)
    line, answer, row = forms(run_script, talk[0]["path"], *spoken)
    for name in DIMENSIONS:
        assert float(row[name]) == pytest.approx(answer[name], rel=1e-5)
        assert f" {name} {answer[name]:.1f}" in line
    line, answer, row = forms(run_script, *spoken)  # the words alone
    for name in DIMENSIONS:
        assert name not in line and answer[name] is None and row[name] == ""


def test_a_run_without_them_says_nothing_of_them(run_script, trained, of_the_paper, talk, tmp_path):
    """Of before they were learned: the networks, or the fusion alone."""
    outputs = shutil.copytree(of_the_paper, tmp_path / "outputs")
    shutil.copy(trained.outputs / "fusion.json", outputs)
    older = shutil.copytree(trained.outputs, tmp_path / "older", ignore=RECORDS)
    stored = fusion.load(older / "fusion.json")
    replace(stored, dimensions={}).write(older / "fusion.json")
    assert not any("valence" in remark for remark in load_run(outputs).remarks)
    assert any("valence" in remark for remark in load_run(older).remarks)
    for folder in (outputs, older):
        line, answer, row = forms(run_script, talk[0]["path"], "--model", folder)
        assert "valence" not in line and "arousal" not in line
        assert not {*DIMENSIONS} & {*answer} and not {*DIMENSIONS} & {*row}
        expected = (*COLUMNS, *LABELS, "text_neutral")
        assert tuple(row)[: len(expected)] == expected


def test_graphs_give_them_too(trained, handed_on, run, talk):
    files = recordings_of(talk)
    before = values_of(predict(run, files))
    for onnx, atol in ((False, 0), (True, 1e-4)):
        found = values_of(predict(load_run(handed_on, onnx), files))
        np.testing.assert_allclose(found, before, rtol=0, atol=atol)
    for model, learned in (("text", False), ("audio", True), ("cmbert", True)):
        configs = [
            json.loads((folder / model / "config.json").read_text())["network"]
            for folder in (trained.outputs, handed_on)
        ]
        assert configs[0]["dimensions"] == configs[1]["dimensions"]
        assert bool(configs[1]["dimensions"]) == learned


def test_the_card_says_how_good_they_are(trained, handed_on):
    card = (handed_on / "README.md").read_text(encoding="utf-8")
    assert "| valence and arousal | from 1 to 5 |" in card
    rows = json.loads((trained.outputs / "ensemble.json").read_text())
    fused = next(row for row in rows if row["method"] == "stacking")
    (line,) = (line for line in card.splitlines() if line.startswith("| stacking |"))
    cells = [re.match(r"-?[\d.]+", cell.strip())[0] for cell in line.split("|")[-3:-1]]
    assert cells == [f"{fused[f'ccc_{name}']:.3f}" for name in DIMENSIONS]
    (line,) = (line for line in card.splitlines() if line.startswith("| text |"))
    assert line.endswith("|  |  |")


def test_a_damaged_scale_is_one_line(trained, tmp_path):
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs", ignore=RECORDS)
    path = outputs / "audio" / "config.json"
    config = json.loads(path.read_text())
    for scale in ([5, 1], [1], None):
        config["network"]["dimensions"]["scale"] = scale
        path.write_text(json.dumps(config))
        with pytest.raises(UserError, match=r"config\.json cannot be read .* run audio_train"):
            load_run(outputs)
