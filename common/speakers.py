"""Speaker normalisation, of spectrograms and of a speech encoder's frames alike.

From every column of the features the speaker's mean is subtracted, and the difference is divided by
the speaker's standard deviation. SPEAKER_NORM says which of the speaker's utterances they are taken
from; no label is used.
    utterance   this utterance alone
    past        the speaker's earlier turns of the session and this utterance, nothing later
    all         every utterance of the speaker in the data at hand (transductive)
They are drawn towards those of the training corpus, which count as `prior_clips` utterances.
A spectrogram is normalised by its frames. Of a speech encoder, an utterance counts as one frame:
mean and deviation of every layer.
Shapes: N utterances, T frames, F columns of the features; K = 2 + 2 F numbers of the statistics:
utterances, frames, each column's sum over the frames, each column's sum of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.data import Dataset

SPEAKER_NORMS = ("utterance", "past", "all")
VALID_NORM = "past"  # what a system in a conversation has: by it the epoch is chosen
PRIOR_CLIPS = 10  # utterances that the training corpus counts as
STD_FLOOR = 0.1  # a column that hardly moves is not blown up
FIXED = 10**9  # so many that nothing of the speaker counts
SUMMED = 16  # turns of a speaker


def clip_stats(frames: np.ndarray) -> np.ndarray:
    """Return the sufficient statistics (K,) float64 of one utterance's frames (T, F)."""
    frames = frames.astype(np.float64)
    return np.concatenate([[1, len(frames)], frames.sum(0), np.square(frames).sum(0)])


class SpeakerStats:
    """The statistics (K,) that each utterance of a dataset is normalised by.

    read: rows (n,) -> their own statistics (n, K).  For "past" a speaker's sum is kept after every
    SUMMED turns: with an encoder's many columns, one for each turn would not fit into the memory.
    """

    def __init__(self, data: Dataset, read: Callable[[np.ndarray], np.ndarray], speaker_norm: str):
        self.read, self.known, self.speaker_norm = read, data.known_stats, speaker_norm
        self.talks = []  # of each speaker (past: of a session): rows in order of time, their sums
        self.talk, self.turn = np.full((2, len(data)), -1)  # of each row; -1: it stands alone
        if self.known is not None or speaker_norm == "utterance":
            return
        speakers = pd.Series(data.speakers)
        if speaker_norm == "past":  # nothing is carried from one session to another
            speakers = pd.Series(data.sessions).astype(str) + " " + speakers
        order = data.time_order
        for _, turns in pd.Series(order).groupby(speakers[order].to_numpy()):
            turns, sums = turns.to_numpy(), [0]
            for part in np.split(turns, range(SUMMED, len(turns), SUMMED)):
                sums.append(sums[-1] + read(part).sum(0))
            self.talk[turns], self.turn[turns] = len(self.talks), np.arange(len(turns))
            self.talks.append((turns, sums if speaker_norm == "past" else sums[-1:]))

    def of(self, row: int) -> np.ndarray:
        """Return the statistics (K,) that a row is normalised by."""
        if self.known is not None:
            return self.known[row]
        if self.talk[row] < 0:
            return self.read(np.array([row])).sum(0)
        turns, sums = self.talks[self.talk[row]]
        if self.speaker_norm == "all":
            return sums[-1]
        summed = self.turn[row] // SUMMED
        rest = turns[summed * SUMMED : self.turn[row] + 1]
        return sums[summed] + self.read(rest).sum(0)


@dataclass(frozen=True)
class SpeakerNorm:
    """Mean and variance (F,) of the training corpus, and how much they count for a speaker."""

    mean: np.ndarray
    variance: np.ndarray
    prior_clips: float = PRIOR_CLIPS
    std_floor: float = STD_FLOOR

    @classmethod
    def fit(
        cls,
        stats: Iterable[np.ndarray],
        prior_clips: float = PRIOR_CLIPS,
        std_floor: float = STD_FLOOR,
    ) -> SpeakerNorm:
        """Take mean and variance from the statistics (K,) of the rows to learn from."""
        total = sum(stats)
        mean, squares = np.split(total[2:] / total[1], 2)
        variance = np.maximum(squares - np.square(mean), 0)  # but for rounding
        return cls(mean, variance, prior_clips, std_floor)

    def mean_and_std(self, stats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (N, F) float32 by the statistics (N, K) so far.

        The speaker's and the corpus' distributions are mixed, the speaker's with the weight
        clips / (clips + prior_clips).
        """
        clips, frames, sums, squares = np.split(stats, [1, 2, 2 + len(self.mean)], axis=-1)
        own_mean = sums / frames
        own_variance = np.maximum(squares / frames - np.square(own_mean), 0)
        weight = clips / (clips + self.prior_clips)
        mean = weight * own_mean + (1 - weight) * self.mean
        between = weight * np.square(own_mean - mean) + (1 - weight) * np.square(self.mean - mean)
        variance = weight * own_variance + (1 - weight) * self.variance + between
        std = np.maximum(np.sqrt(variance), self.std_floor)
        return mean.astype(np.float32), std.astype(np.float32)

    def of_corpus(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (F,) float32 of the training corpus itself."""
        return self.mean_and_std(np.concatenate([[0, 1], self.mean, self.mean]))

    def distance(self, frames: np.ndarray) -> np.ndarray:
        """Return how far frames (N, F) are from those of the training corpus, (N,): 1 on average.

        The mean square, over the columns, of the difference in standard deviations.
        """
        mean, std = self.of_corpus()
        return np.square((frames - mean) / std).mean(axis=-1)

    def to_json(self) -> dict:
        return {
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "prior_clips": self.prior_clips,
            "std_floor": self.std_floor,
        }

    @classmethod
    def from_json(cls, content: dict) -> SpeakerNorm:
        return cls(
            np.array(content["mean"]),
            np.array(content["variance"]),
            content["prior_clips"],
            content["std_floor"],
        )
