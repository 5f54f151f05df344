"""The conversation: order of turns, transitions, and Bayes' rule over a dialogue."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from fusion import dialogue
from fusion.dialogue import C, Transitions, Turns


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


def test_dialogues_of_a_table_come_in_the_order_of_time():
    """Numbers are no words (10 comes after 9), and the rows stand in any order."""
    table = pd.DataFrame(
        [(session, number, turn) for session in (2, 10) for number in (9, 10) for turn in (1, 2)],
        columns=["session", "dialogue_number", "turn"],
    )
    table["speaker"] = "Sess" + table["session"].astype(str) + "F"
    mixed = table.sample(frac=1, random_state=0).reset_index(drop=True)
    found, sessions = dialogue.cut_dialogues(mixed)
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


def test_more_speakers_than_can_be_followed_keep_their_probabilities():
    probabilities = random_probabilities(6, 10)
    turns = [Turns.of(np.arange(6), np.array(list("ABCDEA")))]
    result = dialogue.read_turns(probabilities, turns, make_transitions(1), np.full(C, 1 / C), True)
    assert np.array_equal(result, probabilities)


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


def test_learns_nothing_where_turns_tell_nothing():
    """Labels drawn independently: the narrowest prior tells other sessions best."""
    nothing = Transitions(*np.zeros((2, C + 1, C)))
    dialogues, labels = draw_dialogues(nothing, 20, 30, 1)
    found, learned = dialogue.learn_transitions(dialogues, labels, np.arange(20) % 5)
    assert np.abs(np.stack([found.own, found.other])).max() < 0.2
    assert learned["losses"][dialogue.PRECISIONS[0]] > learned["losses"][learned["precision"]]
