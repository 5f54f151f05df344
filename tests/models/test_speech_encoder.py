"""The self-supervised speech encoder as the audio model, on tiny random checkpoints."""

import pytest
import torch
from dropout import share_dropped
from small_speech import KINDS, save_checkpoint
from transformers import BertConfig, BertModel

from models import ModelError
from models.speech import (
    SpeechClassifier,
    build_speech_encoder,
    load_speech_encoder,
    prepare_clip,
)


def make_clips():
    torch.manual_seed(1)
    clips = [(torch.randn(length) * 3000).short() for length in (100, 3000, 7000, 5000)]
    counts = torch.tensor([len(clip) for clip in clips])
    return clips, torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), counts


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_is_the_same_alone_and_in_a_batch(tmp_path, kind, norm):
    model = SpeechClassifier(*load_speech_encoder(save_checkpoint(tmp_path, kind, norm)), True)
    model.eval()
    clips, samples, counts = make_clips()
    with torch.inference_mode():
        together = model(samples, counts)
        alone = [model(clip[None], torch.tensor([len(clip)])) for clip in clips]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert together.std(0).min() > 1e-4  # the clips do differ


@pytest.mark.parametrize("frozen", [True, False])
def test_a_step_moves_what_is_trainable(tmp_path, frozen):
    encoder, normalise = load_speech_encoder(save_checkpoint(tmp_path, "hubert", "layer"))
    model = SpeechClassifier(encoder, normalise, frozen)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    _, samples, counts = make_clips()
    model.train()
    model(samples, counts).square().sum().backward()
    torch.optim.SGD(parameters, lr=1.0).step()
    moved = {name for name, tensor in model.state_dict().items() if (tensor != before[name]).any()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moved == trained
    assert any(name.startswith("encoder.") for name in trained) != frozen
    assert encoder.training != frozen  # a frozen encoder must not drop out


def test_the_encoder_is_rebuilt_from_its_config(tmp_path):
    encoder, _ = load_speech_encoder(save_checkpoint(tmp_path, "wav2vec2", "layer"))
    again = build_speech_encoder(encoder.config.to_dict())
    again.load_state_dict(encoder.state_dict())
    samples = torch.randn(1, 4000)
    with torch.inference_mode():
        expected = encoder.eval()(samples).last_hidden_state
        assert torch.equal(again.eval()(samples).last_hidden_state, expected)


def test_normalised_clips_do_not_depend_on_the_microphone():
    clip = (torch.randn(8000) * 1000).short()
    assert torch.allclose(
        prepare_clip(clip, True, 400), prepare_clip(clip * 4, True, 400), atol=1e-3
    )
    assert prepare_clip(clip, False, 400).abs().max() == clip.abs().max() / 32768


def test_what_is_no_speech_encoder_is_refused_in_one_line(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    for name in (tmp_path / "bert", tmp_path / "absent"):
        with pytest.raises(ModelError) as error:
            load_speech_encoder(str(name))
        assert "\n" not in str(error.value)


NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
)


@pytest.mark.parametrize("pretraining", [{"layerdrop": 1.0}, {"mask_time_prob": 0.9}])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_hears_every_frame_while_it_is_trained(tmp_path, kind, pretraining):
    """Dropped layers and masked frames are pretraining's; without dropout nothing is random."""
    checkpoint = save_checkpoint(tmp_path, kind, mask_time_length=2, **NO_DROPOUT, **pretraining)
    model = SpeechClassifier(*load_speech_encoder(checkpoint), frozen=False)
    _, samples, counts = make_clips()
    with torch.no_grad():
        whole = model.eval().pool(samples, counts)
        learning = model.train().pool(samples, counts)
    assert (learning - whole).abs().max() < 1e-5
    assert (whole[:, 1:] - whole[:, :-1]).abs().amax((0, 2)).min() > 1e-3  # no layer is passed over


def speech_classifier(tmp_path, dropout=0.0):
    encoder, normalise = load_speech_encoder(save_checkpoint(tmp_path))
    return SpeechClassifier(encoder, normalise, True, dropout)


def test_layers_are_mixed_by_shares(tmp_path):
    model = speech_classifier(tmp_path).eval()
    layers = torch.randn(4, 3, 32)  # two layers and what goes into the first
    model.layer_weights.data = torch.tensor([0.5, 0.25, 0.25]).log() + 3.0
    mixed = layers[:, 0] / 2 + layers[:, 1] / 4 + layers[:, 2] / 4
    with torch.no_grad():
        expected = model.classifier(torch.relu(model.hidden(mixed)))
        torch.testing.assert_close(model(pooled=layers), expected)


def test_dropout_is_before_the_classifier_and_for_learning_alone(tmp_path):
    model, layers = speech_classifier(tmp_path, 0.5), torch.randn(32, 3, 32)
    dropped = share_dropped(model, model.classifier, lambda: model(pooled=layers))
    assert dropped == pytest.approx(0.5, abs=0.05)
