"""The networks of an exported run through onnxruntime, without torch."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from common.data import Batch
from common.encoding import summarise
from common.files import UserError
from models.tokenizer import KoBERTTokenizer
from predicting.batches import Encoder, Model
from predicting.utterances import NEEDED


class PlainTokenizer:
    """A checkpoint's tokenizer.json by the tokenizers library: words -> ids."""

    def __init__(self, path: Path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_padding()

    def encode(self, text: str, max_length: int) -> list[int]:
        self.tokenizer.enable_truncation(max_length)
        return self.tokenizer.encode(text).ids


def load_model(folder: Path, content: dict, encoders: dict[str, Encoder]) -> Model:
    """Load the graphs in a folder; UserError for one that is missing or damaged.

    content: of its config.json.  encoders: contents -> speech encoders that are loaded already.
    """
    needed, config = NEEDED[content["script"]], content["network"]
    session, encoder = load_graph(folder / "model.onnx"), None
    if "speech" in config:
        encoder = encoders.get(config["contents"])
        if encoder is None:
            speech = load_graph(folder / "encoder.onnx")
            run = partial(encode, speech, config["speech"]["window"])
            encoder = encoders[config["contents"]] = Encoder(speech, run)
    tokenizer = load_tokenizer(folder) if "text" in needed else None
    return Model(needed, session, config, tokenizer, partial(forward, session), encoder)


def load_graph(path: Path) -> onnxruntime.InferenceSession:
    """Load an ONNX graph; UserError for one that is missing or damaged."""
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: one a core
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read ({reason}): make it with predict.py --export, or leave --onnx "
            "out"
        ) from None


def encode(
    session: onnxruntime.InferenceSession,
    window: tuple[int, int],
    clips: list[np.ndarray],
    block: int,
) -> list[np.ndarray]:
    """Return what `summarise` makes of every layer's frames of clips (S,) int16.

    window: samples that the encoder takes at least and at most.
    """
    least, most = window
    found = []
    for clip in clips:
        parts = np.array_split(clip.astype(np.float32) / 32_768, -(-len(clip) // most))
        padded = [np.pad(part, (0, max(0, least - len(part)))) for part in parts]
        layers = [session.run(["layers"], {"samples": part})[0] for part in padded]
        found.append(summarise(np.concatenate(layers, axis=1), block))
    return found


def forward(session: onnxruntime.InferenceSession, batch: Batch):
    """Return the outputs (B, C) or (B, C + 2) of a batch."""
    return session.run(["logits"], batch)[0]


def load_tokenizer(folder: Path) -> KoBERTTokenizer | PlainTokenizer:
    """Load a folder's tokenizer without torch."""
    path = folder / "tokenizer.json"  # of any checkpoint but KoBERT's
    try:
        return PlainTokenizer(path) if path.is_file() else KoBERTTokenizer.from_folder(folder)
    except Exception as error:  # each library has its own
        raise UserError(f"{folder} has no tokenizer that can be read: {error}") from None
