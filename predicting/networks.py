"""The trained networks of a run, on torch.

Shapes: N utterances, C = 7 classes.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from common.checkpoint import load_weights, read_config
from common.data import cut_batches
from common.files import LABELS, SAMPLE_RATE, naming
from models.alexnet import build_audio_network
from models.cmbert import build_cmbert
from models.kobert import build_text_network, load_tokenizer
from predicting.batches import Talk, make_batches

MADE_BY = {"text": "text_train.py", "audio": "audio_train.py", "cmbert": "run_classifier.py"}
BUILD = {"text": build_text_network, "audio": build_audio_network, "cmbert": build_cmbert}
# Tokens or samples, and utterances, of a batch: the speed depends on them, not the result.
LIMITS = {"text": (4096, 64), "audio": (40 * SAMPLE_RATE, 8), "cmbert": (4096, 64)}


class Model(NamedTuple):
    """A trained network, its configuration, and its tokenizer (None without words)."""

    network: nn.Module
    config: dict
    tokenizer: object


class Networks:
    """The models of a run's folder, each loaded when it is first needed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.load = cache(self.load)

    def load(self, name: str) -> Model:
        """Return a model, ready to predict; UserError for a damaged one."""
        folder, script = self.folder / name, MADE_BY[name]
        with naming(folder / "config.json", script):
            config = read_config(folder, script)["network"]
            network = BUILD[name](config)
        load_weights(network, folder, script)
        network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return Model(network, config, None if name == "audio" else load_tokenizer(str(folder)))

    @torch.inference_mode()
    def predict(self, name: str, talk: Talk) -> np.ndarray:
        """Return a model's logits (N, C)."""
        network, config, tokenizer = self.load(name)
        encoder = getattr(network, "speech", None)
        lengths, make_batch = make_batches(name, config, talk, tokenizer, encoder)
        device = next(network.parameters()).device
        logits = np.empty((len(talk), len(LABELS)), np.float32)
        for rows in cut_batches(lengths, *LIMITS[name], seed=0):
            batch = {n: torch.from_numpy(a).to(device) for n, a in make_batch(rows).items()}
            logits[rows] = network(**batch).float().cpu().numpy()
        return logits
