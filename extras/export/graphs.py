"""The networks as ONNX graphs: what a batch has (common/data.py, voice.py) -> logits.

Shapes: B utterances, L tokens, T frames (padding included), F mel bins.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from common.files import write_atomically
from predicting.batches import Model

OPSET = 20
LENGTH, FRAMES = 9, 80  # of the example that is traced
B, L, T = Dim("B"), Dim("L", min=3), Dim("T", min=2)
TOKENS = {"input_ids": {0: B, 1: L}, "attention_mask": {0: B, 1: L}}


def make_example(model: Model) -> tuple[dict[str, Tensor], dict[str, dict]] | None:
    """Return an example of a network's arguments and which of their sizes are free.

    None for what has no graph: the paper's features, speech encoders.
    """
    config = model.config
    ids = torch.randint(5, 50, (2, LENGTH))
    words = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.needed == "text":
        return words, TOKENS
    if model.needed == "text+audio" and config["audio"] == "aligned":
        audio = torch.randn(2, LENGTH, config["width"])
        return {**words, "audio": audio}, {**TOKENS, "audio": {0: B, 1: L}}
    if model.needed == "audio" and config["kind"] == "ModifiedAlexNet":
        tempos = len(config["tempos"])
        clips = tempos * B if tempos > 1 else B  # a clip stands there at every tempo
        counts = torch.tensor([FRAMES, FRAMES - 10]).repeat(tempos)
        features = torch.randn(2 * tempos, 3, FRAMES, config["mel"]["bins"])
        axes = {"features": {0: clips, 2: T}, "frame_counts": {0: clips}}
        return {"features": features, "frame_counts": counts}, axes
    return None


def write_graph(model: Model, path: Path) -> bool:
    """Write a model's graph as ONNX, batch and lengths free; tell whether it has one."""
    made = make_example(model)
    if made is None:
        return False
    example, axes = made
    with quiet():
        program = torch.onnx.export(
            model.network.cpu().eval(),
            kwargs=example,
            dynamo=True,
            dynamic_shapes=axes,
            input_names=list(example),
            output_names=["logits"],
            opset_version=OPSET,
            verbose=False,
        )
    with write_atomically(path) as temporary:
        program.save(temporary, external_data=False)
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back the exporter's remarks on packages that are not needed and on its own workings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)
