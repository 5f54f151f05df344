"""The three networks as ONNX graphs: from tokens and log-mel spectrograms to logits.

What stands between a spectrogram and a network, the units of what is known of the speaker, is part
of the graph, so that any language can run it. A speaker's state goes in and comes out: zeros are a
stranger's; each graph's metadata name its parts, which are the sums of a SpeakerProfile.
Shapes: B utterances, L tokens, T frames (padding included), F mel bins, D columns of the frames, K
numbers of the state.
"""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from common.files import write_atomically
from models.speaker import clip_sums, known_moments
from pipeline.learning.audio import SpectrogramModel
from pipeline.learning.cmbert import AlignedModel
from pipeline.learning.recogniser import Recogniser
from pipeline.learning.text import TextModel
from pipeline.learning.voices import Average

OPSET = 20
LENGTH, FRAMES = 9, 80  # of the example that is traced
B, L, T = Dim("B"), Dim("L", min=3), Dim("T", min=2)
AXES = {
    "input_ids": {0: B, 1: L},
    "attention_mask": {0: B, 1: L},
    "spectrogram": {0: B, 1: T},
    "frame_counts": {0: B},
    "state": {0: B},
}


def slopes(frames: Tensor, counts: Tensor) -> Tensor:
    """Return features.mel.deltas of (B, T, F), whose first `counts` (B,) frames are real."""
    places = torch.arange(frames.shape[1])[None]

    def at(shift: int) -> Tensor:
        place = (places + shift).clamp(min=0).minimum(counts[:, None] - 1)
        return frames.gather(1, place[..., None].expand(-1, -1, frames.shape[2]))

    return (at(1) - at(-1) + 2 * (at(2) - at(-2))) / 10


