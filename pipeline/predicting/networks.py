"""The trained networks of a run, as the test stages use them.

Shapes: N utterances, C = 7 classes.
"""

from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from common.files import LABELS
from pipeline.learning.dataset import Utterances
from pipeline.learning.profile import SpeakerProfile
from pipeline.learning.recogniser import Recogniser, predict

# Tokens or seconds, and utterances, of a batch: the speed depends on them, not the result. The maps
# of more than a few clips outgrow a processor's cache.
LIMITS = {"text": (4096, 64), "audio": (40, 8), "cmbert": (4096, 64)}


class Networks:
    """The models of a run's folder, each loaded when it is first needed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.load = cache(self.load)

    def load(self, name: str) -> Recogniser:
        model = import_module(f"pipeline.learning.{name}").load(self.folder / name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        # The order of dimensions in which convolutions are fastest.
        model.network.to(device, memory_format=torch.channels_last).eval()
        return model

    def recognise(self, name: str, utterances: list, voices: dict) -> np.ndarray:
        """Return a model's logits (N, C) of utterances in the order of their turns.

        voices: {(model, speaker): SpeakerProfile} of what was heard before; brought up to date.
        Whoever has no name is a stranger, of whom nothing but the utterance is known.
        """
        model = self.load(name)
        rows = model.prepare(make_rows(utterances))
        speakers = rows.speakers if model.LEARNED else np.full(len(rows), "")
        logits = np.empty((len(rows), len(LABELS)), np.float32)
        for speaker in np.unique(speakers):
            places = np.flatnonzero(speakers == speaker)
            own = rows.select(speakers == speaker)
            if speaker:
                key = name, str(speaker)
                logits[places], voices[key] = hear(model, own, LIMITS[name], voices.get(key))
            else:
                logits[places] = predict(model, own, "utterance", LIMITS[name], name)
        return logits


def hear(
    model: Recogniser, rows: Utterances, limits: tuple[int, int], profile: SpeakerProfile | None
) -> tuple[np.ndarray, SpeakerProfile]:
    """Return the logits (N, C) of one speaker's rows, and what is known after them."""
    company = [batch for batches in model.companies(rows, "past", *limits) for batch in batches]
    with torch.inference_mode():
        found, profile = model.hear(rows, company, "past", profile)
    logits = np.empty(found.shape, np.float32)
    logits[np.concatenate(company)] = found.float().cpu().numpy()
    return logits, profile


def make_rows(utterances: list) -> Utterances:
    """Return utterances as rows of a table, one conversation in this order."""
    counts = [0 if u.samples is None else len(u.samples) for u in utterances]
    numbers = range(len(utterances))
    table = pd.DataFrame(
        {
            "id": [u.recording.path or u.text for u in utterances],
            "text": [u.text for u in utterances],
            "speaker": [u.recording.speaker for u in utterances],
            "session": 0,
            "scenario": "",
            "dialogue_number": 0,
            "turn": numbers,
            "split": list(map(str, numbers)),
            "first_sample": 0,
            "sample_count": counts,
        }
    )
    audio = {str(number): utterances[number].samples for number in numbers}
    return Utterances(table, audio, data_hash="", synthetic=None, soft=False)
