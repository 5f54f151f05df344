"""The trained networks of a run, on torch."""

from pathlib import Path

import numpy as np
import torch

from common.checkpoint import load_weights, read_config
from common.data import Batch
from common.files import naming
from models.alexnet import build_audio_network
from models.cmbert import build_cmbert
from models.kobert import build_text_network, load_tokenizer
from predicting.batches import MADE_BY, Model

BUILD = {"text": build_text_network, "audio": build_audio_network, "cmbert": build_cmbert}


def load_model(folder: Path, name: str) -> Model:
    """Load the model in folder/name, ready to predict; UserError for a damaged one."""
    folder, script = folder / name, MADE_BY[name]
    with naming(folder / "config.json", script):
        config = read_config(folder, script)["network"]
        network = BUILD[name](config)
    load_weights(network, folder, script)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).eval()

    @torch.inference_mode()
    def forward(batch: Batch) -> np.ndarray:
        tensors = {n: torch.from_numpy(array).to(device) for n, array in batch.items()}
        return network(**tensors).float().cpu().numpy()

    tokenizer = None if name == "audio" else load_tokenizer(str(folder))
    return Model(network, config, tokenizer, forward, getattr(network, "speech", None))
