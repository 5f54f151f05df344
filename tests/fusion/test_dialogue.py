"""Dialogues: order of turns, transitions, Bayes' rule; what it gains, and when it stays out."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fusion_files import MODELS, pick
from scipy.special import softmax

from fusion import choice, dialogue
from fusion.dialogue import Transitions, Turns, cut_dialogues
from fusion.fitting import Fold, LogitSet
from fusion.outputs import INPUTS
from fusion.predictions import Predictions

LENGTH = 20  # turns of a dialogue, two of which make a session

C = 7


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


def test_more_speakers_than_can_be_followed_keep_their_probabilities():
    probabilities = random_probabilities(6, 10)
    turns = [Turns.of(np.arange(6), np.array(list("ABCDEA")))]
    result = dialogue.read_turns(probabilities, turns, make_transitions(1), np.full(C, 1 / C), True)
    assert np.array_equal(result, probabilities)


def lasting(strength: float) -> np.ndarray:
    """P(label | own last, partner's last) where an emotion lasts with the one who has it."""
    own = np.zeros((C + 1, C))
    own[:C] = strength * np.eye(C)
    return Transitions(own, np.zeros((C + 1, C))).after(np.full(C, 1 / C))


def draw_session(session: int, strength: float, random) -> pd.DataFrame:
    """Two dialogues of two who take turns."""
    rows, after = [], lasting(strength)
    for number in (1, 2):
        last = [C, C]
        for turn in range(LENGTH):
            speaker = turn % 2
            last[speaker] = random.choice(C, p=after[last[speaker], C])
            name = f"Sess{session:02d}{'FM'[speaker]}"
            rows.append((session, number, turn + 1, name, last[speaker]))
    return pd.DataFrame(rows, columns=["session", "dialogue_number", "turn", "speaker", "label"])


@pytest.mark.parametrize(("strength", "sessions"), [(0.0, 15), (2.0, 100)])
def test_learns_transitions_that_are_there_and_no_others(strength, sessions):
    random = np.random.default_rng(0)
    turns = pd.concat([draw_session(k, strength, random) for k in range(sessions)])
    dialogues, names = cut_dialogues(turns)
    counts = dialogue.count_transitions(dialogues, turns["label"].to_numpy(), C)
    found, _ = dialogue.learn_transitions(counts, names)
    error = np.abs(found.after(np.full(C, 1 / C)) - lasting(strength))[:C, :C]
    assert error.max() < (0.2 if strength else 0.05)


def make_fold(strength: float, held: int = 4, seed: int = 0) -> tuple[Fold, pd.DataFrame]:
    """Held-out sessions, test sessions, and every labelled turn of 12 training sessions."""
    random = np.random.default_rng(seed)
    tables = [draw_session(session, strength, random) for session in range(1, 25)]
    train_turns, test = pd.concat(tables[:12], ignore_index=True), pd.concat(tables[12:])
    facts = pd.concat(tables[12 - held : 12], ignore_index=True)
    sets = []
    for table in (facts, test):
        truth = table["label"].to_numpy()
        sets.append((random.normal(size=(3, len(truth), C)) + 1.1 * np.eye(C)[truth], truth))
    (logits, truth), (test_logits, test_truth) = sets
    rows = LogitSet(logits, truth, facts["session"].to_numpy())
    predicted = Predictions(
        Path(), MODELS, test_truth, test_logits, None, test.reset_index(drop=True), {}
    )
    return Fold(rows, predicted, True, "", facts.drop(columns="label")), train_turns


def read(fold: Fold, train_turns: pd.DataFrame | None) -> tuple:
    chosen = choice.choose(fold.rows, "accuracy")
    plain = chosen.predict(fold.test.logits)
    return plain, dialogue.read_fold(fold, chosen.cross_validated, plain, train_turns)


def accuracy(fold: Fold, probabilities: np.ndarray) -> float:
    return (probabilities.argmax(axis=1) == fold.test.truth).mean()


@pytest.mark.parametrize("has_data", [True, False])
def test_the_past_helps_and_the_whole_more(has_data):
    fold, train_turns = make_fold(2.5)
    plain, reading = read(fold, train_turns if has_data else None)
    found = {kind: accuracy(fold, values) for kind, values in reading.probabilities.items()}
    assert found["past"] > accuracy(fold, plain) + 0.03
    assert found["whole"] > found["past"]
    assert reading.dialogue.past and reading.dialogue.whole


def test_what_harms_held_out_rows_is_left_out():
    """Training sessions in which an emotion lasts, held-out ones in which it never does."""
    fold, train_turns = make_fold(4.0)
    mixed = fold.facts.assign(label=fold.rows.truth).sample(frac=1, random_state=0)
    shuffled = fold.facts.assign(turn=mixed["turn"].to_numpy(), speaker=mixed["speaker"].to_numpy())
    fold.facts["turn"], fold.facts["speaker"] = shuffled["turn"], shuffled["speaker"]
    plain, reading = read(fold, train_turns)
    assert not reading.dialogue.past and not reading.dialogue.whole
    assert np.array_equal(reading.probabilities["whole"], plain)


def test_held_out_rows_are_judged_without_their_own_sessions_labels():
    fold, train_turns = make_fold(2.0)
    probabilities = softmax(fold.rows.logits.sum(axis=0), axis=-1)
    own = train_turns["session"] == 12

    def cross_read(train_turns):
        apart = dialogue.learn_by_fold(fold.facts, train_turns, C)
        return dialogue.cross_read(probabilities, probabilities.mean(axis=0), apart, "past")

    found = cross_read(train_turns)
    again = cross_read(
        train_turns.assign(
            label=np.where(own, (train_turns["label"] + 1) % C, train_turns["label"])
        )
    )
    mine = (fold.facts["session"] == 12).to_numpy()
    assert np.array_equal(found[mine], again[mine])
    assert not np.array_equal(found[~mine], again[~mine])


def test_four_of_five_turns_are_certain():
    """On test sessions, each turn read with those before it; a first turn is as one by itself."""
    fold, train_turns = make_fold(3.0, held=8)
    _, reading = read(fold, train_turns)
    notes = {"speaker_norm": {}, "synthetic": None, "fitted_on": "rows"}
    chosen = pick(choice.DEFAULT, fold.rows)
    stored = choice.fit_fusion(fold.rows, chosen, INPUTS, reading, **notes)
    dialogues, _ = cut_dialogues(fold.test.facts)
    later = np.concatenate([turns.rows[1:] for turns in dialogues])
    plain = stored.predict(dict(zip(MODELS, fold.test.logits, strict=True)))
    later_read = stored.dialogue.read(plain, dialogues, "past")[later]
    assert not np.allclose(later_read, plain[later])
    certain = later_read.max(axis=1) >= stored.threshold(MODELS, "FM")
    assert certain.mean() == pytest.approx(0.8, abs=0.08)
    assert stored.threshold(MODELS, "F") == stored.certain[MODELS].threshold
