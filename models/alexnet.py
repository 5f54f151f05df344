"""ModifiedAlexNet: AlexNet's five convolutions over a spectrogram of any length.

Krizhevsky, Sutskever & Hinton, 2012; over whole utterances: Zhang et al., "Attention Based Fully
Convolutional Network for Speech Emotion Recognition", APSIPA 2018.
Shapes: B clips, T frames (padding included), F frequency bins, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import check_choice
from models.processes import total
from models.speaker import PRIOR_CLIPS, clip_sums, known_at_each, known_moments


@dataclass(frozen=True)
class AlexNetConfig:
    """The constants of the networks; a trained model carries its own."""

    channels: tuple[int, ...] = (3, 64, 192, 384, 256, 256)
    kernels: tuple[int, ...] = (11, 5, 3, 3, 3)
    strides: tuple[int, ...] = (4, 1, 1, 1, 1)
    pooled: tuple[bool, ...] = (True, True, False, False, True)  # a maxpool behind the layer
    pool: int = 3
    pool_stride: int = 2
    min_frames: int = 63  # a shorter clip leaves no frame behind the paper's last maxpool
    shared: int = 2  # first convolutions that stranger's and known voice's network have in common
    half_trust: float = 6  # clips of a speaker at which stranger's and known voice's count alike
    prior_clips: float = PRIOR_CLIPS


class ModifiedAlexNet(nn.Module):
    """Logits of the emotions from (B, 3, T, F) and the clips' frame counts (B,).

    pooling "statistics" (default): every layer padded to keep what its stride allows and normalised
    by speaker; mean and deviation over the clip's own frames, every frequency apart.
    pooling "sum": the paper's network, 2,471,495 parameters: padding 2 in front and none around the
    maxpools, no normalisation, the sum over all positions, so that logits grow with the length.

    A batch gives exactly what each clip gives alone: behind every layer, the positions that a clip
    alone would not have are zeroed, and the pooling passes over them. Only in training the norms
    take their statistics from the batch, which is to hold clips of one speaker.
    """

    def __init__(
        self,
        pooling: str = "statistics",
        bins: int = 64,
        dropout: float = 0.5,
        classes: int = 7,
        config: AlexNetConfig = AlexNetConfig(),
    ):
        super().__init__()
        check_choice("POOLING", pooling, ("statistics", "sum"))
        self.config = config
        self.is_paper = pooling == "sum"
        self.paddings = (2, 2, 1, 1, 1) if self.is_paper else (5, 2, 1, 1, 1)
        self.pool_padding = 0 if self.is_paper else 1
        channels, *widths = config.channels
        layers = zip(
            (channels, *widths[:-1]),
            widths,
            config.kernels,
            config.strides,
            self.paddings,
            strict=True,
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(*layer) for layer in layers)
        width = widths[-1]
        if not self.is_paper:
            for convolution in self.convolutions:
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            self.norms = nn.ModuleList(map(MaskedBatchNorm, widths))
            for layer, is_pooled in enumerate(config.pooled):
                bins = self.convolved(bins, layer)
                bins = self.pooled(bins) if is_pooled else bins
            width *= 2 * bins
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)
        self.to(memory_format=torch.channels_last)  # as the maps are, see `start`

    def convolved(self, length: Tensor | int, layer: int) -> Tensor | int:
        """Return how many of `length` positions a convolution leaves."""
        kernel, stride = self.config.kernels[layer], self.config.strides[layer]
        return (length + 2 * self.paddings[layer] - kernel) // stride + 1

    def pooled(self, length: Tensor | int) -> Tensor | int:
        """Return how many of `length` positions a maxpool leaves."""
        return (length + 2 * self.pool_padding - self.config.pool) // self.config.pool_stride + 1

    def forward(self, features: Tensor | list, frame_counts: Tensor | list) -> Tensor:
        """(B, 3, T, F), (B,) -> (B, C); or lists of such, cut by length so that little is padded.

        In training the norms take their statistics from all parts together; the average training
        speaker, by whom they go otherwise, is measured by `settle`.
        """
        if isinstance(features, Tensor):
            features, frame_counts = [features], [frame_counts]
        parts = self.convolve(list(zip(features, frame_counts, strict=True)))
        return torch.cat([self.classify(*part) for part in parts])

    def classify(self, maps: Tensor, counts: Tensor) -> Tensor:
        """Return the logits (B, C) of the last maps."""
        pooled = maps.float().sum((2, 3)) if self.is_paper else pool_statistics(maps, counts)
        return self.classifier(self.dropout(pooled))

    def convolve(
        self,
        parts: list[tuple[Tensor, Tensor]],
        moments: Callable[[int, list], list] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the last maps (B, 256, T', F') and each clip's own count of T' (B,), by part.

        moments(layer, parts): what the norm of a layer is to use for each part; by default the
        batch's in training, else the average training speaker's.
        """
        parts = [self.start(*part) for part in parts]
        for layer, convolution in enumerate(self.convolutions):
            parts = [(convolution(maps), self.convolved(counts, layer)) for maps, counts in parts]
            chosen = [None] * len(parts)
            if not self.is_paper:
                chosen = (moments or self.usual_moments)(layer, parts)
            parts = [self.finish(layer, *part, m) for part, m in zip(parts, chosen, strict=True)]
        return parts

    def usual_moments(self, layer: int, parts: list[tuple[Tensor, Tensor]]) -> list:
        norm = self.norms[layer]
        found = norm.measure(parts) if self.training else (norm.running_mean, norm.running_var)
        return [found] * len(parts)

    @torch.no_grad()
    def settle(self, parts: list[tuple[Tensor, Tensor]], weight: float) -> None:
        """Move the average training speaker of every layer towards a batch by a `weight`.

        With weights 1, 1/2, 1/3 ... it is the mean over the batches, for the network's weights as
        they now are. An average that follows the training lags behind them: Wu & Johnson,
        "Rethinking 'Batch' in BatchNorm", 2021.
        """

        def moments(layer: int, parts: list) -> list:
            norm = self.norms[layer]
            mean, variance = norm.measure(parts)
            norm.running_mean.lerp_(mean, weight)
            norm.running_var.lerp_(variance, weight)
            return [(mean, variance)] * len(parts)

        self.convolve(parts, moments)

    def start(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and counts as the first convolution takes them.

        Channels last in memory: norms, masks and maxpools then run along them.
        """
        maps = mask_frames(features, frame_counts).contiguous(memory_format=torch.channels_last)
        if not self.is_paper:
            return maps, frame_counts
        fewest = self.config.min_frames
        maps = functional.pad(maps, (0, 0, 0, max(0, fewest - maps.shape[2])))
        return maps, frame_counts.clamp(min=fewest)

    def finish(
        self, layer: int, maps: Tensor, counts: Tensor, moments: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Do what follows a layer's convolution: norm by `moments`, ReLU, maxpool."""
        if not self.is_paper:
            maps = self.norms[layer](maps, *moments)
        # Behind ReLU, a maxpool cannot tell zeros from its own padding.
        maps = mask_frames(functional.relu(maps), counts)
        config = self.config
        if config.pooled[layer]:
            maps = functional.max_pool2d(maps, config.pool, config.pool_stride, self.pool_padding)
            counts = self.pooled(counts)
            maps = mask_frames(maps, counts)
        return maps, counts

    def classify_speaker(
        self, parts: list[tuple[Tensor, Tensor]], order: Tensor, regime: str, before: list | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (N, C) of one speaker's clips, every layer normalised by the regime.

        parts: features and frame counts, cut anyhow; order (N,): the clips' places in `parts` in
        the order of their turns.  before: each layer's sums of what was heard earlier, see
        models/speaker.py; with these clips added it is returned too. No label is used.
        """
        after = []

        def moments(layer: int, parts: list) -> list:
            own = torch.cat([clip_sums(*part) for part in parts])
            start = before[layer] if before else torch.zeros_like(own[0])
            after.append(start + own.sum(0))
            known = torch.empty_like(own)
            known[order] = known_at_each(own[order], regime, start)
            norm, sizes = self.norms[layer], [len(counts) for _, counts in parts]
            found = known_moments(
                known, norm.running_mean, norm.running_var, self.config.prior_clips
            )
            device = norm.running_mean.device
            return list(zip(*(each.to(device).split(sizes) for each in found), strict=True))

        parts = self.convolve(parts, moments)
        return torch.cat([self.classify(*part) for part in parts]), after


class TwoVoices(nn.Module):
    """Logits by two networks, for a stranger's voice and for a known one.

    Both hear features (B, 3, T, F) as ModifiedAlexNet does: the stranger's network in units of the
    training corpus, the other one in units of the speaker. The more clips of a speaker are known,
    the more the second one counts. The first convolutions are the same, their norms are not (as
    AdvProp's: Xie et al., "Adversarial Examples Improve Image Recognition", CVPR 2020).
    """

    def __init__(
        self,
        bins: int = 64,
        dropout: float = 0.5,
        classes: int = 7,
        config: AlexNetConfig = AlexNetConfig(),
    ):
        super().__init__()
        self.config = config
        self.stranger = ModifiedAlexNet("statistics", bins, dropout, classes, config)
        self.known = ModifiedAlexNet("statistics", bins, dropout, classes, config)
        for layer in range(config.shared):
            self.stranger.convolutions[layer] = self.known.convolutions[layer]

    def forward(self, features: list[Tensor], frame_counts: list[Tensor], known: bool) -> Tensor:
        """Lists of (B, 3, T, F), (B,) -> (B, C), by one of the two: `known`, for training."""
        return (self.known if known else self.stranger)(features, frame_counts)

    def classify_speaker(
        self,
        stranger: list[tuple[Tensor, Tensor]],
        known: list[tuple[Tensor, Tensor]],
        order: Tensor,
        clips: Tensor,
        regime: str,
        before: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (N, C) of one speaker's clips, and the sums of what is known after.

        stranger, known: features and frame counts in either unit.  clips (N,): how many clips are
        known at each.  The others: see ModifiedAlexNet.classify_speaker.
        """
        logits, after = self.known.classify_speaker(known, order, regime, before)
        trust = (clips / (clips + self.config.half_trust))[:, None]
        return trust * logits + (1 - trust) * self.stranger(*zip(*stranger, strict=True)), after


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics pass over padding and are handed over.

    Its running ones are the average training speaker's.
    """

    def forward(self, maps: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Maps (B, C, T, F), moments (C,) or (B, C) -> normalised maps; padding is not zero."""
        factor = self.weight * (variance + self.eps).rsqrt()
        offset = self.bias - mean * factor
        return maps * factor[..., None, None] + offset[..., None, None]

    def measure(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,) of a batch; of the whole one if processes share it."""
        frames = total(sum(counts.sum() * maps.shape[3] for maps, counts in parts))
        real = [mask_frames(maps.float(), counts) for maps, counts in parts]
        mean = total(sum(maps.sum((0, 2, 3)) for maps in real)) / frames
        squares = total(sum(maps.square().sum((0, 2, 3)) for maps in real)) / frames
        return mean, (squares - mean.square()).clamp(min=0)


def mask_frames(maps: Tensor, counts: Tensor) -> Tensor:
    """Zero (B, C, T, F) after each clip's `counts` (B,) frames, as padding alone would have it."""
    mask = torch.arange(maps.shape[2], device=maps.device) < counts[:, None]
    return maps * mask[:, None, :, None]


def pool_statistics(maps: Tensor, counts: Tensor) -> Tensor:
    """Return mean and deviation of (B, C, T, F) over each clip's frames, (B, 2 C F) float32.

    Frames after `counts` (B,) are zero and not counted.
    """
    maps = maps.float()
    counts = counts[:, None, None]
    mean = maps.sum(2) / counts
    variance = (maps.square().sum(2) / counts - mean.square()).clamp(min=1e-5)
    return torch.cat([mean, variance.sqrt()], dim=1).flatten(1)
