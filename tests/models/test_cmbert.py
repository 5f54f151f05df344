"""CM-BERT against its equations in a plain loop, and an utterance against its batch mates."""

import pytest
import torch
from dropout import share_dropped

from models.cmbert import CMBERT, MaskedMultimodalAttention, build_cmbert
from models.kobert import load_encoder

CONFIG = {"width": 12, "projection": 30, "scale": "utterance", "voice": "values", "pooling": "mean"}
of_voices = pytest.mark.parametrize("voice", ["weights", "values"])
of_poolings = pytest.mark.parametrize("pooling", ["cls", "mean"])


def build(bert, *dropout, **changes):
    torch.manual_seed(0)
    model = CMBERT(load_encoder(str(bert)), CONFIG | changes, *dropout).eval()
    unit = model.attention
    assert [w.item() for w in (unit.text_weight, unit.audio_weight, unit.bias)] == [1, 1, 0]
    with torch.no_grad():  # away from there, where mistakes would cancel
        unit.text_weight.fill_(0.7), unit.audio_weight.fill_(1.4), unit.bias.fill_(0.3)
        model.norm.weight.uniform_(0.5, 1.5), model.norm.bias.uniform_(-0.5, 0.5)
    return model


def batch_of(*lengths, padded_to=0, filler=0.0, padding=1):
    """Token ids (B, L), mask, audio: zero at [CLS] and [SEP], `filler` in the padding."""
    longest = max(padded_to, *lengths)
    ids = torch.full((len(lengths), longest), padding)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    audio = torch.full((len(lengths), longest, CONFIG["width"]), filler)
    for row, length in enumerate(lengths):
        own = torch.Generator().manual_seed(row)
        ids[row, :length] = torch.randint(5, 60, (length,), generator=own)
        audio[row, :length] = torch.randn(length, CONFIG["width"], generator=own)
        audio[row, [0, length - 1]] = 0
    return {"input_ids": ids, "attention_mask": mask.long(), "audio": audio}


def run(model, batch):
    with torch.inference_mode():
        return model(**batch)


def alone(model, batch):
    """Logits of every utterance by itself, its padding removed."""
    rows = enumerate(batch["attention_mask"].sum(1))
    single = [{k: t[row : row + 1, :count] for k, t in batch.items()} for row, count in rows]
    return torch.cat([run(model, each) for each in single])


@torch.no_grad()
def reference(model, hidden, audio, mask):
    """Logits (B, 7) by the equations, one utterance and one token at a time."""
    unit, logits = model.attention, []
    texts, voices = unit.project_text(hidden), unit.project_audio(audio)
    if unit.scale == "batch":  # as published: text alone, padding and neighbours included
        texts = texts / texts.norm().sqrt()
    for m, *row in zip(mask.bool(), hidden, audio, texts, voices, strict=True):
        h, a, text, voice = (each[m] for each in row)
        if unit.scale == "utterance":
            text, voice = text / text.norm().sqrt(), voice / voice.norm().sqrt()
        values, fused = h + unit.voice_values(a) if unit.voice == "values" else h, []
        for own, t, v in zip(h, text, voice, strict=True):
            mixed = 0.7 * (text @ t).relu() + 1.4 * (voice @ v).relu() + 0.3
            fused.append(model.norm(model.dense(mixed.softmax(0) @ values + own)))
        mean = torch.stack(fused).mean(0)
        logits.append(model.classifier(mean if model.pooling == "mean" else fused[0]))
    return torch.stack(logits)


@of_poolings
@of_voices
@pytest.mark.parametrize("scale", ["utterance", "batch"])
def test_logits_are_those_of_a_plain_loop(bert, scale, voice, pooling):
    model = build(bert, scale=scale, voice=voice, pooling=pooling)
    batch = batch_of(9, 4, 12, filler=5.0)
    with torch.inference_mode():
        hidden = model.encoder(batch["input_ids"], batch["attention_mask"])[0]
        logits, maps = model.explain(**batch)
    expected = reference(model, hidden, batch["audio"], batch["attention_mask"])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    own = batch["attention_mask"].bool()
    assert not maps["fused"][own[:, :, None] & ~own[:, None]].any()  # nobody attends to padding
    beta = maps["audio"][1]  # zero vectors at [CLS] and [SEP] are similar to nothing
    assert not beta[[0, 3]].any() and not beta[:, [0, 3]].any() and beta[1].any()


