"""What the networks hear: statistics of speakers, normalisation, batches."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from small_speech import save_checkpoint

from common import features, voice
from common.data import load_data, token_batches
from common.features import Mel, Paper, add_deltas, average_over_tokens, log_mel
from common.voice import SpeakerNorm, clip_stats, norm_of_rows
from models.kobert import load_tokenizer
from models.speech import load_speech_encoder

MEL, ROWS = Mel(), np.array([7, 0, 3])
NORMS = ("utterance", "past", "all")
TOKENS = {"max_length": 128, "pad_id": 1, "mask_id": 4}


@pytest.fixture(scope="module")
def train(data):
    return load_data(data, "train")


@pytest.fixture(scope="module")
def config(train):
    """Of an audio network and of CM-BERT, as far as their inputs are concerned."""
    own = {"kind": "ModifiedAlexNet", "tempos": [1.0, 0.9, 1.1]}
    return own | TOKENS | voice.choose_voice("aligned", train)


@pytest.fixture(scope="module")
def norm(config):
    return SpeakerNorm.from_json(config["speaker_norm"])


@pytest.fixture(scope="module")
def tokens(train, bert):
    return token_batches(train, load_tokenizer(str(bert)), TOKENS)


def same(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


def heard(data, stats, norm, name):
    """Mean and deviation of all rows, (2, N, F)."""
    return np.stack(norm_of_rows(data, stats, norm, name))


@pytest.mark.parametrize("clips", [1, 40])
@pytest.mark.parametrize("prior_clips", [0, 10, 25.5])
def test_the_norm_is_that_of_the_speaker_and_of_prior_clips_of_the_corpus(clips, prior_clips):
    random = np.random.default_rng(0)
    own = random.normal([3, 3, 900], 2, (600, 3)).astype(np.float32)  # whose sums are large
    corpus = random.normal([-1, 3, 900], 1, (600, 3))
    corpus[:, 1] = own[:, 1] = 0.3  # never moves
    stats = sum(clip_stats(part) for part in np.array_split(own, clips))[None]
    norm = replace(SpeakerNorm.fit(clip_stats(corpus)[None]), prior_clips=prior_clips)
    weights = np.repeat([clips, prior_clips], 600)  # a frame of the one, and of the other
    both = np.concatenate([own, corpus])
    mean = np.average(both, axis=0, weights=weights)
    std = np.sqrt(np.average((both - mean) ** 2, axis=0, weights=weights))
    again = SpeakerNorm.from_json(json.loads(json.dumps(norm.to_json())))
    for found in (norm.mean_and_std(stats), again.mean_and_std(stats)):
        same(found[0][0], mean, 1e-4), same(found[1][0], np.maximum(std, 0.1))
        assert found[0].dtype == found[1].dtype == np.float32
    assert SpeakerNorm.from_json(replace(norm, std_floor=0.7).to_json()).std_floor == 0.7


def variants(data):
    """The data; with two dialogues a session, whose turns begin at 1, under ids of another order
    or of time's; with speakers who come again in another session."""
    second = data.table["turn"] > 5
    turns = {"dialogue_number": 1 + second, "turn": data.table["turn"] - 5 * second}
    for first in ("", "x"):
        ids = np.where(second, "b", first) + data.ids.astype(object)
        cut = data.table.assign(id=ids, **turns).sort_values("id").reset_index(drop=True)
        yield replace(data, table=cut)
    yield replace(data, table=data.table.assign(speaker=data.table["speaker"].str[-1]))


