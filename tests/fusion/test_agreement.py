"""Scores by the raters' votes, against a list of raters written out one by one."""

import json

import numpy as np
import pytest
from fusion_files import MODELS, write_models
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import f1_score

from common.files import LABELS
from fusion import agreement, predictions
from fusion.outputs import name_votes

# Ten raters, a tie of the others, three raters, two who disagree, and two who agree.
COUNTS = np.array(
    [
        [7, 2, 1, 0, 0, 0, 0],
        [5, 5, 0, 0, 0, 0, 0],
        [4, 3, 3, 0, 0, 0, 0],
        [0, 0, 2, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 2, 0, 0],
    ]
)


def list_judgements(counts):
    """Return for each row (rater's label, votes of the others), one rater a line."""
    rows = []
    for row in counts:
        raters = [label for label, count in enumerate(row) for _ in range(count)]
        every = []
        for place, label in enumerate(raters):
            others = raters[:place] + raters[place + 1 :]
            every.append((label, [others.count(k) for k in range(7)]))
        rows.append(every)
    return rows


def test_one_rater_against_the_others_by_brute_force():
    right, any_other, three, true, said, weight = [], [], [], [], [], []
    for every in list_judgements(COUNTS):
        shares = []
        for label, others in every:
            first = [k for k in range(7) if others[k] == max(others)]
            shares.append((label in first) / len(first))
            for k in first:
                true.append(k)
                said.append(label)
                weight.append(1 / len(first) / len(every))
        right.append(np.mean(shares))
        any_other.append(np.mean([others[label] >= 1 for label, others in every]))
        three.append(np.mean([others[label] >= 3 for label, others in every]))
    found = agreement.measure_raters(COUNTS.astype(float), np.arange(6) % 3)
    assert found["accuracy"] == pytest.approx(np.mean(right))
    assert found["any"] == pytest.approx(np.mean(any_other))
    assert found["three"] == pytest.approx(np.mean(three))
    macro = f1_score(true, said, average="macro", sample_weight=weight, zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    # Of the second row each rater is against five others: wrong; of the last each is right.
    assert right[1] == 0 and right[5] == 1
    low, high = found["accuracy_ci"]
    assert 0 <= low <= found["accuracy"] <= high <= 1


def test_leaving_a_session_of_raters_out_is_scoring_the_rest():
    counts = np.tile(COUNTS.astype(float), (4, 1))
    counts[:6, 0] += 3
    groups = np.repeat(np.arange(4), 6)
    found = agreement.measure_raters(counts, groups)
    rest = [
        agreement.measure_raters(counts[groups != g], groups[:18])["accuracy"] for g in range(4)
    ]
    error = np.sqrt(3 / 4 * np.sum((np.array(rest) - found["accuracy"]) ** 2))
    low, high = found["accuracy_ci"]
    assert error > 0 and high - low > 3.18 * error  # t of three degrees of freedom


@pytest.fixture
def test_rows(tmp_path):
    write_models(tmp_path, range(17, 21), 80, seed=1)
    rows = predictions.load(tmp_path)
    votes = np.random.default_rng(0).multinomial(10, np.full(7, 1 / 7), 80)
    votes[:8], votes[8:10] = 0, np.eye(7)[0]  # nobody, and one rater
    rows.facts[name_votes(LABELS)] = votes
    return rows, votes


def test_scores_of_models_by_the_votes(test_rows):
    rows, votes = test_rows
    random = np.random.default_rng(1)
    probabilities = {model: random.dirichlet(np.ones(7), 80) for model in MODELS}
    pred = {model: values.argmax(1) for model, values in probabilities.items()} | {"hard": votes}
    found = agreement.evaluate(rows, pred, probabilities)
    assert (found["rows"], found["without"], found["people_rows"]) == (72, 8, 70)
    assert [*found["scores"]] == [*MODELS]  # hard voting has no probabilities
    slow = {name: [] for name in ("divergence", "top2", "any", "three")}
    for row in range(8, 80):
        p, n = probabilities["audio"][row], votes[row]
        slow["divergence"].append(jensenshannon(p, n / n.sum(), base=2) ** 2)
        slow["top2"].append(rows.truth[row] in np.argsort(p)[-2:])
        slow["any"].append(n[p.argmax()] > 0)
        slow["three"].append(n[p.argmax()] > 2)
    scores = found["scores"]["audio"]
    for name, values in slow.items():
        assert scores[name] == pytest.approx(np.mean(values)), name
        low, high = scores[f"{name}_ci"]
        assert 0 <= low <= scores[name] <= high <= 1
    assert scores["accuracy"] == pytest.approx((pred["audio"] == rows.truth)[8:].mean())
    assert found["people"] == agreement.measure_raters(
        votes[10:].astype(float), rows.facts["session"].to_numpy()[10:] - 17
    )
    json.dumps(found, allow_nan=False)


def test_divergence_is_0_of_the_shares_themselves_and_1_of_what_nobody_chose():
    votes = np.array([[3.0, 1, 0], [2, 2, 0]])
    assert agreement.diverge(votes, votes / 4) == pytest.approx([0, 0])
    assert agreement.diverge(votes, np.array([[0, 0, 1.0]] * 2)) == pytest.approx([1, 1])


def test_without_votes_there_is_nothing_to_score(test_rows, tmp_path):
    rows, _ = test_rows
    rows.facts[name_votes(LABELS)] = 0
    assert agreement.evaluate(rows, {}, {}) is None
    for path in tmp_path.glob("*_rows.tsv"):
        path.unlink()
    assert agreement.evaluate(predictions.load(tmp_path), {}, {}) is None
