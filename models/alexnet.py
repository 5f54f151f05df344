"""AlexNet's five convolutions over a spectrogram of any length: the paper's network and ours.

Krizhevsky, Sutskever & Hinton, 2012; over whole utterances: Zhang et al., "Attention Based Fully
Convolutional Network for Speech Emotion Recognition", APSIPA 2018.
Shapes: B clips, T frames (padding included), F frequency bins, C classes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.head import Head

# What a network is made of; a trained model carries its own in its configuration.
LAYERS = {
    "channels": [3, 32, 96, 192, 128, 128],  # half of AlexNet's, three times as fast (runs/LOG.md)
    "kernels": [11, 5, 3, 3, 3],
    "strides": [4, 1, 1, 1, 1],
    "paddings": [5, 2, 1, 1, 1],
    "pooled": [True, True, False, False, True],  # a maxpool 3/2 behind the layer
    "pool_padding": 1,
}
PAPER_LAYERS = {
    **LAYERS,
    "channels": [3, 64, 192, 384, 256, 256],
    "paddings": [2, 2, 1, 1, 1],
    "pool_padding": 0,
}
MIN_FRAMES = 63  # a shorter clip leaves no frame behind the paper's last maxpool


class Convolutions(nn.Module):
    """The five convolutions with ReLU and maxpools; padding behind a clip's end stays zero.

    layers: see LAYERS.  norm: whether each convolution is followed by batch normalisation.
    """

    def __init__(self, layers: dict, norm: bool):
        super().__init__()
        self.layers, channels = layers, layers["channels"]
        sizes = zip(
            channels[:-1],
            channels[1:],
            layers["kernels"],
            layers["strides"],
            layers["paddings"],
            strict=True,
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(*size) for size in sizes)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) if norm else nn.Identity() for width in channels[1:]
        )

    def forward(self, maps: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, F), frame counts (B,) -> (B, C', T', F'), each clip's own count of T'.

        After every layer the positions that a clip alone would not have are zeroed, so that a
        batch gives what each clip gives alone.
        """
        maps = mask_frames(maps, counts).contiguous(memory_format=torch.channels_last)
        for layer, convolution in enumerate(self.convolutions):
            counts = self.convolved(counts, layer)
            # Behind ReLU, a maxpool cannot tell zeros from its own padding.
            maps = mask_frames(functional.relu(self.norms[layer](convolution(maps))), counts)
            if self.layers["pooled"][layer]:
                counts = self.pooled(counts)
                maps = functional.max_pool2d(maps, 3, 2, self.layers["pool_padding"])
                maps = mask_frames(maps, counts)
        return maps, counts

    def convolved(self, length: Tensor | int, layer: int) -> Tensor | int:
        """Return how many of `length` positions a convolution leaves."""
        kernel, stride, padding = (
            self.layers[name][layer] for name in ("kernels", "strides", "paddings")
        )
        return (length + 2 * padding - kernel) // stride + 1

    def pooled(self, length: Tensor | int) -> Tensor | int:
        """Return how many of `length` positions a maxpool leaves."""
        return (length + 2 * self.layers["pool_padding"] - 3) // 2 + 1

    def count_bins(self, bins: int) -> int:
        """Return how many of the frequency bins are left."""
        for layer, has_pool in enumerate(self.layers["pooled"]):
            bins = self.convolved(bins, layer)
            bins = self.pooled(bins) if has_pool else bins
        return bins


