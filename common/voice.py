"""What the networks hear: features of the voice, normalised by speaker, in batches.

Speaker normalisation: from every column of the features the speaker's mean is subtracted, and the
difference is divided by the speaker's standard deviation. SPEAKER_NORM says which of the speaker's
utterances they are taken from; no label is used.
    utterance   this utterance alone
    past        the speaker's earlier turns of the session and this utterance, nothing later
    all         every utterance of the speaker in the data at hand (transductive)
They are drawn towards those of the training corpus, which count as `prior_clips` utterances.
Shapes: N utterances, B of a batch, T frames, F columns of the features, S samples, L tokens;
K = 2 + 2 F numbers of the statistics: utterances, frames, each column's sum over the frames, each
column's sum of squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.data import Batch, Dataset, MakeBatch, pad, random_of
from common.features import (
    Mel,
    Paper,
    add_deltas,
    augment,
    average_over_tokens,
    describe_voice,
    log_mel,
    paper_mfcc,
    paper_spectrogram,
    stretch,
)

if TYPE_CHECKING:  # else importing this would take torch
    from models.speech import SpeechEncoder

SPEAKER_NORMS = ("utterance", "past", "all")
VALID_NORM = "past"  # what a system in a conversation has: by it the epoch is chosen
PRIOR_CLIPS = 10  # utterances that the training corpus counts as
STD_FLOOR = 0.1  # a column that hardly moves is not blown up


def clip_stats(frames: np.ndarray) -> np.ndarray:
    """Return the sufficient statistics (K,) float64 of one utterance's frames (T, F)."""
    frames = frames.astype(np.float64)
    return np.concatenate([[1, len(frames)], frames.sum(0), np.square(frames).sum(0)])


def stats_so_far(
    stats: np.ndarray, speakers: np.ndarray, speaker_norm: str, before: np.ndarray | float = 0
) -> np.ndarray:
    """Return the statistics (N, K) that each utterance is normalised by.

    stats (N, K): each utterance's own, in the order of time.  speakers (N,): who speaks; "past"
    adds up within a speaker, so whoever starts anew in every session needs a name for each session.
    before (K,): of what was heard of the one speaker earlier.
    """
    if speaker_norm == "utterance":
        return stats
    found = np.empty_like(stats)
    for speaker in np.unique(speakers):
        rows = np.flatnonzero(speakers == speaker)
        summed = stats[rows].cumsum(0) if speaker_norm == "past" else stats[rows].sum(0)
        found[rows] = before + summed
    return found


