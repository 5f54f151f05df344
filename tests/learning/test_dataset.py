"""Aligned files to rows and batches: nothing lost, nothing mixed up, refusals in one line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline.learning.batches import cut_alike, cut_batches, cut_speaker_batches, pad
from pipeline.learning.dataset import load_utterances, plan_trainings
from small_data import make_rows, write_data

from common.files import LABELS, UserError


@pytest.fixture
def own_data(data, tmp_path):
    """A copy of the small data that a test may damage."""
    return shutil.copytree(data, tmp_path / "processed")


# --- rows


def test_every_row_has_its_own_recording(data, rows):
    for splits in (("train",), ("test", "train"), ("train", "valid", "test")):
        utterances = load_utterances(data, *splits)
        expected = [row for row in rows if row["split"] in splits]
        assert utterances.ids.tolist() == [row["id"] for row in expected]
        assert [LABELS[i] for i in utterances.labels] == [row["label"] for row in expected]
        assert utterances.table["text"].tolist() == [row["text"] for row in expected]
        for number, row in enumerate(expected):
            assert np.array_equal(utterances.samples(number), row["samples"])
            assert utterances.sample_counts[number] == len(row["samples"])


def test_selected_rows_keep_order_and_recordings(data, rows):
    utterances = load_utterances(data, "train", "valid")
    mask = np.arange(len(utterances)) % 3 == 1
    chosen = utterances.select(mask)
    assert chosen.ids.tolist() == utterances.ids[mask].tolist()
    by_id = {row["id"]: row for row in rows}
    for number, name in enumerate(chosen.ids):
        assert np.array_equal(chosen.samples(number), by_id[name]["samples"])
    assert len(utterances.select(mask & False)) == 0


def test_shuffled_voices_come_whole_to_other_words(data):
    """Recording, features, speaker and turn go together; words, labels and IDs stay."""
    rows = load_utterances(data, "train", "test")
    sums = [rows.samples(row).astype(np.int64).sum() for row in range(len(rows))]
    rows = rows.with_features(token_ids=[[row] for row in range(len(rows))], sums=sums)
    shuffled = rows.shuffle_voices(1)
    for name in ("id", "label", "text"):
        assert shuffled.table[name].tolist() == rows.table[name].tolist()
    assert shuffled.features["token_ids"] == rows.features["token_ids"]
    owners = [sums.index(own) for own in shuffled.features["sums"]]
    assert sorted(owners) == list(range(len(rows)))
    assert np.mean(owners != np.arange(len(rows))) > 0.8
    for row, owner in enumerate(owners):
        assert np.array_equal(shuffled.samples(row), rows.samples(owner))
        for name in ("speaker", "session", "scenario", "dialogue_number", "turn"):
            assert shuffled.table[name][row] == rows.table[name][owner]
    assert shuffled.sample_counts.tolist() == rows.sample_counts[owners].tolist()
    again, other = (rows.shuffle_voices(seed).features["sums"] for seed in (1, 2))
    assert again == shuffled.features["sums"] != other


def test_texts_that_look_like_missing_values_stay(tmp_path):
    rows = make_rows()
    texts = ["nan", "null", "NA", 'he said "no', "None"]
    for row, text in zip(rows, texts, strict=False):
        row["text"] = text
    utterances = load_utterances(write_data(tmp_path / "data", rows), "train")
    assert utterances.table["text"].tolist()[:5] == texts


def test_blank_measures_are_nan_and_all_others_stay_numbers(tmp_path):
    rows = make_rows()
    rows[0] |= {"valence": "", "wav_start": "", "wav_end": ""}
    rows[1] |= {"arousal": ""}
    for row in rows:
        row["text"] = "7"
    table = load_utterances(write_data(tmp_path / "data", rows), "train").table
    for name, blank in (("valence", 0), ("wav_start", 0), ("wav_end", 0), ("arousal", 1)):
        assert table[name].dtype == np.float64
        assert np.flatnonzero(table[name].isna()).tolist() == [blank]
    assert table["valence"][1] == 3.0
    assert table["text"].tolist() == ["7"] * len(table)


def test_speakers_of_the_small_data_alternate(data):
    """Turns are an order of their own: sorted by id, all of the woman's come first."""
    table = load_utterances(data, "train").table
    for _, session in table.groupby("session"):
        spoken = session.sort_values("turn")
        assert spoken["gender"].tolist() == ["F", "M"] * 5
        assert spoken["wav_start"].is_monotonic_increasing
        assert (spoken["wav_start"].to_numpy()[1:] > spoken["wav_end"].to_numpy()[:-1]).all()
        assert session["turn"].tolist() != sorted(session["turn"])