@pytest.mark.parametrize("name", NORMS)
def test_each_row_is_normalised_by_its_own_speakers_turns(train, norm, name):
    assert norm.prior_clips == 10
    for data in (train, *variants(train)):
        stats, numbers = voice.collect_stats(data, MEL), np.arange(len(data))
        same(stats[3], clip_stats(log_mel(data.samples(3), MEL)), 1e-9)
        time = (100 * data.table["dialogue_number"] + data.table["turn"]).to_numpy()
        found = heard(data, stats, norm, name)
        for row in numbers:
            own = data.speakers == data.speakers[row]
            past = own & (data.sessions == data.sessions[row]) & (time <= time[row])
            known = {"utterance": numbers == row, "past": past, "all": own}[name]
            expected = norm.mean_and_std(stats[known].sum(0)[None])
            same(found[:, row], np.concatenate(expected), 1e-4)
    given = replace(train, known_stats=stats[::-1])  # in place of the rows' own
    same(heard(given, stats, norm, name), norm.mean_and_std(stats[::-1]))


def test_past_never_hears_the_future(train, norm):
    stats = voice.collect_stats(train, MEL)
    turns = train.table.query("speaker == 'Sess02M'").sort_values("turn").index
    whole = heard(train, stats, norm, "past")
    for count in range(1, len(turns) + 1):  # stopped after so many turns
        some = np.isin(np.arange(len(train)), turns[:count])
        assert np.array_equal(heard(train.select(some), stats[some], norm, "past"), whole[:, some])
    alone = heard(train, stats, norm, "utterance")
    assert np.array_equal(whole[:, turns[0]], alone[:, turns[0]])
    assert (abs(whole - alone)[:, turns[1:]].max(-1) > 1e-3).all()
    before, rest = stats[turns[:2]].sum(0), stats[turns[2:]]  # what was heard in earlier calls
    known = voice.stats_so_far(rest, np.array(["M"] * 3), "past", before)
    same(norm.mean_and_std(known), whole[:, turns[2:]])


@pytest.mark.parametrize("name", NORMS)
def test_a_batch_is_each_row_at_all_tempos_padded_with_zeros(train, norm, config, name):
    mean, std = norm_of_rows(train, voice.collect_stats(train, MEL), norm, name)
    clips, counts = voice.audio_batches(train, config, [name])(ROWS).values()
    assert clips.shape == (9, 3, max(counts), MEL.bins) and clips.dtype == np.float32
    places = [(tempo, row) for tempo in config["tempos"] for row in ROWS]
    for clip, count, (tempo, row) in zip(clips, counts, places, strict=True):
        level = (log_mel(train.samples(row), MEL) - mean[row]) / std[row]
        expected = add_deltas(features.stretch(level, tempo), MEL)
        same(clip[:, :count], expected.swapaxes(0, 1)), same(clip[:, count:], 0)
        alone = voice.audio_batches(train, config | {"tempos": [tempo]}, [name])(np.array([row]))
        assert np.array_equal(alone["features"][0], clip[:, :count])


def test_augmentation_is_for_training_and_follows_seed_step_and_row_alone(train, config):
    def make(rows, step=0, seed=0, strength=1.0, norms=NORMS):
        own = config | {"tempos": [1.0]}
        batch = voice.audio_batches(train, own, norms, strength, seed)(np.array(rows), step)
        return [clip[:, :count] for clip, count in zip(*batch.values(), strict=True)]

    first, other, plain = make([7, 0, 3]), make([0, 5, 7]), make([7], seed=-1)[0]
    assert np.array_equal(first[0], other[2]) and np.array_equal(first[1], other[0])
    for clip in (make([7], step=1)[0], make([7], seed=1)[0], plain):
        assert clip.shape != first[0].shape or not np.allclose(clip, first[0])
    drawn = [make([7], seed=seed, strength=0)[0] for seed in range(20)]  # of the three
    for name in NORMS:
        same(np.min([abs(each - make([7], 0, -1, 0, [name])[0]).max() for each in drawn]), 0)
    same(first[0], add_deltas(first[0][0], MEL).swapaxes(0, 1))  # made after the augmentation


