"""ModifiedAlexNet against the paper's layer table, and a batch against each clip alone."""

import pytest
import torch
from dropout import share_dropped
from torch import nn

from models.alexnet import AlexNetConfig, MaskedBatchNorm, ModifiedAlexNet, TwoVoices

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


def built(pooling: str, **constants) -> ModifiedAlexNet:
    """Random weights; norms with offsets and the statistics of a batch, as trained ones have."""
    torch.manual_seed(0)
    model = ModifiedAlexNet(pooling, config=AlexNetConfig(**constants))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0, 0.1)
    if not model.is_paper:
        model.settle([(torch.randn(4, 3, 100, 64), torch.tensor([100] * 4))], 1)
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
    model = ModifiedAlexNet("sum")
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [
        (c.in_channels, c.out_channels, *c.kernel_size, *c.stride, *c.padding) for c in convolutions
    ] == [(i, o, k, k, s, s, p, p) for i, o, k, s, p in TABLE]
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_471_495
    shapes = []
    for convolution in convolutions:
        convolution.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:])))
    ((maps, counts),) = model.convolve([(torch.zeros(1, 3, 100, 321), torch.tensor([100]))])
    # (100 + 2 * 2 - 11) // 4 + 1 = 24, pooled (24 - 3) // 2 + 1 = 11, pooled 5, pooled 2;
    # (321 + 2 * 2 - 11) // 4 + 1 = 79, pooled 39, pooled 19, pooled 9
    assert shapes == [(64, 24, 79), (192, 11, 39), (384, 5, 19), (256, 5, 19), (256, 5, 19)]
    assert maps.shape == (1, 256, 2, 9)
    assert counts.tolist() == [2]


