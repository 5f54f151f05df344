"""The classic tools, run for real on small data: what they write, and what they may not know."""

import numpy as np
import pytest
from small_data import make_rows, write_data

from baseline import AudioClassifier, TextClassifier, split_sessions
from common.data import load_data
from common.files import LABELS
from fusion.outputs import BASELINES


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


@pytest.mark.parametrize("speaker_norm", ["utterance", "past", "all"])
def test_a_speaker_is_normalised_by_what_the_setting_allows(fit, data, speaker_norm):
    """Left out are a speaker's later turns, then all others; the sixth turn is the speaker's third.

    The features are looked at, as the probabilities of tones are next to 0 and 1.
    """
    test = load_data(data, "test")
    voice = AudioClassifier(fit, speaker_norm, split_sessions(fit))
    turns = test.table["turn"].to_numpy()

    def features(kept: np.ndarray) -> np.ndarray:
        rows = test.select(kept)
        return voice.features(rows)[turns[kept] == 6]

    whole, until, single = (features(kept) for kept in (turns > 0, turns <= 6, turns == 6))
    assert np.allclose(until, whole, atol=1e-6) == (speaker_norm != "all")
    assert np.allclose(single, whole, atol=1e-6) == (speaker_norm == "utterance")


def test_a_class_that_is_not_learned_is_not_predicted(data, fit):
    fit = fit.select((fit.table["label"] != "angry").to_numpy())
    splits = split_sessions(fit)
    test = load_data(data, "test")
    for model in (TextClassifier(fit, splits), AudioClassifier(fit, "past", splits)):
        found = model.predict(test)
        assert np.allclose(found[:, :7].sum(1), 1)
        assert (found[:, LABELS.index("angry")] == 0).all()
        assert (found[:, LABELS.index("disgust")] > 0).all()


def test_one_session_is_too_few(tmp_path, run_script):
    data = write_data(tmp_path / "data", [row for row in make_rows() if row["session"] != 2])
    done = run_script("baseline.py", "--data", data, "--outputs", tmp_path)
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    assert "10 utterances of sessions 1 to learn from" in done.stderr
    assert not list(tmp_path.glob("baseline*"))
