"""Rows to the inputs of the three networks: padding, normalisation, augmentation."""

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter
from small_data import make_rows, write_data
from stage_settings import PAPER, stage_settings

from pipeline.features.mel import Mel
from pipeline.features.paper import paper_mfcc, paper_spectrogram
from pipeline.features.tokens import average_over_tokens
from pipeline.learning import audio, cmbert, text
from pipeline.learning.dataset import load_utterances
from pipeline.learning.training import predict

ROWS = np.array([7, 0, 3])
MEL = Mel()


@pytest.fixture(scope="module")
def loaded(data):
    """Rows whose token ids tell them apart: row r has r + 2 words."""
    rows = load_utterances(data, "train")
    return rows.with_features(token_ids=[[2, *range(10, 12 + r), 3] for r in range(len(rows))])


def spectrogram_model(**changes):
    torch.manual_seed(0)
    return audio.create(stage_settings("audio", **changes))


def cmbert_model(bert, **changes):
    return cmbert.create(stage_settings("cmbert", bert=str(bert), **changes))


@pytest.fixture(scope="module")
def utterances(loaded):
    return spectrogram_model().prepare(loaded)


@pytest.fixture(scope="module")
def voiced(loaded, bert):
    """The same rows as CM-BERT's: its own features, these token ids."""
    return cmbert_model(bert).prepare(loaded).with_features(**loaded.features)


# --- words


def text_model(bert, **changes):
    return text.create(stage_settings("text", bert=str(bert), **changes))


def test_text_inputs_pad_right_and_mask(loaded, bert):
    model = text_model(bert)
    batch = model.inputs(loaded, np.array([2, 0, 1]), learning=False)
    ids = [[2, 10, 11, 12, 13, 3], [2, 10, 11, 3, 1, 1], [2, 10, 11, 12, 3, 1]]
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_tokens_are_hidden_in_training_only(loaded, bert):
    rows = loaded.select(np.arange(len(loaded)) < 2)
    rows = rows.with_features(token_ids=[[2, *range(10, 2010), 3], [2, *range(10, 510), 3]])
    model = text_model(bert, hide_tokens=0.3)
    torch.manual_seed(1)
    ids = model.inputs(rows, np.array([0, 1]), True)["input_ids"]
    whole = model.inputs(rows, np.array([0, 1]), False)["input_ids"]
    hidden = ids == 4
    assert 0.25 < hidden[0].float().mean() < 0.35 and 0.2 < hidden[1, :502].float().mean() < 0.4
    assert torch.equal(ids[~hidden], whole[~hidden])
    assert not hidden[:, 0].any() and ids[0, -1] == 3  # [CLS], [SEP] and padding stay
    assert ids[1, 501:].tolist() == [3, *[1] * 1500]
    assert not (whole == 4).any()


# --- voice


