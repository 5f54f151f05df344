"""Utterances in memory -> the networks' batches, by the same functions as in training and testing.

Shapes: N utterances, S samples (int16, 16 kHz), K statistics of a speaker (common/voice.py).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.data import Cached, Dataset, MakeBatch, token_batches
from common.features import Mel, log_mel
from common.voice import audio_batches, clip_stats, token_voice_batches
from predicting.utterances import Utterance


class Talk(Dataset):
    """Utterances as rows, in the order in which they were spoken; nothing is kept on the disk.

    known_stats (N, K): by which each is normalised; None for models without such statistics.
    """

    def __init__(self, utterances: Sequence[Utterance], known_stats: np.ndarray | None):
        self.utterances = utterances
        counts = [0 if u.samples is None else len(u.samples) for u in utterances]
        names = [u.recording.path or u.text for u in utterances]
        columns = {"id": names, "text": [u.text for u in utterances], "sample_count": counts}
        super().__init__(pd.DataFrame(columns), Path(), "", {}, known_stats)

    def samples(self, row: int) -> np.ndarray:
        return self.utterances[row].samples

    def cached(self, kind: str, settings: dict, compute: Callable) -> Cached:
        """Return `compute` of every recording; see Dataset.cached."""
        frames = [compute(self.samples(row)) for row in range(len(self))]
        return Cached(np.concatenate(frames), np.cumsum([0, *map(len, frames)]))


def update_stats(
    utterances: Sequence[Utterance], voices: dict[str, np.ndarray], mel: Mel
) -> np.ndarray:
    """Return the statistics (N, K) that each utterance is normalised by, in the order of time.

    voices: speaker -> statistics (K,) of what was said before; brought up to date. Whoever has no
    name is a stranger, of whom nothing but the utterance is known.
    """
    known = np.zeros((len(utterances), 2 + 2 * mel.bins))
    for row, utterance in enumerate(utterances):
        if utterance.samples is not None:
            known[row] = clip_stats(log_mel(utterance.samples, mel))
            if speaker := utterance.recording.speaker:
                known[row] += voices.get(speaker, 0)
                voices[speaker] = known[row]
    return known


def make_batches(
    name: str, config: dict, talk: Talk, tokenizer=None, encoder=None
) -> tuple[np.ndarray, MakeBatch]:
    """Return each utterance's length, (N,), and the function that makes a model's batches.

    name: text, audio or cmbert.  config: its network's.  encoder: CM-BERT's speech encoder.
    """
    if name == "audio":
        return talk.sample_counts, audio_batches(talk, config, ["past"])
    tokens = token_batches(talk, tokenizer, config)
    if name == "text":
        return tokens
    return tokens[0], token_voice_batches(talk, tokens, config, ["past"], encoder=encoder)
