"""ModifiedAlexNet: AlexNet's five convolutions over a spectrogram of any length.

Krizhevsky, Sutskever & Hinton, 2012; over whole utterances: Zhang et al., "Attention Based Fully
Convolutional Network for Speech Emotion Recognition", APSIPA 2018.
Shapes: B clips, T frames (padding included), F frequency bins, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# in, out, kernel, stride, padding, maxpool behind it
LAYERS = (
    (3, 64, 11, 4, 2, True),
    (64, 192, 5, 1, 2, True),
    (192, 384, 3, 1, 1, False),
    (384, 256, 3, 1, 1, False),
    (256, 256, 3, 1, 1, True),
)
POOL, POOL_STRIDE = 3, 2
MIN_FRAMES = 63  # a shorter clip leaves no frame behind the last maxpool: zeros are appended


def mask_frames(maps: Tensor, counts: Tensor) -> Tensor:
    """Zero (B, C, T, F) after each clip's `counts` (B,) frames, as padding alone would have it."""
    mask = torch.arange(maps.shape[2], device=maps.device) < counts[:, None]
    return maps * mask[:, None, :, None]


class ModifiedAlexNet(nn.Module):
    """Logits of the emotions from (B, 3, T, F) and the clips' frame counts (B,).

    A batch gives exactly what each clip gives alone: behind every layer, the positions that a clip
    alone would not have are zeroed, and the pooling passes over them.
    pooling: "sum" over all positions is the paper's network (2,471,495 parameters), whose logits
    grow with the clip's length; "attention" weights the positions and normalises every layer.
    """

    def __init__(self, pooling: str = "attention", dropout: float = 0.5, classes: int = 7):
        super().__init__()
        self.pooling = pooling
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels_in, channels_out, kernel, stride, padding)
            for channels_in, channels_out, kernel, stride, padding, _ in LAYERS
        )
        width = LAYERS[-1][1]
        if pooling == "attention":
            self.norms = nn.ModuleList(ChannelNorm(layer[1]) for layer in LAYERS)
            self.attention = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 1))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, features: Tensor, frame_counts: Tensor) -> Tensor:
        """(B, 3, T, F), (B,) -> (B, C)."""
        maps, counts = self.convolve(features, frame_counts)
        mask = torch.arange(maps.shape[2], device=maps.device) < counts[:, None]
        positions = maps.permute(0, 2, 3, 1)  # (B, T, F, width)
        if self.pooling == "sum":
            pooled = positions.sum((1, 2))
        else:
            scores = self.attention(positions).squeeze(-1).float()
            scores = scores.masked_fill(~mask[:, :, None], -torch.inf)
            weights = scores.flatten(1).softmax(1)
            pooled = (weights[:, None] @ positions.flatten(1, 2).float()).squeeze(1)
        return self.classifier(self.dropout(pooled))

    def convolve(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last maps (B, width, T', F') and each clip's own count of T' (B,)."""
        short = MIN_FRAMES - features.shape[2]
        maps = functional.pad(features, (0, 0, 0, max(0, short)))
        maps = mask_frames(maps, frame_counts)
        counts = frame_counts.clamp(min=MIN_FRAMES)
        for index, (layer, convolution) in enumerate(zip(LAYERS, self.convolutions, strict=True)):
            _, _, kernel, stride, padding, has_pool = layer
            maps = convolution(maps)
            counts = (counts + 2 * padding - kernel) // stride + 1
            if self.pooling == "attention":
                maps = self.norms[index](maps)
            maps = functional.relu(maps)
            if has_pool:
                maps = functional.max_pool2d(maps, POOL, POOL_STRIDE)
                counts = (counts - POOL) // POOL_STRIDE + 1
            maps = mask_frames(maps, counts)
        return maps, counts


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every position: no batch mate has a part in it."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
