"""Whose voice a row is, and what is known of it there: spectrograms in units of corpus or speaker.

Shapes: N rows, T frames, F mel bins; sums (N, 2 + 2 F) as in models/speaker.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.speaker import PRIOR_CLIPS, known_at_each, known_moments
from pipeline.learning.dataset import Utterances
from pipeline.learning.profile import SpeakerProfile


@dataclass(frozen=True)
class Average:
    """The average training speaker: mean and variance of each column of the frames, (F,).

    clips: how many of its clips are counted among a speaker's own.
    """

    mean: Tensor
    variance: Tensor
    clips: float = PRIOR_CLIPS

    @classmethod
    def of(cls, sums: Tensor) -> Average:
        """Draw it from the sums (N, 2 + 2 F) of the rows to learn from."""
        frames, (first, second) = sums[:, 1].sum(), sums[:, 2:].sum(0).chunk(2)
        mean = first / frames
        return cls(mean, (second / frames - mean.square()).clamp(min=0))

    def units(self, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation (F,) float32; floor: of the deviations."""
        deviation = self.variance.sqrt().clamp(min=floor)
        return self.mean.float().numpy(), deviation.float().numpy()

    def to_json(self) -> dict:
        return {
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "clips": self.clips,
        }

    @classmethod
    def from_json(cls, content: dict) -> Average:
        moments = (torch.tensor(content[name]).double() for name in ("mean", "variance"))
        return cls(*moments, content["clips"])


def sums_of(clip: np.ndarray) -> Tensor:
    """Return what a clip (T, F) adds to what is known of its speaker, (2 + 2 F,) float64."""
    frames = torch.from_numpy(clip).double()
    return torch.cat([torch.tensor([1.0, len(frames)]), frames.sum(0), frames.square().sum(0)])


def turn_order(rows: Utterances, chosen: np.ndarray) -> np.ndarray:
    """Return the places in `chosen` in the order of time: sessions, their dialogues, turns."""
    table = rows.table.iloc[chosen]
    return np.lexsort([table["turn"], table["dialogue_number"], table["session"]])


def voices_of(rows: Utterances, regime: str) -> np.ndarray:
    """Return whose clips are known together, (N,): a speaker's; under `past` a session's of them.

    A system in a conversation meets everybody as a stranger: what it heard in another session is
    not known in this one.
    """
    speakers = rows.speakers
    if regime != "past":
        return speakers
    sessions = rows.table["session"].to_numpy(dtype=str)
    return np.char.add(np.char.add(sessions, " "), speakers)


def known_sums(rows: Utterances, sums: Tensor, regime: str, before: Tensor | None = None) -> Tensor:
    """Return what is known of the speaker at each row, (N, 2 + 2 F); sums: each row's own.

    Under `past` all is forgotten at the end of a session, under `all` nothing.
    before (2 + 2 F,): of what was heard earlier, where all rows are of one speaker.
    """
    known = torch.empty_like(sums)
    order = turn_order(rows, np.arange(len(rows)))
    voices = voices_of(rows, regime)[order]
    for voice in np.unique(voices):
        own = order[voices == voice]
        known[own] = known_at_each(sums[own], regime, before)
    return known


def read_profile(profile: SpeakerProfile | None) -> dict[str, Tensor]:
    """Return the sums of what was heard earlier, by name."""
    sums = profile.sums if profile else {}
    return {name: torch.from_numpy(own) for name, own in sums.items()}


def make_profile(sums: dict[str, Tensor]) -> SpeakerProfile:
    """Return the profile of sums (K,), `read_profile`'s inverse."""
    return SpeakerProfile({name: own.numpy() for name, own in sums.items()})


def units_of(known: Tensor, average: Average, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (N, F) of what is known, the average speaker counted in.

    floor: of the deviations.
    """
    found = known_moments(known, average.mean, average.variance, average.clips)
    mean, variance = (each.numpy() for each in found)
    return mean, np.sqrt(variance).clip(floor)
