"""What a speech encoder makes of recordings: mean, deviation and blocks of every layer's frames.

Shapes: S samples, T frames, W layers of an encoder, D their width, K statistics
(common/speakers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from common.cache import cached
from common.data import Dataset
from common.features import average_over_tokens
from common.files import UserError
from common.speakers import FIXED, PRIOR_CLIPS, SpeakerNorm, SpeakerStats, clip_stats

if TYPE_CHECKING:  # else importing this would take torch
    from models.speech import SpeechEncoder

BLOCK = 10  # frames of an encoder, 0.2 s, of which CM-BERT hears the mean
POOLED_FLOOR = 1e-3  # as STD_FLOOR, of what is pooled over a clip: it moves less than frames do
COMMON = 99  # per cent of the training recordings within the usual distance

# recordings (S,), frames of a block -> what `summarise` makes of each one's layers
Encode = Callable[[list[np.ndarray], int], list[np.ndarray]]


def describe_encoder(encoder: SpeechEncoder, contents: str) -> dict:
    """Return what a network's configuration says of a frozen speech encoder; see EncoderFrames."""
    if not contents:  # else another encoder's frames would be taken from the cache
        raise UserError("the speech encoder's files cannot be found: is the network up?")
    return {
        "contents": contents,
        "layers": encoder.layers,
        "width": encoder.width,
        "block": BLOCK,
        "speech": encoder.to_json(),
    }


class EncoderFrames:
    """What a frozen speech encoder makes of a dataset, normalised by speaker.

    config: of the network: `contents`, `block`, and `speaker_norm` if it is known already.
    encode: asked for what is not in the cache.  speaker_norms: see Spectrograms.
    """

    def __init__(
        self,
        data: Dataset,
        config: dict,
        encode: Encode,
        speaker_norms: Sequence[str] = (),
    ):
        settings = {name: config[name] for name in ("contents", "block")}
        settings |= {name: config["speech"][name] for name in ("window", "inputs")}
        self.cached = cached(data, "layers", settings, partial(encode, block=config["block"]))
        self.data = data
        self.norm = SpeakerNorm.from_json(config["speaker_norm"]) if speaker_norms else None
        self.stats = [SpeakerStats(data, self.own_stats, norm) for norm in speaker_norms]

    def own_stats(self, rows: np.ndarray) -> np.ndarray:
        """Return each row's own statistics, (n, K)."""
        return np.stack([clip_stats(self.cached.read(row, 2).reshape(1, -1)) for row in rows])

    def fit_norm(self, prior_clips: float = PRIOR_CLIPS) -> dict:
        """Return the configuration of the normalisation that is fitted to all rows.

        usual_distance: within which COMMON per cent of the rows lie, each measured by the sessions
        of the others; None where the encoder is trained as well.
        """
        sessions, rows = self.data.sessions, np.arange(len(self.data))
        of_session = {
            session: sum(self.own_stats([row])[0] for row in rows[sessions == session])
            for session in np.unique(sessions)
        }
        total, distances = sum(of_session.values()), []
        for session, own in of_session.items() if prior_clips != FIXED else ():
            others = total - own if len(of_session) > 1 else total
            norm = SpeakerNorm.fit([others], prior_clips, POOLED_FLOOR)
            found = (self.cached.read(row, 2).reshape(-1) for row in rows[sessions == session])
            distances += [float(norm.distance(pooled.astype(np.float32))) for pooled in found]
        farthest = float(np.percentile(distances, COMMON)) if distances else None
        norm = SpeakerNorm.fit([total], prior_clips, POOLED_FLOOR)
        return norm.to_json() | {"usual_distance": farthest}

    def read(
        self, row: int, random: np.random.Generator | None = None, count: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a row's mean and deviation (2, W D), and its blocks (T, W D), normalised.

        A block is normalised as the mean of all. count: 2 leaves the blocks out.
        """
        stats = self.stats[random.integers(len(self.stats)) if random else 0]
        mean, std = (each.reshape(2, -1) for each in self.norm.mean_and_std(stats.of(row)))
        found = self.cached.read(row, count).astype(np.float32)
        return (found[:2] - mean) / std, (found[2:] - mean[0]) / std[0]


def encode(encoder: SpeechEncoder, clips: list[np.ndarray], block: int) -> list[np.ndarray]:
    """Return what `summarise` makes of every layer's frames of clips (S,) int16, in float32."""
    import torch  # here: predicting may do without

    device = next(encoder.parameters()).device
    tensors = [torch.from_numpy(clip).to(device) for clip in clips]
    with torch.no_grad():
        layers = encoder.eval()(tensors)
    return [summarise(each.cpu().numpy(), block) for each in layers]


def encode_later(find_encoder: Callable[[], SpeechEncoder]) -> Encode:
    """Return `encode` of a speech encoder that is loaded when it is first needed."""
    find_encoder = cache(find_encoder)
    return lambda clips, block: encode(find_encoder(), clips, block)


def summarise(layers: np.ndarray, block: int) -> np.ndarray:
    """Return mean and deviation over the frames (W, T, D), and blocks of frames, (2 + n, W D).

    float16. A block is the mean of some `block` frames; n blocks share the clip's time evenly.
    """
    frames = layers.swapaxes(0, 1).reshape(layers.shape[1], -1)
    blocks = average_over_tokens(frames, max(1, round(len(frames) / block)))
    return np.concatenate([[frames.mean(0), frames.std(0)], blocks]).astype(np.float16)