def test_the_papers_batches(train, tokens):
    paper = Paper(frames=130)
    config = {"kind": "PaperAlexNet", "paper": asdict(paper)}
    batch = voice.audio_batches(train, config, [])(ROWS)
    for clip, count, row in zip(*batch.values(), ROWS, strict=True):
        alone = features.paper_spectrogram(train.samples(row), paper)
        assert np.array_equal(clip[:, :count], alone) and not clip[:, count:].any()
    for length in (20, 100):  # coefficients lie against tokens
        config = voice.choose_voice("paper", train) | TOKENS | {"max_length": length}
        batch = voice.token_voice_batches(train, tokens, config, [])(ROWS)
        mfcc = [features.paper_mfcc(train.samples(row))[:length] for row in ROWS]
        assert np.array_equal(batch["audio"], mfcc) and config["width"] == 465
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, length)


def test_a_speech_encoders_batches(train, tokens, config, tmp_path):
    encoder = load_speech_encoder(save_checkpoint(tmp_path))
    own = {"kind": "SpeechClassifier", "audio": "encoder", "contents": "of a test"}
    batch = voice.audio_batches(train, own, [])(ROWS)
    layers = voice.audio_batches(train, own, [], encoder=encoder)(ROWS)["layer_means"]
    make = voice.token_voice_batches(train, tokens, config | own, [], encoder=encoder)
    for samples, count, means, audio, row in zip(
        *batch.values(), layers, make(ROWS)["audio"], ROWS, strict=True
    ):
        clip = train.samples(row)
        assert np.array_equal(samples[:count], clip) and not samples[count:].any()
        with torch.inference_mode():
            same(means, encoder([torch.from_numpy(clip)])[0].mean(1))
        words = tokens[0][row] - 2
        same(audio[1 : words + 1], average_over_tokens(encoder.frames(clip), words), 1e-3)


def test_each_token_gets_its_share_of_the_clip(train, tokens, config):
    spectrograms = voice.Spectrograms(train, config, ["past"])
    make = voice.token_voice_batches(train, tokens, config, ["past"])
    batch = make(ROWS)
    assert batch["audio"].shape == (*batch["input_ids"].shape, 192) and config["width"] == 192
    for place, ids, mask, row in zip(
        *(batch[name] for name in ("audio", "input_ids", "attention_mask")), ROWS, strict=True
    ):
        words = mask.sum() - 2
        level = spectrograms.read(row)
        movement = MEL.slope_scale * abs(features.deltas(level)) - 1
        frames = np.hstack([level, (level**2 - 1) / 2**0.5, movement])
        same(place[1 : words + 1], average_over_tokens(frames, words), 1e-4)
        assert not place[0].any() and not place[words + 1 :].any()  # [CLS], [SEP], padding
        alone = make(np.array([row]))
        assert np.array_equal(alone["audio"][0], place[: words + 2])
        assert np.array_equal(alone["input_ids"][0], ids[: words + 2])


@pytest.mark.parametrize("seed", [-1, 3])
def test_words_are_dropped_and_voices_augmented_in_training_alone(train, tokens, config, seed):
    def make(drop_text, strength=0.0, step=0):
        own = voice.token_voice_batches(train, tokens, config, ["all"], strength, drop_text, seed)
        return own(np.arange(len(train)), step).values()

    (ids, _, audio), (dropped, _, same_audio), (half, _, varied) = make(0), make(1), make(0.5, 1)
    expected = np.where(np.isin(ids, (1, 2, 3)) | (seed < 0), ids, 4)  # [PAD], [CLS], [SEP]
    assert np.array_equal(dropped, expected) and np.array_equal(same_audio, audio)
    hidden = (half == 4).any(1)
    assert np.array_equal(half, np.where(hidden[:, None], expected, ids)) and not (ids == 4).any()
    assert 4 <= hidden.sum() <= 16 if seed >= 0 else not hidden.any()
    for other in (audio, [*make(0.5, 1, step=1)][2]):
        assert np.array_equal(varied, other) == (seed < 0)