def test_targets_are_one_hot_or_shares_of_votes(tmp_path, data, rows):
    one_hot = load_utterances(data, "train")
    assert one_hot.targets.dtype == np.float32
    assert one_hot.targets.sum(1).tolist() == [1.0] * len(one_hot)
    assert one_hot.targets.argmax(1).tolist() == one_hot.labels.tolist()
    soft = load_utterances(write_data(tmp_path / "soft", rows, ties="soft"), "train")
    assert soft.labels.tolist() == one_hot.labels.tolist()
    row = next(row for row in rows if row["split"] == "train")
    expected = [row[f"votes_{label}"] / 10 for label in LABELS]  # ten raters
    np.testing.assert_allclose(soft.targets[0], expected, rtol=1e-6)


def test_hash_tells_data_apart(tmp_path, data, rows):
    same = write_data(tmp_path / "same", rows)
    other = write_data(tmp_path / "other", make_rows(seed=1))
    hashes = [load_utterances(folder, "valid").data_hash for folder in (data, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


# --- refusals


@pytest.mark.parametrize("name", ["manifest.json", "train.tsv", "train_audio.npy"])
def test_missing_file(own_data, name):
    (own_data / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing: run preprocess.py"):
        load_utterances(own_data, "train").samples(0)


@pytest.mark.parametrize("name", ["train.tsv", "train_audio.npy"])
def test_changed_file(own_data, name):
    content = bytearray((own_data / name).read_bytes())
    content[-2] ^= 1
    (own_data / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} differs .* run preprocess.py again"):
        load_utterances(own_data, "train").samples(0)


@pytest.mark.parametrize("columns", [["labels", "turn"], ["dialogue_number"]])
def test_data_of_an_older_version(tmp_path, columns):
    rows = make_rows()
    for row in rows:
        for column in columns:
            del row[column]
    words = rf"train.tsv has no column {', '.join(columns)}: run preprocess.py again"
    with pytest.raises(UserError, match=words):
        load_utterances(write_data(tmp_path / "data", rows), "train")


def test_cut_short_manifest(own_data):
    text = (own_data / "manifest.json").read_text()
    (own_data / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"manifest.json cannot be read"):
        load_utterances(own_data, "train")


def test_manifest_is_checked_for_the_splits_that_are_read(own_data):
    (own_data / "test.tsv").write_text("damaged")
    assert len(load_utterances(own_data, "train", "valid")) == 30
    with pytest.raises(UserError, match=r"test.tsv differs"):
        load_utterances(own_data, "test")


# --- batches


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize(("budget", "size"), [(100, 8), (1000, 4), (60, 100), (1, 1)])
def test_batches_hold_every_row_once_within_the_budget(seed, budget, size):
    lengths = np.random.default_rng(0).integers(1, 90, 203)
    batches = cut_batches(lengths, budget, size, seed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(203))
    for rows in batches:
        assert 1 <= len(rows) <= size
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= budget


def test_batches_without_a_seed_are_in_file_order_and_full():
    lengths = np.array([5, 5, 5, 20, 1, 1, 1, 1, 50, 2])
    batches = [rows.tolist() for rows in cut_batches(lengths, 20, 3)]
    # 3 rows; 20 alone fills the budget; 3 rows; 1 row before 50, which exceeds it alone
    assert batches == [[0, 1, 2], [3], [4, 5, 6], [7], [8], [9]]


def test_batches_of_a_seed():
    lengths = np.random.default_rng(0).integers(1, 90, 200)

    def cut(seed):
        return [rows.tolist() for rows in cut_batches(lengths, 200, 8, seed)]

    assert cut(1) == cut(1)
    assert cut(1) != cut(2)
    assert {frozenset(rows) for rows in cut(1)} != {frozenset(rows) for rows in cut(2)}
    longest = [lengths[rows].max() for rows in cut(1)]
    assert longest != sorted(longest)  # batches are not met from short to long


def test_shuffled_batches_pad_less_than_file_order():
    lengths = np.random.default_rng(0).integers(1, 90, 2000)

    def padded(seed):
        return sum(len(r) * lengths[r].max() for r in cut_batches(lengths, 10**6, 16, seed))

    assert padded(1) < 1.2 * lengths.sum() < padded(None)


def test_speakers_batches_are_alike_however_long_their_rows():
    """With KEMDy19's lengths: batches of nearly the size asked for, and little padding in parts."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(4.2), 0.79, 2000), 0.26, 78)
    speakers = np.repeat(np.arange(8), 250)
    batches = cut_speaker_batches(speakers, lengths, budget=120, rows=16, seed=1)
    assert sorted(np.concatenate(batches)) == list(range(2000))
    assert {len(set(speakers[batch])) for batch in batches} == {1}
    assert {len(batch) for batch in batches} == {15, 16}
    padded = 0.0
    for batch in batches:
        own = np.sort(lengths[batch])
        parts = [own[part] for part in cut_alike(own, 4)]
        assert np.concatenate(parts).tolist() == own.tolist()
        assert all(len(part) <= 4 and part.max() <= 2 * part[0] for part in parts)
        padded += sum(len(part) * part.max() for part in parts)
    assert padded < 1.25 * lengths.sum()
    whole = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert whole > 2 * lengths.sum()  # what one padded batch each would cost
    halves = cut_speaker_batches(speakers, lengths, budget=60, rows=16, seed=1)
    assert max(map(len, halves)) <= 12


def test_no_rows_make_no_batches():
    assert cut_batches(np.array([], dtype=np.int64), 100, 8) == []


def test_pad():
    padded = pad([[1, 2, 3], [4]], value=9)
    assert padded.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert pad([[1]], value=0, length=3).tolist() == [[1, 0, 0]]
    assert pad([np.ones(2, np.int16)], 0).dtype == torch.int16


def test_clips_of_any_shape_are_padded():
    clips = [np.ones((2, 3, 4), np.float32), np.full((5, 3, 4), 2, np.float32)]
    padded = pad(clips, 0)
    assert padded.shape == (2, 5, 3, 4) and padded.dtype == torch.float32
    assert (padded[0, :2] == 1).all() and (padded[0, 2:] == 0).all() and (padded[1] == 2).all()


# --- trainings


def plan(data, folds):
    return plan_trainings(load_utterances(data, "train", "valid"), folds, Path("x"))


def sessions(utterances):
    return set(utterances.table["session"])


def test_without_folds_the_validation_sessions_are_held_out(data):
    (part,) = plan(data, 0)
    assert (part.folder, sessions(part.fit), sessions(part.held_out)) == (Path("x"), {1, 2}, {3})
    assert part.chooses_epoch


def test_without_validation_rows_the_last_epoch_counts(data):
    (part,) = plan_trainings(load_utterances(data, "train"), 0, Path("x"))
    assert (sessions(part.fit), len(part.held_out), part.chooses_epoch) == ({1, 2}, 0, False)


def test_folds_share_the_features(data):
    rows = load_utterances(data, "train", "valid")
    rows = rows.with_features(token_ids=[[row] for row in range(len(rows))])
    for part in plan_trainings(rows, 3, Path("x")):
        for chosen in (part.fit, part.held_out):
            kept = np.flatnonzero(np.isin(rows.ids, chosen.ids))
            mine = chosen.features["token_ids"]
            assert all(a is rows.features["token_ids"][b] for a, b in zip(mine, kept, strict=True))


@pytest.mark.parametrize("folds", [2, 3])
def test_folds_hold_every_session_out_once(data, folds):
    *parts, last = plan(data, folds)
    assert [part.folder for part in parts] == [Path(f"x/fold{k}") for k in range(folds)]
    everything = {1, 2, 3}
    held_out = [session for part in parts for session in sessions(part.held_out)]
    assert sorted(held_out) == sorted(everything)
    for part in parts:
        assert sessions(part.fit) == everything - sessions(part.held_out)
        assert not set(part.fit.ids) & set(part.held_out.ids)
        assert len(part.fit) + len(part.held_out) == 30
    assert (last.folder, sessions(last.fit), len(last.held_out)) == (Path("x"), everything, 0)
    assert not any(part.chooses_epoch for part in [*parts, last])


@pytest.mark.parametrize("folds", [-1, 1, 4])
def test_impossible_folds(data, folds):
    with pytest.raises(UserError, match=rf"FOLDS = {folds}: give 0, or 2 to 3"):
        plan(data, folds)
