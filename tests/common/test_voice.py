"""What the networks hear: spectrograms and a speech encoder's frames, normalised, in batches."""

from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
from small_speech import save_checkpoint

from common import encoding, features, voice
from common.data import load_data
from common.features import Mel, Paper, add_deltas, average_over_tokens, log_mel
from common.speakers import SPEAKER_NORMS, SpeakerNorm
from common.tokens import token_batches
from models.kobert import load_tokenizer
from models.speech import load_speech_encoder

MEL, ROWS = Mel(), np.array([7, 0, 3])
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


def known_stats(data, own, name):
    """Each row's statistics (N, K): the sum of its own, its speaker's past ones, or all of them."""
    heard = {
        "utterance": np.eye(len(data), dtype=bool),
        "past": data.time_order.argsort() <= data.time_order.argsort()[:, None],
        "all": True,
    }[name]
    same_speaker = data.speakers == data.speakers[:, None]
    return np.stack([own[row].sum(0) for row in same_speaker & heard])


@pytest.mark.parametrize("name", SPEAKER_NORMS)
def test_a_batch_is_each_row_at_all_tempos_padded_with_zeros(train, norm, config, name):
    mean, std = norm.mean_and_std(
        known_stats(train, voice.collect_stats(voice.cache_log_mel(train, MEL)), name)
    )
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
    def make(rows, step=0, seed=0, strength=1.0, norms=SPEAKER_NORMS):
        own = config | {"tempos": [1.0]}
        batch = voice.audio_batches(train, own, norms, strength, seed)(np.array(rows), step)
        return [clip[:, :count] for clip, count in zip(*batch.values(), strict=True)]

    first, other, plain = make([7, 0, 3]), make([0, 5, 7]), make([7], seed=-1)[0]
    assert np.array_equal(first[0], other[2]) and np.array_equal(first[1], other[0])
    for clip in (make([7], step=1)[0], make([7], seed=1)[0], plain):
        assert clip.shape != first[0].shape or not np.allclose(clip, first[0])
    drawn = [make([7], seed=seed, strength=0)[0] for seed in range(20)]  # of the three
    for name in SPEAKER_NORMS:
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


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_speech_encoder(save_checkpoint(tmp_path_factory.mktemp("speech")))


@pytest.fixture(scope="module")
def layers(train, encoder):
    """Every row's layers, (W, T, D) each."""
    with torch.inference_mode():
        clips = [torch.from_numpy(train.samples(row)) for row in range(len(train))]
        return [encoder.eval()([clip])[0].numpy() for clip in clips]


@pytest.fixture(scope="module")
def frozen(train, encoder):
    """The configuration of a network over the encoder."""
    own = {"kind": "SpeechClassifier", "audio": "encoder"} | TOKENS
    own |= encoding.describe_encoder(encoder, "a test")
    frames = encoding.EncoderFrames(train, own, partial(encoding.encode, encoder))
    return own | {"speaker_norm": frames.fit_norm()}


def unreachable(clips, block):
    pytest.fail("the encoder is asked for what is in the cache")


@pytest.mark.parametrize("name", SPEAKER_NORMS)
def test_an_encoders_frames_are_in_units_of_the_speaker(train, layers, encoder, frozen, name):
    """A clip counts as one frame: its mean and its deviation, of every layer and column."""
    frames = encoding.EncoderFrames(train, frozen, partial(encoding.encode, encoder), [name])
    pooled = np.stack([np.stack([each.mean(1), each.std(1)]) for each in layers])
    flat = pooled.reshape(len(train), -1).astype(float)
    norm = SpeakerNorm.from_json(frozen["speaker_norm"])
    same(norm.mean, flat.mean(0), 1e-3), same(norm.variance**0.5, flat.std(0), 1e-3)
    ones = np.ones((len(train), 1))
    own = np.hstack([ones, ones, flat, flat**2])
    mean, std = norm.mean_and_std(known_stats(train, own, name))
    assert 1e-3 <= std.min() < 0.1  # it moves less than the frames of a spectrogram
    make = voice.audio_batches(train, frozen, [name], encode=unreachable)
    batch = make(ROWS)["pooled"]
    assert batch.shape == (3, 2, 3, 32) and batch.dtype == np.float32
    for row, given in zip(ROWS, batch, strict=True):
        expected = (flat[row] - mean[row]) / std[row]
        close = np.abs(given.ravel() - expected) * std[row]
        assert close.max() < 4e-3  # of half precision
        same(frames.read(row)[0].ravel(), given.ravel(), 1e-6)
        assert np.array_equal(make(np.array([row]))["pooled"][0], given)


