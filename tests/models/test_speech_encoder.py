"""The self-supervised speech encoder as the audio model, on tiny random checkpoints."""

import numpy as np
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
)


def classifier(checkpoint):
    encoder = load_speech_encoder(checkpoint)
    return SpeechClassifier(encoder.layers, encoder.width, encoder)


def make_clips():
    torch.manual_seed(1)
    clips = [(torch.randn(length) * 3000).short() for length in (100, 3000, 7000, 5000)]
    counts = torch.tensor([len(clip) for clip in clips])
    return clips, torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), counts


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_is_the_same_alone_and_in_a_batch(tmp_path, kind, norm):
    model = classifier(save_checkpoint(tmp_path, kind, norm)).eval()
    clips, samples, counts = make_clips()
    with torch.inference_mode():
        together = model(samples, counts)
        alone = [model(clip[None], torch.tensor([len(clip)])) for clip in clips]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert together.std(0).min() > 1e-4  # the clips do differ
    means = [model.encoder.layer_means(clip.numpy()) for clip in clips]  # as a frozen one gives
    with torch.inference_mode():
        cached = model(layer_means=torch.from_numpy(np.stack(means)))
    assert torch.allclose(together, cached, atol=1e-5)


def test_frames_are_the_mean_of_normalised_layers(tmp_path):
    encoder = load_speech_encoder(save_checkpoint(tmp_path))
    clip = make_clips()[0][2]
    with torch.inference_mode():
        (layers,) = encoder.eval()([clip])
    mean, std = layers.mean(-1, keepdim=True), layers.std(-1, keepdim=True, correction=0)
    expected = ((layers - mean) / torch.sqrt(std**2 + 1e-5)).mean(0)
    np.testing.assert_allclose(encoder.frames(clip.numpy()), expected, atol=2e-3)


def test_a_step_moves_every_layer_of_an_encoder_that_is_trained(tmp_path):
    model = classifier(save_checkpoint(tmp_path, "hubert", "layer"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    _, samples, counts = make_clips()
    model.train()(samples, counts).square().sum().backward()
    torch.optim.SGD(parameters, lr=1.0).step()
    moved = {name for name, tensor in model.state_dict().items() if (tensor != before[name]).any()}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}


def test_the_encoder_is_rebuilt_from_its_config(tmp_path):
    encoder = load_speech_encoder(save_checkpoint(tmp_path, "wav2vec2", "layer")).eval()
    again = build_speech_encoder(encoder.to_json()).eval()
    again.load_state_dict(encoder.state_dict())
    clip = make_clips()[0][1].numpy()
    np.testing.assert_array_equal(again.layer_means(clip), encoder.layer_means(clip))


def test_normalised_clips_do_not_depend_on_the_microphone(tmp_path):
    encoder = load_speech_encoder(save_checkpoint(tmp_path))
    clip = (torch.randn(8000) * 1000).short()
    encoder.normalise = True
    assert torch.allclose(encoder.prepare(clip), encoder.prepare(clip * 4), atol=1e-3)
    encoder.normalise = False
    assert encoder.prepare(clip).abs().max() == clip.abs().max() / 32768


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
    encoder, (clips, _, _) = load_speech_encoder(checkpoint), make_clips()
    with torch.no_grad():
        whole = [layers.mean(1) for layers in encoder.eval()(clips)]
        learning = [layers.mean(1) for layers in encoder.train()(clips)]
    whole, learning = torch.stack(whole), torch.stack(learning)
    assert (learning - whole).abs().max() < 1e-5
    assert (whole[:, 1:] - whole[:, :-1]).abs().amax((0, 2)).min() > 1e-3  # no layer is passed over


def test_layers_are_mixed_by_shares():
    model = SpeechClassifier(3, 32, None).eval()
    layers = torch.randn(4, 3, 32)  # two layers and what goes into the first
    model.layer_weights.data = torch.tensor([0.5, 0.25, 0.25]).log() + 3.0
    mixed = layers[:, 0] / 2 + layers[:, 1] / 4 + layers[:, 2] / 4
    with torch.no_grad():
        expected = model.classifier(torch.relu(model.hidden(mixed)))
        torch.testing.assert_close(model(layer_means=layers), expected)


def test_dropout_is_before_the_classifier_and_for_learning_alone():
    model, layers = SpeechClassifier(3, 32, None, 0.5), torch.randn(32, 3, 32)
    dropped = share_dropped(model, model.classifier, lambda: model(layer_means=layers))
    assert dropped == pytest.approx(0.5, abs=0.05)
