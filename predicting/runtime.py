"""The networks of an exported run through onnxruntime, without torch.

Shapes: N utterances, C = 7 classes.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from common.data import cut_batches
from common.files import LABELS, SAMPLE_RATE, UserError, naming, read_json
from models.tokenizer import KoBERTTokenizer, find_sentencepiece
from predicting.batches import Talk, make_batches

EXPORT = "predict.py --export"
LIMITS = {"text": (4096, 8), "audio": (40 * SAMPLE_RATE, 8), "cmbert": (4096, 8)}


class PlainTokenizer:
    """A checkpoint's tokenizer.json by the tokenizers library: words -> ids."""

    def __init__(self, path: Path):
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            reason = f"no tokenizer that can be read: {error}"
            raise UserError(f"{path.parent} has {reason}") from None
        self.tokenizer.no_padding()

    def encode(self, text: str, max_length: int) -> list[int]:
        self.tokenizer.enable_truncation(max_length)
        return self.tokenizer.encode(text).ids


class Graph(NamedTuple):
    """A network's graph, its configuration, and its tokenizer (None without words)."""

    session: onnxruntime.InferenceSession
    config: dict
    tokenizer: KoBERTTokenizer | PlainTokenizer | None


class Graphs:
    """The graphs of a run's folder, each loaded when it is first needed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.load = cache(self.load)

    def load(self, name: str) -> Graph:
        """Return a model's graph; UserError for one that is missing or damaged."""
        folder = self.folder / name
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
        return Graph(session, config, None if name == "audio" else load_tokenizer(folder))

    def predict(self, name: str, talk: Talk) -> np.ndarray:
        """Return a model's logits (N, C)."""
        session, config, tokenizer = self.load(name)
        lengths, make_batch = make_batches(name, config, talk, tokenizer)
        logits = np.empty((len(talk), len(LABELS)), np.float32)
        for rows in cut_batches(lengths, *LIMITS[name], seed=0):
            (logits[rows],) = session.run(None, make_batch(rows))
        return logits


def load_tokenizer(folder: Path) -> KoBERTTokenizer | PlainTokenizer:
    """Load a folder's tokenizer without torch."""
    path = find_sentencepiece(folder)
    if path is None:
        return PlainTokenizer(folder / "tokenizer.json")
    with naming(path, EXPORT):
        return KoBERTTokenizer.from_folder(folder)
