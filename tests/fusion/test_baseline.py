"""The classic tools, run for real on small data: what they write, and what they may not know."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from small_data import make_rows, write_data

import baseline
from baseline import AudioClassifier, TextClassifier, split_sessions
from common.data import load_data
from common.files import LABELS, sha256
from fusion.predictions import BASELINES


@pytest.fixture(scope="module")
def outputs(data, run_script, tmp_path_factory):
    """What the script writes; not to be changed."""
    folder = tmp_path_factory.mktemp("baseline")
    done = run_script("baseline.py", "--data", data, "--outputs", folder)
    assert done.status == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def fit(data):
    return load_data(data, "train")


def read(folder, name) -> np.ndarray:
    return np.load(folder / f"{name}_output.npy")


def test_test_and_validation_rows_have_probabilities(outputs, data):
    for folder, split in ((outputs, "test"), (outputs / "heldout", "valid")):
        by_words, by_voice, both = (np.exp(read(folder, name)) for name in BASELINES)
        assert np.allclose(both, (by_words + by_voice) / 2, atol=1e-5)
        assert np.allclose(by_words.sum(1), 1, atol=1e-4)
        assert np.allclose(by_voice.sum(1), 1, atol=1e-4)
        ids = load_data(data, split).ids
        assert np.load(folder / "baseline_both_index.npy").tolist() == ids.tolist()


def test_tones_are_told_apart(outputs):
    """Each label has its own pitch in the small data; its words are drawn at random."""
    pred, truth = (np.load(outputs / f"baseline_audio_{name}.npy") for name in ("pred", "truth"))
    assert (pred == truth).mean() >= 0.7


def test_what_is_chosen_on_a_part_of_many_rows_learns_from_all(fit, monkeypatch):
    monkeypatch.setattr(baseline, "ENOUGH", 5)
    search = AudioClassifier(fit, "past", split_sessions(fit)).model
    assert sum(map(len, search.cv[0])) < len(fit) / 2
    assert search.best_estimator_.shape_fit_[0] == len(fit)


def test_the_run_says_what_is_known_of_a_speaker(outputs):
    runs = [json.loads((outputs / f"{name}_run.json").read_text()) for name in BASELINES]
    assert [run["speaker_norm"] for run in runs] == [None, "past", "past"]
    assert all(run["synthetic"] for run in runs)


def test_no_label_but_the_training_rows_changes_a_prediction(outputs, tmp_path, run_script):
    rows = make_rows()
    for row in rows:
        if row["split"] != "train":
            row["label"] = LABELS[(LABELS.index(row["label"]) + 1) % len(LABELS)]
    data = write_data(tmp_path / "data", rows)
    assert run_script("baseline.py", "--data", data, "--outputs", tmp_path).status == 0
    for name in BASELINES:
        for part in (".", "heldout"):
            assert (read(tmp_path / part, name) == read(outputs / part, name)).all()


@pytest.mark.parametrize("regime", ["utterance", "past", "all"])
def test_what_is_known_of_a_speaker_is_what_the_regime_allows(fit, data, regime):
    """Left out are a speaker's later turns, then all others; the sixth turn is the speaker's third.

    The features are looked at, as the probabilities of tones are next to 0 and 1.
    """
    test = load_data(data, "test")
    voice = AudioClassifier(fit, regime, split_sessions(fit))
    turns = test.table["turn"].to_numpy()

    def features(kept: np.ndarray) -> np.ndarray:
        rows = test.select(kept)
        return voice.features(rows)[turns[kept] == 6]

    whole, until, single = (features(kept) for kept in (turns > 0, turns <= 6, turns == 6))
    assert np.allclose(until, whole, atol=1e-6) == (regime != "all")
    assert np.allclose(single, whole, atol=1e-6) == (regime == "utterance")


@pytest.mark.parametrize("names", [("script01", "impro01"), ("impro01", "script01")])
def test_past_is_the_order_of_time_whatever_the_dialogues_are_called(fit, data, names):
    """The sixth turn is the second dialogue's first."""
    test = load_data(data, "test")
    voice = AudioClassifier(fit, "past", split_sessions(fit))
    turns = test.table["turn"].to_numpy()
    second = turns > 5
    table = test.table.assign(
        scenario=np.where(second, names[1], names[0]),
        dialogue_number=1 + second,
        turn=turns - 5 * second,
    )
    named = replace(test, table=table)
    whole = voice.features(test)
    assert np.allclose(voice.features(named), whole, atol=1e-6)
    for last in range(1, len(turns)):
        part = named.select(turns <= last)
        found = voice.features(part)
        assert np.allclose(found, whole[turns <= last], atol=1e-6)


def test_a_speaker_of_several_sessions_is_known_within_each_alone(fit):
    voice = AudioClassifier(fit, "past", split_sessions(fit))
    again = replace(fit, table=fit.table.assign(speaker=fit.table["gender"]))
    assert np.allclose(voice.features(again), voice.features(fit))
    voice.speaker_norm = "all"
    assert not np.allclose(voice.features(again), voice.features(fit))


def test_a_class_of_one_session_leaves_finite_probabilities(data, fit):
    """Where that session is left out, the class is not learned."""
    rare = fit.table["session"].eq(2) & fit.table["label"].eq("fear")
    fit = fit.select(~rare.to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        voice = AudioClassifier(fit, "past", split_sessions(fit))
    assert 0.05 < voice.temperature < 20
    assert np.isfinite(voice.predict(load_data(data, "test"))).all()


def test_a_class_that_is_not_learned_is_not_predicted(data, fit):
    fit = fit.select((fit.table["label"] != "angry").to_numpy())
    splits = split_sessions(fit)
    test = load_data(data, "test")
    for model in (TextClassifier(fit, splits), AudioClassifier(fit, "past", splits)):
        found = model.predict(test)
        assert np.allclose(found.sum(1), 1)
        assert (found[:, LABELS.index("angry")] == 0).all()
        assert (found[:, LABELS.index("disgust")] > 0).all()


def test_without_validation_rows_earlier_ones_are_removed(data, tmp_path, run_script):
    kept = write_data(tmp_path / "data", make_rows())
    manifest = json.loads((kept / "manifest.json").read_text())
    (kept / "valid.tsv").write_text((kept / "valid.tsv").read_text().split("\n")[0] + "\n")
    np.save(kept / "valid_audio.npy", np.zeros(0, np.int16))
    for name in ("valid.tsv", "valid_audio.npy"):
        manifest["files"][name] = sha256(kept / name)
    (kept / "manifest.json").write_text(json.dumps(manifest))
    assert run_script("baseline.py", "--data", data, "--outputs", tmp_path).status == 0
    (tmp_path / "heldout" / "text_output.npy").write_bytes(b"of another script")
    done = run_script("baseline.py", "--data", kept, "--outputs", tmp_path)
    assert done.status == 0, done.stderr
    assert [path.name for path in (tmp_path / "heldout").iterdir()] == ["text_output.npy"]
    assert (tmp_path / "baseline_text_output.npy").exists()


def test_one_session_is_too_few(tmp_path, run_script):
    data = write_data(tmp_path / "data", [row for row in make_rows() if row["session"] != 2])
    done = run_script("baseline.py", "--data", data, "--outputs", tmp_path)
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    assert "10 utterances of sessions 1 to learn from" in done.stderr
    assert not list(tmp_path.glob("baseline*"))
