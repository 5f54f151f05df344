"""The fusion that reads the conversation: what it gains, what it may look at, when it stays out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fusion_files import MODELS
from scipy.special import softmax

from fusion import choice, conversation
from fusion.dialogue import C, Transitions, cut_dialogues
from fusion.fitting import LogitSet
from fusion.folds import Fold
from fusion.predictions import INPUTS, Predictions
from fusion.stored import list_sets

LENGTH = 20  # turns of a dialogue, two of which make a session


def draw_session(session: int, strength: float, random) -> pd.DataFrame:
    """Two dialogues of two who take turns; an emotion lasts with the one who has it."""
    own = np.zeros((C + 1, C))
    own[:C] = strength * np.eye(C)
    after = Transitions(own, np.zeros((C + 1, C))).after(np.full(C, 1 / C))
    rows = []
    for number in (1, 2):
        last = [C, C]
        for turn in range(LENGTH):
            speaker = turn % 2
            last[speaker] = random.choice(C, p=after[last[speaker], C])
            name = f"Sess{session:02d}{'FM'[speaker]}"
            rows.append((session, number, turn + 1, name, last[speaker]))
    return pd.DataFrame(rows, columns=["session", "dialogue_number", "turn", "speaker", "label"])


def make_fold(strength: float, held: int = 4, seed: int = 0) -> tuple[Fold, pd.DataFrame]:
    """Held-out sessions, test sessions, and every labelled turn of 12 training sessions."""
    random = np.random.default_rng(seed)
    tables = [draw_session(session, strength, random) for session in range(1, 25)]
    told, test = pd.concat(tables[:12], ignore_index=True), pd.concat(tables[12:])
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
    return Fold(rows, predicted, True, "", "", facts.drop(columns="label")), told


def read(fold: Fold, told: pd.DataFrame | None) -> tuple:
    chosen = choice.choose(fold.rows, "accuracy")
    plain = chosen.predict(fold.test.logits)
    return plain, conversation.read_fold(fold, chosen, told, plain)


def accuracy(fold: Fold, probabilities: np.ndarray) -> float:
    return (probabilities.argmax(axis=1) == fold.test.truth).mean()


@pytest.mark.parametrize("has_data", [True, False])
def test_the_past_helps_and_the_whole_more(has_data):
    fold, told = make_fold(2.5)
    plain, reading = read(fold, told if has_data else None)
    found = {kind: accuracy(fold, values) for kind, values in reading.probabilities.items()}
    assert found["past"] > accuracy(fold, plain) + 0.03
    assert found["whole"] > found["past"]
    assert reading.dialogue.past and reading.dialogue.whole


def test_what_harms_held_out_rows_is_left_out():
    """Training sessions in which an emotion lasts, held-out ones in which it never does."""
    fold, told = make_fold(4.0)
    mixed = fold.facts.assign(label=fold.rows.truth).sample(frac=1, random_state=0)
    shuffled = fold.facts.assign(turn=mixed["turn"].to_numpy(), speaker=mixed["speaker"].to_numpy())
    fold.facts["turn"], fold.facts["speaker"] = shuffled["turn"], shuffled["speaker"]
    plain, reading = read(fold, told)
    assert not reading.dialogue.past and not reading.dialogue.whole
    assert np.array_equal(reading.probabilities["whole"], plain)


def test_no_test_label_is_seen():
    fold, told = make_fold(2.0)
    _, reading = read(fold, told)
    other = np.random.default_rng(0).permutation(fold.test.truth)
    facts = fold.test.facts.assign(label=other)
    permuted = replace(fold, test=replace(fold.test, truth=other, facts=facts))
    _, again = read(permuted, told)
    for kind in conversation.KINDS:
        assert np.array_equal(reading.probabilities[kind], again.probabilities[kind])


def test_held_out_rows_are_judged_without_their_own_sessions_labels():
    fold, told = make_fold(2.0)
    probabilities = softmax(fold.rows.logits.sum(axis=0), axis=-1)
    own = told["session"] == 12

    def cross_read(told):
        apart = conversation.learn_apart(fold.facts, told)
        return conversation.cross_read(probabilities, probabilities.mean(axis=0), apart)

    found = cross_read(told)
    changed = told.assign(label=np.where(own, (told["label"] + 1) % C, told["label"]))
    again = cross_read(changed)
    mine = (fold.facts["session"] == 12).to_numpy()
    assert np.array_equal(found["past"][mine], again["past"][mine])
    assert not np.array_equal(found["past"][~mine], again["past"][~mine])


def test_four_of_five_turns_are_certain_of_every_set_of_models():
    """On test sessions, each turn read with those before it; a first turn is as one by itself."""
    shares = {models: [] for models in list_sets(INPUTS)}
    notes = {"speaker_norm": {}, "synthetic": None}
    for seed in range(4):
        fold, told = make_fold(3.0, held=8, seed=seed)
        chosen = choice.choose(fold.rows, "accuracy")
        reading = conversation.read_fold(fold, chosen, told, chosen.predict(fold.test.logits))
        stored = choice.fit_fusion(fold.rows, chosen.winner, INPUTS, reading, "rows", notes)
        dialogues, _ = cut_dialogues(fold.test.facts)
        later = np.concatenate([turns.rows[1:] for turns in dialogues])
        for models, found in shares.items():
            logits = dict(zip(MODELS, fold.test.logits, strict=True))
            plain = stored.predict({model: logits[model] for model in models})
            read = stored.dialogue.read(plain, dialogues, "past")
            assert not np.allclose(read[later], plain[later])
            found.append((read[later].max(axis=1) >= stored.threshold(models, "FM")).mean())
        assert stored.threshold(MODELS, "F") == stored.certain[MODELS].threshold
    for models, found in shares.items():
        assert np.mean(found) == pytest.approx(0.8, abs=0.04), models


def test_sessions_that_differ_do_not_decide_whether_the_past_is_used():
    """It tells nothing on the whole, but much in some sessions and the contrary in others. One
    standard error below nothing comes by chance in 16 of 100 cases; as if rows were independent,
    it came in about 38."""
    random, refused, times = np.random.default_rng(0), 0, 400
    for _ in range(times):
        sessions = np.repeat(np.arange(8), 100)
        saved = 0.1 * random.normal(size=8)[sessions] + 0.35 * random.normal(size=800)
        truth = random.integers(0, C, 800)
        plain, read = np.full((2, 800, C), 0.1)
        read[np.arange(800), truth] *= np.exp(saved)
        rows = LogitSet(np.zeros((1, 800, C)), truth, sessions)
        judged = conversation.judge(rows, plain, {"past": read})["past"]
        refused += judged["lead"] <= -judged["error"]
    assert 0.1 < refused / times < 0.25
