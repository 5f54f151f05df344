"""The networks of an exported run through onnxruntime, without torch."""

from functools import partial
from pathlib import Path

import onnxruntime
from tokenizers import Tokenizer

from common.data import Batch
from common.files import UserError
from models.tokenizer import KoBERTTokenizer
from predicting.batches import Model
from predicting.utterances import NEEDED


class PlainTokenizer:
    """A checkpoint's tokenizer.json by the tokenizers library: words -> ids."""

    def __init__(self, path: Path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_padding()

    def encode(self, text: str, max_length: int) -> list[int]:
        self.tokenizer.enable_truncation(max_length)
        return self.tokenizer.encode(text).ids


def load_model(folder: Path, content: dict) -> Model:
    """Load the graph in a folder; UserError for one that is missing or damaged.

    content: of its config.json.
    """
    path = folder / "model.onnx"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read ({reason}): make it with predict.py --export, or leave --onnx "
            "out"
        ) from None
    needed = NEEDED[content["script"]]
    tokenizer = load_tokenizer(folder) if "text" in needed else None
    return Model(needed, session, content["network"], tokenizer, partial(forward, session))


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
