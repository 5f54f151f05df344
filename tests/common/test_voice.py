"""Speaker normalisation: whose statistics, in which order; batches of voice against single rows."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from common.data import Dataset, load_data, token_batches
from common.features import Mel, add_deltas, average_over_tokens, log_mel, paper_mfcc, stretch
from common.voice import (
    SPEAKER_NORMS,
    SpeakerNorm,
    Spectrograms,
    audio_batches,
    choose_voice,
    clip_stats,
    collect_stats,
    lay_over_tokens,
    norm_of_rows,
    token_voice_batches,
)

MEL = Mel()


@pytest.fixture(scope="module")
def rows_of_two(data) -> Dataset:
    return load_data(data, "train")


@pytest.fixture(scope="module")
def norm(rows_of_two):
    return SpeakerNorm.fit(collect_stats(rows_of_two, MEL))


def test_statistics_are_those_of_the_frames():
    frames = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    stats = clip_stats(frames)
    assert stats[:2].tolist() == [1, 50]
    np.testing.assert_allclose(stats[2:6], frames.sum(0, dtype=np.float64))
    np.testing.assert_allclose(stats[6:], (frames.astype(float) ** 2).sum(0))


def test_the_corpus_mean_and_variance_are_over_all_frames(rows_of_two, norm):
    frames = [log_mel(rows_of_two.samples(row), MEL) for row in range(len(rows_of_two))]
    every = np.concatenate(frames).astype(np.float64)
    np.testing.assert_allclose(norm.mean, every.mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.variance, every.var(0), rtol=1e-4)
    again = SpeakerNorm.from_json(norm.to_json())
    for mine, other in zip(asdict(norm).values(), asdict(again).values(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("clips", [1, 10, 1000])
def test_the_corpus_counts_as_its_prior_clips(clips):
    """Mean and variance of the mixture of the speaker's frames and the corpus'."""
    own = np.random.default_rng(0).normal(5, 3, (4000, 2))
    stats = np.concatenate([[clips, len(own)], own.sum(0), (own**2).sum(0)])
    norm = SpeakerNorm(np.array([0.0, 1.0]), np.array([4.0, 0.25]), prior_clips=10)
    mean, std = norm.mean_and_std(stats[None])
    share = clips / (clips + 10)
    expected = share * own.mean(0) + (1 - share) * norm.mean
    second = share * (own**2).mean(0) + (1 - share) * (norm.variance + norm.mean**2)
    np.testing.assert_allclose(mean[0], expected, rtol=1e-5)
    np.testing.assert_allclose(std[0], np.sqrt(second - expected**2), rtol=1e-5)


def test_a_constant_column_is_not_blown_up():
    frames = np.full((20, 3), 0.1, np.float32)
    stats = clip_stats(frames)[None]
    mean, std = SpeakerNorm.fit(stats).mean_and_std(stats)
    assert np.isfinite(std).all() and (std >= 0.1).all()
    np.testing.assert_allclose(mean[0], 0.1, rtol=1e-5)


def rename(data: Dataset, **columns) -> Dataset:
    return replace(data, table=data.table.assign(**columns))


def norms(data, norm, speaker_norm):
    return np.stack(norm_of_rows(data, collect_stats(data, MEL), norm, speaker_norm))


@pytest.mark.parametrize("speaker_norm", SPEAKER_NORMS)
def test_later_turns_and_others_count_as_the_normalisation_says(rows_of_two, norm, speaker_norm):
    turns = rows_of_two.table["turn"].to_numpy()
    whole = norms(rows_of_two, norm, speaker_norm)
    earlier = turns <= 6
    until = norms(rows_of_two.select(earlier), norm, speaker_norm)
    assert np.allclose(until, whole[:, earlier]) == (speaker_norm != "all")
    single = norms(rows_of_two.select(turns == 6), norm, speaker_norm)
    assert np.allclose(single, whole[:, turns == 6]) == (speaker_norm == "utterance")


def test_past_follows_the_numbers_of_dialogue_and_turn_and_not_the_ids(rows_of_two, norm):
    """Turn 1 to 5 are the second dialogue, 6 to 10 the first: what is past is turned round."""
    turns = rows_of_two.table["turn"].to_numpy()
    later = rename(rows_of_two, dialogue_number=1 + (turns <= 5))
    found = norms(later, norm, "past")
    for number in (6, 7):  # the first of each speaker
        alone = norms(rows_of_two, norm, "utterance")
        np.testing.assert_allclose(found[:, turns == number], alone[:, turns == number])
    last = turns == 5
    np.testing.assert_allclose(found[:, last], norms(later, norm, "all")[:, last])


def test_whoever_comes_again_in_another_session_is_a_stranger_to_past_alone(rows_of_two, norm):
    same = rename(rows_of_two, speaker=rows_of_two.table["gender"])
    np.testing.assert_allclose(norms(same, norm, "past"), norms(rows_of_two, norm, "past"))
    assert not np.allclose(norms(same, norm, "all"), norms(rows_of_two, norm, "all"))


def config_of(norm, kind="ModifiedAlexNet"):
    return {"kind": kind, "mel": asdict(MEL), "speaker_norm": norm.to_json(), "tempos": [1.0, 0.8]}


def test_the_networks_input_is_made_as_the_definition_says(rows_of_two, norm):
    """Normalised, at each tempo, with deltas; zero behind the end; tempos one after another."""
    make_batch = audio_batches(rows_of_two, config_of(norm), ["all"])
    batch = make_batch(np.array([3, 0]))
    mean, std = norms(rows_of_two, norm, "all")
    expected = [
        add_deltas(
            stretch((log_mel(rows_of_two.samples(row), MEL) - mean[row]) / std[row], tempo), MEL
        )
        for tempo in (1.0, 0.8)
        for row in (3, 0)
    ]
    assert batch["frame_counts"].tolist() == list(map(len, expected))
    for found, clip in zip(batch["features"], expected, strict=True):
        np.testing.assert_allclose(found[:, : len(clip)].swapaxes(0, 1), clip, atol=1e-5)
        assert not found[:, len(clip) :].any()


def test_a_training_step_varies_each_row_by_seed_step_and_row_alone(rows_of_two, norm):
    first, second = (
        audio_batches(rows_of_two, config_of(norm), SPEAKER_NORMS, 1.0, s) for s in (1, 2)
    )
    together, alone = first(np.array([4, 2]), 7), first(np.array([2]), 7)
    count = alone["frame_counts"][0]
    np.testing.assert_array_equal(together["features"][1, :, :count], alone["features"][0])
    for other in (first(np.array([2]), 8), second(np.array([2]), 7)):
        count = other["frame_counts"][0]
        assert not np.array_equal(other["features"], alone["features"][:, :, :count])


class Words:
    """A tokenizer of characters: [CLS] 2, [SEP] 3."""

    def encode(self, text, max_length):
        return [2, *(10 + ord(letter) % 50 for letter in text[: max_length - 2]), 3]


def cmbert_config(audio, fit):
    special = {"max_length": 12, "pad_id": 1, "mask_id": 4}
    return special | choose_voice(audio, fit)


def test_voice_lies_over_the_inner_tokens_with_its_mean_kept(rows_of_two):
    config = cmbert_config("aligned", rows_of_two)
    tokens = token_batches(rows_of_two, Words(), config)
    make_batch = token_voice_batches(rows_of_two, tokens, config, ["past"])
    batch = make_batch(np.arange(5))
    spectrograms = Spectrograms(rows_of_two, config, ["past"])
    for row, audio in enumerate(batch["audio"]):
        count = tokens[0][row]
        assert not audio[0].any() and not audio[count - 1 :].any()
        level = audio[1 : count - 1, : MEL.bins].mean(0)
        np.testing.assert_allclose(level, spectrograms.read(row).mean(0), atol=1e-4)


def test_words_are_masked_in_training_alone_and_never_the_special_ones(rows_of_two):
    config = cmbert_config("aligned", rows_of_two)
    tokens = token_batches(rows_of_two, Words(), config)
    batch = token_voice_batches(rows_of_two, tokens, config, ["past"], 0, 0.5, seed=3)(
        np.arange(len(rows_of_two)), 0
    )
    masked = 0
    for ids, count in zip(batch["input_ids"], tokens[0], strict=True):
        assert ids[0] == 2 and ids[count - 1] == 3 and (ids[count:] == 1).all()
        inner = ids[1 : count - 1]
        assert (inner == 4).all() or not (inner == 4).any()
        masked += (inner == 4).all()
    assert 3 <= masked <= len(rows_of_two) - 3
    plain = token_voice_batches(rows_of_two, tokens, config, ["past"], 0, 0.5)(np.arange(5))
    assert not (plain["input_ids"] == 4).any()


def test_the_papers_coefficients_lie_against_token_numbers(rows_of_two):
    config = cmbert_config("paper", rows_of_two)
    tokens = token_batches(rows_of_two, Words(), config)
    batch = token_voice_batches(rows_of_two, tokens, config, ["past"])(np.array([1, 4]))
    assert batch["audio"].shape == (2, 12, 465) and batch["input_ids"].shape == (2, 12)
    for audio, row in zip(batch["audio"], (1, 4), strict=True):
        np.testing.assert_array_equal(audio, paper_mfcc(rows_of_two.samples(row))[:12])


def test_frames_of_any_width_are_laid_over_tokens():
    voices = [np.random.default_rng(n).random((20 + n, 5)).astype(np.float32) for n in range(2)]
    audio = lay_over_tokens(voices, np.array([6, 4]))
    assert audio.shape == (2, 6, 5)
    np.testing.assert_allclose(audio[0, 1:5], average_over_tokens(voices[0], 4))
    np.testing.assert_allclose(audio[1, 1:3], average_over_tokens(voices[1], 2))
    assert not audio[1, 3:].any()


def test_what_is_kept_on_the_disk_is_of_these_recordings(rows_of_two):
    """Another utterance's voice has other statistics, though the rows have the same IDs."""
    shuffled = rows_of_two.shuffle_voices(1)
    own, other = collect_stats(rows_of_two, MEL), collect_stats(shuffled, MEL)
    assert shuffled.ids.tolist() == rows_of_two.ids.tolist() and not np.array_equal(own, other)
    assert sorted(map(tuple, own)) == sorted(map(tuple, other))
    expected = clip_stats(log_mel(shuffled.samples(3), MEL))
    np.testing.assert_array_equal(other[3], expected)