class ModifiedAlexNet(nn.Module):
    """Logits of the emotions from log-mel spectrograms with their deltas, normalised by speaker.

    Every layer is padded to keep what its stride allows and batch-normalised; pooled to mean and
    deviation over the clip's own frames, every frequency apart.
    tempos: at which each clip stands in a batch to evaluate, one tempo after another; the logits
    are averaged. In training there is one tempo.
    """

    def __init__(
        self,
        bins: int = 64,
        dropout: float = 0.5,
        tempos: Sequence[float] = (1.0,),
        layers: dict = LAYERS,
        classes: int = 7,
        dimensions: dict | None = None,
    ):
        super().__init__()
        self.tempos = tuple(tempos)
        self.convolutions = Convolutions(layers, norm=True)
        for convolution in self.convolutions.convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        self.dropout = nn.Dropout(dropout)
        width = 2 * layers["channels"][-1] * self.convolutions.count_bins(bins)
        self.classifier = Head(width, classes, dimensions)
        self.to(memory_format=torch.channels_last)  # as the maps are

    def forward(self, features: Tensor, frame_counts: Tensor) -> Tensor:
        """(B, 3, T, F), (B,) -> (B, C); to evaluate (tempos x B, 3, T, F) -> (B, C)."""
        pooled = pool_statistics(*self.convolutions(features, frame_counts))
        logits = self.classifier(self.dropout(pooled))
        if self.training:
            return logits
        return logits.unflatten(0, (len(self.tempos), -1)).mean(0)


class PaperAlexNet(nn.Module):
    """The paper's network, 2,471,495 parameters: padding 2 in front, none around the maxpools.

    The sum over all positions is classified, so that logits grow with a clip's length. Clips of
    less than MIN_FRAMES frames are padded with zeros.
    """

    def __init__(
        self,
        dropout: float = 0.5,
        layers: dict = PAPER_LAYERS,
        classes: int = 7,
        dimensions: dict | None = None,
    ):
        super().__init__()
        self.convolutions = Convolutions(layers, norm=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = Head(layers["channels"][-1], classes, dimensions)
        self.to(memory_format=torch.channels_last)  # as the maps are

    def forward(self, features: Tensor, frame_counts: Tensor) -> Tensor:
        """(B, 3, T, F), (B,) -> (B, C)."""
        missing = max(0, MIN_FRAMES - features.shape[2])
        features = functional.pad(mask_frames(features, frame_counts), (0, 0, 0, missing))
        maps, _ = self.convolutions(features, frame_counts.clamp(min=MIN_FRAMES))
        return self.classifier(self.dropout(maps.float().sum((2, 3))))


def mask_frames(maps: Tensor, counts: Tensor) -> Tensor:
    """Zero (B, C, T, F) after each clip's `counts` (B,) frames."""
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


@torch.no_grad()
def recompute_batch_norm(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> None:
    """Measure the running statistics of batch normalisation anew, as means over batches.

    Averages that follow the training lag behind the weights (Wu & Johnson, "Rethinking 'Batch' in
    BatchNorm", 2021).  batches: the network's arguments, already on its device.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    was_training = model.training
    model.train()
    for batch in batches:
        model(**batch)
    model.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def adapt_batch_norm(model: nn.Module, batches: Iterable[dict[str, Tensor]], weight: float) -> None:
    """Draw the running statistics of batch normalisation towards those of one speaker's batches.

    The model's and the speaker's distributions are mixed, the speaker's with this weight (adaptive
    batch normalisation: Li et al., "Revisiting Batch Normalization For Practical Domain
    Adaptation", 2017).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    trained = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    recompute_batch_norm(model, batches)
    for norm, (mean, variance) in zip(norms, trained, strict=True):
        mixed = weight * norm.running_mean + (1 - weight) * mean
        between = weight * (norm.running_mean - mixed).square()
        between += (1 - weight) * (mean - mixed).square()
        norm.running_var.copy_(weight * norm.running_var + (1 - weight) * variance + between)
        norm.running_mean.copy_(mixed)


def build_audio_network(config: dict, dropout: float = 0.0) -> nn.Module:
    """Build the network of an audio model's configuration, with random weights."""
    head = {"classes": config.get("classes", 7), "dimensions": config.get("dimensions")}
    if config["kind"] == "PaperAlexNet":
        return PaperAlexNet(dropout, config["layers"], **head)
    if config["kind"] == "SpeechClassifier":
        from models.speech import SpeechClassifier  # takes seconds

        return SpeechClassifier(config["layers"], config["width"], dropout, **head)
    sizes = config["mel"]["bins"], dropout, config["tempos"], config["layers"]
    return ModifiedAlexNet(*sizes, **head)