def test_frames_of_a_speaker_have_mean_0_and_deviation_1(utterances):
    for speaker in set(utterances.table["speaker"]):
        own = np.flatnonzero(utterances.table["speaker"] == speaker)
        together = np.concatenate([utterances.features["spectrograms"][row] for row in own])
        np.testing.assert_allclose(together.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(together.std(0), 1, atol=1e-3)


def test_other_speakers_and_labels_do_not_change_a_speakers_frames(utterances, tmp_path):
    rows = make_rows()
    for row in rows:
        row["label"] = "neutral"
        if row["speaker"] != "Sess01F":
            row["samples"] = row["samples"] // 2
    other = load_utterances(write_data(tmp_path / "data", rows), "train")
    changed = spectrogram_model().prepare(other).features["spectrograms"]
    for row in np.flatnonzero(other.speakers == "Sess01F"):
        np.testing.assert_array_equal(changed[row], utterances.features["spectrograms"][row])


def test_a_batch_holds_the_clips_and_zeros(utterances):
    batch = spectrogram_model().inputs(utterances, ROWS, learning=False)
    counts = [len(utterances.features["spectrograms"][row]) for row in ROWS]
    assert batch["frame_counts"].tolist() == counts
    assert batch["features"].shape == (
        3,
        3,
        max(counts),
        utterances.features["spectrograms"][0].shape[1],
    )
    for clip, row, count in zip(batch["features"], ROWS, counts, strict=True):
        np.testing.assert_array_equal(clip[0, :count], utterances.features["spectrograms"][row])
        assert not clip[:, count:].any()


def test_augmentation_is_for_training_alone_and_follows_torchs_seed(utterances):
    def features(learning, augment, seed=0):
        model = spectrogram_model(augment=augment)
        torch.manual_seed(seed)
        return model.inputs(utterances, ROWS, learning)["features"]

    before = [frames.copy() for frames in utterances.features["spectrograms"]]
    plain = features(False, 1.0)
    assert torch.equal(plain, features(True, 0.0))
    first, again, other = features(True, 1.0), features(True, 1.0), features(True, 1.0, seed=1)
    assert torch.equal(first, again)
    assert first.shape != plain.shape or not torch.equal(first, plain)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert all(
        map(np.array_equal, before, utterances.features["spectrograms"])
    )  # the rows themselves stay


def test_training_batches_hold_one_speaker(utterances):
    speakers = utterances.speakers
    model = spectrogram_model()
    batches = model.batches(utterances, seed=3, budget=1000, size=3)
    assert sorted(np.concatenate(batches)) == list(range(len(utterances)))
    assert all(len(set(speakers[batch])) == 1 for batch in batches)
    # five clips of a speaker in batches of at most three: 3 + 2; not grouped by speaker in time
    assert sorted(map(len, batches)) == [2, 2, 2, 2, 3, 3, 3, 3]
    again = model.batches(utterances, seed=3, budget=1000, size=3)
    assert all(map(np.array_equal, batches, again))
    other = model.batches(utterances, seed=4, budget=1000, size=3)
    assert not all(map(np.array_equal, batches, other))
    seconds = 2 * utterances.sample_counts.max() / 16_000
    assert max(map(len, model.batches(utterances, seed=3, budget=seconds, size=5))) == 2


def test_a_speakers_logits_depend_on_all_clips_of_that_speaker_alone(utterances):
    model = spectrogram_model()

    def found(rows, size):
        return predict(model, rows, 1000, size, "test")

    everything = found(utterances, 32)
    assert (found(utterances, 1) - everything).abs().max() < 1e-4
    mine = utterances.speakers == "Sess02M"
    alone = found(utterances.select(mine), 2)
    assert (alone - everything[torch.from_numpy(mine)]).abs().max() < 1e-4
    few = mine & (np.cumsum(mine) <= 3)
    assert (found(utterances.select(few), 2) - alone[:3]).abs().max() > 1e-2
    batch = model.inputs(utterances, np.arange(len(utterances)), False)
    with torch.inference_mode():
        plain = model.network(**batch)  # by the statistics of the average training speaker
    assert (plain - everything).abs().max() > 1e-2


def test_paper_inputs_stack_the_papers_spectrograms(utterances):
    batch = spectrogram_model(**PAPER["audio"]).inputs(utterances, ROWS, learning=True)
    for clip, count, row in zip(batch["features"], batch["frame_counts"], ROWS, strict=True):
        alone = paper_spectrogram(utterances.samples(row))
        assert count == alone.shape[1]
        np.testing.assert_array_equal(clip[:, :count], alone)
        assert not clip[:, count:].any()


# --- words and voice


def describe(spectrogram):
    """Level, square and movement of a spectrogram (T, F) by scipy, (T, 3 F)."""
    level = spectrogram.astype(np.float64)
    slope = savgol_filter(np.pad(level, ((2, 2), (0, 0)), "edge"), 5, 1, 1, axis=0)[2:-2]
    return np.hstack([level, level**2, MEL.slope_scale * abs(slope)])


def describe_speaker(utterances, row):
    """Mean and deviation of what describes a row's speaker, over all frames."""
    own = np.flatnonzero(utterances.speakers == utterances.speakers[row])
    frames = np.concatenate([describe(utterances.features["spectrograms"][r]) for r in own])
    return frames.mean(0), np.maximum(frames.std(0), MEL.deviation_floor)


def test_each_token_gets_its_share_of_the_clip_in_units_of_the_speaker(utterances, voiced, bert):
    batch = cmbert_model(bert, hide_words=1.0).inputs(voiced, ROWS, learning=False)
    audio = batch["audio"]
    assert audio.shape == (3, 11, 192)  # row 7 has 9 tokens, [CLS] and [SEP]
    assert audio.dtype == torch.float32
    for place, mask, row in zip(audio, batch["attention_mask"], ROWS, strict=True):
        tokens = int(mask.sum()) - 2
        mean, deviation = describe_speaker(utterances, row)
        voice = (describe(utterances.features["spectrograms"][row]) - mean) / deviation
        expected = average_over_tokens(voice, tokens)
        np.testing.assert_allclose(place[1 : tokens + 1], expected, atol=2e-3)
        assert not place[0].any()  # [CLS]
        assert not place[tokens + 1 :].any()  # [SEP] and padding


def test_augmentation_treats_level_square_and_movement_of_a_bin_alike(voiced, bert):
    """A bin or a time is masked in all three, and another level is one of the level alone."""
    model = cmbert_model(bert, hide_words=0.0)
    ones = voiced.with_features(
        spectrograms=[np.zeros((200, MEL.bins), np.float32)] * len(voiced),
        units=[(np.array([[-1.0], [-2.0], [-4.0]], np.float32), np.float32(1))] * len(voiced),
    )  # a voice that is 1, 2 and 4 everywhere
    torch.manual_seed(3)
    audio = model.inputs(ones, ROWS[:1], learning=True)["audio"][0, 1:10].numpy()
    level, square, movement = audio.reshape(9, 3, MEL.bins).transpose(1, 0, 2)
    kept = square / 2  # share of each token and bin that is not masked
    assert 0 < (kept == 0).mean() < 0.2 and (kept < 1).any(1).any()
    np.testing.assert_allclose(movement / 4, kept, atol=1e-6)
    shift = level[kept == 1] - 1
    assert 0 < abs(shift[0]) <= 0.1 and np.ptp(shift) < 1e-6
    np.testing.assert_allclose(level, kept * (1 + shift[0]), atol=1e-6)


def test_words_are_hidden_in_training_alone(voiced, bert):
    def ids(learning, share):
        model = cmbert_model(bert, hide_words=share)
        torch.manual_seed(0)
        return model.inputs(voiced, ROWS, learning)["input_ids"]

    plain = ids(False, 1.0)
    assert not (plain == 4).any()
    assert torch.equal(ids(True, 0.0), plain)
    hidden = ids(True, 1.0)
    words = (plain != 1) & (plain != 2) & (plain != 3)  # not [PAD], [CLS], [SEP]
    assert (hidden[words] == 4).all()
    assert torch.equal(hidden[~words], plain[~words])


def test_masked_words_keep_their_places(voiced, bert):
    model = cmbert_model(bert)
    batch = model.inputs(voiced, ROWS, learning=False)
    masked = model.mask_words(batch)["input_ids"]
    assert masked[1].tolist() == [2, 4, 4, 3, *[1] * 7]  # row 0: two words
    assert not (batch["input_ids"] == 4).any()


def test_the_papers_coefficients_lie_against_tokens(loaded, bert):
    model = cmbert_model(bert, **PAPER["cmbert"])
    batch = model.inputs(loaded, ROWS, learning=False)
    assert batch["audio"].shape == (3, 100, 465)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 100)
    assert not batch["input_ids"][0, 11:].any()  # [UNK] after the 11 ids of row 7
    for place, row in zip(batch["audio"], ROWS, strict=True):
        np.testing.assert_array_equal(place, paper_mfcc(loaded.samples(row)))
