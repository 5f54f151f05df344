"""Pretrained speech encoders of every family, on tiny checkpoints with random weights."""

import json
import math
from pathlib import Path

import pytest
import torch
from dropout import share_dropped
from small_speech import FAMILIES, save_checkpoint
from torch.nn.functional import layer_norm
from transformers import AutoFeatureExtractor, AutoModel, BertConfig, BertModel

from models import ModelError, speech
from models.speech import SpeechClassifier, build_speech_encoder, load_speech_encoder

of_families = pytest.mark.parametrize("family", FAMILIES)
DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
TWO_SECONDS = 32_000  # Whisper's window in the tests


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The checkpoint of each family; not to be changed."""
    root = tmp_path_factory.mktemp("speech")
    return {family: save_checkpoint(root / family, family) for family in FAMILIES}


def clips_of(*lengths):
    own = torch.Generator().manual_seed(1)
    return [(torch.randn(length, generator=own) * 3000).short() for length in lengths]


def same(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


# --- what a clip gives


@of_families
def test_a_clip_is_the_same_alone_and_in_a_batch(folders, family):
    encoder = load_speech_encoder(folders[family]).eval()
    encoder.longest = TWO_SECONDS
    clips = clips_of(1, 100, 33_001, 3000, 16_000, 7000, 4999)
    with torch.inference_mode():
        together, alone = encoder(clips), [encoder([clip])[0] for clip in clips]
        halves = encoder([*clips[2].split((16_501, 16_500))])  # it is longer than a window
    step = 640 if family == "sew" else 320
    for clip, own, one in zip(clips, together, alone, strict=True):
        same(own, one)
        assert own.shape[0] == encoder.layers == 3 and own.shape[2] == encoder.width == 32
        windows = math.ceil(len(clip) / TWO_SECONDS)
        assert own.shape[1] == pytest.approx(max(len(clip), 1600) / step, abs=2 * windows)
        same(own.mean(-1), torch.zeros(own.shape[:2]))  # each frame is normalised
        same(own.std(-1, correction=0), torch.ones(own.shape[:2]), 1e-2)
    same(together[2], torch.cat(halves, 1))
    means = torch.stack([layers.mean(1) for layers in alone])
    assert means.std(0).amax(-1).min() > 1e-2  # they differ, in every layer


@of_families
def test_layers_are_those_of_transformers(folders, family):
    """Whisper's own takes a whole window alone. The last layer is behind the final norm."""
    (clip,) = clips_of(TWO_SECONDS if family == "whisper" else 9000)
    model = AutoModel.from_pretrained(folders[family]).eval()
    extract = AutoFeatureExtractor.from_pretrained(folders[family])
    length = {"padding": "do_not_pad"} if family == "whisper" else {}
    inputs = extract(clip.numpy() / 32_768, sampling_rate=16_000, return_tensors="pt", **length)
    inputs.pop("attention_mask", None)
    with torch.inference_mode():
        model = model.encoder if family == "whisper" else model
        output = model(**inputs, output_hidden_states=True)
        (found,) = load_speech_encoder(folders[family]).eval()([clip])
    layers = torch.cat([*output.hidden_states])
    if family != "sew":  # whose last is spread over twice as many frames
        layers[-1] = output.last_hidden_state
    assert (layers[1:] - layers[:-1]).abs().amax((1, 2)).min() > 0.01
    same(found, layer_norm(layers, (32,)), 1e-4)


