"""The parts of the test rows, their scores and intervals."""

import numpy as np
import pytest
from fusion_files import MODELS, write_models
from sklearn.metrics import accuracy_score

from common.files import LABELS
from fusion import metrics, predictions, scoring
from fusion.corpus import Corpus


@pytest.fixture
def test_rows(tmp_path):
    write_models(tmp_path, range(9, 13), 80, seed=1)
    return predictions.load(tmp_path)


def score(rows, seen=None):
    pred = dict(zip(MODELS, rows.logits.argmax(2), strict=True))
    fused = pred | {"stacking": pred["text"]}
    return scoring.evaluate(rows, fused, {}, {}, Corpus(seen=seen))["parts"]


def test_sessions_speakers_and_scenarios_in_their_order(test_rows):
    found = score(test_rows)
    sessions = [f"session {number}" for number in range(9, 13)]
    assert [*found][:6] == [*sessions, "speaker Sess09F", "speaker Sess09M"]
    assert {"scenario impro", "scenario script"} <= found.keys()
    inside = test_rows.groups("speaker") == "Sess10F"
    row = found["speaker Sess10F"]["scores"]["audio"]
    pred = test_rows.logits[1].argmax(1)
    expected = accuracy_score(test_rows.truth[inside], pred[inside])
    assert row["accuracy"] == pytest.approx(expected)
    low, high = row["accuracy_ci"]
    assert low <= expected <= high and high - low < 0.7  # over rows, not over one session
    part = test_rows.groups("scenario") == "impro"  # over the sessions of the part
    sessions = test_rows.facts["session"][part].to_numpy() - 9
    alone = metrics.measure(test_rows.truth[part], pred[part], None, sessions)
    shown = found["scenario impro"]["scores"]["audio"]
    assert shown["macro_f1_ci"] == pytest.approx(alone["macro_f1_ci"])


def test_raters_agree_by_the_share_of_votes_for_the_label(test_rows):
    votes, rows = np.zeros((80, 7), int), np.arange(80)
    # 5, 7, 8 and 10 of ten votes for the label; no votes at all
    given = np.array([5, 7, 8, 10, 0])[rows % 5]
    votes[rows, test_rows.truth] = given
    votes[rows, (test_rows.truth + 1) % 7] = np.where(given > 0, 10 - given, 0)
    test_rows.facts[[f"votes_{label}" for label in LABELS]] = votes
    found = score(test_rows)
    pred = test_rows.logits[0].argmax(1)
    for k, name in enumerate(("votes to 0.5", "votes to 0.7", "votes to 0.9", "votes to 1")):
        expected = accuracy_score(test_rows.truth[rows % 5 == k], pred[rows % 5 == k])
        assert found[name]["rows"] == 16
        assert found[name]["scores"]["text"]["accuracy"] == pytest.approx(expected)


def test_transcripts_seen_in_training_and_several_corpora_are_scored_apart(test_rows):
    assert not [name for name in score(test_rows) if name.startswith(("transcript", "corpus"))]
    test_rows.facts["corpus"] = np.where(np.arange(80) % 4 == 0, "KEMDy20", "KEMDy19")
    found = score(test_rows, np.arange(80) < 30)
    names = ("transcript seen", "transcript unseen", "corpus KEMDy19", "corpus KEMDy20")
    assert [found[name]["rows"] for name in names] == [30, 50, 60, 20]
