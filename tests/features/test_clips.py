"""Rows to the inputs of the audio network and of CM-BERT: padding, normalisation, augmentation."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter
from small_data import make_rows, write_data

from models.alexnet import ModifiedAlexNet
from pipeline.features.clips import (
    compute_frames,
    paper_inputs,
    speaker_batches,
    spectrogram_batches,
    spectrogram_inputs,
)
from pipeline.features.mel import Mel, average_over_tokens, paper_mfcc, paper_spectrogram
from pipeline.features.tokens import aligned_inputs, audio_width, compute_voice, paper_token_inputs
from pipeline.learning.dataset import load_utterances
from pipeline.learning.training import predict

ROWS = np.array([7, 0, 3])
MEL = Mel()


@pytest.fixture(scope="module")
def utterances(data):
    loaded = load_utterances(data, "train")
    loaded.token_ids = [[2, *range(10, 12 + row), 3] for row in range(len(loaded))]
    compute_frames(loaded, Mel())
    return loaded


def test_frames_of_a_speaker_have_mean_0_and_deviation_1(utterances):
    for speaker in set(utterances.table["speaker"]):
        own = np.flatnonzero(utterances.table["speaker"] == speaker)
        together = np.concatenate([utterances.frames[row] for row in own])
        np.testing.assert_allclose(together.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(together.std(0), 1, atol=1e-3)


def test_other_speakers_and_labels_do_not_change_a_speakers_frames(utterances, tmp_path):
    rows = make_rows()
    for row in rows:
        row["label"] = "neutral"
        if row["speaker"] != "Sess01_F":
            row["samples"] = row["samples"] // 2
    changed = load_utterances(write_data(tmp_path / "data", rows), "train")
    compute_frames(changed, Mel())
    for row in np.flatnonzero(changed.table["speaker"] == "Sess01_F"):
        np.testing.assert_array_equal(changed.frames[row], utterances.frames[row])


def test_a_batch_holds_the_clips_and_zeros(utterances):
    batch = spectrogram_inputs(utterances, ROWS, training=False, mel=Mel(), augment=1.0)
    counts = [len(utterances.frames[row]) for row in ROWS]
    assert batch["frame_counts"].tolist() == counts
    assert batch["features"].shape == (3, 3, max(counts), utterances.frames[0].shape[1])
    for clip, row, count in zip(batch["features"], ROWS, counts, strict=True):
        np.testing.assert_array_equal(clip[0, :count], utterances.frames[row])
        assert not clip[:, count:].any()


def test_augmentation_is_for_training_alone_and_follows_torchs_seed(utterances):
    def features(training, augment, seed=0):
        torch.manual_seed(seed)
        return spectrogram_inputs(utterances, ROWS, training, Mel(), augment)["features"]

    before = [frames.copy() for frames in utterances.frames]
    plain = features(False, 1.0)
    assert torch.equal(plain, features(True, 0.0))
    first, again, other = features(True, 1.0), features(True, 1.0), features(True, 1.0, seed=1)
    assert torch.equal(first, again)
    assert first.shape != plain.shape or not torch.equal(first, plain)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert all(map(np.array_equal, before, utterances.frames))  # the rows themselves stay


def test_training_batches_hold_one_speaker(utterances):
    speakers = utterances.table["speaker"].to_numpy()
    batches = speaker_batches(utterances, seed=3, budget=1000, size=3)
    assert sorted(np.concatenate(batches)) == list(range(len(utterances)))
    assert all(len(set(speakers[batch])) == 1 for batch in batches)
    # five clips of a speaker in batches of at most three: 3 + 2; not grouped by speaker in time
    assert sorted(map(len, batches)) == [2, 2, 2, 2, 3, 3, 3, 3]
    again = speaker_batches(utterances, seed=3, budget=1000, size=3)
    assert all(map(np.array_equal, batches, again))
    other = speaker_batches(utterances, seed=4, budget=1000, size=3)
    assert not all(map(np.array_equal, batches, other))
    seconds = 2 * utterances.sample_counts.max() / 16_000
    assert max(map(len, speaker_batches(utterances, seed=3, budget=seconds, size=5))) == 2


def test_a_speakers_logits_depend_on_all_clips_of_that_speaker_alone(utterances):
    torch.manual_seed(0)
    model = ModifiedAlexNet()
    inputs = partial(spectrogram_inputs, mel=MEL, augment=0.0)

    def found(rows, size):
        batches = partial(speaker_batches, budget=1000, size=size)
        return predict(model, rows, batches, inputs, "test")

    speakers = utterances.table["speaker"].to_numpy()
    everything = found(utterances, 32)
    assert (found(utterances, 1) - everything).abs().max() < 1e-4
    mine = speakers == "Sess02_M"
    alone = found(utterances.select(mine), 2)
    assert (alone - everything[torch.from_numpy(mine)]).abs().max() < 1e-4
    few = mine & (np.cumsum(mine) <= 3)
    assert (found(utterances.select(few), 2) - alone[:3]).abs().max() > 1e-2
    model.by_speaker = False
    plain = predict(model, utterances, partial(spectrogram_batches, budget=9, size=9), inputs, "")
    assert (plain - everything).abs().max() > 1e-2


def test_paper_inputs_stack_the_papers_spectrograms(utterances):
    batch = paper_inputs(utterances, ROWS, training=True)
    for clip, count, row in zip(batch["features"], batch["frame_counts"], ROWS, strict=True):
        alone = paper_spectrogram(utterances.samples(row))
        assert count == alone.shape[1]
        np.testing.assert_array_equal(clip[:, :count], alone)
        assert not clip[:, count:].any()


def test_the_voice_is_level_square_and_movement_in_units_of_the_speaker(utterances):
    voices = replace(utterances)
    compute_voice(voices, MEL)
    for speaker in set(utterances.table["speaker"]):
        own = np.flatnonzero(utterances.table["speaker"] == speaker)
        levels = [utterances.frames[row].astype(np.float64) for row in own]
        slopes = [
            savgol_filter(np.pad(x, ((2, 2), (0, 0)), "edge"), 5, 1, 1, axis=0) for x in levels
        ]
        expected = np.concatenate(
            [
                np.hstack([x, x**2, MEL.slope_scale * abs(d[2:-2])])
                for x, d in zip(levels, slopes, strict=True)
            ]
        )
        found = np.concatenate([voices.frames[row] for row in own])
        assert found.shape[1] == audio_width(MEL)
        expected = (expected - expected.mean(0)) / np.maximum(expected.std(0), MEL.deviation_floor)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_each_token_gets_its_share_of_the_clip(utterances):
    batch = aligned_inputs(utterances, ROWS, False, 1, augment=1.0, mask_id=4, hide_words=1.0)
    audio = batch["audio"]
    assert audio.shape == (3, 11, 64)  # row 7 has 9 tokens, [CLS] and [SEP]
    assert audio.dtype == torch.float32
    for place, mask, row in zip(audio, batch["attention_mask"], ROWS, strict=True):
        tokens = int(mask.sum()) - 2
        expected = average_over_tokens(utterances.frames[row], tokens)
        np.testing.assert_allclose(place[1 : tokens + 1], expected, rtol=1e-5)
        assert place[1 : tokens + 1].any(1).all()
        assert not place[0].any()  # [CLS]
        assert not place[tokens + 1 :].any()  # [SEP] and padding


def test_words_are_hidden_in_training_alone(utterances):
    def ids(training, share):
        torch.manual_seed(0)
        return aligned_inputs(utterances, ROWS, training, 1, 0.0, 4, share)["input_ids"]

    plain = ids(False, 1.0)
    assert not (plain == 4).any()
    assert torch.equal(ids(True, 0.0), plain)
    hidden = ids(True, 1.0)
    words = (plain != 1) & (plain != 2) & (plain != 3)  # not [PAD], [CLS], [SEP]
    assert (hidden[words] == 4).all()
    assert torch.equal(hidden[~words], plain[~words])


def test_the_papers_coefficients_lie_against_tokens(utterances):
    batch = paper_token_inputs(utterances, ROWS, training=False, pad_id=0, length=100)
    assert batch["audio"].shape == (3, 100, 465)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 100)
    assert not batch["input_ids"][0, 11:].any()  # [UNK] after the 11 ids of row 7
    for place, row in zip(batch["audio"], ROWS, strict=True):
        np.testing.assert_array_equal(place, paper_mfcc(utterances.samples(row)))