@pytest.mark.parametrize("samples", [1600, 16_000, 16_159, 24_321])
def test_whispers_spectrogram_is_transformers(folders, samples):
    encoder = load_speech_encoder(folders["whisper"])
    (clip,) = clips_of(samples)
    clip[: samples // 2] //= 1000  # far below the loudest
    extract = AutoFeatureExtractor.from_pretrained(folders["whisper"])
    (expected,) = extract(
        clip.numpy() / 32_768, sampling_rate=16_000, padding="do_not_pad", return_tensors="pt"
    )["input_features"]
    same(encoder.prepare(clip), expected.T, 1e-4)


def test_in_bf16_the_spectrogram_keeps_its_bits(folders):
    encoder, met = load_speech_encoder(folders["whisper"]).eval(), []
    (clip,) = clips_of(8000)
    hook = encoder.encoder.conv1.register_forward_pre_hook(lambda _, given: met.append(given[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (layers,) = encoder([clip])
    hook.remove()
    same(met[0][0].T, encoder.prepare(clip))
    assert layers.isfinite().all()


def test_a_clip_is_normalised_as_its_encoder_was_pretrained(folders, tmp_path):
    (clip,) = clips_of(4000)
    path = Path(save_checkpoint(tmp_path)) / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": False}))
    plain, normalised = (load_speech_encoder(each) for each in (str(tmp_path), folders["wav2vec2"]))
    assert torch.equal(plain.prepare(clip), clip / 32_768)
    same(normalised.prepare(clip), (clip - clip.float().mean()) / clip.float().std(), 1e-3)
    loud = torch.full((2000,), -32_768, dtype=torch.int16)  # no smaller number has a negative
    assert plain.prepare(loud).max() == -1 and normalised.prepare(loud).abs().max() < 1


# --- checkpoints


@pytest.mark.parametrize("family", ["wav2vec2", "w2v-bert", "whisper"])
def test_without_a_preprocessor_its_family_says_what_it_reads(folders, tmp_path, family, capsys):
    encoder = load_speech_encoder(save_checkpoint(tmp_path, family, extractor=False)).eval()
    (said,) = capsys.readouterr().out.splitlines()
    assert f"{tmp_path} has no preprocessor_config.json" in said and "default" in said
    clips = clips_of(4000)
    with torch.inference_mode():
        same(encoder(clips)[0], load_speech_encoder(folders[family]).eval()(clips)[0])
    assert not capsys.readouterr().out  # there it is


def test_what_is_no_speech_encoder_is_refused_in_one_line(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    for name, content in (("emotion2vec", {"model_type": "emotion2vec"}), ("funasr", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    for name in ("bert", "absent", "emotion2vec", "funasr"):
        with pytest.raises(ModelError) as error:
            load_speech_encoder(str(tmp_path / name))
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)
        assert "take openai/whisper-small" in str(error.value)
    save_checkpoint(tmp_path / "rate")
    path = tmp_path / "rate" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling_rate": 8000}))
    with pytest.raises(ModelError, match=r"rate reads 8000 samples a second, .* 16000: [^\n]+$"):
        load_speech_encoder(str(tmp_path / "rate"))


@pytest.mark.parametrize("family", ["wav2vec2 stable", "wavlm", "w2v-bert", "conformer"])
def test_an_adapter_of_a_translator_is_left_out(tmp_path, family):
    folder = save_checkpoint(tmp_path, family, add_adapter=True)
    encoder, clips = load_speech_encoder(folder).eval(), clips_of(16_000, 9000)
    again = speech.build_speech_encoder(encoder.to_json()).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        output = AutoModel.from_pretrained(folder).eval()
        whole = output(encoder.prepare(clips[1])[None], output_hidden_states=True)
        for found in (encoder(clips), again(clips)):
            assert found[0].shape[1] == pytest.approx(49, abs=1)
            same(found[1][1], layer_norm(whole.hidden_states[1][0], (32,)))


def test_missing_weights_are_refused(tmp_path):
    save_checkpoint(tmp_path)
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    save_file({n: w for n, w in weights.items() if "layers.1.attention" not in n}, path)
    with pytest.raises(ModelError, match="8 weights are missing from "):
        load_speech_encoder(str(tmp_path))


# --- training


def classifier_of(encoder, dropout=0.0):
    torch.manual_seed(0)
    units = torch.rand(2, 2 * encoder.layers * encoder.width) + 0.5
    model = SpeechClassifier(encoder.layers, encoder.width, dropout, encoder, units).eval()
    model.layer_weights.data.normal_()
    return model


def logits_of(model, clips, padding=77):
    samples = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=padding)
    return model(samples, torch.tensor([len(clip) for clip in clips]))


@of_families
def test_an_encoder_is_built_from_its_configuration(folders, family):
    encoder, clips = load_speech_encoder(folders[family]).eval(), clips_of(4000, 2000)
    again = build_speech_encoder(json.loads(json.dumps(encoder.to_json()))).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        for one, other in zip(encoder(clips), again(clips), strict=True):
            assert torch.equal(one, other)
        model = classifier_of(encoder)
        assert torch.equal(logits_of(model, clips), logits_of(model, clips, padding=-9))


@pytest.mark.parametrize(
    ("family", "large"),
    [*((name, False) for name in FAMILIES), ("hubert", True), ("whisper", True)],
)
def test_every_layer_hears_every_frame_while_it_is_trained(tmp_path, family, large, monkeypatch):
    """Dropped layers and masked frames are pretraining's; without dropout nothing is random.

    large: the layers are computed again for the gradient.
    """
    monkeypatch.setattr(speech, "LARGE", 1 if large else 1e12)
    changes = dict.fromkeys(DROPOUTS, 0.0) | {"layerdrop": 1.0, "mask_time_prob": 0.9}
    changes |= {"mask_time_length": 2, "conformer_conv_dropout": 0.0}
    if family == "whisper":
        changes = {"encoder_layerdrop": 1.0}
    encoder = load_speech_encoder(save_checkpoint(tmp_path, family, **changes))
    encoder.begin_training(0)
    clips = clips_of(3000, 7000)
    whole, learning = encoder.eval()(clips), encoder.train()(clips)
    for one, other in zip(whole, learning, strict=True):
        same(one, other)
        assert (one[1:] - one[:-1]).abs().amax((1, 2)).min() > 1e-3  # no layer is passed over
    (torch.cat(learning, 1) ** 3).sum().backward()
    gradients = {n: p.grad for n, p in encoder.named_parameters() if p.requires_grad}
    assert len(gradients) > 30 and not [n for n, grad in gradients.items() if grad is None]
    assert all(grad.isfinite().all() for grad in gradients.values())


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_positions_that_are_kept_can_be_trained_with(tmp_path, positions):
    from common.encoding import encode

    changes = {"position_embeddings_type": positions, "max_source_positions": 5}
    encoder = load_speech_encoder(save_checkpoint(tmp_path, "conformer", **changes))
    (clip,) = clips_of(7000)
    encode(encoder, [clip.numpy()], 10)
    encoder.train()([clip])[0].square().sum().backward()


@of_families
def test_adapters_learn_alone_and_are_merged_into_the_weights(folders, family, monkeypatch):
    monkeypatch.setattr(speech, "LARGE", 1)  # layers are computed again for the gradient
    encoder, clips = load_speech_encoder(folders[family]), clips_of(4000, 2000)
    config = encoder.to_json()
    encoder.begin_training(4)
    model = classifier_of(encoder)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1.0)
    for _ in range(2):  # half of an adapter begins at 0, and lets no gradient through
        optimizer.zero_grad()
        (logits_of(model.train(), clips) ** 3).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    moved = {n for n, weight in model.state_dict().items() if not torch.equal(weight, before[n])}
    adapters = {name for name in before if "lora_" in name}
    layers = 4 if family in ("conformer", "w2v-bert") else 2  # of each block, A and B of each
    assert len(adapters) == 2 * layers * 2
    assert moved == adapters | {"layer_weights", "classifier.weight", "classifier.bias"}
    with torch.inference_mode():
        expected = logits_of(model.eval(), clips)
        encoder.merge_adapters()
        same(logits_of(model, clips), expected, 1e-4)
        again = build_speech_encoder(config)
        again.load_state_dict(encoder.state_dict())
        model.encoder = again.eval()
        same(logits_of(model, clips), expected, 1e-4)


# --- the classifier


def test_what_is_pooled_is_mean_and_deviation_in_units_of_the_corpus(folders):
    encoder, clips = load_speech_encoder(folders["hubert"]).eval(), clips_of(4000, 9000)
    mean, std = (torch.rand(2, 3, 32) + 0.5 for _ in range(2))
    torch.manual_seed(0)
    model = SpeechClassifier(3, 32, 0.0, encoder, torch.stack([mean, std])).eval()
    with torch.inference_mode():
        layers = encoder(clips)
        pooled = torch.stack([torch.stack([x.mean(1), x.std(1, correction=0)]) for x in layers])
        same(logits_of(model, clips), model(pooled=(pooled - mean) / std))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_layers_are_weighed_and_drop_out_before_the_classifier(share):
    model, pooled = SpeechClassifier(3, 32, share).eval(), torch.randn(32, 2, 3, 32)
    model.layer_weights.data = torch.tensor([0.5, 0.25, 0.25]).log() + 3.0
    weighed = pooled * torch.tensor([0.5, 0.25, 0.25])[:, None] * 3**0.5
    same(model(pooled=pooled), model.classifier(weighed.flatten(1)))
    same(SpeechClassifier(3, 32).layer_weights.softmax(0) * 3, torch.ones(3))  # alike at first
    dropped = share_dropped(model, model.classifier, lambda: model(pooled=pooled))
    assert dropped == pytest.approx(share, abs=0.05)
