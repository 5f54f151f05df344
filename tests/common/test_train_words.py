"""In training a share of the rows has other words: a recogniser's, or misheard ones."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_speech import save_recogniser

from common import voice
from common.conditions import TrainConditions, add_words, change_recordings
from common.data import cut_batches, load_data
from common.ranges import find_idle, find_rule
from common.tokens import token_batches
from corpora.transcripts import clean
from models.kobert import load_tokenizer

TOKENS = {"max_length": 60, "pad_id": 1, "mask_id": 4}
ROWS, SEED = np.arange(20), 5
HEARD, OTHER = "words:.9", "words:.5"


@pytest.fixture(scope="module")
def tokenizer(bert):
    return load_tokenizer(str(bert))


@pytest.fixture(scope="module")
def train(data):
    return add_words(load_data(data, "train"), (HEARD, OTHER), clean, SEED, print)


def say(data, words):
    """Return the rows with other words for good."""
    return replace(data, table=data.table.assign(text=list(words)))


def rows_of(batch):
    """Return each row's arguments without the padding."""
    counts = batch["attention_mask"].sum(1)
    others = [array for name, array in batch.items() if name != "attention_mask"]
    return [[array[row, :count] for array in others] for row, count in enumerate(counts)]


def same(first, second):
    return all(map(np.array_equal, first, second))


def test_a_share_of_the_draws_has_the_words_of_a_condition(train, tokenizer):
    conditions = TrainConditions((HEARD, OTHER), 0.5)
    expected = [
        [tokenizer.encode(text, 60) for text in train.table[name]]
        for name in ("text", HEARD, OTHER)
    ]
    make = token_batches(train, tokenizer, TOKENS, conditions, SEED)[1]
    found = np.zeros(3)
    for step in range(30):
        batch = rows_of(make(ROWS, step))
        assert all(map(same, batch, rows_of(make(ROWS, step))))
        for row, (ids,) in enumerate(batch):
            is_one = np.array([ids.tolist() == each[row] for each in expected])
            assert is_one.sum() == 1
            found += is_one
    np.testing.assert_allclose(found / found.sum(), [0.5, 0.25, 0.25], atol=0.06)
    other = token_batches(train, tokenizer, TOKENS, conditions, SEED + 1)[1]
    assert not all(map(same, rows_of(make(ROWS, 0)), rows_of(other(ROWS, 0))))
    for off in (TrainConditions((HEARD,), 0.0), TrainConditions((), 0.9)):
        batch = token_batches(train, tokenizer, TOKENS, off, SEED)[1](ROWS, 3)
        assert [ids.tolist() for (ids,) in rows_of(batch)] == expected[0]


def test_no_batch_exceeds_its_budget_whatever_is_drawn(train, tokenizer):
    longer = [text * 2 if row % 2 else text[:4] for row, text in enumerate(train.table["text"])]
    data = replace(train, table=train.table.assign(**{"asr:a/b": longer}))
    conditions = TrainConditions(("asr:a/b",), 0.5)
    lengths, make = token_batches(data, tokenizer, TOKENS, conditions, SEED)
    budget, sizes = 2 * lengths.max(), []
    for epoch in range(20):
        for rows in cut_batches(lengths, budget, 8, epoch):
            sizes.append(make(rows, epoch)["input_ids"].size)
    assert budget - lengths.max() / 2 < max(sizes) <= budget


@pytest.mark.parametrize("kind", ["aligned", "paper"])
def test_a_row_is_in_one_condition_its_words_or_its_voice(train, tokenizer, kind):
    """As if it had been so from the beginning."""
    config = voice.choose_voice(kind, train) | TOKENS
    conditions = TrainConditions(("telephone", HEARD), 0.6)

    def make(data, step=0, **own):
        tokens = token_batches(data, tokenizer, TOKENS, *own.values())
        names = dict(zip(("train_conditions", "seed"), own.values(), strict=False))
        return rows_of(
            voice.token_voice_batches(data, tokens, config, ["past"], **names)(ROWS, step)
        )

    telephone = change_recordings(train, "telephone", SEED)
    expected = [make(each) for each in (train, telephone, say(train, train.table[HEARD]))]
    mixed = make(train, 1, train_conditions=conditions, seed=SEED)
    which = np.array([[*map(same, mixed, each)] for each in expected])
    assert (which.sum(0) == 1).all() and which.any(1).all()


def test_a_row_of_which_nothing_is_heard_keeps_its_transcript(data, monkeypatch):
    rows, styles, said = load_data(data, "train"), [], []
    text = rows.table["text"].tolist()
    heard = ["", "(음)", *text[2:5], *["말"] * 15]
    monkeypatch.setattr("common.transcribing.transcribe_rows", lambda data, name: heard)

    def in_style(words, style):
        styles.append(style)
        return words.replace("(음)", "")

    found = add_words(rows, ("noise:10", "asr:a/b"), in_style, SEED, said.append)
    assert found.table["asr:a/b"].tolist() == [*text[:5], *["말"] * 15]
    assert found.table["text"].tolist() == text and set(styles) == {"spoken"}
    (line,) = said
    assert "asr:a/b: the words of 15 of 20 rows differ; 2 are empty" in line


@pytest.mark.parametrize(
    ("script", "folder", "folds"),
    [("text_train.py", "text", 2), ("run_classifier.py", "cmbert", 0)],
)
def test_another_recogniser_is_another_training(
    data, bert, tmp_path, run_script, script, folder, folds
):
    """And its words are learned from."""
    (tmp_path / "asr").mkdir()
    name, weights = save_recogniser(tmp_path / "asr"), []
    shutil.copytree(data, tmp_path / "data")  # a cache of its own

    def train(*more):
        place = ("--data", tmp_path / "data", "--outputs", tmp_path / "outputs")
        own = ("--bert", bert, "--epochs", 1, "--batch-size", 8, "--dimensions", 0)
        done = run_script(script, *place, *own, "--folds", folds, *more)
        assert done.status == 0, done.stderr
        weights.append(load_file(tmp_path / "outputs" / folder / "model.safetensors"))
        return done.stdout

    train()
    asked = ("--conditions", f"asr:{name}", "--condition-prob", 1)
    assert train(*asked).count(f"asr:{name}: the words of 30 of 30 rows differ") == 1
    assert "nothing to do" in train(*asked)
    path = tmp_path / "asr" / "model.safetensors"
    other = {key: array + np.float32(0.5) for key, array in load_file(path).items()}
    save_file(other, path, {"format": "pt"})
    assert f"again: other asr:{name}" in train(*asked)
    plain, heard, again, elsewhere = ({k: w.tobytes() for k, w in each.items()} for each in weights)
    assert plain != heard == again != elsewhere


@pytest.mark.parametrize("script", ["audio_train", "text_train", "run_classifier"])
def test_every_training_takes_the_conditions_of_a_whole_run(script):
    rule = find_rule(script, "conditions")
    assert rule.allows(("noise:10", "room", "words:.2", "asr:a/b")) and rule.allows(())
    for wrong in ("words", "words:0", "words:1.1", "words:a/b", "asr", "asr:"):
        assert not rule.allows((wrong,)), wrong
    alone = {"conditions": (), "condition_prob": 0.5, "folds": 0, "patience": 0}
    if script == "text_train":
        assert find_idle(script, alone) == {"condition_prob": "conditions"}
