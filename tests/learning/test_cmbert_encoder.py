"""CM-BERT on a frozen speech encoder's frames: trained through the script, loaded without it."""

import shutil

import numpy as np
import pytest
import torch
from models.speaker import REGIMES
from pipeline.learning import cmbert
from pipeline.learning.batches import Step
from pipeline.learning.dataset import load_utterances
from pipeline.learning.recogniser import predict
from small_speech import KINDS, save_checkpoint
from stage_settings import stage_settings
from transformers import AutoModel

from common.files import read_json

MODEL = KINDS["wav2vec2"][1]
LIMITS = (2048, 24)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Folder of a tiny speech encoder; not to be changed."""
    return save_checkpoint(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def model(bert, speech):
    torch.manual_seed(0)
    return cmbert.create(stage_settings("cmbert", bert=str(bert), audio=speech, hide_words=1.0))


@pytest.fixture(scope="module")
def prepared(data, model):
    return model.prepare(load_utterances(data, "test"))


def train(run_script, data, folder, bert, speech, *more):
    arguments = ("--data", data, "--outputs", folder, "--bert", bert, "--audio", speech)
    done = run_script("run_classifier.py", *arguments, "--epochs", 2, *more)
    assert done.status == 0, done.stderr


def encode(speech, samples):
    """Mean over the layers of one clip's frames, each layer normalised by hand, (T, D)."""
    encoder = AutoModel.from_pretrained(speech).eval()
    clip = torch.from_numpy(samples.astype(np.float64))
    clip = ((clip - clip.mean()) / clip.std(correction=0)).float()
    with torch.inference_mode():
        layers = encoder(clip[None], output_hidden_states=True).hidden_states
    layers = np.concatenate([layer.numpy() for layer in layers])
    spread = layers.std(2, keepdims=True)
    return ((layers - layers.mean(2, keepdims=True)) / spread).mean(0)


def share(frames, token, tokens):
    """Mean of the frames over a token's share of the clip, by splitting each frame finely."""
    fine = np.repeat(frames, tokens, axis=0)
    return fine[token * len(frames) : (token + 1) * len(frames)].mean(0)


def test_tokens_hear_their_share_of_the_frames(model, prepared, speech):
    chosen = np.array([7, 0, 3])
    batch = model.inputs(prepared, chosen)
    for row, mask, audio in zip(chosen, batch["attention_mask"], batch["audio"], strict=True):
        frames = encode(speech, prepared.samples(row))
        assert prepared.features["frames"][row].dtype == np.float16
        tokens = int(mask.sum()) - 2
        expected = np.stack([share(frames, token, tokens) for token in range(tokens)])
        np.testing.assert_allclose(audio[1 : tokens + 1], expected, atol=2e-3)
        assert not audio[0].any()  # [CLS]
        assert not audio[tokens + 1 :].any()  # [SEP] and padding
    assert batch["audio"].dtype == torch.float32
    assert batch["audio"].shape == (*batch["input_ids"].shape, 32)


def test_words_are_hidden_while_learning_alone(model, prepared):
    chosen = np.arange(len(prepared))
    plain = model.inputs(prepared, chosen)
    hidden = model.inputs(prepared, chosen, Step(chosen, 1, 0))
    assert torch.equal(hidden["input_ids"], model.mask_words(plain)["input_ids"])
    assert not torch.equal(hidden["input_ids"], plain["input_ids"])
    assert torch.equal(hidden["audio"], plain["audio"])


def test_an_utterance_is_the_same_alone_in_any_batch_and_whoever_is_known(model, prepared):
    together = predict(model, prepared, "past", LIMITS, "")
    for regime in REGIMES:
        assert model.known(regime) == "utterance"
        assert torch.equal(predict(model, prepared, regime, LIMITS, ""), together)
    for row in range(len(prepared)):
        own = prepared.select(np.arange(len(prepared)) == row)
        alone = predict(model, model.prepare(own), "past", LIMITS, "")
        np.testing.assert_array_equal(
            model.prepare(own).features["frames"][0], own.features["frames"][0]
        )
        assert (alone[0] - together[row]).abs().max() < 1e-5
    silent = predict(model, prepared, "past", LIMITS, "", lambda b: {**b, "audio": 0 * b["audio"]})
    assert (silent - together).abs().max(1).values.min() > 1e-3  # the voice has its part


def test_the_speech_encoder_is_not_trained(model):
    trained = {name for name, p in model.network.named_parameters() if p.requires_grad}
    assert trained and not any(name.startswith("speech.") for name in trained)


def test_the_trained_folder_needs_no_checkpoint(data, bert, run_script, tmp_path):
    speech = save_checkpoint(tmp_path / "speech")
    outputs = tmp_path / "outputs"
    train(run_script, data, outputs, bert, speech)
    written = torch.from_numpy(np.load(outputs / "cmbert_output.npy"))
    before = AutoModel.from_pretrained(speech).state_dict()
    shutil.rmtree(speech)
    model = cmbert.load(shutil.move(outputs / "cmbert", tmp_path / "elsewhere"))
    rows = model.prepare(load_utterances(data, "test"))
    found = predict(model, rows, "past", LIMITS, "")
    assert (found - written).abs().max() < 1e-5
    after = model.network.speech.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_every_training_row_is_heard_once(
    data, bert, speech, rows, run_script, tmp_path, monkeypatch
):
    """Folds share the frames; they are computed again only to test."""
    met, forward = [], MODEL.forward

    def counting(self, samples, *args, **kwargs):
        met.extend(len(clip) for clip in samples)
        return forward(self, samples, *args, **kwargs)

    monkeypatch.setattr(MODEL, "forward", counting)
    train(run_script, data, tmp_path, bert, speech, "--folds", 2)
    training = [len(row["samples"]) for row in rows if row["split"] != "test"]
    test = [len(row["samples"]) for row in rows if row["split"] == "test"]
    assert met == [*training, *test, *training, *test]  # learned, tested, held out, ablated
    config = read_json(tmp_path / "cmbert" / "fold1" / "config.json", "")
    assert config["held_out"] == [2]


def test_an_unknown_encoder_is_one_line(data, bert, run_script, tmp_path):
    for name, words in (
        ("alligned", "AUDIO = 'alligned': give aligned or paper or a speech encoder's folder"),
        (str(tmp_path / "absent"), "cannot load the speech encoder"),
        (str(bert), "speech encoder"),
    ):
        arguments = ("--data", data, "--outputs", tmp_path, "--bert", bert, "--audio", name)
        done = run_script("run_classifier.py", *arguments)
        assert done.status == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr
