"""The self-supervised speech encoder as the audio model, on tiny random checkpoints."""

import pytest
import torch
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
    assert torch.allclose(prepare_clip(clip, True), prepare_clip(clip * 4, True), atol=1e-3)
    assert prepare_clip(clip, False).abs().max() == clip.abs().max() / 32768


def test_what_is_no_speech_encoder_is_refused_in_one_line(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    for name in (tmp_path / "bert", tmp_path / "absent"):
        with pytest.raises(ModelError) as error:
            load_speech_encoder(str(name))
        assert "\n" not in str(error.value)
