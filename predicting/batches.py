"""Utterances in memory -> a model's logits: batches are made as in training and testing.

Shapes: N utterances, B of a batch, S samples (int16, 16 kHz), C = 7 classes, K statistics of a
speaker (common/voice.py).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.data import Batch, Cached, Dataset, cut_batches, token_batches
from common.features import Mel, log_mel
from common.files import LABELS, SAMPLE_RATE
from common.voice import audio_batches, clip_stats, token_voice_batches
from predicting.utterances import Utterance

# Tokens or samples, and utterances, of a batch: the speed depends on them, not the result.
LIMITS = {"text": (4096, 32), "audio": (40 * SAMPLE_RATE, 8), "text+audio": (4096, 32)}


class Model(NamedTuple):
    """A trained model.

    needed: of an utterance (utterances.NEEDED).  network: torch's, or a session of onnxruntime.
    config: its network's.  tokenizer: None without words.  forward: batch -> logits (B, C).
    encoder: CM-BERT's speech encoder, if it has one.
    """

    needed: str
    network: object
    config: dict
    tokenizer: object
    forward: Callable[[Batch], np.ndarray]
    encoder: object = None


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
    name is normalised by the utterance alone.
    """
    known = np.zeros((len(utterances), 2 + 2 * mel.bins))
    for row, utterance in enumerate(utterances):
        if utterance.samples is not None:
            known[row] = clip_stats(log_mel(utterance.samples, mel))
            if speaker := utterance.recording.speaker:
                known[row] += voices.get(speaker, 0)
                voices[speaker] = known[row]
    return known


def predict_logits(model: Model, talk: Talk) -> np.ndarray:
    """Return a model's logits (N, C)."""
    lengths = talk.sample_counts
    if model.needed == "audio":
        make_batch = audio_batches(talk, model.config, ["past"])
    else:
        lengths, make_batch = tokens = token_batches(talk, model.tokenizer, model.config)
    if model.needed == "text+audio":
        make_batch = token_voice_batches(
            talk, tokens, model.config, ["past"], encoder=model.encoder
        )
    logits = np.empty((len(talk), len(LABELS)), np.float32)
    for rows in cut_batches(lengths, *LIMITS[model.needed], seed=0):
        logits[rows] = model.forward(make_batch(rows))
    return logits
