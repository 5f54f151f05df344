"""CM-BERT against its equations in plain numpy, and an utterance against its batch mates."""

import numpy as np
import pytest
import torch
from dropout import share_dropped
from scipy.special import erf
from torch import nn

from common.training import parameter_groups
from models.cmbert import CMBERT, PROJECTION, MaskedMultimodalAttention
from models.kobert import load_encoder

AUDIO_WIDTH = 12


def configure(**changes):
    config = {"width": AUDIO_WIDTH, "projection": PROJECTION, "scale": "utterance"}
    return config | {"voice": "weights", "pooling": "cls"} | changes


def build(bert, scale="utterance", voice="weights", pooling="cls"):
    torch.manual_seed(0)
    config = configure(scale=scale, voice=voice, pooling=pooling)
    model = CMBERT(load_encoder(str(bert)), config).eval()
    with torch.no_grad():  # away from 1, 1, 0, where mistakes would cancel
        model.attention.text_weight.fill_(0.7)
        model.attention.audio_weight.fill_(1.4)
        model.attention.bias.fill_(0.3)
        model.norm.weight.uniform_(0.5, 1.5)
        model.norm.bias.uniform_(-0.5, 0.5)
    return model


def batch_of(*lengths, seed=0, padded_to=0, filler=0.0):
    """Token ids (B, L), mask, audio: zero at [CLS] and [SEP], `filler` in the padding."""
    longest = max(padded_to, *lengths)
    ids = torch.ones(len(lengths), longest, dtype=torch.long)
    mask = torch.zeros(len(lengths), longest, dtype=torch.long)
    audio = torch.full((len(lengths), longest, AUDIO_WIDTH), filler)
    for row, length in enumerate(lengths):
        own = torch.Generator().manual_seed(100 * seed + row)
        ids[row, :length] = torch.randint(5, 60, (length,), generator=own)
        ids[row, 0], ids[row, length - 1] = 2, 3
        mask[row, :length] = 1
        audio[row, :length] = torch.randn(length, AUDIO_WIDTH, generator=own)
        audio[row, [0, length - 1]] = 0
    return {"input_ids": ids, "attention_mask": mask, "audio": audio}


def run(model, batch):
    with torch.inference_mode():
        return model(**batch)


def alone(model, batch):
    """Logits of every utterance by itself, its padding removed."""
    rows = []
    for row, length in enumerate(batch["attention_mask"].sum(1)):
        rows.append(run(model, {name: t[row : row + 1, :length] for name, t in batch.items()}))
    return torch.cat(rows)


# --- the equations


def linear(layer, x):
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return x @ layer.weight.detach().numpy().T + bias


