"""Tables and recordings, folds of sessions, batches by length."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_data import make_rows, write_data

from common.data import cut_batches, load_data, pad, plan_trainings, session_folds
from common.files import LABELS, UserError, sha256
from common.tokens import token_batches


def test_rows_are_sorted_by_id_with_their_own_recordings(data, rows):
    loaded = load_data(data, "valid", "train")
    expected = [row for row in rows if row["split"] != "test"]
    assert loaded.ids.tolist() == sorted(row["id"] for row in expected)
    of_id = {row["id"]: row for row in rows}
    for number, name in enumerate(loaded.ids):
        np.testing.assert_array_equal(loaded.samples(number), of_id[name]["samples"])
        assert LABELS[loaded.labels[number]] == of_id[name]["label"]
    some = loaded.select(loaded.sessions == 2)
    assert set(some.sessions) == {2}
    np.testing.assert_array_equal(some.samples(3), of_id[some.ids[3]]["samples"])


def test_targets_are_labels_or_shares_of_votes(tmp_path):
    rows = make_rows()
    unrated = next(row["id"] for row in rows if row["split"] == "train")
    for row in rows:
        row |= {f"votes_{label}": 0 for label in LABELS} if row["id"] == unrated else {}
    loaded = load_data(write_data(tmp_path / "data", rows), "train")
    hard, soft = loaded.targets("label"), loaded.targets("votes")
    np.testing.assert_array_equal(hard, np.eye(7)[loaded.labels])
    row = next(row for row in rows if row["split"] == "train" and row["id"] != unrated)
    expected = [row[f"votes_{label}"] / 10 for label in LABELS]
    np.testing.assert_allclose(soft[loaded.ids == row["id"]][0], expected, rtol=1e-6)
    np.testing.assert_array_equal(soft[loaded.ids == unrated], hard[loaded.ids == unrated])


def test_labels_and_speakers_may_look_like_numbers(tmp_path):
    labels = ("1", "02")
    rows = make_rows(labels=labels)
    for row in rows:
        row["speaker"] = f"00{row['session']}"
    loaded = load_data(write_data(tmp_path / "data", rows, labels), "train")
    assert set(loaded.speakers) == {"001", "002"} and set(loaded.labels) == {0, 1}
    assert loaded.targets("label").shape[1] == 2


def test_valence_and_arousal_of_each_row(data, rows):
    loaded = load_data(data, "train")
    of_id = {row["id"]: row for row in rows}
    blank = np.array([of_id[name]["valence"] == "" for name in loaded.ids])
    assert 0 < blank.sum() < len(blank)
    np.testing.assert_array_equal(np.isnan(loaded.dimensions), np.stack([blank, blank & False], 1))
    arousal = [of_id[name]["arousal"] for name in loaded.ids]
    np.testing.assert_allclose(loaded.dimensions[:, 1], arousal, rtol=1e-6)


@pytest.mark.parametrize("text", ["nan", "null", "NA", '"quoted', "None"])
def test_a_transcript_is_taken_as_it_is(tmp_path, text):
    rows = make_rows()
    rows[0]["text"] = text
    data = load_data(write_data(tmp_path / "data", rows), rows[0]["split"])
    assert text in data.table["text"].tolist()


@pytest.mark.parametrize("name", ["train.tsv", "train_audio.npy"])
def test_files_that_are_not_the_manifests_are_refused(tmp_path, name):
    folder = write_data(tmp_path / "data", make_rows())
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} differs from what manifest.json says"):
        load_data(folder, "train")
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing: run preprocess.py"):
        load_data(folder, "train")


def test_an_empty_split_is_refused_unless_it_is_validation(tmp_path):
    folder = write_data(tmp_path / "data", make_rows())
    manifest = json.loads((folder / "manifest.json").read_text())
    for split in ("train", "valid"):
        header = (folder / f"{split}.tsv").read_text().partition("\n")[0]
        (folder / f"{split}.tsv").write_text(header + "\n")
        manifest["files"][f"{split}.tsv"] = sha256(folder / f"{split}.tsv")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"train\.tsv has no rows"):
        load_data(folder, "train")
    assert len(load_data(folder, "valid")) == 0


def test_folds_hold_out_every_session_once_and_never_a_part():
    sessions = np.repeat([3, 1, 7, 9, 4], [4, 2, 5, 1, 3])
    fold = session_folds(sessions, 3)
    assert set(fold) == {0, 1, 2}
    for session in set(sessions):
        assert len(set(fold[sessions == session])) == 1
    for wrong in (1, 6):
        with pytest.raises(UserError, match="FOLDS = "):
            session_folds(sessions, wrong)


def test_trainings_of_folds_and_of_validation(data):
    loaded = load_data(data, "train", "valid")
    (one,) = plan_trainings(loaded, 0, Path("m"))
    assert set(one.held_out.sessions) == {3} and set(one.fit.sessions) == {1, 2}
    assert one.chooses_epoch
    *folds, last = plan_trainings(loaded, 3, Path("m"))
    held = [set(training.held_out.sessions) for training in folds]
    assert sorted(map(tuple, held)) == [(1,), (2,), (3,)]
    for training in folds:
        assert not set(training.fit.speakers) & set(training.held_out.speakers)
        assert len(training.fit) + len(training.held_out) == len(loaded)
    assert len(last.fit) == len(loaded) and not len(last.held_out)
    assert not any(training.chooses_epoch for training in (*folds, last))


@pytest.mark.parametrize("seed", [None, 5])
def test_batches_have_every_row_once_and_keep_the_limits(seed):
    lengths = np.random.default_rng(0).integers(1, 400, 333)
    lengths[17] = 5000  # longer than the budget: alone
    batches = cut_batches(lengths, 2000, 12, seed)
    assert sorted(np.concatenate(batches)) == list(range(333))
    for rows in batches:
        assert len(rows) == 1 or (len(rows) <= 12 and len(rows) * lengths[rows].max() <= 2000)
    if seed is None:
        assert np.concatenate(batches).tolist() == list(range(333))
    else:
        padded = sum(len(rows) * lengths[rows].max() for rows in batches) / lengths.sum()
        assert padded < 1.25
        other = cut_batches(lengths, 2000, 12, seed + 1)
        assert {frozenset(b) for b in batches} != {frozenset(b) for b in other}
        again = cut_batches(lengths, 2000, 12, seed)
        assert all(map(np.array_equal, batches, again))
    assert cut_batches(lengths[:0], 2000, 12, seed) == []


def test_padding_stands_behind_each_end():
    padded = pad([[1, 2, 3], [4]], -1, 5)
    assert padded.tolist() == [[1, 2, 3, -1, -1], [4, -1, -1, -1, -1]]


def test_tokens_are_padded_and_masked_behind_their_end(data, bert):
    from models.kobert import load_tokenizer

    loaded, tokenizer = load_data(data, "train"), load_tokenizer(str(bert))
    counts, make_batch = token_batches(loaded, tokenizer, {"max_length": 6, "pad_id": 1})
    batch = make_batch(np.array([2, 0, 5]))
    for row, ids, mask in zip((2, 0, 5), batch["input_ids"], batch["attention_mask"], strict=True):
        expected = tokenizer.encode(loaded.table["text"][row], 6)
        assert counts[row] == len(expected) <= 6
        assert ids[: len(expected)].tolist() == expected and (ids[len(expected) :] == 1).all()
        assert mask.tolist() == [1] * len(expected) + [0] * (len(ids) - len(expected))
