"""ModifiedAlexNet against the paper's layer table, and a batch against each clip alone."""

import pytest
import torch
from dropout import share_dropped
from torch import nn

from models.alexnet import MIN_FRAMES, ModifiedAlexNet, PaperAlexNet, recompute_batch_norm

TABLE = [  # in, out, kernel, stride, padding
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
]


def paper_network() -> tuple[nn.Sequential, nn.Linear]:
    """The published network, written from its description alone."""
    maps = nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
    )
    return maps, nn.Linear(256, 7)


def built(kind: str) -> nn.Module:
    """Random weights; norms with offsets and the statistics of a batch, as trained ones have."""
    torch.manual_seed(0)
    model = PaperAlexNet() if kind == "paper" else ModifiedAlexNet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0, 0.1)
    batch = {"features": torch.randn(4, 3, 100, 64), "frame_counts": torch.tensor([100] * 4)}
    recompute_batch_norm(model, [batch])
    return model.eval()


def batch_of(clips, filler=0.0):
    """Clips (C, T, F) in one batch, `filler` after each clip's end, and their frame counts."""
    longest = max(clip.shape[1] for clip in clips)
    batch = torch.full((len(clips), len(clips[0]), longest, clips[0].shape[2]), float(filler))
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    return batch, torch.tensor([clip.shape[1] for clip in clips])


def logits(model, clips, filler=0.0):
    """Logits of clips (3, T, F) in one batch, `filler` after each clip's end."""
    with torch.inference_mode():
        return model(*batch_of(clips, filler))


def clips_of(*lengths, bins=64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, length, bins, generator=generator) for length in lengths]


def test_paper_layer_table():
    model = PaperAlexNet()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [
        (c.in_channels, c.out_channels, *c.kernel_size, *c.stride, *c.padding) for c in convolutions
    ] == [(i, o, k, k, s, s, p, p) for i, o, k, s, p in TABLE]
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_471_495
    shapes = []
    for convolution in convolutions:
        convolution.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:])))
    maps, counts = model.convolutions(torch.zeros(1, 3, 100, 321), torch.tensor([100]))
    # (100 + 2 * 2 - 11) // 4 + 1 = 24, pooled (24 - 3) // 2 + 1 = 11, pooled 5, pooled 2;
    # (321 + 2 * 2 - 11) // 4 + 1 = 79, pooled 39, pooled 19, pooled 9
    assert shapes == [(64, 24, 79), (192, 11, 39), (384, 5, 19), (256, 5, 19), (256, 5, 19)]
    assert maps.shape == (1, 256, 2, 9)
    assert counts.tolist() == [2]


@pytest.mark.parametrize("frames", [63, 100, 151])
def test_sum_pooling_equals_the_published_network(frames):
    model, (maps, classifier) = built("paper"), paper_network()
    theirs = [m for m in maps if isinstance(m, nn.Conv2d)] + [classifier]
    ours = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for target, source in zip(ours, theirs, strict=True):
        target.load_state_dict(source.state_dict())
    clips = clips_of(frames, frames, bins=321)
    with torch.inference_mode():
        expected = classifier(maps(torch.stack(clips)).sum((2, 3)))
    torch.testing.assert_close(logits(model, clips), expected, atol=1e-5, rtol=1e-5)


def test_shortest_input_that_passes():
    maps, _ = paper_network()
    assert MIN_FRAMES == 63
    assert maps(torch.zeros(1, 3, 63, 321)).shape[2] == 1
    with pytest.raises(RuntimeError):
        maps(torch.zeros(1, 3, 62, 321))