def reference(model, hidden, audio, mask):
    """Logits (B, 7) by the equations, one utterance and one token at a time."""
    unit, scale = model.attention, model.attention.scale
    text, voice = linear(unit.project_text, hidden), linear(unit.project_audio, audio)
    if scale == "batch":  # as published: text alone, padding and neighbours included
        text = text / np.sqrt(np.sqrt((text**2).sum()))
    logits = []
    for h, a, x_t, x_a, m in zip(hidden, audio, text, voice, mask, strict=True):
        if scale == "utterance":
            x_t = x_t / np.sqrt(np.sqrt((x_t[m == 1] ** 2).sum()))
            x_a = x_a / np.sqrt(np.sqrt((x_a[m == 1] ** 2).sum()))
        alpha, beta = np.maximum(x_t @ x_t.T, 0), np.maximum(x_a @ x_a.T, 0)
        mixed = unit.text_weight.item() * alpha + unit.audio_weight.item() * beta
        mixed = mixed + unit.bias.item()
        masked = np.where(m == 1, 0.0, -10000.0)
        mixed = mixed + masked[None, :] + masked[:, None]
        weights = np.exp(mixed - mixed.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        values = h
        if unit.voice == "values":  # the voice itself, by two layers with a GELU between
            first, _, second = unit.voice_values
            inner = linear(first, a)
            values = h + linear(second, inner * (1 + erf(inner / np.sqrt(2))) / 2)
        out = linear(model.dense, weights @ values + h)
        out = (out - out.mean(1, keepdims=True)) / np.sqrt(out.var(1, keepdims=True) + 1e-5)
        out = out * model.norm.weight.detach().numpy() + model.norm.bias.detach().numpy()
        utterance = out[m == 1].mean(0) if model.pooling == "mean" else out[0]
        logits.append(linear(model.classifier, utterance))
    return np.array(logits)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("voice", ["weights", "values"])
@pytest.mark.parametrize("scale", ["utterance", "batch"])
def test_forward_equals_the_equations(bert, scale, voice, pooling):
    model, batch = build(bert, scale, voice, pooling), batch_of(9, 4, 12)
    with torch.inference_mode():
        hidden = model.encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    expected = reference(
        model, hidden.numpy(), batch["audio"].numpy(), batch["attention_mask"].numpy()
    )
    np.testing.assert_allclose(run(model, batch).numpy(), expected, atol=1e-5)


def test_projections_are_thirty_wide_and_the_scalars_start_at_1_1_0(bert):
    unit = CMBERT(load_encoder(str(bert)), configure(scale="batch")).attention
    assert unit.project_text.weight.shape == (30, 32)
    assert unit.project_audio.weight.shape == (30, AUDIO_WIDTH)
    assert unit.project_text.bias is None
    assert unit.project_audio.bias is None
    assert [w.item() for w in (unit.text_weight, unit.audio_weight, unit.bias)] == [1, 1, 0]


def test_published_norm_passes_no_gradient(bert):
    """Backward through text / sqrt(norm): the published code holds the norm constant."""
    unit = build(bert, "batch").attention
    torch.manual_seed(1)
    hidden, audio = torch.randn(2, 5, 32), torch.randn(2, 5, AUDIO_WIDTH)
    target = torch.randn(2, 5, 32)
    attended, _ = unit(hidden, audio, torch.ones(2, 5, dtype=torch.long))
    (attended * target).sum().backward()
    weight = unit.project_text.weight.detach().clone().requires_grad_()
    norm = (hidden @ weight.T).norm().item() ** 0.5
    text, voice = hidden @ weight.T / norm, unit.project_audio(audio)
    mixed = 0.7 * (text @ text.mT).relu() + 1.4 * (voice @ voice.mT).relu() + 0.3
    (mixed.softmax(2) @ hidden * target).sum().backward()
    torch.testing.assert_close(unit.project_text.weight.grad, weight.grad, atol=1e-5, rtol=1e-4)


def test_maps_of_an_explained_utterance(bert):
    model, batch = build(bert), batch_of(9, 4, 12, filler=50.0)
    with torch.inference_mode():
        logits, maps = model.explain(**batch)
    torch.testing.assert_close(logits, run(model, batch))
    assert all(part.shape == (3, 12, 12) for part in maps.values())
    fused, real = maps["fused"], batch["attention_mask"].bool()
    torch.testing.assert_close(fused.sum(2), torch.ones(3, 12))
    for row in range(3):
        assert not fused[row][real[row]][:, ~real[row]].any()  # no token attends to padding
    beta = maps["audio"][1]  # zero vectors at [CLS] and [SEP] are similar to nothing
    assert not beta[[0, 3]].any()
    assert not beta[:, [0, 3]].any()


# --- batch mates


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("voice", ["weights", "values"])
def test_an_utterance_is_independent_of_its_batch(bert, voice, pooling):
    model, batch = build(bert, voice=voice, pooling=pooling), batch_of(3, 9, 4, 12, 7)
    expected = alone(model, batch)
    assert expected.std(0).max() > 1e-2
    assert (run(model, batch) - expected).abs().max() < 1e-4
    garbage = batch_of(3, 9, 4, 12, 7, padded_to=30, filler=100.0)
    garbage["input_ids"][garbage["attention_mask"] == 0] = 41
    assert (run(model, garbage) - expected).abs().max() < 1e-4
    order = torch.tensor([4, 0, 3, 1, 2])
    shuffled = run(model, {name: tensor[order] for name, tensor in batch.items()})
    assert (shuffled - expected[order]).abs().max() < 1e-4


@pytest.mark.parametrize("voice", ["weights", "values"])
def test_equal_lengths_are_closer_still(bert, voice):
    model, batch = build(bert, voice=voice), batch_of(8, 8, 8, 8)
    assert (run(model, batch) - alone(model, batch)).abs().max() < 1e-5


def test_the_published_scale_depends_on_batch_mates_and_padding(bert):
    model, batch = build(bert, "batch"), batch_of(8, 8, 8, 8)
    model.attention.text_weight.data.fill_(20.0)  # trained encoders have far larger norms
    assert (run(model, batch) - alone(model, batch)).abs().max() > 1e-3
    repaired = build(bert, "utterance")
    repaired.attention.text_weight.data.fill_(20.0)
    assert (run(repaired, batch) - alone(repaired, batch)).abs().max() < 1e-5


def test_silence_throughout_is_no_division_by_zero(bert):
    for scale in ("utterance", "batch"):
        for voice in ("weights", "values"):
            model, batch = build(bert, scale, voice), batch_of(5, 3)
            batch["audio"].zero_()
            assert run(model, batch).isfinite().all()
            model.train()
            model(**batch).sum().backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_voice_reaches_the_logits_through_the_values(bert):
    model, batch = build(bert, voice="values"), batch_of(6, 6)
    other = {**batch, "audio": batch["audio"].flip(0)}
    assert (run(model, batch) - run(model, other)).abs().max() > 1e-3


def test_the_published_unit_hears_nothing_while_cls_is_silent(bert):
    """[CLS] alone is classified, and its row of beta is ReLU(0): no other token's voice counts."""
    model, batch = build(bert, voice="weights"), batch_of(6, 6)
    other = {**batch, "audio": batch["audio"].flip(0)}
    assert torch.equal(run(model, batch), run(model, other))
    repaired = build(bert, voice="weights", pooling="mean")
    assert (run(repaired, batch) - run(repaired, other)).abs().max() > 1e-4
    batch["audio"][:, 0] = other["audio"][:, 0] = batch["audio"][:, 1]
    assert (run(model, batch) - run(model, other)).abs().max() > 1e-4


# --- what is trained, and how fast


def test_groups_cover_what_is_trained_once(bert):
    model = build(bert, voice="values")
    groups = parameter_groups(model, {"encoder": 2e-5, "": 0.01}, 0.01)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert (
        len(grouped)
        == len({id(p) for p in grouped})
        == len([p for p in model.parameters() if p.requires_grad])
    )
    settings = {id(p): (g["initial_lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    for name, parameter in trained:
        is_norm = "LayerNorm" in name or name.startswith("norm.")
        assert settings[id(parameter)] == (
            2e-5 if name.startswith("encoder.") else 0.01,
            0.0 if is_norm or name.endswith("bias") else 0.01,
        ), name


def test_paper_freezing_leaves_embeddings_and_classifier_out(bert):
    model = build(bert, "batch")
    frozen = ("encoder.embeddings", "classifier")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not name.startswith(frozen)
    groups = parameter_groups(model, {"encoder": 2e-5, "": 0.01}, 0.01)
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    left_out = {n.split(".")[0] for n, p in model.named_parameters() if id(p) not in grouped}
    assert left_out == {"encoder", "classifier"}
    kept = [n for n, p in model.named_parameters() if id(p) in grouped]
    assert not any(name.startswith(frozen) for name in kept)
    assert any(name.startswith("encoder.encoder.layer.0") for name in kept)
    assert isinstance(model.classifier, nn.Linear)
    assert model.classifier.out_features == 7


# --- dropout


def test_dropout_of_attention_drops_whole_weights_and_makes_up_for_them():
    """Over values that are the unit vectors, what is attended to is the weights themselves."""
    torch.manual_seed(0)
    unit = MaskedMultimodalAttention(40, configure(), 0.5)
    hidden, audio = torch.eye(40).expand(8, 40, 40), torch.randn(8, 40, AUDIO_WIDTH)
    with torch.no_grad():
        whole, maps = unit.eval()(hidden, audio, torch.ones(8, 40, dtype=torch.long))
        dropped, _ = unit.train()(hidden, audio, torch.ones(8, 40, dtype=torch.long))
    torch.testing.assert_close(whole, maps["fused"])
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


@pytest.mark.parametrize("layer", ["norm", "classifier"])
def test_dropout_is_before_the_norm_and_the_classifier_and_for_learning_alone(bert, layer):
    batch = batch_of(*[9] * 16)
    for share in (0.0, 0.4):
        model = CMBERT(load_encoder(str(bert)), configure(), attention_dropout=0.2, dropout=share)
        dropped = share_dropped(model, getattr(model, layer), lambda m=model: m(**batch))
        assert dropped == pytest.approx(share, abs=0.06)
