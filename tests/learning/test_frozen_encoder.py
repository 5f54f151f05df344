"""A frozen speech encoder as the audio model: heard once, its results those of hearing again."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from pipeline.learning import audio
from pipeline.learning.dataset import load_utterances
from pipeline.learning.recogniser import predict
from small_speech import KINDS, save_checkpoint
from stage_settings import stage_settings

MODEL = KINDS["wav2vec2"][1]
LIMITS = (1000, 32)


@pytest.fixture(scope="module")
def unheard(data):
    return load_utterances(data, "test")


@pytest.fixture
def calls(monkeypatch):
    """Sample counts of all clips that the encoder has been given, in the order of its calls."""
    met, forward = [], MODEL.forward

    def counting(self, samples, *args, **kwargs):
        met.extend(len(clip) for clip in samples)
        return forward(self, samples, *args, **kwargs)

    monkeypatch.setattr(MODEL, "forward", counting)
    return met


def train(run_script, data, folder, encoder, *more):
    arguments = ("--data", data, "--outputs", folder, "--encoder", encoder, "--epochs", 3)
    done = run_script("audio_train.py", *arguments, "--precision", "float32", *more)
    assert done.status == 0, done.stderr


def test_frozen_features_are_what_the_network_hears(tmp_path, unheard):
    for kind in KINDS:
        for norm in ("group", "layer"):
            torch.manual_seed(0)
            encoder = save_checkpoint(tmp_path / kind / norm, kind, norm)
            frozen = audio.create(stage_settings("audio", encoder=encoder))
            rows = frozen.prepare(unheard)
            found = predict(frozen, rows, "past", LIMITS, "")
            chosen = np.arange(len(rows))
            assert rows.features["pooled"][0].dtype == np.float32
            frozen.frozen = False  # from here on samples pass through the network
            with torch.inference_mode():
                expected = frozen.network.eval()(**frozen.inputs(rows, chosen))
            assert (found - expected).abs().max() < 1e-4
            assert found.std(0).min() > 1e-4  # the clips do differ


def test_training_is_what_it_is_on_samples(tmp_path, data, run_script, monkeypatch):
    """The same weights come out where every epoch passes the samples through the encoder.

    Without dropout: what an encoder draws while it hears is not the same in all its versions.
    """
    encoder = save_checkpoint(tmp_path / "encoder")
    train(run_script, data, tmp_path / "once", encoder, "--dropout", 0)
    create = audio.SpeechEncoderModel.__init__

    def on_samples(self, *arguments):
        create(self, *arguments)
        self.frozen = False

    monkeypatch.setattr(audio.SpeechEncoderModel, "__init__", on_samples)
    train(run_script, data, tmp_path / "every epoch", encoder, "--dropout", 0)
    results = []
    for name in ("once", "every epoch"):
        history = json.loads((tmp_path / name / "audio" / "history.json").read_text())
        results.append([[epoch["loss"], epoch["valid_loss"]] for epoch in history["epochs"]])
    np.testing.assert_allclose(*results, atol=1e-4)


@pytest.mark.parametrize("folds", [0, 2])
def test_a_frozen_encoder_hears_every_row_once(tmp_path, data, run_script, rows, calls, folds):
    encoder = save_checkpoint(tmp_path / "encoder")
    train(run_script, data, tmp_path / "outputs", encoder, "--folds", folds)
    assert calls == [len(row["samples"]) for row in rows if row["split"] != "test"]


def test_an_encoder_that_is_trained_hears_every_epoch(tmp_path, data, run_script, calls):
    encoder = save_checkpoint(tmp_path / "encoder")
    train(run_script, data, tmp_path / "outputs", encoder, "--encoder-rate", 1e-4)
    assert len(calls) == 3 * 30  # the rows to learn from and those of validation


@pytest.mark.parametrize("rate", [0, 1e-3])
def test_the_trained_folder_needs_no_checkpoint(tmp_path, data, run_script, unheard, rate):
    encoder = save_checkpoint(tmp_path / "encoder")
    train(run_script, data, tmp_path / "outputs", encoder, "--encoder-rate", rate)
    arguments = ("--data", data, "--outputs", tmp_path / "outputs")
    assert run_script("audio_test.py", *arguments).status == 0
    written = torch.from_numpy(np.load(tmp_path / "outputs" / "audio_output.npy"))
    made = audio.create(stage_settings("audio", encoder=encoder, encoder_rate=rate))
    weights = safetensors.torch.load_file(tmp_path / "outputs" / "audio" / "model.safetensors")
    made.network.load_state_dict(weights)
    assert (predict(made, made.prepare(unheard), "past", LIMITS, "") - written).abs().max() < 1e-5
    shutil.rmtree(encoder)
    model = audio.load(shutil.move(tmp_path / "outputs" / "audio", tmp_path / "elsewhere"))
    together = predict(model, model.prepare(unheard), "past", LIMITS, "")
    assert (together - written).abs().max() < 1e-5
    for row in (0, 7):
        own = unheard.select(np.arange(len(unheard)) == row)
        alone = predict(model, model.prepare(own), "all", LIMITS, "")
        assert (alone[0] - together[row]).abs().max() < 1e-5