@dataclass(frozen=True)
class SpeakerNorm:
    """Mean and variance (F,) of the training corpus, and how much they count for a speaker."""

    mean: np.ndarray
    variance: np.ndarray
    prior_clips: float = PRIOR_CLIPS
    std_floor: float = STD_FLOOR

    @classmethod
    def fit(cls, stats: np.ndarray) -> SpeakerNorm:
        """Take mean and variance from the statistics (N, K) of the rows to learn from."""
        total = stats.sum(0)
        mean, squares = np.split(total[2:] / total[1], 2)
        return cls(mean, np.maximum(squares - np.square(mean), 0))  # but for rounding

    def mean_and_std(self, stats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (N, F) float32 by the statistics (N, K) so far.

        The speaker's and the corpus' distributions are mixed, the speaker's with the weight
        clips / (clips + prior_clips).
        """
        clips, frames, sums, squares = np.split(stats, [1, 2, 2 + len(self.mean)], axis=-1)
        own_mean = sums / frames
        own_variance = np.maximum(squares / frames - np.square(own_mean), 0)
        weight = clips / (clips + self.prior_clips)
        mean = weight * own_mean + (1 - weight) * self.mean
        between = weight * np.square(own_mean - mean) + (1 - weight) * np.square(self.mean - mean)
        variance = weight * own_variance + (1 - weight) * self.variance + between
        std = np.maximum(np.sqrt(variance), self.std_floor)
        return mean.astype(np.float32), std.astype(np.float32)

    def to_json(self) -> dict:
        return {
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "prior_clips": self.prior_clips,
            "std_floor": self.std_floor,
        }

    @classmethod
    def from_json(cls, content: dict) -> SpeakerNorm:
        return cls(
            np.array(content["mean"]),
            np.array(content["variance"]),
            content["prior_clips"],
            content["std_floor"],
        )


def norm_of_rows(
    data: Dataset, stats: np.ndarray, norm: SpeakerNorm, speaker_norm: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (N, F) by which each row is normalised.

    stats (N, K): of the rows of `data`, each utterance's own.
    """
    if data.known_stats is not None:
        return norm.mean_and_std(data.known_stats)
    order, speakers = data.time_order, data.speakers
    if speaker_norm != "all":  # nothing is carried from one session to another
        names = zip(data.sessions, data.speakers, strict=True)
        speakers = np.array([f"{session} {speaker}" for session, speaker in names])
    mean, std = np.empty((2, *stats[:, 2 : 2 + len(norm.mean)].shape), np.float32)
    found = stats_so_far(stats[order], speakers[order], speaker_norm)
    mean[order], std[order] = norm.mean_and_std(found)
    return mean, std


class Spectrograms:
    """The log-mel spectrograms of a dataset, each normalised by its speaker.

    config: of the network: `mel` and `speaker_norm`.  speaker_norms: which are prepared; where
    there are several, one is drawn for each clip.
    """

    def __init__(self, data: Dataset, config: dict, speaker_norms: Sequence[str]):
        self.data, self.mel = data, Mel(**config["mel"])
        norm = SpeakerNorm.from_json(config["speaker_norm"])
        stats = collect_stats(data, self.mel) if data.known_stats is None else data.known_stats
        self.norms = [norm_of_rows(data, stats, norm, each) for each in speaker_norms]

    def read(self, row: int, random: np.random.Generator | None = None) -> np.ndarray:
        """Return one row's normalised spectrogram (T, F); random: draws the normalisation."""
        mean, std = self.norms[random.integers(len(self.norms)) if random else 0]
        return (log_mel(self.data.samples(row), self.mel) - mean[row]) / std[row]


def choose_voice(audio: str, fit: Dataset) -> dict:
    """Return what CM-BERT's configuration says of the voice, fitted to the rows to learn from.

    audio: "aligned", log-mel normalised by speaker over each token's share of the clip; "paper".
    """
    if audio == "paper":
        return {"audio": audio, "width": Paper().mfcc_frames, "paper": asdict(Paper())}
    mel = Mel()
    norm = SpeakerNorm.fit(collect_stats(fit, mel))
    return {
        "audio": audio,
        "width": 3 * mel.bins,
        "mel": asdict(mel),
        "speaker_norm": norm.to_json(),
    }


def collect_stats(data: Dataset, mel: Mel) -> np.ndarray:
    """Return the statistics (N, K) of every row's log-mel spectrogram, from the data's cache."""
    return data.cached(
        "stats", asdict(mel), lambda samples: clip_stats(log_mel(samples, mel))[None]
    ).frames


def frame_batch(clips: list[np.ndarray]) -> Batch:
    """Return the audio networks' arguments from clips (T, 3, F): features (B, 3, T, F), counts."""
    features = np.ascontiguousarray(pad(clips, 0).swapaxes(1, 2))
    return {"features": features, "frame_counts": np.array([len(clip) for clip in clips])}


def spectrogram_batch(clips: list[np.ndarray], config: dict) -> Batch:
    """Return the network's arguments to evaluate normalised clips (T, F), at all its tempos."""
    mel = Mel(**config["mel"])
    return frame_batch(
        [add_deltas(stretch(clip, tempo), mel) for tempo in config["tempos"] for clip in clips]
    )


def audio_batches(
    data: Dataset,
    config: dict,
    speaker_norms: Sequence[str],
    strength: float = 0,
    seed: int = -1,
    encoder: SpeechEncoder | None = None,
) -> MakeBatch:
    """Return the function that makes an audio network's batches; config: the network's.

    speaker_norms: one of them is drawn for each clip.  seed: of a training, in which clips stand at
    one tempo and are augmented with a strength; -1: to evaluate.  encoder: a frozen speech encoder,
    of which each clip's layers are computed once.
    """
    if config["kind"] == "PaperAlexNet":
        paper = Paper(**config["paper"])
        return lambda rows, step=0: frame_batch(
            [paper_spectrogram(data.samples(row), paper).transpose(1, 0, 2) for row in rows]
        )
    if encoder is not None:
        means = data.cached("layer-means", {"encoder": config["contents"]}, encoder.layer_means)
        return lambda rows, step=0: {"layer_means": np.stack([means.read(row) for row in rows])}
    if config["kind"] == "SpeechClassifier":
        return lambda rows, step=0: sample_batch([data.samples(row) for row in rows])
    spectrograms = Spectrograms(data, config, speaker_norms)

    def make_batch(rows: np.ndarray, step: int = 0) -> Batch:
        if seed < 0:
            return spectrogram_batch([spectrograms.read(row) for row in rows], config)
        clips = []
        for row in rows:
            random = random_of(seed, step, row)
            clip = spectrograms.read(row, random)
            clip = augment(clip, strength, random) if strength else clip
            clips.append(add_deltas(clip, spectrograms.mel))
        return frame_batch(clips)

    return make_batch


def sample_batch(clips: list[np.ndarray]) -> Batch:
    """Return samples (B, S) int16, zero after each clip's end, and their counts (B,)."""
    return {"samples": pad(clips, 0), "sample_counts": np.array([len(clip) for clip in clips])}


def token_voice_batches(
    data: Dataset,
    tokens: tuple[np.ndarray, MakeBatch],
    config: dict,
    speaker_norms: Sequence[str],
    strength: float = 0,
    drop_text: float = 0,
    seed: int = -1,
    encoder: SpeechEncoder | None = None,
) -> MakeBatch:
    """Return the function that makes CM-BERT's batches: tokens and the voice over each of them.

    tokens: of `token_batches`.  In a training (seed), in a share `drop_text` of the utterances all
    words are replaced by [MASK]: words are learned so fast that the voice would not be listened to.
    encoder: whose frames are the voice, in place of log-mel.
    """
    counts, make_tokens = tokens
    if config["audio"] == "paper":
        paper, length = Paper(**config["paper"]), config["max_length"]

        def make_paper_batch(rows: np.ndarray, step: int = 0) -> Batch:
            audio = np.stack([paper_mfcc(data.samples(row), paper)[:length] for row in rows])
            return {**make_tokens(rows, length), "audio": audio}

        return make_paper_batch

    if encoder is not None:
        frames = data.cached("frames", {"encoder": config["contents"]}, encoder.frames)

        def read_voice(row: int, random: np.random.Generator | None) -> np.ndarray:
            return frames.read(row)
    else:
        spectrograms = Spectrograms(data, config, speaker_norms)

        def read_voice(row: int, random: np.random.Generator | None) -> np.ndarray:
            voice = describe_voice(spectrograms.read(row, random), spectrograms.mel)
            return augment(voice, strength, random) if random and strength else voice

    def make_batch(rows: np.ndarray, step: int = 0) -> Batch:
        batch, voices = make_tokens(rows), []
        for row, ids in zip(rows, batch["input_ids"], strict=True):
            random = random_of(seed, step, row) if seed >= 0 else None
            voices.append(read_voice(row, random))
            if random and random.random() < drop_text:
                ids[1 : counts[row] - 1] = config["mask_id"]
        return batch | {"audio": lay_over_tokens(voices, counts[rows])}

    return make_batch


def lay_over_tokens(voices: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Average frames (T, ...) over the tokens, (B, L, d), zero at [CLS], [SEP] and padding.

    counts (B,): tokens of each utterance, [CLS] and [SEP] included.
    """
    columns = int(np.prod(voices[0].shape[1:]))
    audio = np.zeros((len(voices), counts.max(), columns), np.float32)
    for place, voice, count in zip(audio, voices, counts, strict=True):
        place[1 : count - 1] = average_over_tokens(voice, count - 2).reshape(-1, columns)
    return audio
