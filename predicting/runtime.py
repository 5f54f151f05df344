"""The networks of an exported run through onnxruntime, without torch."""

from functools import partial
from pathlib import Path

import onnxruntime
from tokenizers import Tokenizer

from common.data import Batch
from common.files import UserError, naming, read_json
from models.tokenizer import KoBERTTokenizer
from predicting.batches import Model

EXPORT = "predict.py --export"


class PlainTokenizer:
    """A checkpoint's tokenizer.json by the tokenizers library: words -> ids."""

    def __init__(self, path: Path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_padding()

    def encode(self, text: str, max_length: int) -> list[int]:
        self.tokenizer.enable_truncation(max_length)
        return self.tokenizer.encode(text).ids


def load_model(folder: Path, name: str) -> Model:
    """Load the graph in folder/name; UserError for one that is missing or damaged."""
    folder = folder / name
    path = folder / "model.onnx"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read ({reason}): make it with {EXPORT}, or leave --onnx out"
        ) from None
    with naming(folder / "config.json", EXPORT):
        config = read_json(folder / "config.json", EXPORT)["network"]
    tokenizer = None if name == "audio" else load_tokenizer(folder)
    return Model(session, config, tokenizer, partial(forward, session))


def forward(session: onnxruntime.InferenceSession, batch: Batch):
    """Return the logits (B, C) of a batch."""
    return session.run(["logits"], batch)[0]


def load_tokenizer(folder: Path) -> KoBERTTokenizer | PlainTokenizer:
    """Load a folder's tokenizer without torch."""
    path = folder / "tokenizer.json"  # of any checkpoint but KoBERT's
    try:
        return PlainTokenizer(path) if path.is_file() else KoBERTTokenizer.from_folder(folder)
    except Exception as error:  # each library has its own
        raise UserError(f"{folder} has no tokenizer that can be read: {error}") from None
