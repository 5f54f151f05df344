"""ModifiedAlexNet: AlexNet's five convolutions over a spectrogram of any length.

Krizhevsky, Sutskever & Hinton, 2012; over whole utterances: Zhang et al., "Attention Based Fully
Convolutional Network for Speech Emotion Recognition", APSIPA 2018.
Shapes: B clips, T frames (padding included), F frequency bins, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import check_choice

CHANNELS = (3, 64, 192, 384, 256, 256)
KERNELS = (11, 5, 3, 3, 3)
STRIDES = (4, 1, 1, 1, 1)
POOLED = (True, True, False, False, True)  # a maxpool 3/2 behind the layer
POOL, POOL_STRIDE = 3, 2
MIN_FRAMES = 63  # a shorter clip leaves no frame behind the paper's last maxpool
PRIOR_CLIPS = 2  # average training clips that are counted among a speaker's own


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
        self, pooling: str = "statistics", bins: int = 64, dropout: float = 0.5, classes: int = 7
    ):
        super().__init__()
        check_choice("POOLING", pooling, ("statistics", "sum"))
        self.is_paper = pooling == "sum"
        self.by_speaker = not self.is_paper  # needs batches of one speaker, has classify_speaker
        self.paddings = (2, 2, 1, 1, 1) if self.is_paper else (5, 2, 1, 1, 1)
        self.pool_padding = 0 if self.is_paper else 1
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*layer)
            for layer in zip(CHANNELS, CHANNELS[1:], KERNELS, STRIDES, self.paddings, strict=False)
        )
        width = CHANNELS[-1]
        if not self.is_paper:
            for convolution in self.convolutions:
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            self.norms = nn.ModuleList(
                MaskedBatchNorm(channels, momentum=0.01) for channels in CHANNELS[1:]
            )
            for layer in range(len(KERNELS)):
                bins = self.convolved(bins, layer)
                bins = self.pooled(bins) if POOLED[layer] else bins
            width *= 2 * bins
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def convolved(self, length: Tensor | int, layer: int) -> Tensor | int:
        """Return how many of `length` positions a convolution leaves."""
        return (length + 2 * self.paddings[layer] - KERNELS[layer]) // STRIDES[layer] + 1

    def pooled(self, length: Tensor | int) -> Tensor | int:
        """Return how many of `length` positions a maxpool leaves."""
        return (length + 2 * self.pool_padding - POOL) // POOL_STRIDE + 1

    def forward(self, features: Tensor, frame_counts: Tensor) -> Tensor:
        """(B, 3, T, F), (B,) -> (B, C)."""
        return self.classify(*self.convolve(features, frame_counts))

    def classify(self, maps: Tensor, counts: Tensor) -> Tensor:
        """Return the logits (B, C) of the last maps."""
        pooled = maps.float().sum((2, 3)) if self.is_paper else pool_statistics(maps, counts)
        return self.classifier(self.dropout(pooled))

    def convolve(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last maps (B, 256, T', F') and each clip's own count of T' (B,)."""
        maps, counts = self.start(features, frame_counts)
        for layer, convolution in enumerate(self.convolutions):
            maps, counts = self.finish(layer, convolution(maps), self.convolved(counts, layer))
        return maps, counts

    def start(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and counts as the first convolution takes them."""
        maps = mask_frames(features, frame_counts)
        if not self.is_paper:
            return maps, frame_counts
        maps = functional.pad(maps, (0, 0, 0, max(0, MIN_FRAMES - maps.shape[2])))
        return maps, frame_counts.clamp(min=MIN_FRAMES)

    def finish(
        self, layer: int, maps: Tensor, counts: Tensor, moments: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Do what follows a layer's convolution: norm (by `moments`, if given), ReLU, maxpool."""
        if not self.is_paper:
            maps = self.norms[layer](maps, counts, moments)
        # Behind ReLU, a maxpool cannot tell zeros from its own padding.
        maps = mask_frames(functional.relu(maps), counts)
        if POOLED[layer]:
            maps = functional.max_pool2d(maps, POOL, POOL_STRIDE, self.pool_padding)
            counts = self.pooled(counts)
            maps = mask_frames(maps, counts)
        return maps, counts

    def classify_speaker(self, clips: list[dict[str, Tensor]]) -> Tensor:
        """Return the logits (N, C) of one speaker's clips, each layer normalised by all of them.

        clips: all that are known of the speaker, as forward's arguments, however they are cut into
        batches. No label is used.
        """
        clips = [self.start(**batch) for batch in clips]
        for layer, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            clips = [(convolution(maps), self.convolved(counts, layer)) for maps, counts in clips]
            moments = norm.speaker_moments(clips)
            clips = [self.finish(layer, *batch, moments) for batch in clips]
        return torch.cat([self.classify(*batch) for batch in clips])


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of (B, C, T, F) whose statistics pass over padding.

    In training they are the batch's; else those that are given, or the running ones: the average
    training speaker's.
    """

    def forward(
        self, maps: Tensor, counts: Tensor, moments: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Maps and each clip's count of frames (B,) -> normalised maps; padding is not zero.

        moments: mean and variance of each channel (C,).
        """
        mean, variance = moments or (self.running_mean, self.running_var)
        if self.training:
            maps = maps.float()
            mean, variance = masked_moments([(maps, counts)])
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
        factor = self.weight * (variance + self.eps).rsqrt()
        return maps * factor[:, None, None] + (self.bias - mean * factor)[:, None, None]

    def speaker_moments(self, clips: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of all (maps, counts) and of PRIOR_CLIPS average clips."""
        mean, variance = masked_moments(clips)
        known = sum(len(counts) for _, counts in clips)
        own = known / (known + PRIOR_CLIPS)
        together = own * mean + (1 - own) * self.running_mean
        spread = own * (mean - together).square()
        spread += (1 - own) * (self.running_mean - together).square()
        return together, own * variance + (1 - own) * self.running_var + spread


def masked_moments(clips: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel (C,) over the real frames of (maps, counts)."""
    frames = sum(counts.sum() for _, counts in clips)

    def average(function) -> Tensor:
        sums = [mask_frames(function(m), n).sum((0, 2, 3)) / m.shape[3] for m, n in clips]
        return sum(sums) / frames

    mean = average(lambda maps: maps)
    return mean, average(lambda maps: (maps - mean[:, None, None]).square())


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