def stretched(frames: Tensor, counts: Tensor, tempos: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return features.clips.stretched of (B, T, F), whose first `counts` (B,) frames are real.

    At the S tempos one after another: (S x B, T', F) and the real frames (S x B,).
    """
    lengths = counts / torch.tensor(tempos, dtype=torch.float64)[:, None]
    after = lengths.round().long().clamp(min=1)
    steps = (counts - 1) / (after - 1).clamp(min=1).double()
    places = torch.arange(math.ceil(frames.shape[1] / min(tempos))) * steps[..., None]
    below = places.floor().long().minimum(counts[:, None] - 1)
    above = (below + 1).minimum(counts[:, None] - 1)
    weight = (places - below).clamp(max=1).float()[..., None]  # behind the clip's end anything
    every = frames.expand(len(tempos), -1, -1, -1)
    at = [every.gather(2, p[..., None].expand(-1, -1, -1, frames.shape[2])) for p in (below, above)]
    return (at[0] * (1 - weight) + at[1] * weight).flatten(0, 1), after.flatten()


def frame_sums(frames: Tensor, counts: Tensor) -> Tensor:
    """Return what clips (B, T, D) add to what is known of their speakers, (B, 2 + 2 D)."""
    return clip_sums(frames.transpose(1, 2)[..., None], counts)


class Units(nn.Module):
    """Mean and deviation (B, 1, D) of what is known, the average training speaker counted in."""

    def __init__(self, average: Average, floor: float):
        super().__init__()
        self.floor, self.clips = floor, average.clips
        self.register_buffer("mean", average.mean)
        self.register_buffer("variance", average.variance)

    def forward(self, known: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = known_moments(known, self.mean, self.variance, self.clips)
        return mean[:, None], variance.sqrt().clamp(min=self.floor)[:, None]


class AudioGraph(nn.Module):
    """SpectrogramModel.hear, each clip of its own speaker with a state.

    The state: sums of the known voice's five layers at each tempo and of the spectrogram.
    """

    def __init__(self, model: SpectrogramModel):
        super().__init__()
        self.network, self.mel, self.tempos = model.network, model.mel, model.tempos
        floor = model.mel.deviation_floor
        self.units = Units(model.average, floor)
        mean, deviation = map(torch.from_numpy, model.average.units(floor))
        self.register_buffer("corpus_mean", mean)
        self.register_buffer("corpus_deviation", deviation)
        widths = [norm.num_features for norm in model.network.known.norms]
        self.state = {
            f"{tempo} layer{number}": 2 + 2 * width
            for tempo in self.tempos
            for number, width in enumerate(widths)
        }
        self.state["spectrogram"] = 2 + 2 * model.mel.bins

    def features(self, level: Tensor, counts: Tensor) -> Tensor:
        """Return a normalised spectrogram (B, T, F) and its deltas, (B, 3, T, F)."""
        slope = slopes(level, counts)
        curve = self.mel.curve_scale * slopes(slope, counts)
        return torch.stack([level, self.mel.slope_scale * slope, curve], dim=1)

    def hear_known(self, heard: Tensor, counts: Tensor, before: list) -> tuple[Tensor, list]:
        """Return the logits (B, C) of the known voice's network, and the layers' sums after it."""
        after = []

        def moments(number: int, parts: list) -> list:
            after.append(before[number] + clip_sums(*parts[0]))
            norm = self.network.known.norms[number]
            prior = self.network.config.prior_clips
            return [known_moments(after[-1], norm.running_mean, norm.running_var, prior)]

        (maps,) = self.network.known.convolve([(heard, counts)], moments)
        return self.network.known.classify(*maps), after

    def forward(self, spectrogram: Tensor, frame_counts: Tensor, state: Tensor) -> tuple:
        """(B, T, F), (B,), (B, K) -> logits (B, C), state after the clips (B, K)."""
        *layers, level = state.split(list(self.state.values()), dim=1)
        level = level + frame_sums(spectrogram, frame_counts)
        count, depth = len(self.tempos), len(self.network.known.norms)
        mean, deviation = (units.repeat(count, 1, 1) for units in self.units(level))
        clip, counts = stretched(spectrogram, frame_counts, self.tempos)
        stranger = self.features((clip - self.corpus_mean) / self.corpus_deviation, counts)
        heard = self.features((clip - mean) / deviation, counts)
        before = [torch.cat(layers[number::depth]) for number in range(depth)]
        known, after = self.hear_known(heard, counts, before)
        trust = (level[:, :1] / (level[:, :1] + self.network.config.half_trust)).float()
        by_tempo = (count, spectrogram.shape[0], -1)
        known = known.reshape(by_tempo).mean(0)
        stranger = self.network.stranger(stranger, counts).reshape(by_tempo).mean(0)
        after = [sums.reshape(by_tempo) for sums in after]
        state_after = [sums[tempo] for tempo in range(count) for sums in after] + [level]
        return trust * known + (1 - trust) * stranger, torch.cat(state_after, dim=1)


class CMBERTGraph(nn.Module):
    """AlignedModel.hear, each utterance of its own speaker with a state.

    The state: sums of the description over tokens' frames and of the spectrogram.
    """

    def __init__(self, model: AlignedModel):
        super().__init__()
        self.network, self.mel = model.network, model.mel
        level, voice = (Units(own, model.mel.deviation_floor) for own in model.averages)
        self.level, self.voice = level, voice
        bins = model.mel.bins
        self.state = {"description": 2 + 6 * bins, "spectrogram": 2 + 2 * bins}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        spectrogram: Tensor,
        frame_counts: Tensor,
        state: Tensor,
    ) -> tuple:
        """(B, L), (B, L), (B, T, F), (B,), (B, K) -> logits (B, C), state afterwards (B, K)."""
        described, level = state.split(list(self.state.values()), dim=1)
        level = level + frame_sums(spectrogram, frame_counts)
        mean, deviation = self.level(level)
        clip = (spectrogram - mean) / deviation
        movement = self.mel.slope_scale * slopes(clip, frame_counts).abs()
        voice = torch.cat([clip, clip.square(), movement], dim=2)
        described = described + frame_sums(voice, frame_counts)
        mean, deviation = self.voice(described)
        heard = share_out((voice - mean) / deviation, frame_counts, attention_mask)
        logits = self.network(input_ids, attention_mask, heard)
        return logits, torch.cat([described, level], dim=1)


def share_out(frames: Tensor, counts: Tensor, mask: Tensor) -> Tensor:
    """Return features.tokens.average_over_tokens of (B, T, D) for the inner tokens, (B, L, D).

    mask (B, L): 1 at tokens, of which the first and the last hear nothing.
    """
    places = torch.arange(mask.shape[1])[None]
    tokens = (mask.sum(1, keepdim=True) - 2).clamp(min=1)
    counts = counts[:, None].double()
    borders = places.minimum(tokens) * (counts / tokens)
    sums = torch.nn.functional.pad(frames.double().cumsum(1), (0, 0, 1, 0))
    whole = borders.floor().minimum(counts - 1).long()
    inside = (borders - whole)[..., None]
    index = whole[..., None].expand(-1, -1, frames.shape[2])
    at_borders = sums.gather(1, index) + inside * frames.double().gather(1, index)
    heard = (at_borders[:, 1:] - at_borders[:, :-1]) * (tokens / counts)[..., None]
    inner = (places >= 1) & (places <= mask.sum(1, keepdim=True) - 2)
    return torch.nn.functional.pad(heard, (0, 0, 1, 0)).float() * inner[..., None]


def make_graph(model: Recogniser) -> tuple[nn.Module, dict[str, Tensor], dict[str, int]] | None:
    """Return a model's graph, an example of its arguments and the state's parts.

    None for what has no graph: the paper's features, speech encoders.
    """
    ids = torch.randint(5, 50, (2, LENGTH))
    words = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if isinstance(model, TextModel):
        return model.network, words, {}
    if not isinstance(model, (SpectrogramModel, AlignedModel)):
        return None
    reads = isinstance(model, AlignedModel)
    graph = CMBERTGraph(model) if reads else AudioGraph(model)
    voice = {
        "spectrogram": torch.randn(2, FRAMES, model.mel.bins),
        "frame_counts": torch.tensor([FRAMES, FRAMES - 10]),
        "state": torch.zeros(2, sum(graph.state.values()), dtype=torch.float64),
    }
    return graph, {**words, **voice} if reads else voice, graph.state


def write_graph(model: Recogniser, path: Path) -> bool:
    """Write a model's graph as ONNX, batch and lengths free; tell whether it has one."""
    made = make_graph(model)
    if made is None:
        return False
    graph, example, state = made
    with quiet():
        program = torch.onnx.export(
            graph.eval(),
            kwargs=example,
            dynamo=True,
            dynamic_shapes={name: AXES[name] for name in example},
            input_names=list(example),
            output_names=["logits", "state_after"] if state else ["logits"],
            opset_version=OPSET,
            verbose=False,
        )
    program.model.metadata_props["state"] = json.dumps(state)
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
