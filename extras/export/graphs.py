"""The networks as ONNX graphs: what a batch has (common/data.py, voice.py) -> logits.

Where a model has learned valence and arousal they stand behind its logits, (B, C + 2).

Shapes: B utterances, L tokens, T frames (padding included), F mel bins.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from common.files import SAMPLE_RATE, write_atomically
from models import first_line
from models.speech import SpeechEncoder, normalise
from predicting.batches import Model

OPSET = 20
TOLERANCE = 1e-4  # of a speech encoder's pooled layers
LENGTH, FRAMES = 9, 80  # of the example that is traced
B, L, T = Dim("B"), Dim("L", min=3), Dim("T", min=2)
TOKENS = {"input_ids": {0: B, 1: L}, "attention_mask": {0: B, 1: L}}


def make_example(model: Model) -> tuple[dict[str, Tensor], dict[str, dict]] | None:
    """Return an example of a network's arguments and which of their sizes are free.

    None for what has no graph: the paper's features.
    """
    config = model.config
    ids = torch.randint(5, 50, (2, LENGTH))
    words = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.needed == "text":
        return words, TOKENS
    if model.needed == "text+audio" and config["audio"] != "paper":
        audio = torch.randn(2, LENGTH, config["width"] * config.get("layers", 1))
        return {**words, "audio": audio}, {**TOKENS, "audio": {0: B, 1: L}}
    if model.needed == "audio" and config["kind"] == "SpeechClassifier":
        pooled = torch.randn(2, 2, config["layers"], config["width"])
        return {"pooled": pooled}, {"pooled": {0: B}}
    if model.needed == "audio" and config["kind"] == "ModifiedAlexNet":
        tempos = len(config["tempos"])
        clips = tempos * B if tempos > 1 else B  # a clip stands there at every tempo
        counts = torch.tensor([FRAMES, FRAMES - 10]).repeat(tempos)
        features = torch.randn(2 * tempos, 3, FRAMES, config["mel"]["bins"])
        axes = {"features": {0: clips, 2: T}, "frame_counts": {0: clips}}
        return {"features": features, "frame_counts": counts}, axes
    return None


def write_graphs(model: Model, folder: Path) -> str:
    """Write a model as model.onnx, batch and lengths free, and its speech encoder as encoder.onnx.

    Return why there is no graph; "" where there is one.
    """
    made = make_example(model)
    if made is None:
        return "the paper's features"
    reason = write_encoder(model.encoder.network, folder / "encoder.onnx") if model.encoder else ""
    if not reason:
        example, axes = made
        write_graph(model.network.cpu().eval(), example, axes, "logits", folder / "model.onnx")
    return reason


def write_graph(
    network: nn.Module, example: dict[str, Tensor], axes: dict, output: str, path: Path
) -> None:
    """Write a network as an ONNX graph."""
    with quiet():
        program = torch.onnx.export(
            network,
            kwargs=example,
            dynamo=True,
            dynamic_shapes=axes,
            input_names=list(example),
            output_names=[output],
            opset_version=OPSET,
            verbose=False,
        )
    with write_atomically(path) as temporary:
        program.save(temporary, external_data=False)


class OneClip(nn.Module):
    """A speech encoder of one clip: samples (S,) in [-1, 1) -> its layers (W, T, D)."""

    def __init__(self, encoder: SpeechEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, samples: Tensor) -> Tensor:
        return normalise(self.encoder.encode_alone(self.encoder.prepare_samples(samples)))


@torch.no_grad()
def write_encoder(encoder: SpeechEncoder, path: Path) -> str:
    """Write a speech encoder as a graph whose layers' means are right to TOLERANCE.

    Return why there is none; "" where there is one.
    """
    if encoder.inputs["kind"] == "filter banks":
        return "the filter banks that its speech encoder reads are no part of it"
    network, kind = OneClip(encoder.cpu().eval()), encoder.encoder.config.model_type
    samples = torch.randn(2 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) / 10
    axes = {"samples": {0: Dim("S", min=encoder.shortest)}}
    try:
        write_graph(network, {"samples": samples[:SAMPLE_RATE]}, axes, "layers", path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (layers,) = session.run(["layers"], {"samples": samples.numpy()})
        error = np.abs(layers.mean(1) - network(samples).mean(1).numpy()).max()
    except Exception as problem:  # exporter and runtime have many of their own
        path.unlink(missing_ok=True)
        return f"{kind} cannot be exported ({first_line(problem)[:80]})"
    if error > TOLERANCE:
        path.unlink()
        return f"the graph of {kind} is off by {error:.1g}"
    return ""


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
