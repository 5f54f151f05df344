"""The trained networks of a run, on torch."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from common.checkpoint import load_frozen, load_weights
from common.data import Batch
from common.encoding import encode
from common.files import naming
from fusion.outputs import command
from models.alexnet import build_audio_network
from models.cmbert import build_cmbert
from models.kobert import build_text_network, load_tokenizer
from predicting.batches import Encoder, Model
from predicting.utterances import NEEDED

BUILD = {"text": build_text_network, "audio": build_audio_network, "text+audio": build_cmbert}


def load_model(folder: Path, content: dict, encoders: dict[str, Encoder]) -> Model:
    """Load the model in a folder, ready to predict; UserError for a damaged one.

    content: of its config.json.  encoders: contents -> speech encoders that are loaded already.
    """
    config, needed = content["network"], NEEDED[content["script"]]
    made_by = command(content["script"], folder.name)
    with naming(folder / "config.json", made_by):
        network = BUILD[needed](config)
    load_weights(network, folder, made_by)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).eval()

    @torch.inference_mode()
    def forward(batch: Batch) -> np.ndarray:
        tensors = {n: torch.from_numpy(array).to(device) for n, array in batch.items()}
        return network(**tensors).float().cpu().numpy()

    tokenizer = load_tokenizer(str(folder)) if "text" in needed else None
    encoder = None
    if "speech" in config:
        encoder = encoders.get(config["contents"])
        if encoder is None:
            from models.speech import build_speech_encoder  # takes seconds

            speech = build_speech_encoder(config["speech"])
            load_frozen(speech, folder, made_by).to(device).eval()
            encoder = encoders[config["contents"]] = Encoder(speech, partial(encode, speech))
    return Model(needed, network, config, tokenizer, forward, encoder)