def test_published_norm_passes_no_gradient(bert):
    """The published code holds it constant: alpha grows with the square of the projection."""
    unit = build(bert, scale="batch").attention
    hidden, audio = torch.randn(2, 5, 32), torch.randn(2, 5, 12)
    alpha = unit(hidden, audio, torch.ones(2, 5))[1]["text"].sum()
    alpha.backward()
    weight = unit.project_text.weight
    torch.testing.assert_close((weight.grad * weight).sum(), 2 * alpha)


@of_poolings
@of_voices
def test_an_utterance_is_independent_of_its_batch(bert, voice, pooling):
    model, batch = build(bert, voice=voice, pooling=pooling), batch_of(3, 9, 4, 12, 7)
    expected, order = alone(model, batch), torch.tensor([4, 0, 3, 1, 2])
    garbage = batch_of(3, 9, 4, 12, 7, padded_to=30, filler=100.0, padding=41)
    shuffled = run(model, {name: tensor[order] for name, tensor in batch.items()})
    assert expected.std(0).max() > 1e-2 and (shuffled - expected[order]).abs().max() < 1e-4
    for same in (batch, garbage):
        assert (run(model, same) - expected).abs().max() < 1e-4
    published = build(bert, scale="batch", voice=voice, pooling=pooling)
    published.attention.text_weight.data.fill_(20.0)  # trained encoders have far larger norms
    assert (run(published, batch) - alone(published, batch)).abs().max() > 1e-3


@of_poolings
@of_voices
def test_the_voice_is_heard_but_by_the_published_unit_while_cls_is_silent(bert, voice, pooling):
    """[CLS] alone is classified, and its row of beta is ReLU(0): no other token's voice counts."""
    model, batch = build(bert, voice=voice, pooling=pooling), batch_of(6, 6)
    other = batch | {"audio": batch["audio"].flip(0)}
    difference = (run(model, batch) - run(model, other)).abs().max()
    silent = batch | {"audio": torch.zeros_like(batch["audio"])}
    assert run(model, silent).isfinite().all()  # no division by zero
    assert difference == 0 if (voice, pooling) == ("weights", "cls") else difference > 1e-4


def test_dropout_of_attention_drops_whole_weights_and_makes_up_for_them():
    unit = MaskedMultimodalAttention(40, CONFIG | {"voice": "weights"}, 0.5)
    values, audio = torch.eye(40).expand(8, 40, 40), torch.randn(8, 40, 12)
    attended, maps = unit(values, audio, torch.ones(8, 40))  # the weights themselves
    kept = attended != 0
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(attended[kept], 2 * maps["fused"][kept])


@of_voices
def test_a_speech_encoders_layers_are_weighed_and_the_weights_learn(bert, voice):
    """Three layers of four columns; a layer of no weight is not heard."""
    layers = {"width": 4, "layers": 3, "layer_scale": 0.2}
    model, batch = build(bert, voice=voice, **layers), batch_of(3, 9, 4, 12, 7, filler=5.0)
    with torch.no_grad():
        model.layer_weights.copy_(torch.tensor([0.7, 0.3, 1e-9]).log())
    expected, plain = alone(model, batch), build(bert, voice=voice)
    assert (run(model, batch) - expected).abs().max() < 1e-4 and expected.std(0).max() > 1e-2
    scales = torch.tensor([0.7, 0.3, 0.0]).repeat_interleave(4) * 3**0.5 * 0.2
    weighed = batch | {"audio": batch["audio"] * scales}
    assert (run(plain, weighed) - run(model, batch)).abs().max() < 1e-4
    columns = torch.arange(12) // 4
    heard = [
        (run(model, batch | {"audio": batch["audio"] * (columns != n)}) - expected).abs().max()
        for n in range(3)
    ]
    assert heard[0] > 1e-4 and heard[1] > 1e-5 and heard[2] < 1e-6
    model(**batch).square().sum().backward()
    assert model.layer_weights.grad[:2].abs().min() > 1e-7
    again = build_cmbert(
        CONFIG | layers | {"voice": voice, "encoder": model.encoder.config.to_dict()}
    ).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(run(again, batch), run(model, batch))


@pytest.mark.parametrize("layer", ["norm", "classifier"])
def test_dropout_is_before_the_norm_and_the_classifier_and_for_learning_alone(bert, layer):
    model, batch = build(bert, 0.2, 0.4), batch_of(*[9] * 16)
    dropped = share_dropped(model, getattr(model, layer), lambda: model(**batch))
    assert dropped == pytest.approx(0.4, abs=0.06)
