"""The conversation: order of turns, transitions, and Bayes' rule over a dialogue."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from test_stacking import simulate

from fusion import choice, dialogue
from fusion import stored as fusion
from fusion.dialogue import C, Dialogue, Transitions, Turns
from pipeline.files import UserError


def make_transitions(seed: int) -> Transitions:
    tables = np.random.default_rng(seed).normal(0, 1, (2, C + 1, C))
    tables[:, C] = 0
    return Transitions(*tables)


def random_probabilities(count: int, seed: int) -> np.ndarray:
    return softmax(np.random.default_rng(seed).normal(0, 1.5, (count, C)), axis=-1)


def enumerate_paths(probabilities, speakers, transitions, base, whole) -> np.ndarray:
    """Bayes' rule by hand: the sum over every sequence of labels."""
    after = transitions.after(base)
    result = np.zeros_like(probabilities)
    for turn in range(len(speakers)):
        until = len(speakers) if whole else turn + 1
        for labels in product(range(C), repeat=until):
            chance = 1.0
            for t in range(until):
                earlier = range(t - 1, -1, -1)
                own = next((labels[s] for s in earlier if speakers[s] == speakers[t]), C)
                other = next((labels[s] for s in earlier if speakers[s] != speakers[t]), C)
                heard = probabilities[t, labels[t]] / base[labels[t]]
                chance *= after[own, other, labels[t]] * heard
            result[turn, labels[turn]] += chance
    return result / result.sum(1, keepdims=True)


@pytest.mark.parametrize("speakers", ["AABA", "ABAB", "AAAA", "ABCA"])
@pytest.mark.parametrize("whole", [False, True])
def test_is_the_sum_over_all_sequences_of_labels(speakers, whole):
    probabilities, transitions = random_probabilities(4, 0), make_transitions(1)
    base = random_probabilities(1, 2)[0]
    turns = Turns.of(np.arange(4), np.array(list(speakers)))
    result = dialogue.read_turns(probabilities, [turns], transitions, base, whole)
    by_hand = enumerate_paths(probabilities, speakers, transitions, base, whole)
    assert np.allclose(result, by_hand, atol=1e-12)


def test_rows_in_any_order_belong_to_their_turns():
    """Two dialogues with their turns mixed in the file are read as in the order of their turns."""
    probabilities, transitions = random_probabilities(12, 3), make_transitions(4)
    base, place = np.full(C, 1 / C), np.random.default_rng(5).permutation(12)
    names = np.array(["one"] * 6 + ["two"] * 6)
    turn, speaker = np.tile(np.arange(6), 2), np.array(list("ABABBA" * 2))

    def read(order: np.ndarray) -> np.ndarray:
        dialogues = dialogue.cut_dialogues(names[order], turn[order], speaker[order])
        return dialogue.read_turns(probabilities[order], dialogues, transitions, base, True)

    assert np.allclose(read(place), read(np.arange(12))[place])


def test_dialogues_of_a_table_come_in_the_order_of_time():
    """Numbers are no words (10 comes after 9), and the rows stand in any order."""
    table = pd.DataFrame(
        [(session, number, turn) for session in (2, 10) for number in (9, 10) for turn in (1, 2)],
        columns=["session", "dialogue_number", "turn"],
    )
    table["speaker"] = "Sess" + table["session"].astype(str) + "F"
    mixed = table.sample(frac=1, random_state=0).reset_index(drop=True)
    found, sessions = dialogue.cut_table(mixed)
    order = np.concatenate([turns.rows for turns in found])
    assert mixed.iloc[order].reset_index(drop=True).equals(table)
    assert sessions.tolist() == ["2", "2", "10", "10"]


def test_a_later_turn_changes_nothing_in_the_past():
    probabilities, transitions = random_probabilities(8, 6), make_transitions(7)
    turns = [Turns.of(np.arange(8), np.array(list("ABABABAB")))]
    changed = probabilities.copy()
    changed[5:] = random_probabilities(3, 8)
    base = np.full(C, 1 / C)
    before, after = (
        dialogue.read_turns(p, turns, transitions, base, whole=False)
        for p in (probabilities, changed)
    )
    assert np.array_equal(before[:5], after[:5])
    assert not np.allclose(before[5:], after[5:])
    whole = [
        dialogue.read_turns(p, turns, transitions, base, whole=True)
        for p in (probabilities, changed)
    ]
    assert not np.allclose(whole[0][:5], whole[1][:5])


def test_without_transitions_every_turn_keeps_its_probabilities():
    probabilities = random_probabilities(6, 9)
    nothing = Transitions(*np.zeros((2, C + 1, C)))
    turns = [Turns.of(np.arange(6), np.array(list("ABABAB")))]
    result = dialogue.read_turns(probabilities, turns, nothing, probabilities.mean(0), True)
    assert np.allclose(result, probabilities)


def test_more_speakers_than_can_be_followed_keep_their_probabilities():
    probabilities = random_probabilities(6, 10)
    turns = [Turns.of(np.arange(6), np.array(list("ABCDEA")))]
    result = dialogue.read_turns(probabilities, turns, make_transitions(1), np.full(C, 1 / C), True)
    assert np.array_equal(result, probabilities)


