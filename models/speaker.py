"""What is known of a speaker: sums over clips, which add up turn by turn, and their moments.

Shapes: N clips in the order of their turns, C channels, K = 2 + 2 C numbers of a sum: clips,
frames, each channel's sum over the frames, each channel's sum of squares.
"""

import torch
from torch import Tensor

from models import check_choice

REGIMES = ("alone", "past", "all")
DEFAULT_REGIME = "past"  # what a system in a conversation has
PRIOR_CLIPS = 10  # average training clips that are counted among a speaker's own


def clip_sums(maps: Tensor, counts: Tensor) -> Tensor:
    """Return the sums (N, K) float64 of maps (N, C, T, F), averaged over frequency.

    Frames after `counts` (N,) must be zero.
    """
    maps = maps.double()  # else the squares of large means lose the variance
    first = maps.sum((2, 3)) / maps.shape[3]
    second = maps.square().sum((2, 3)) / maps.shape[3]
    counts = counts.double()[:, None]
    return torch.cat([torch.ones_like(counts), counts, first, second], dim=1)


def known_at_each(own: Tensor, regime: str, before: Tensor | None = None) -> Tensor:
    """Return the sums (N, K) of what is known of one speaker at each clip.

    own (N, K): each clip's; before (K,): of what was heard earlier.
    regime "alone": the clip by itself; "past": what came before it, and it; "all": every clip.
    """
    check_choice("KNOWN", regime, REGIMES)
    if regime == "alone":
        return own
    start = torch.zeros_like(own[0]) if before is None else before
    return start + (own.cumsum(0) if regime == "past" else own.sum(0).expand_as(own))


def known_moments(known: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (N, C) of what is known and of PRIOR_CLIPS average clips.

    known (N, K); mean, variance (C,): the average training speaker's. So trust in the speaker's own
    grows with the number of clips.
    """
    channels = (known.shape[1] - 2) // 2
    clips, frames, first, second = known.split([1, 1, channels, channels], dim=1)
    own_mean = first / frames
    own_variance = (second / frames - own_mean.square()).clamp(min=0)
    mean, variance = mean.double(), variance.double()
    trust = clips / (clips + PRIOR_CLIPS)
    together = trust * own_mean + (1 - trust) * mean
    spread = trust * (own_mean - together).square() + (1 - trust) * (mean - together).square()
    return together.float(), (trust * own_variance + (1 - trust) * variance + spread).float()