def test_blocks_are_means_of_a_fifth_of_a_second(train, layers, encoder, frozen):
    frames = encoding.EncoderFrames(train, frozen, unreachable, ["utterance"])
    for row in range(len(train)):
        stats = frames.stats[0].of(row)
        mean, std = (each[:96] for each in frames.norm.mean_and_std(stats))
        blocks = frames.read(row)[1] * std + mean
        count = layers[row].shape[1]
        assert len(blocks) == max(1, round(count / 10)) and blocks.shape[1] == 96
        same(blocks.mean(0), layers[row].mean(1).ravel(), 2e-3)  # each counts alike
        whole = count // len(blocks)
        first = layers[row][:, :whole].mean(1).ravel()
        part = count / len(blocks) - whole  # of the frame on the border
        first = (whole * first + part * layers[row][:, whole % count].ravel()) / (whole + part)
        same(blocks[0], first, 4e-3)


def test_one_short_clip_has_one_block(encoder):
    clip = np.arange(300, dtype=np.int16)
    (found,) = encoding.encode(encoder, [clip], 10)
    assert found.shape == (3, 96) and found.dtype == np.float16
    same(found[2], found[0], 1e-3)
    alone = encoding.summarise(np.ones((3, 1, 32), np.float32), 10)
    assert alone.shape == (3, 96) and not alone[1].any()


def test_a_speech_encoders_frames_lie_over_the_tokens(train, tokens, encoder, frozen):
    make = voice.token_voice_batches(train, tokens, frozen, ["past"], encode=unreachable)
    frames = encoding.EncoderFrames(train, frozen, unreachable, ["past"])
    for place, row in zip(make(ROWS)["audio"], ROWS, strict=True):
        words = tokens[0][row] - 2
        same(place[1 : words + 1], average_over_tokens(frames.read(row)[1], words))
        assert not place[0].any() and not place[words + 1 :].any() and place.shape[1] == 96


def test_in_training_one_of_the_normalisations_is_drawn(train, frozen):
    def make(seed, step=0, norms=SPEAKER_NORMS):
        own = voice.audio_batches(train, frozen, norms, 1.0, seed, unreachable)
        return own(np.arange(len(train)), step)["pooled"]

    plain = np.stack([make(-1, norms=[name]) for name in SPEAKER_NORMS])
    drawn = make(3)
    found = [np.flatnonzero((plain[:, row] == drawn[row]).all((1, 2, 3))) for row in range(20)]
    assert all(map(len, found)) and len(set(np.concatenate(found))) == 3
    assert np.array_equal(make(3), drawn)
    assert not np.array_equal(make(3, step=1), drawn) and not np.array_equal(make(4), drawn)
    assert np.array_equal(make(-1), plain[0])


def test_another_encoder_has_frames_of_its_own(data, encoder, frozen):
    train, asked = load_data(data, "train"), []

    def find():
        asked.append(1)
        return encoder

    for _ in range(2):
        encode = encoding.encode_later(find)
        encoding.EncoderFrames(train, frozen | {"contents": "another"}, encode, ["past"])
    assert len(asked) == 1  # once for all its rows


def test_a_trained_encoder_gets_samples(train):
    make = voice.audio_batches(train, {"kind": "SpeechClassifier", "is_frozen": False}, [])
    batch = make(ROWS)
    assert batch["samples"].dtype == np.int16
    for samples, count, row in zip(*batch.values(), ROWS, strict=True):
        assert np.array_equal(samples[:count], train.samples(row)) and not samples[count:].any()


def test_known_statistics_take_the_place_of_the_rows_own(train, encoder, frozen):
    frames = encoding.EncoderFrames(train, frozen, unreachable, ["utterance"])
    own = frames.own_stats(np.arange(len(train)))
    given = replace(train, known_stats=own[::-1])
    found = encoding.EncoderFrames(given, frozen, unreachable, ["past"])
    mean, std = found.norm.mean_and_std(own[-1])
    pooled = frames.cached.read(0)[:2].astype(float)
    same(found.read(0)[0], (pooled - mean.reshape(2, -1)) / std.reshape(2, -1), 1e-2)


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


def test_the_usual_distance_is_that_of_other_sessions(data, train, layers, encoder, frozen):
    """A session that is unlike the others counts: by its own rows it would look usual."""
    pooled = np.stack([np.stack([each.mean(1), each.std(1)]).ravel() for each in layers])
    distances = []
    for session in np.unique(train.sessions):
        inside = train.sessions == session
        others = pooled[~inside]
        std = np.maximum(others.std(0), encoding.POOLED_FLOOR)
        distances += np.square((pooled[inside] - others.mean(0)) / std).mean(1).tolist()
    found = frozen["speaker_norm"]["usual_distance"]
    assert len(np.unique(train.sessions)) > 1
    assert found == pytest.approx(np.percentile(distances, 99), rel=0.05)  # of half precision
    frames = encoding.EncoderFrames(train, frozen, partial(encoding.encode, encoder))
    assert frames.fit_norm(encoding.FIXED)["usual_distance"] is None  # the encoder will be another
    one = train.select(train.sessions == train.sessions[0])
    frames = encoding.EncoderFrames(one, frozen, partial(encoding.encode, encoder))
    assert 0 < frames.fit_norm()["usual_distance"] < np.inf
