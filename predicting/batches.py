"""Utterances in memory -> a model's outputs: batches are made as in training and testing.

Shapes: N utterances, B of a batch, S samples (int16, 16 kHz), C labels, K statistics of a
speaker (common/speakers.py).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.data import Batch, Dataset, cut_batches
from common.encoding import EncoderFrames
from common.features import Mel
from common.files import DIMENSIONS, SAMPLE_RATE
from common.tokens import token_batches
from common.voice import (
    audio_batches,
    cache_log_mel,
    collect_stats,
    features_key,
    token_voice_batches,
)
from predicting.utterances import Utterance

# Tokens or samples, and utterances, of a batch: the speed depends on them, not the result.
LIMITS = {"text": (4096, 32), "audio": (40 * SAMPLE_RATE, 8), "text+audio": (4096, 32)}
KEPT = 32  # clips of which an encoder's layers are remembered


class Encoder:
    """A frozen speech encoder that hears each clip once, whichever models of a run ask.

    network: torch's, or a session of onnxruntime.  encode: clips (S,), length of a block -> what
    common.encoding.summarise makes of their layers.
    """

    def __init__(self, network: object, encode: Callable[..., list[np.ndarray]]):
        self.network, self.encode = network, encode
        self.kept = {}  # id of a clip -> clip, which keeps the id its own, and what is made of it

    def __call__(self, clips: list[np.ndarray], block: int) -> list[np.ndarray]:
        new = [clip for clip in clips if id(clip) not in self.kept]
        made = self.encode(new, block) if new else []
        self.kept |= {id(clip): (clip, own) for clip, own in zip(new, made, strict=True)}
        found = [self.kept[id(clip)][1] for clip in clips]
        for name in list(self.kept)[:-KEPT]:
            del self.kept[name]
        return found


class Model(NamedTuple):
    """A trained model.

    needed: of an utterance (utterances.NEEDED).  network: torch's, or a session of onnxruntime.
    config: its network's.  tokenizer: None without words.  forward: batch -> logits (B, C), and
    valence and arousal behind them, (B, C + 2), where config has `dimensions`.  encoder: the speech
    encoder whose frames it gets, if it does.
    """

    needed: str
    network: object
    config: dict
    tokenizer: object
    forward: Callable[[Batch], np.ndarray]
    encoder: Encoder | None = None


class Talk(Dataset):
    """Utterances as rows, in the order in which they were spoken; nothing is kept on the disk.

    known_stats (N, K): by which each is normalised; None for models without such statistics.
    """

    def __init__(self, utterances: Sequence[Utterance], known_stats: np.ndarray | None):
        self.utterances = utterances
        counts = [0 if u.samples is None else len(u.samples) for u in utterances]
        names = [u.recording.path or u.text for u in utterances]
        columns = {"id": names, "text": [u.text for u in utterances], "sample_count": counts}
        super().__init__(pd.DataFrame(columns), None, "", {}, known_stats)

    def samples(self, row: int) -> np.ndarray:
        return self.utterances[row].samples


def update_stats(
    utterances: Sequence[Utterance], voices: dict[str, dict[str, np.ndarray]], model: Model
) -> tuple[np.ndarray, np.ndarray]:
    """Return the statistics (N, K) that each utterance is normalised by, and those of its own.

    utterances: in the order of time.  voices: speaker -> features_key -> statistics (K,) of what
    was said before; brought up to date. Whoever has no name is normalised by the utterance alone.
    """
    spoken = [place for place, each in enumerate(utterances) if each.samples is not None]
    talk, name = Talk([utterances[place] for place in spoken], None), features_key(model.config)
    if model.encoder is None:
        stats = collect_stats(cache_log_mel(talk, Mel(**model.config["mel"])))
    else:
        frames = EncoderFrames(talk, model.config, model.encoder)
        stats = frames.own_stats(np.arange(len(talk)))
    own = np.full((len(utterances), stats.shape[1]), np.nan)
    own[spoken] = stats
    known = own.copy()
    for place in spoken:
        if speaker := utterances[place].recording.speaker:
            voice = voices.setdefault(speaker, {})
            known[place] += voice.get(name, 0)
            voice[name] = known[place]
    return known, own


def predict_outputs(model: Model, talk: Talk) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's logits (N, C), and valence and arousal (N, 2) within the raters' scale.

    (N, 0) of a model that has not learned these.
    """
    lengths = talk.sample_counts
    if model.needed == "audio":
        make_batch = audio_batches(talk, model.config, ["past"], encode=model.encoder)
    else:
        lengths, make_batch = tokens = token_batches(talk, model.tokenizer, model.config)
    if model.needed == "text+audio":
        make_batch = token_voice_batches(talk, tokens, model.config, ["past"], encode=model.encoder)
    dimensions = model.config.get("dimensions")
    classes = model.config.get("classes", 7)
    width = classes + (len(DIMENSIONS) if dimensions else 0)
    outputs = np.empty((len(talk), width), np.float32)
    for rows in cut_batches(lengths, *LIMITS[model.needed], seed=0):
        outputs[rows] = model.forward(make_batch(rows))
    logits, dims = np.split(outputs, [classes], axis=1)
    return logits, dims.clip(*dimensions["scale"]) if dimensions else dims
