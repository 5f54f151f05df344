"""The audio networks against the paper's layer table, and a batch against each clip alone."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from dropout import share_dropped
from torch import nn

from common.features import Mel
from common.voice import frame_batch, spectrogram_batch
from models import alexnet

NETWORKS = {
    "paper": {"kind": "PaperAlexNet", "layers": alexnet.PAPER_LAYERS},
    "one tempo": {"tempos": [1.0]},
    "three": {"tempos": [1.0, 0.85, 1.15]},
}
OURS = {"kind": "ModifiedAlexNet", "layers": alexnet.LAYERS, "mel": asdict(Mel())}


def build(name, dropout=0.0):
    """Random weights; norms with offsets and statistics that are not the first ones."""
    torch.manual_seed(0)
    network = alexnet.build_audio_network(OURS | NETWORKS[name], dropout)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias, 0, 0.1), nn.init.normal_(norm.running_mean, 0, 0.1)
    return network.eval()


def batch_of(name, *lengths, filler=0.0):
    """The arguments for random clips of some lengths, `filler` after each clip's end."""
    clips = [np.random.default_rng(n).normal(size=(n, 64)).astype(np.float32) for n in lengths]
    if name == "paper":
        batch = frame_batch([np.repeat(clip[:, None], 3, axis=1) for clip in clips])
    else:
        batch = spectrogram_batch(clips, OURS | NETWORKS[name])
    batch = {key: torch.from_numpy(value) for key, value in batch.items()}
    for clip, count in zip(*batch.values(), strict=True):
        clip[:, count:] = filler
    return batch


@torch.inference_mode()
def logits(name, *lengths, filler=0.0):
    return build(name)(**batch_of(name, *lengths, filler=filler))


@pytest.mark.parametrize("frames", [alexnet.MIN_FRAMES, 100, 151])
def test_the_papers_network_is_the_published_one(frames):
    """Written here from its description alone."""
    pool = nn.MaxPool2d(kernel_size=3, stride=2)
    first, second = nn.Conv2d(3, 64, 11, 4, padding=2), nn.Conv2d(64, 192, 5, padding=2)
    widths = ((192, 384), (384, 256), (256, 256))
    others = [layer for w in widths for layer in (nn.Conv2d(*w, 3, padding=1), nn.ReLU())]
    maps = nn.Sequential(first, nn.ReLU(), pool, second, nn.ReLU(), pool, *others, pool)
    network, classifier = build("paper"), nn.Linear(256, 7)
    theirs = [m for m in maps if isinstance(m, nn.Conv2d)] + [classifier]
    ours = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for target, source in zip(ours, theirs, strict=True):
        target.load_state_dict(source.state_dict())
    clips = torch.randn(2, 3, frames, 321, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = network(clips, torch.tensor([frames] * 2))
        torch.testing.assert_close(found, classifier(maps(clips).sum((2, 3))), atol=1e-5, rtol=1e-5)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_471_495
    with pytest.raises(RuntimeError):
        maps(clips[:, :, : alexnet.MIN_FRAMES - 1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_gives_what_each_clip_gives_alone(name):
    lengths = np.array([1, 40, 63, 64, 97, 301, 4500])  # to 90 s
    alone = torch.cat([logits(name, length) for length in lengths])
    assert alone.shape == (7, 7) and alone.std(0).max() > 1e-3  # the clips do differ
    for order in ([0, 1, 2, 3, 4, 5, 6], [3, 5, 0, 2, 1, 4], [4, 1]):
        for filler in (0, 1000):
            found, expected = logits(name, *lengths[order], filler=filler), alone[order]
            # The sum's logits grow with the clip: their rounding too.
            assert ((found - expected).abs() / expected.abs().clamp(min=1)).max() < 1e-4


def test_logits_are_the_mean_over_the_tempos():
    network, batch = build("three"), batch_of("three", 60, 90)
    network.tempos, parts = (1.0,), ([0, 1], [2, 3], [4, 5])
    with torch.inference_mode():
        single = [network(**{k: v[rows] for k, v in batch.items()}) for rows in parts]
    torch.testing.assert_close(logits("three", 60, 90), sum(single) / 3)
    assert (single[0] - single[1]).abs().max() > 1e-3
    assert network.train()(**batch).shape == (6, 7)  # each clip is one


@pytest.mark.parametrize("training", [True, False])
def test_recomputed_statistics_are_plain_means_over_the_batches(training):
    """Whatever they were before; each layer hears the others normalised by the batch itself."""
    network, heard = build("one tempo").train(training), []
    norms = network.convolutions.norms
    lengths = ([50, 51], [64, 65, 66], [40, 90])
    hooks = [norm.register_forward_pre_hook(lambda _, x: heard.append(x[0])) for norm in norms]
    alexnet.recompute_batch_norm(network, (batch_of("one tempo", *each) for each in lengths))
    for layer, norm in enumerate(norms):
        hooks[layer].remove()
        mean = sum(maps.mean((0, 2, 3)) for maps in heard[layer::5]) / 3
        variance = sum(maps.var((0, 2, 3)) for maps in heard[layer::5]) / 3
        torch.testing.assert_close(norm.running_mean, mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, variance, atol=1e-5, rtol=1e-4)
        assert norm.momentum == 0.1 and norm.training == network.training == training


def test_adapted_statistics_are_those_of_a_mixture_of_the_model_and_the_speaker():
    def clips():
        return (batch_of("one tempo", *lengths) for lengths in ([50, 51], [40, 90]))

    def moments(network):
        norms = network.convolutions.norms
        return [(n.running_mean.clone(), n.running_var + n.running_mean.square()) for n in norms]

    network, speaker = build("one tempo"), build("one tempo")
    for norm in network.convolutions.norms:
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(0))
        norm.running_var.uniform_(1, 2, generator=torch.Generator().manual_seed(1))
    trained = moments(network)
    alexnet.recompute_batch_norm(speaker, clips())
    alexnet.adapt_batch_norm(network, clips(), 0.25)
    for mixed, model, own in zip(moments(network), trained, moments(speaker), strict=True):
        for found, ours, theirs in zip(mixed, model, own, strict=True):
            torch.testing.assert_close(found, 0.75 * ours + 0.25 * theirs)


@pytest.mark.parametrize("name", ["paper", "one tempo"])
def test_dropout_is_before_the_classifier_and_for_learning_alone(name):
    network, batch = build(name, 0.5), batch_of(name, *[90] * 8)
    dropped = share_dropped(network, network.classifier, lambda: network(**batch))
    assert dropped == pytest.approx(0.5, abs=0.06)
