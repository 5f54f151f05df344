"""In training a share of the clips is heard through conditions; off, nothing changes."""

from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
from small_speech import save_checkpoint

from common import encoding, voice
from common.conditions import NOTHING, TrainConditions, change_recordings
from common.data import load_data
from common.features import Paper
from common.tokens import token_batches
from models.kobert import load_tokenizer
from models.speech import load_speech_encoder

KINDS = ("mel", "paper", "frozen", "trained", "cmbert", "cmbert paper", "cmbert frozen")
TOKENS = {"max_length": 20, "pad_id": 1, "mask_id": 4}
ROWS, SEED = np.arange(20), 5
BOTH = ("telephone", "noise:0")


@pytest.fixture(scope="module")
def train(data):
    return load_data(data, "train")


@pytest.fixture(scope="module")
def batches(train, bert, tmp_path_factory):
    """Return a function that makes the first argument of a network of a kind that hears."""
    encoder = load_speech_encoder(save_checkpoint(tmp_path_factory.mktemp("speech")))
    encode = partial(encoding.encode, encoder)
    mel = voice.choose_voice("aligned", train)
    frozen = {"audio": "encoder"} | encoding.describe_encoder(encoder, "a test of train_conditions")
    frozen["speaker_norm"] = encoding.EncoderFrames(train, frozen, encode).fit_norm()
    configs = {
        "mel": mel | {"kind": "ModifiedAlexNet", "tempos": [1.0]},
        "paper": {"kind": "PaperAlexNet", "paper": asdict(Paper())},
        "frozen": frozen | {"kind": "SpeechClassifier"},
        "trained": {"kind": "SpeechClassifier"},
        "cmbert": mel | TOKENS,
        "cmbert paper": voice.choose_voice("paper", train) | TOKENS,
        "cmbert frozen": frozen | TOKENS,
    }
    tokens = token_batches(train, load_tokenizer(str(bert)), TOKENS)

    def make(kind, train_conditions=NOTHING, data=train, step=0, seed=SEED):
        config, norms = configs[kind], ["past"]
        own = {"seed": seed, "train_conditions": train_conditions}
        own["encode"] = encode if "frozen" in kind else None
        if "cmbert" in kind:
            found = voice.token_voice_batches(data, tokens, config, norms, **own)(ROWS, step)
            return found["audio"]
        (first, *_) = voice.audio_batches(data, config, norms, **own)(ROWS, step).values()
        return first

    return make


def differ(first, second):
    """Return whether each row differs; tempo is not among the conditions, so shapes are alike."""
    return ~(first == second).reshape(len(first), -1).all(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_is_heard_through_one_of_the_conditions(train, batches, kind):
    clean = batches(kind)
    assert not differ(clean, batches(kind, TrainConditions(BOTH, 0.0))).any()
    assert not differ(clean, batches(kind, TrainConditions((), 0.9))).any()
    # Of each row as it would be if all recordings, the speaker's earlier ones too, were like that.
    through = [batches(kind, data=change_recordings(train, each, SEED)) for each in BOTH]
    assert differ(clean, through[0]).all() and differ(*through).all()
    for number, condition in enumerate(BOTH):
        assert not differ(batches(kind, TrainConditions((condition,), 1.0)), through[number]).any()
    mixed = batches(kind, TrainConditions(BOTH, 0.5))
    which = np.stack([~differ(mixed, each) for each in (clean, *through)])
    assert (which.sum(0) == 1).all() and which.any(1).all()
    assert 4 <= which[0].sum() <= 16


@pytest.mark.parametrize("kind", ["mel", "cmbert frozen"])
def test_what_is_drawn_follows_seed_and_step(batches, kind):
    train_conditions = TrainConditions(BOTH, 0.5)
    first = batches(kind, train_conditions)
    assert not differ(first, batches(kind, train_conditions)).any()
    assert differ(first, batches(kind, train_conditions, step=1)).any()
    clean = batches(kind)
    heard, again = (
        differ(clean, each) for each in (first, batches(kind, train_conditions, seed=6))
    )
    assert (heard != again).any()
    assert not differ(clean, batches(kind, train_conditions, seed=-1)).any()  # to evaluate


def test_a_frozen_encoder_hears_each_clip_once_in_each_condition(train, tmp_path):
    encoder, asked = load_speech_encoder(save_checkpoint(tmp_path)), []

    def encode(clips, block):
        asked.extend(clips)
        return encoding.encode(encoder, clips, block)

    config = {"kind": "SpeechClassifier"} | encoding.describe_encoder(encoder, "asked once")
    config["speaker_norm"] = encoding.EncoderFrames(train, config, encode).fit_norm()
    for _ in range(2):
        make = voice.audio_batches(
            train, config, ["past"], 0, SEED, encode, TrainConditions(("room", "clipping"), 0.5)
        )
        for step in range(3):
            make(ROWS, step)
    assert len(asked) == 3 * len(train)
