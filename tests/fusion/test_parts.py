"""Scores of parts of the test rows: by session, speaker, raters, transcripts."""

import numpy as np
import pytest
from fusion_files import write_models
from sklearn.metrics import accuracy_score

from fusion import parts, predictions
from pipeline.labels import LABELS


@pytest.fixture
def test_rows(tmp_path):
    write_models(tmp_path, range(9, 13), 80, seed=1)
    return predictions.load(tmp_path)


def score(rows, seen=None):
    pred = dict(zip(predictions.MODELS, rows.pred, strict=True))
    found = parts.score_parts(rows, pred, seen)
    return {partition["title"]: partition["parts"] for partition in found}


def test_sessions_and_speakers_in_their_order(test_rows):
    found = score(test_rows)
    assert list(found["By session"]) == ["9", "10", "11", "12"]
    assert list(found["By speaker"])[:3] == ["Sess09F", "Sess09M", "Sess10F"]
    inside = test_rows.groups("speaker") == "Sess10F"
    row = found["By speaker"]["Sess10F"]["scores"]["audio"]
    expected = accuracy_score(test_rows.truth[inside], test_rows.pred[1][inside])
    assert row["accuracy"] == pytest.approx(expected)
    low, high = row["accuracy_ci"]
    assert low <= expected <= high and high - low < 0.7  # over rows, not over one session


def test_raters_agree_by_the_share_of_votes_for_the_label(test_rows):
    votes = np.zeros((80, 7), int)
    other = (test_rows.truth + 1) % 7
    rows = np.arange(80)
    # 5, 7, 8 and 10 of ten votes for the label; no votes at all
    given = np.array([5, 7, 8, 10, 0])[rows % 5]
    votes[rows, test_rows.truth] = given
    votes[rows, other] = np.where(given > 0, 10 - given, 0)
    test_rows.facts[[f"votes_{label}" for label in LABELS]] = votes
    found = score(test_rows)["By agreement of the raters"]
    names = ["a half or less", "up to .7", "up to .9", "more than .9", "no votes on record"]
    assert list(found) == names
    for k, name in enumerate(names):
        inside = rows % 5 == k
        expected = accuracy_score(test_rows.truth[inside], test_rows.pred[0][inside])
        assert found[name]["rows"] == 16
        assert found[name]["scores"]["text"]["accuracy"] == pytest.approx(expected)


def test_transcripts_that_training_has_seen_are_scored_apart(test_rows):
    seen = np.arange(80) < 30
    found = score(test_rows, seen)["Transcripts seen and unseen in training"]
    assert [found[name]["rows"] for name in ("seen", "unseen")] == [30, 50]
    expected = accuracy_score(test_rows.truth[~seen], test_rows.pred[2][~seen])
    assert found["unseen"]["scores"]["cmbert"]["accuracy"] == pytest.approx(expected)
    assert "Transcripts seen and unseen in training" not in score(test_rows)


def test_of_several_corpora_each_is_scored(tmp_path, test_rows):
    """A table with the column `corpus` keeps it from the test stages to the scores."""
    assert "By corpus" not in score(test_rows)  # of a single one
    names = np.where(np.arange(80) % 4 == 0, "KEMDy20", "KEMDy19")
    for model, logits in zip(predictions.MODELS, test_rows.logits, strict=True):
        facts = test_rows.facts.assign(corpus=names)
        predictions.write(tmp_path, model, test_rows.ids, test_rows.truth, logits, {}, facts)
    rows = predictions.load(tmp_path)
    found = score(rows)["By corpus"]
    assert {name: part["rows"] for name, part in found.items()} == {"KEMDy19": 60, "KEMDy20": 20}
    inside = names == "KEMDy20"
    expected = accuracy_score(rows.truth[inside], rows.pred[0][inside])
    assert found["KEMDy20"]["scores"]["text"]["accuracy"] == pytest.approx(expected)
    assert "4 sessions" in found["KEMDy20"]["resampled"]