def test_last_labels_by_hand():
    """F neutral(0), M angry(1), M sad(4), F happy(2), M neutral(0), and a new dialogue."""
    speaker, labels = np.array(list("FMMFMM")), np.array([0, 1, 4, 2, 0, 3])
    names = np.array(["a"] * 5 + ["b"])
    first, second = dialogue.cut_dialogues(names, np.array([1, 2, 3, 4, 5, 1]), speaker)
    own, other = first.last_labels(labels)
    assert own.tolist() == [C, C, 1, 0, 4]
    assert other.tolist() == [C, 0, 0, 4, 2]
    assert [each.tolist() for each in second.last_labels(labels)] == [[C], [C]]


def draw_dialogues(transitions: Transitions, number: int, length: int, seed: int) -> tuple:
    """Dialogues of two who take turns, labels drawn from the transitions."""
    random, after = np.random.default_rng(seed), transitions.after(np.full(C, 1 / C))
    labels = np.empty(number * length, np.int64)
    dialogues = []
    for start in range(0, len(labels), length):
        turns = Turns.of(np.arange(start, start + length), np.arange(length) % 2)
        last = [C, C]
        for turn, row in enumerate(turns.rows):
            own, other = last[turn % 2], last[1 - turn % 2] if turn else C
            labels[row] = last[turn % 2] = random.choice(C, p=after[own, other])
        dialogues.append(turns)
    return dialogues, labels


def test_learns_transitions_that_are_there():
    own, other = np.zeros((2, C + 1, C))
    own[:C], other[1, 1] = 2 * np.eye(C), 2
    dialogues, labels = draw_dialogues(Transitions(own, other), 200, 20, 0)
    found, _ = dialogue.learn_transitions(dialogues, labels, np.arange(200) % 10)
    after = found.after(np.full(C, 1 / C))
    assert np.abs(after - Transitions(own, other).after(np.full(C, 1 / C)))[:C, :C].max() < 0.2
    assert not found.own[C].any() and not found.other[C].any()


def test_one_dialogue_tells_nothing_of_others():
    turns = Turns.of(np.arange(20), np.arange(20) % 2)
    found, _ = dialogue.learn_transitions([turns], np.repeat(np.arange(2), 10), np.zeros(1))
    assert np.abs(np.stack([found.own, found.other])).max() < 1e-3


def test_learns_nothing_where_turns_tell_nothing():
    """Labels drawn independently: the narrowest prior tells other sessions best."""
    nothing = Transitions(*np.zeros((2, C + 1, C)))
    dialogues, labels = draw_dialogues(nothing, 20, 30, 1)
    found, learned = dialogue.learn_transitions(dialogues, labels, np.arange(20) % 5)
    assert np.abs(np.stack([found.own, found.other])).max() < 0.2
    assert learned["losses"][dialogue.PRECISIONS[0]] > learned["losses"][learned["precision"]]


def test_what_is_stored_reads_a_dialogue_turn_by_turn_as_in_one_pass(tmp_path):
    rows = simulate(200, (1.5, 1.2, 0.8))
    chosen = choice.choose(rows, "accuracy")
    stored = Dialogue(make_transitions(2), np.full(C, 1 / C), past=True, whole=True)
    fitted = choice.fit_fusion(rows, chosen, {}, None, "simulated rows")
    replace(fitted, dialogue=stored, in_dialogue=fitted.certain).write(tmp_path / "fusion.json")
    read = fusion.load(tmp_path / "fusion.json")
    probabilities, names = random_probabilities(9, 3), list("ABABBACBA")
    turns = Turns.of(np.arange(9), np.array(names))
    whole = stored.read(probabilities, [turns], "past")
    one_by_one = [read.read_turn(names[:n], probabilities[:n]) for n in range(1, 10)]
    assert np.allclose(one_by_one, whole, atol=1e-12)
    assert not np.allclose(whole, probabilities)


def test_a_kind_that_is_not_used_leaves_the_probabilities():
    stored = Dialogue(make_transitions(2), np.full(C, 1 / C), past=False, whole=True)
    probabilities, turns = random_probabilities(4, 5), Turns.of(np.arange(4), np.array([*"ABAB"]))
    assert stored.read(probabilities, [turns], "past") is probabilities
    assert not np.allclose(stored.read(probabilities, [turns], "whole"), probabilities)


@pytest.mark.parametrize(
    "damage",
    [{"own": [[0.0] * C]}, {"base": [0.0] * C}, {"other": [["x"] * C] * (C + 1)}, {"past": None}],
)
def test_damaged_transitions_are_refused(tmp_path, damage):
    rows = simulate(200, (1.5, 1.2, 0.8))
    fitted = choice.fit_fusion(rows, choice.choose(rows, "accuracy"), {}, None, "rows")
    stored = Dialogue(make_transitions(2), np.full(C, 1 / C), past=True, whole=True)
    replace(fitted, dialogue=stored, in_dialogue=fitted.certain).write(tmp_path / "fusion.json")
    content = json.loads((tmp_path / "fusion.json").read_text())
    content["dialogue"] |= damage
    (tmp_path / "fusion.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"fusion\.json is damaged"):
        fusion.load(tmp_path / "fusion.json")