@pytest.mark.parametrize("frames", [1, 62])
def test_a_shorter_clip_is_silence_from_there_on(frames):
    model, (clip,) = built("paper"), clips_of(frames)
    padded = torch.cat([clip, torch.zeros(3, 63 - frames, 64)], 1)
    assert logits(model, [clip]).isfinite().all()
    torch.testing.assert_close(logits(model, [clip]), logits(model, [padded]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["paper", "ours"])
def test_a_batch_gives_what_each_clip_gives_alone(pooling):
    model = built(pooling)
    clips = clips_of(1, 40, 63, 64, 97, 150, 301)
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    assert alone.std(0).max() > 1e-3  # the clips do differ
    for filler in (0, 1000):
        together = logits(model, clips, filler)
        assert (together - alone).abs().max() < 1e-4
    order = torch.tensor([3, 6, 0, 2, 5, 1, 4])
    shuffled = logits(model, [clips[i] for i in order], filler=-1000)
    assert (shuffled - alone[order]).abs().max() < 1e-4
    pair = logits(model, [clips[4], clips[1]], filler=1000)
    assert (pair - alone[[4, 1]]).abs().max() < 1e-4


@pytest.mark.parametrize("pooling", ["paper", "ours"])
def test_a_batch_of_equal_lengths_is_closer_still(pooling):
    model, clips = built(pooling), clips_of(*[120] * 5)
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    assert (logits(model, clips) - alone).abs().max() < 1e-5


@pytest.mark.parametrize("pooling", ["paper", "ours"])
def test_the_longest_clip_beside_the_shortest(pooling):
    model = built(pooling)
    clips = clips_of(17, 4875)  # 0.3 s and 78 s at 16 ms a frame
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    together = logits(model, clips, filler=1000)
    assert alone.isfinite().all()
    # The sum's logits grow with the clip: their rounding too.
    assert ((together - alone).abs() / alone.abs().clamp(min=1)).max() < 1e-4


def test_repaired_pooling_does_not_grow_with_the_clip():
    clip = clips_of(400)[0]
    scale = {}
    for pooling in ("paper", "ours"):
        model = built(pooling)
        model.classifier.bias.data.zero_()
        long, short = logits(model, [clip.repeat(1, 4, 1)]), logits(model, [clip])
        scale[pooling] = (long.norm() / short.norm()).item()
    assert scale["paper"] == pytest.approx(4, rel=0.15)
    assert scale["ours"] == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("pooling", ["paper", "ours"])
def test_padding_sends_no_gradient(pooling):
    model = built(pooling)
    features = torch.randn(2, 3, 200, 64, generator=torch.Generator().manual_seed(0))
    features.requires_grad_()
    model(features, torch.tensor([200, 90])).sum().backward()
    assert features.grad[1, :, :90].any()
    assert not features.grad[1, :, 90:].any()


@pytest.mark.parametrize("pooling", ["paper", "ours"])
def test_dropout_is_before_the_classifier_and_for_learning_alone(pooling):
    for share in (0.0, 0.5):
        torch.manual_seed(0)
        kinds = {"paper": PaperAlexNet, "ours": ModifiedAlexNet}
        model, batch = kinds[pooling](dropout=share), batch_of(clips_of(*[90] * 8))
        dropped = share_dropped(model, model.classifier, lambda m=model, b=batch: m(*b))
        assert dropped == pytest.approx(share, abs=0.06)


def test_the_logits_of_several_tempos_are_averaged():
    model, clips = built("ours"), clips_of(90, 60, 80, 50)  # two utterances, each at two tempos
    each = logits(model, clips)
    model.tempos = (1.0, 1.2)
    torch.testing.assert_close(logits(model, clips), (each[:2] + each[2:]) / 2)


def test_averages_are_those_of_the_batches_whatever_they_were():
    """Each layer hears the others normalised by the batch itself; the mode is left as it was."""
    model, heard = ModifiedAlexNet().eval(), [[] for _ in range(5)]
    for maps, norm in zip(heard, model.convolutions.norms, strict=True):
        nn.init.constant_(norm.running_mean, 99)
        norm.register_forward_pre_hook(lambda _, given, maps=maps: maps.append(given[0]))
    batches = [batch_of(clips_of(*lengths)) for lengths in ([50, 50], [64, 64, 64], [40])]
    names = ("features", "frame_counts")
    recompute_batch_norm(model, (dict(zip(names, batch, strict=True)) for batch in batches))
    assert not model.training
    for maps, norm in zip(heard, model.convolutions.norms, strict=True):
        means = sum(batch.mean((0, 2, 3)) for batch in maps) / 3
        variances = sum(batch.var((0, 2, 3)) for batch in maps) / 3
        torch.testing.assert_close(norm.running_mean, means, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, variances, atol=1e-5, rtol=1e-4)
        assert norm.momentum == 0.1
