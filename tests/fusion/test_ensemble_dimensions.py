"""The ensemble script on models with valence and arousal: what it writes and learns from."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from fusion_files import MODELS, read_json, write_baselines, write_dimensions, write_models

from fusion import concordance, stored

DIMENSIONS = ("valence", "arousal")
FIELDS = [
    f"{score}_{d}{ci}" for d in DIMENSIONS for score in concordance.SCORES for ci in ("", "_ci")
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_script):
    """The outputs of a run with held-out rows; the audio model has no dimensions."""
    outputs = tmp_path_factory.mktemp("outputs")
    truth = write_models(outputs, range(17, 21), 160, seed=1)
    write_baselines(outputs, range(17, 21), 160, seed=3, right=truth)
    write_models(outputs / "heldout", range(11, 17), 240, seed=2)
    write_dimensions(outputs, seed=1, blank=range(0, 160, 9))
    write_dimensions(outputs / "heldout", seed=2, blank=range(0, 240, 7))
    for kind in ("dims", "dims_truth"):
        shutil.copy(outputs / f"text_{kind}.npy", outputs / f"baseline_both_{kind}.npy")
        for place in (outputs, outputs / "heldout"):
            (place / f"audio_{kind}.npy").unlink()
    done = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "none")
    assert (done.status, done.stderr) == (0, "")
    return outputs, done


@pytest.fixture
def rerun(finished, tmp_path, run_script):
    """Return a copy of those outputs and a function that runs the ensemble on it."""
    copy = shutil.copytree(finished[0], tmp_path / "outputs")
    return copy, lambda: run_script("ensemble.py", "--outputs", copy, "--data", tmp_path / "none")


def test_rows_tables_and_files(finished):
    outputs, done = finished
    truth, fused = (np.load(outputs / f"{n}.npy") for n in ("text_dims_truth", "ensemble_dims"))
    assert fused.shape == (160, 2) and fused.dtype == np.float32
    assert fused.min() >= 1 and fused.max() <= 5
    said = {name: np.load(outputs / f"{name}_dims.npy") for name in ("text", "cmbert")}
    fusion = stored.load(outputs / "fusion.json")
    assert [*fusion.dimensions] == [("text",), ("cmbert",), ("text", "cmbert")]
    assert (fusion.predict_dimensions(said).astype(np.float32) == fused).all()
    expected = said | {"stacking": fused, "baseline_both": said["text"]}
    expected["soft"] = (said["text"] + said["cmbert"]) / 2
    rows, rated = (
        {row["method"]: row for row in read_json(outputs / "ensemble.json")},
        ~np.isnan(truth),
    )
    for method, row in rows.items():
        assert set(FIELDS) < set(row)
        for d, name in enumerate(DIMENSIONS):
            if method not in expected:
                assert row[f"ccc_{name}"] is row[f"rmse_{name}_ci"] is None
                continue
            t, p = truth[rated[:, d], d], expected[method][rated[:, d], d].astype(float)
            ccc = (
                2 * np.cov(t, p, bias=True)[0, 1] / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)
            )
            assert row[f"ccc_{name}"] == pytest.approx(ccc, abs=1e-5)
            low, high = row[f"ccc_{name}_ci"]
            assert low <= ccc <= high
    singles = [[rows[m][f"ccc_{d}"] for m in ("text", "cmbert")] for d in DIMENSIONS]
    assert all(
        rows["stacking"][f"ccc_{d}"] > max(s) for d, s in zip(DIMENSIONS, singles, strict=True)
    )
    shown = f"{rows['stacking']['ccc_arousal']:.3f} ("
    for text in (done.stdout, (outputs / "ensemble.md").read_text(encoding="utf-8")):
        assert "## Valence and arousal" in text and shown in text
        assert "rated: 142 in valence, 142 in arousal" in " ".join(text.split())


def test_permuted_labels_and_dimensions_of_the_test_rows_change_no_prediction(rerun, finished):
    outputs, run = rerun
    random = np.random.default_rng(0)
    for path in outputs.glob("baseline_*"):
        path.unlink()
    order = random.permutation(160)
    for model in MODELS:
        for kind in ("truth", "dims_truth"):
            path = outputs / f"{model}_{kind}.npy"
            if path.exists():
                np.save(path, np.load(path)[order])
    done = run()
    assert done.status == 0, done.stderr
    names = ["ensemble_dims.npy", "ensemble_stacking_output.npy", "fusion.json"]
    for name in names:
        assert (outputs / name).read_bytes() == (finished[0] / name).read_bytes(), name
    (before,), (after,) = (
        [row for row in read_json(folder / "ensemble.json") if row["method"] == "stacking"]
        for folder in (finished[0], outputs)
    )
    assert after["ccc_valence"] < 0.3 < before["ccc_valence"]


def test_with_test_files_alone_a_session_is_predicted_by_the_others(rerun):
    outputs, run = rerun
    shutil.rmtree(outputs / "heldout")
    assert run().status == 0
    before = np.load(outputs / "ensemble_dims.npy")
    assert "on the other groups' test rows" in (outputs / "ensemble.md").read_text()
    fusion = stored.load(outputs / "fusion.json")
    for path in outputs.glob("*_dims_truth.npy"):
        values = np.load(path)
        values[:40] = 6 - values[:40]  # session 17
        np.save(path, values)
    assert run().status == 0
    after = np.load(outputs / "ensemble_dims.npy")
    assert (after[:40] == before[:40]).all() and (after[40:] != before[40:]).any()
    other = stored.load(outputs / "fusion.json").dimensions["text", "cmbert"]
    assert (other.weights != fusion.dimensions["text", "cmbert"].weights).any()


def test_one_blank_dimension_and_one_model(rerun):
    outputs, run = rerun
    for place in (outputs, outputs / "heldout"):
        for path in place.glob("*_dims_truth.npy"):
            values = np.load(path)
            values[:, 1] = np.nan
            np.save(path, values)
        for path in place.glob("cmbert_dims*"):
            path.unlink()
    done = run()
    assert done.status == 0, done.stderr
    rows = {row["method"]: row for row in read_json(outputs / "ensemble.json")}
    assert rows["text"]["ccc_arousal"] is None and rows["stacking"]["ccc_valence"] > 0.5
    text, fused = (np.load(outputs / f"{name}_dims.npy") for name in ("text", "ensemble"))
    assert (fused[:, 1] == text[:, 1]).all() and rows["soft"]["ccc_valence"] is None
    assert "rated: 142 in valence, 0 in arousal" in " ".join(done.stdout.split())
    assert "too few ratings" in (outputs / "report.html").read_text(encoding="utf-8")


def test_of_several_folds_each_has_a_pool_of_its_own(finished, tmp_path, run_script):
    for name, tested, held_out in (("fold1", 17, 11), ("fold2", 19, 14)):
        for place, first, count in (
            (tmp_path / name, tested, 2),
            (tmp_path / name / "heldout", held_out, 3),
        ):
            write_models(place, range(first, first + count), 90, seed=first)
            write_dimensions(place, seed=first)
    both = f"{tmp_path / 'fold1'},{tmp_path / 'fold2'}"
    arguments = ("--results", tmp_path / "all", "--data", tmp_path / "none")
    done = run_script("ensemble.py", "--outputs", both, *arguments)
    assert done.status == 0, done.stderr
    parts = []
    for name in ("fold1", "fold2"):
        said = {model: np.load(tmp_path / name / f"{model}_dims.npy") for model in MODELS}
        parts.append(stored.load(tmp_path / name / "fusion.json").predict_dimensions(said))
    fused = np.load(tmp_path / "all" / "ensemble_dims.npy")
    assert (fused == np.concatenate(parts).astype(np.float32)).all()
    for path in (tmp_path / "fold2").rglob("audio_dims*"):
        path.unlink()
    done = run_script("ensemble.py", "--outputs", both, *arguments)
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "fold2/audio_dims.npy is missing" in done.stderr and "audio_test.py" in done.stderr


def test_results_of_an_older_version_are_still_shown(rerun):
    outputs, run = rerun
    path, record = outputs / "ensemble_details.json", outputs / "records" / "ensemble.json"
    results = read_json(path)
    del results["dimensions"], results["votes"], results["learned"]["dimensions"]
    path.write_text(json.dumps(results), encoding="utf-8")
    content = read_json(record)
    content["outputs"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    record.write_text(json.dumps(content), encoding="utf-8")
    done = run()
    assert done.status == 0 and "nothing to do" in done.stdout, done.stderr
    assert "## Scores" in done.stdout and "## Valence" not in done.stdout
