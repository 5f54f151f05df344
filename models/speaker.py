"""What is known of a speaker: sums over clips, which add up turn by turn, and their moments.

Shapes: N clips in the order of their turns, C channels, K = 2 + 2 C numbers of a sum: clips,
frames, each channel's sum over the frames, each channel's sum of squares.
"""

import torch
from torch import Tensor

from models import check_choice

REGIMES = ("utterance", "past", "all")
DEFAULT_REGIME = "past"  # what a system in a conversation has
PRIOR_CLIPS = 10  # average training clips among a speaker's own; a trained model carries its own


def clip_sums(maps: Tensor, counts: Tensor) -> Tensor:
    """Return the sums (N, K) of maps (N, C, T, F) over each clip's `counts` (N,) first frames.

    Averaged over frequency; float64 and on the CPU, as some accelerators have no float64.
    """
    real = torch.arange(maps.shape[2], device=maps.device) < counts[:, None]
    maps, real, bins = maps.float(), real[:, None, :, None], maps.shape[3]
    mean = (maps * real).sum((2, 3)) / (counts[:, None] * bins)
    # Summed around the mean: in float32 the squares of large means would lose the variance.
    spread = ((maps - mean[:, :, None, None]) * real).square().sum((2, 3)) / bins
    counts, mean, spread = (x.cpu().double() for x in (counts[:, None], mean, spread))
    ones = torch.ones_like(counts)
    return torch.cat([ones, counts, counts * mean, spread + counts * mean.square()], dim=1)


def known_at_each(own: Tensor, regime: str, before: Tensor | None = None) -> Tensor:
    """Return the sums (N, K) of what is known of one speaker at each clip.

    own (N, K): each clip's; before (K,): of what was heard earlier.
    regime "utterance": the clip by itself; "past": what came before it, and it; "all": every clip.
    """
    check_choice("SPEAKER_NORM", regime, REGIMES)
    if regime == "utterance":
        return own
    start = torch.zeros_like(own[0]) if before is None else before
    return start + (own.cumsum(0) if regime == "past" else own.sum(0).expand_as(own))


def known_moments(
    known: Tensor, mean: Tensor, variance: Tensor, prior_clips: float
) -> tuple[Tensor, Tensor]:
    """Return mean and variance (N, C) of what is known and of so many average clips.

    known (N, K); mean, variance (C,): the average training speaker's. So trust in the speaker's own
    grows with the number of clips.
    """
    channels = (known.shape[1] - 2) // 2
    clips, frames, first, second = known.split([1, 1, channels, channels], dim=1)
    own_mean = first / frames
    own_variance = (second / frames - own_mean.square()).clamp(min=0)
    mean, variance = mean.cpu().double(), variance.cpu().double()
    trust = clips / (clips + prior_clips)
    together = trust * own_mean + (1 - trust) * mean
    spread = trust * (own_mean - together).square() + (1 - trust) * (mean - together).square()
    return together.float(), (trust * own_variance + (1 - trust) * variance + spread).float()