def test_default_setting_has_the_same_convolutions():
    paper, default = ModifiedAlexNet("sum"), ModifiedAlexNet("statistics")
    shapes = [
        [module.weight.shape for module in model.modules() if isinstance(module, nn.Conv2d)]
        for model in (paper, default)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("frames", [63, 100, 151])
def test_sum_pooling_equals_the_published_network(frames):
    model, (maps, classifier) = built("sum"), paper_network()
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
    assert AlexNetConfig.min_frames == 63
    assert maps(torch.zeros(1, 3, 63, 321)).shape[2] == 1
    with pytest.raises(RuntimeError):
        maps(torch.zeros(1, 3, 62, 321))


@pytest.mark.parametrize("frames", [1, 62])
def test_a_shorter_clip_is_silence_from_there_on(frames):
    model, (clip,) = built("sum"), clips_of(frames)
    padded = torch.cat([clip, torch.zeros(3, 63 - frames, 64)], 1)
    assert logits(model, [clip]).isfinite().all()
    torch.testing.assert_close(logits(model, [clip]), logits(model, [padded]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["sum", "statistics"])
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


@pytest.mark.parametrize("pooling", ["sum", "statistics"])
def test_a_batch_of_equal_lengths_is_closer_still(pooling):
    model, clips = built(pooling), clips_of(*[120] * 5)
    alone = torch.cat([logits(model, [clip]) for clip in clips])
    assert (logits(model, clips) - alone).abs().max() < 1e-5


@pytest.mark.parametrize("pooling", ["sum", "statistics"])
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
    for pooling in ("sum", "statistics"):
        model = built(pooling)
        model.classifier.bias.data.zero_()
        long, short = logits(model, [clip.repeat(1, 4, 1)]), logits(model, [clip])
        scale[pooling] = (long.norm() / short.norm()).item()
    assert scale["sum"] == pytest.approx(4, rel=0.15)
    assert scale["statistics"] == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("pooling", ["sum", "statistics"])
def test_padding_sends_no_gradient(pooling):
    model = built(pooling)
    features = torch.randn(2, 3, 200, 64, generator=torch.Generator().manual_seed(0))
    features.requires_grad_()
    model(features, torch.tensor([200, 90])).sum().backward()
    assert features.grad[1, :, :90].any()
    assert not features.grad[1, :, 90:].any()


def test_norm_in_training_is_batch_norm_over_real_frames_of_all_parts():
    norm, clips = MaskedBatchNorm(3), [10 * clip + 3 for clip in clips_of(5, 40, 12, bins=4)]
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    parts = [batch_of(clips[:2], filler=1000), batch_of(clips[2:])]
    moments = norm.measure(parts)
    normalised = [row for maps, _ in parts for row in norm(maps, *moments)]
    together = torch.cat(clips, dim=1)[None]  # one long clip: no padding
    expected = nn.functional.batch_norm(
        together, None, None, norm.weight, norm.bias, training=True
    ).split([5, 40, 12], dim=2)
    for row, clip in zip(normalised, expected, strict=True):
        torch.testing.assert_close(row[:, : clip.shape[2]], clip[0], atol=1e-5, rtol=1e-5)


def test_average_speaker_is_the_mean_over_batches_in_every_layer():
    """Whatever it was before; each layer hears the others normalised by the batch itself."""
    torch.manual_seed(0)
    model, heard = ModifiedAlexNet(), [[] for _ in AlexNetConfig.channels[1:]]
    for maps, convolution in zip(heard, model.convolutions, strict=True):
        convolution.register_forward_hook(lambda *args, maps=maps: maps.append(args[2]))
    for number, lengths in enumerate(([50, 50], [64, 64, 64], [40]), 1):  # none is padded
        model.settle([batch_of(clips_of(*lengths))], 1 / number)
    for maps, norm in zip(heard, model.norms, strict=True):
        means = sum(batch.mean((0, 2, 3)) for batch in maps) / 3
        variances = sum(batch.var((0, 2, 3), correction=0) for batch in maps) / 3
        torch.testing.assert_close(norm.running_mean, means, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, variances, atol=1e-5, rtol=1e-4)


def test_parts_of_a_batch_are_one_batch():
    """However a training batch is cut by length, the weights learn the same."""
    gradients = []
    for cut in (0, 2):
        torch.manual_seed(0)
        model, clips = ModifiedAlexNet(dropout=0.0), clips_of(30, 50, 64, 97, 150)
        parts = [batch_of(part) for part in (clips[:cut], clips[cut:]) if part]
        found = model([part[0] for part in parts], [part[1] for part in parts])
        found.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for whole, parted in zip(*gradients, strict=True):
        assert (whole - parted).abs().max() <= 1e-2 * whole.abs().max() + 1e-5


def speaker_logits(model, clips, regime, cut=None, order=None, before=None):
    """Logits of one speaker's clips in their order, and what is known after; `cut` into parts."""
    parts = [batch_of(part, filler=77) for part in (cut or [clips])]
    order = torch.arange(len(clips)) if order is None else order
    with torch.inference_mode():
        return model.classify_speaker(parts, order, regime, before)


def test_a_speakers_logits_do_not_depend_on_batches_or_padding():
    model, clips = built("statistics"), clips_of(1, 40, 97, 150, 301)
    for regime in ("utterance", "past", "all"):
        together, _ = speaker_logits(model, clips, regime)
        apart, _ = speaker_logits(model, clips, regime, cut=[[clip] for clip in clips])
        assert (together - apart).abs().max() < 1e-4
        assert (together - logits(model, clips)).abs().max() > 1e-2  # not the average speaker's
        places = torch.tensor([3, 0, 4, 1, 2])
        moved = [clips[place] for place in places]
        found, _ = speaker_logits(model, moved, regime, order=places.argsort())
        assert (found - together[places]).abs().max() < 1e-4


def test_what_is_known_of_a_speaker_turn_by_turn():
    """`past` in one pass is what turn after turn gives; no later clip changes an earlier one."""
    model, clips = built("statistics"), clips_of(50, 40, 97, 150)
    whole, after = speaker_logits(model, clips, "past")
    known, turns = None, []
    for clip in clips:
        found, known = speaker_logits(model, [clip], "past", before=known)
        turns.append(found)
    assert (torch.cat(turns) - whole).abs().max() < 1e-5
    for one, other in zip(known, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    other, _ = speaker_logits(model, [*clips[:3], 5 * clips[3] + 1], "past")
    assert (other[:3] - whole[:3]).abs().max() < 1e-5
    assert (other[3] - whole[3]).abs().max() > 1e-2
    first, _ = speaker_logits(model, [5 * clips[0] + 1, *clips[1:]], "past")
    assert ((first - whole).abs().max(1).values > 1e-3).all()  # an earlier one changes all


def test_alone_no_company_counts_and_all_is_everyone():
    model, clips = built("statistics"), clips_of(50, 40, 97, 150)
    alone, _ = speaker_logits(model, clips, "utterance")
    single = torch.cat([speaker_logits(model, [clip], "utterance")[0] for clip in clips])
    assert (alone - single).abs().max() < 1e-5
    everything, _ = speaker_logits(model, clips, "all")
    reverse, _ = speaker_logits(model, clips[::-1], "all")
    assert (everything - reverse.flip(0)).abs().max() < 1e-4
    past, _ = speaker_logits(model, clips, "past")
    torch.testing.assert_close(past[0], alone[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(past[3], speaker_logits(model, clips, "past")[0][3])


def test_a_shift_of_a_speakers_maps_is_normalised_away():
    model, shifted = (built("statistics", prior_clips=0) for _ in range(2))
    with torch.no_grad():
        shifted.convolutions[2].bias += 5.0
    clips = clips_of(90, 120, 60)
    assert (logits(shifted, clips) - logits(model, clips)).abs().max() > 0.1
    for regime in ("utterance", "past", "all"):
        found, expected = (speaker_logits(m, clips, regime)[0] for m in (shifted, model))
        assert (found - expected).abs().max() < 1e-4


def test_two_voices_are_mixed_by_what_is_known():
    torch.manual_seed(0)
    config = AlexNetConfig(half_trust=3)
    model, clips = TwoVoices(dropout=0.0, config=config).eval(), clips_of(64, 80)
    part, order = [batch_of(clips)], torch.arange(2)
    with torch.inference_mode():
        found, _ = model.classify_speaker(part, part, order, torch.tensor([1.0, 9.0]), "past")
        strange = model.stranger(*part[0])
        known, _ = model.known.classify_speaker(part, order, "past", None)
    # one clip known: trust 1 / (1 + 3); nine: 9 / (9 + 3)
    expected = torch.stack(
        [0.25 * known[0] + 0.75 * strange[0], 0.75 * known[1] + 0.25 * strange[1]]
    )
    torch.testing.assert_close(found, expected)
    assert (known - strange).abs().max() > 1e-2


@pytest.mark.parametrize("pooling", ["sum", "statistics"])
def test_dropout_is_before_the_classifier_and_for_learning_alone(pooling):
    for share in (0.0, 0.5):
        torch.manual_seed(0)
        model, batch = ModifiedAlexNet(pooling, dropout=share), batch_of(clips_of(*[90] * 8))
        dropped = share_dropped(model, model.classifier, lambda m=model, b=batch: m(*b))
        assert dropped == pytest.approx(share, abs=0.06)


def test_both_voices_drop_out():
    model, (features, counts) = TwoVoices(dropout=0.5), batch_of(clips_of(*[90] * 8))
    for known, voice in ((False, model.stranger), (True, model.known)):
        dropped = share_dropped(
            model, voice.classifier, lambda known=known: model([features], [counts], known)
        )
        assert dropped == pytest.approx(0.5, abs=0.05)
