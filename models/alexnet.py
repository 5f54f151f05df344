"""ModifiedAlexNet: AlexNet's five convolutions over a spectrogram of any length.

Krizhevsky, Sutskever & Hinton, 2012; over whole utterances: Zhang et al., "Attention Based Fully
Convolutional Network for Speech Emotion Recognition", APSIPA 2018.
Shapes: B clips, T frames (padding included), F frequency bins, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.files import check_choice

CHANNELS = (3, 64, 192, 384, 256, 256)
KERNELS = (11, 5, 3, 3, 3)
STRIDES = (4, 1, 1, 1, 1)
POOLED = (True, True, False, False, True)  # a maxpool 3/2 behind the layer
POOL, POOL_STRIDE = 3, 2
MIN_FRAMES = 63  # a shorter clip leaves no frame behind the paper's last maxpool


class ModifiedAlexNet(nn.Module):
    """Logits of the emotions from (B, 3, T, F) and the clips' frame counts (B,).

    pooling "statistics" (default): every layer padded to keep what its stride allows and batch
    normalised; mean and deviation over the clip's own frames, every frequency apart.
    pooling "sum": the paper's network, 2,471,495 parameters: padding 2 in front and none around the
    maxpools, no normalisation, the sum over all positions, so that logits grow with the length.

    A batch gives exactly what each clip gives alone: behind every layer, the positions that a clip
    alone would not have are zeroed, and the pooling passes over them.
    """

    def __init__(
        self, pooling: str = "statistics", bins: int = 64, dropout: float = 0.5, classes: int = 7
    ):
        super().__init__()
        check_choice("POOLING", pooling, ("statistics", "sum"))
        self.is_paper = pooling == "sum"
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
            # A batch holds clips of like length: the running statistics must span many batches.
            self.norms = nn.ModuleList(
                nn.BatchNorm2d(channels, momentum=0.01) for channels in CHANNELS[1:]
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
        maps, counts = self.convolve(features, frame_counts)
        pooled = maps.float().sum((2, 3)) if self.is_paper else pool_statistics(maps, counts)
        return self.classifier(self.dropout(pooled))

    def convolve(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last maps (B, 256, T', F') and each clip's own count of T' (B,)."""
        maps, counts = mask_frames(features, frame_counts), frame_counts
        if self.is_paper:
            maps = functional.pad(maps, (0, 0, 0, max(0, MIN_FRAMES - maps.shape[2])))
            counts = counts.clamp(min=MIN_FRAMES)
        for layer, convolution in enumerate(self.convolutions):
            maps, counts = convolution(maps), self.convolved(counts, layer)
            if not self.is_paper:
                maps = self.norms[layer](maps)
            # Behind ReLU, a maxpool cannot tell zeros from its own padding.
            maps = mask_frames(functional.relu(maps), counts)
            if POOLED[layer]:
                maps = functional.max_pool2d(maps, POOL, POOL_STRIDE, self.pool_padding)
                counts = self.pooled(counts)
                maps = mask_frames(maps, counts)
        return maps, counts


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
