"""The self-supervised speech encoder as the audio model, on tiny random checkpoints."""

import pytest
import torch
from dropout import share_dropped
from small_speech import KINDS, save_checkpoint
from torch.nn.functional import layer_norm
from transformers import BertConfig, BertModel

from models import ModelError
from models.alexnet import build_audio_network
from models.speech import SpeechClassifier, load_speech_encoder

NO_DROPOUT = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")


def clips_of(*lengths):
    own = torch.Generator().manual_seed(1)
    return [(torch.randn(length, generator=own) * 3000).short() for length in lengths]


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_is_the_same_alone_and_in_a_batch(tmp_path, kind, norm):
    encoder = load_speech_encoder(save_checkpoint(tmp_path, kind, norm))
    model = SpeechClassifier(3, 32, encoder).eval()
    clips = clips_of(100, 3000, 7000, 5000)
    counts = torch.tensor(list(map(len, clips)))
    with torch.inference_mode():
        samples = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=77)
        together, (layers,) = model(samples, counts), encoder(clips[3:])
        alone = torch.cat([model(clip[None], torch.tensor([len(clip)])) for clip in clips])
        means = torch.stack([torch.from_numpy(encoder.layer_means(c.numpy())) for c in clips])
        by_means = model(layer_means=means)
    assert alone.std(0).min() > 1e-4  # the clips do differ
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(by_means, alone, atol=1e-5, rtol=0)
    frames = torch.from_numpy(encoder.frames(clips[3].numpy()))
    assert layers.shape == (3, 15, 32) and frames.dtype == torch.float16
    torch.testing.assert_close(frames.float(), layer_norm(layers, (32,)).mean(0), atol=2e-3, rtol=0)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_trained_network_is_built_from_its_configuration(tmp_path, normalise):
    encoder = load_speech_encoder(save_checkpoint(tmp_path, "hubert"))
    encoder.normalise = normalise
    model, (clip,) = SpeechClassifier(3, 32, encoder).eval(), clips_of(4000)
    again = build_audio_network({"kind": "SpeechClassifier"} | encoder.to_json()).eval()
    again.load_state_dict(model.state_dict())
    with torch.inference_mode():
        one, other = (each(clip[None], torch.tensor([4000])) for each in (model, again))
    assert torch.equal(one, other)
    loud, soft = (again.encoder.prepare(each) for each in (2 * clip, clip))
    assert torch.allclose(loud, soft, atol=1e-3) == normalise
    assert normalise or soft.abs().max() == clip.abs().max() / 32768
    assert len(again.encoder.prepare(clip[:7])) == 400  # what the first frame hears


@pytest.mark.parametrize("pretraining", [{"layerdrop": 1.0}, {"mask_time_prob": 0.9}])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_hears_every_frame_while_it_is_trained(tmp_path, kind, pretraining):
    """Dropped layers and masked frames are pretraining's; without dropout nothing is random."""
    changes = dict.fromkeys(NO_DROPOUT, 0.0) | {"mask_time_length": 2} | pretraining
    encoder = load_speech_encoder(save_checkpoint(tmp_path, kind, **changes))
    clips = clips_of(3000, 7000)
    whole, learning = encoder.eval()(clips), encoder.train()(clips)
    for one, other in zip(whole, learning, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        assert (one[1:] - one[:-1]).abs().amax((1, 2)).min() > 1e-3  # no layer is passed over
    torch.cat(learning, 1).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_layers_are_mixed_by_shares_and_drop_out_before_the_classifier(share):
    model, layers = SpeechClassifier(3, 32, None, share).eval(), torch.randn(32, 3, 32)
    model.layer_weights.data = torch.tensor([0.5, 0.25, 0.25]).log() + 3.0
    mixed = layers[:, 0] / 2 + layers[:, 1] / 4 + layers[:, 2] / 4
    expected = model.classifier(torch.relu(model.hidden(mixed)))
    torch.testing.assert_close(model(layer_means=layers), expected)
    dropped = share_dropped(model, model.classifier, lambda: model(layer_means=layers))
    assert dropped == pytest.approx(share, abs=0.05)


def test_what_is_no_speech_encoder_is_refused_in_one_line(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    for name in ("bert", "absent"):
        with pytest.raises(ModelError) as error:
            load_speech_encoder(str(tmp_path / name))
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)
