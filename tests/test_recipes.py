"""The recipes of CONTRIBUTING.md and the notebook docs/tour.ipynb do what they say."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"(?s)\n## A new (\w+)\n.*?```python\n(.*?)```", TEXT))


@pytest.fixture
def outputs(trained, tmp_path, monkeypatch):
    """A copy of the trained run as `outputs` of the working folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained.outputs, tmp_path / "outputs")


def test_a_new_model_is_fused_with_the_others(outputs, data, run_script):
    script = outputs.parent / "length_test.py"
    script.write_text(RECIPES["model"], encoding="utf-8")
    both = ("--data", data, "--outputs", outputs)
    done = run_script(script, *both)
    assert done.status == 0, done.stderr
    assert "nothing to do" in run_script(script, *both).stdout
    done = run_script("ensemble.py", *both)
    assert done.status == 0, done.stderr
    assert "| Length " in done.stdout
    fitted = json.loads((outputs / "fusion.json").read_text())
    assert "length" in fitted["temperatures"]


def test_a_new_fusion_is_scored_beside_the_default(outputs, capsys):
    exec(RECIPES["fusion"], {})
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.partition(" {")[0] for line in lines] == [
        "best",
        "half pool, half soft voting, balanced 0.25",
    ]
    assert all("'accuracy': " in line for line in lines)


def test_a_new_corpus_becomes_a_table_that_is_read(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    for number in range(20):
        folder = tmp_path / "mine" / ("화남", "기쁨")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"화자{number // 2 % 5}_{number}.wav"
        samples = np.random.default_rng(number).integers(-9000, 9000, 1600, np.int16)
        soundfile.write(path, samples, 16_000)
        path.with_suffix(".txt").write_text(f"그래서 {number}번", encoding="utf-8")
    exec(RECIPES["corpus"], {})
    places = ("--data", tmp_path / "data", "--outputs", tmp_path / "outputs")
    done = run_script("preprocess.py", "--corpus", "mine/list.csv", *places)
    assert done.status == 0, done.stderr
    read = [pd.read_csv(tmp_path / "data" / f"{s}.tsv", sep="\t") for s in ("train", "test")]
    assert set(read[0]["label"]) == {"화남", "기쁨"} and len(read[0]) + len(read[1]) > 12
    assert not set(read[0]["speaker"]) & set(read[1]["speaker"])


# --- the notebook

BOOK = json.loads((ROOT / "docs/tour.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in BOOK["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("kind", ["trained", "of_encoders"])
def test_the_notebook_runs_from_its_folder_to_its_end(
    kind, trained, data, tmp_path, monkeypatch, request, capsys
):
    finished = request.getfixturevalue(kind)
    outputs = finished if kind == "of_encoders" else finished.outputs
    for room in ("predicting", "docs"):
        (tmp_path / room).mkdir()
    shutil.copytree(outputs, tmp_path / "outputs")
    shutil.copytree(data, tmp_path / "data" / "processed")
    monkeypatch.syspath_prepend(str(tmp_path))  # takes out again what the first cell adds
    monkeypatch.chdir(tmp_path / "docs")
    space = {}
    for cell in CELLS:
        exec(cell, space)
    assert space["project"] == tmp_path
    answers, turns = space["answers"], space["rows"]
    assert len(answers) == len(turns) > 5
    right = sum(a.emotion == label for a, label in zip(answers, turns["label"], strict=True))
    assert f"{right} of {len(turns)} right" in capsys.readouterr().out
    assert space["vectors"].shape[0] == len(space["points"]) == len(space["kept"]) > 1
    has_encoder = space["answers"][0].embedding is not None
    assert has_encoder == (kind == "of_encoders")
    width = answers[0].embedding.size if has_encoder else 7 * len(answers[0].logits)
    assert space["vectors"].shape[1] == width
    assert set(space["compared"]) == {"fit_by_accuracy", "fit_default"}
    for picture in (space["turns_picture"], space["plane_picture"]):
        assert np.asarray(picture).std() > 5


def test_the_notebook_is_handed_on_without_results():
    assert (BOOK["nbformat"], BOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in BOOK["cells"]}) == len(BOOK["cells"])
    code = [cell for cell in BOOK["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_elsewhere_the_notebook_asks_where_the_project_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="give REPOSITORY"):
        exec(CELLS[0], {})
