"""What the networks hear: spectrograms or a speech encoder's frames, normalised, in batches.

Shapes: N utterances, B of a batch, S samples, T frames, L tokens, F mel bins, W layers of an
encoder, D their width, K statistics (common/speakers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from common.cache import Cached, cached
from common.conditions import NOTHING, ConditionMix, Recordings, TrainConditions
from common.data import Batch, Dataset, MakeBatch, pad, random_of
from common.encoding import Encode, EncoderFrames
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
from common.files import hash_json
from common.speakers import SpeakerNorm, SpeakerStats, clip_stats


def features_key(config: dict) -> str:
    """Return a key of the features that a network normalises by speaker; "" if there are none.

    Of the spectrogram's constants, or of the speech encoder's contents.
    """
    if "speaker_norm" not in config:
        return ""
    kind = "contents" if "contents" in config else "mel"
    return f"{kind}-{hash_json(config[kind])[:24]}"


class Spectrograms:
    """The log-mel spectrograms of a dataset, each normalised by its speaker.

    config: of the network: `mel` and `speaker_norm`.  speaker_norms: which are prepared; where
    there are several, one is drawn for each clip.
    """

    def __init__(self, data: Dataset, config: dict, speaker_norms: Sequence[str]):
        self.cached = cache_log_mel(data, Mel(**config["mel"]))
        self.norm = SpeakerNorm.from_json(config["speaker_norm"])
        stats = None if data.known_stats is not None else collect_stats(self.cached)
        self.stats = [SpeakerStats(data, lambda rows: stats[rows], norm) for norm in speaker_norms]

    def read(self, row: int, random: np.random.Generator | None = None) -> np.ndarray:
        """Return one row's normalised spectrogram (T, F); random: draws the normalisation."""
        stats = self.stats[random.integers(len(self.stats)) if random else 0]
        mean, std = self.norm.mean_and_std(stats.of(row))
        return (self.cached.read(row) - mean) / std


def choose_voice(audio: str, fit: Dataset) -> dict:
    """Return what CM-BERT's configuration says of the voice, fitted to the rows to learn from.

    audio: "aligned", log-mel normalised by speaker over each token's share of the clip; "paper".
    """
    if audio == "paper":
        return {"audio": audio, "width": Paper().mfcc_frames, "paper": asdict(Paper())}
    mel = Mel()
    norm = SpeakerNorm.fit(collect_stats(cache_log_mel(fit, mel)))
    return {
        "audio": audio,
        "width": 3 * mel.bins,
        "mel": asdict(mel),
        "speaker_norm": norm.to_json(),
    }


def cache_log_mel(data: Dataset, mel: Mel) -> Cached:
    """Return every row's log-mel spectrogram (T, F), from the data's cache."""
    return cached(data, "mel", asdict(mel), lambda clips: [log_mel(clip, mel) for clip in clips])


def collect_stats(spectrograms: Cached) -> np.ndarray:
    """Return the statistics (N, K) of every row's spectrogram; of no rows (0, 0)."""
    found = [clip_stats(spectrograms.read(row)) for row in range(len(spectrograms.arrays))]
    return np.stack(found) if found else np.zeros((0, 0))


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
    encode: Encode | None = None,
    train_conditions: TrainConditions = NOTHING,
) -> MakeBatch:
    """Return the function that makes an audio network's batches; config: the network's.

    speaker_norms: one of them is drawn for each clip.  seed: of a training, in which clips stand at
    one tempo, are augmented with a strength and changed by `train_conditions`; -1: to
    evaluate.  encode: of a frozen encoder, None while it is trained.
    """
    mix = partial(ConditionMix, data, train_conditions, seed)

    def draw(step: int, row: int) -> np.random.Generator | None:
        return random_of(seed, step, row) if seed >= 0 else None

    if config["kind"] == "PaperAlexNet":
        paper, recordings = Paper(**config["paper"]), mix(Recordings)

        def make_paper_batch(rows: np.ndarray, step: int = 0) -> Batch:
            clips = [recordings.read(row, draw(step, row)) for row in rows]
            return frame_batch([paper_spectrogram(c, paper).transpose(1, 0, 2) for c in clips])

        return make_paper_batch
    if config["kind"] == "SpeechClassifier" and encode is None:
        recordings = mix(Recordings)
        return lambda rows, step=0: sample_batch(
            [recordings.read(row, draw(step, row)) for row in rows]
        )
    if config["kind"] == "SpeechClassifier":
        frames = mix(lambda each: EncoderFrames(each, config, encode, speaker_norms))

        def make_pooled_batch(rows: np.ndarray, step: int = 0) -> Batch:
            pooled = [frames.read(row, draw(step, row), 2)[0] for row in rows]
            return {"pooled": np.stack(pooled).reshape(len(rows), 2, config["layers"], -1)}

        return make_pooled_batch
    mel = Mel(**config["mel"])
    spectrograms = mix(lambda each: Spectrograms(each, config, speaker_norms))

    def make_batch(rows: np.ndarray, step: int = 0) -> Batch:
        if seed < 0:
            return spectrogram_batch([spectrograms.read(row) for row in rows], config)
        clips = []
        for row in rows:
            random = draw(step, row)
            clip = spectrograms.read(row, random)
            clip = augment(clip, strength, random) if strength else clip
            clips.append(add_deltas(clip, mel))
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
    encode: Encode | None = None,
    train_conditions: TrainConditions = NOTHING,
) -> MakeBatch:
    """Return the function that makes CM-BERT's batches: tokens and the voice over each of them.

    tokens: of `token_batches`.  In a training (seed), in a share `drop_text` of the utterances all
    words are replaced by [MASK]: words are learned so fast that the voice would not be listened to.
    encode: of the speech encoder whose frames are the voice, in place of log-mel.
    train_conditions: as of `audio_batches`.
    """
    _, make_tokens = tokens
    mix = partial(ConditionMix, data, train_conditions, seed)

    def draw(step: int, row: int) -> np.random.Generator | None:
        return random_of(seed, step, row) if seed >= 0 else None

    if config["audio"] == "paper":
        paper, length = Paper(**config["paper"]), config["max_length"]
        recordings = mix(Recordings)

        def make_paper_batch(rows: np.ndarray, step: int = 0) -> Batch:
            clips = [recordings.read(row, draw(step, row)) for row in rows]
            audio = np.stack([paper_mfcc(clip, paper)[:length] for clip in clips])
            return {**make_tokens(rows, step, length), "audio": audio}

        return make_paper_batch

    if config["audio"] == "encoder":
        frames = mix(lambda each: EncoderFrames(each, config, encode, speaker_norms))

        def read_voice(row: int, random: np.random.Generator | None) -> np.ndarray:
            return frames.read(row, random)[1]
    else:
        mel = Mel(**config["mel"])
        spectrograms = mix(lambda each: Spectrograms(each, config, speaker_norms))

        def read_voice(row: int, random: np.random.Generator | None) -> np.ndarray:
            voice = describe_voice(spectrograms.read(row, random), mel)
            return augment(voice, strength, random) if random and strength else voice

    def make_batch(rows: np.ndarray, step: int = 0) -> Batch:
        batch, voices = make_tokens(rows, step), []
        counts = batch["attention_mask"].sum(1)
        for row, ids, count in zip(rows, batch["input_ids"], counts, strict=True):
            random = draw(step, row)
            voices.append(read_voice(row, random))
            if random and random.random() < drop_text:
                ids[1 : count - 1] = config["mask_id"]
        return batch | {"audio": lay_over_tokens(voices, counts)}

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
