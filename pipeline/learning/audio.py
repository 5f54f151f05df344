"""The audio model: ModifiedAlexNet on spectrograms, or a speech encoder on samples.

Shapes: B clips of a batch, T frames, F frequency bins, S samples.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from models import check_choice
from models.alexnet import ModifiedAlexNet
from models.speech import SpeechClassifier, build_speech_encoder, load_speech_encoder
from pipeline.features.clips import augmented
from pipeline.features.mel import Mel, add_deltas, mel_power, normalise_speaker, per_speaker
from pipeline.features.paper import PAPER_BINS, paper_spectrogram
from pipeline.files import RATE
from pipeline.learning.batches import cut_batches, cut_speaker_batches, learning_random, pad
from pipeline.learning.checkpoint import read_config
from pipeline.learning.dataset import Utterances
from pipeline.learning.recogniser import Recogniser

NAME = "audio"
MADE_BY = "audio_train.py"


def create(settings: dict) -> AudioModel:
    """Start with random weights, or from a pretrained speech encoder."""
    if settings["encoder"] != "alexnet":
        return SpeechEncoderModel(*load_speech_encoder(settings["encoder"]), settings)
    check_choice("FEATURES", settings["features"], ("mel", "paper"))
    if settings["features"] == "paper":
        return PaperModel(settings)
    return SpectrogramModel(Mel(), settings)


def load(folder: Path) -> AudioModel:
    """Load a trained model."""
    config = read_config(folder, MADE_BY)
    settings = config["settings"]
    if settings["encoder"] != "alexnet":
        encoder = build_speech_encoder(config["encoder"])
        model = SpeechEncoderModel(encoder, config["normalise"], settings)
    elif settings["features"] == "paper":
        model = PaperModel(settings)
    else:
        model = SpectrogramModel(Mel(**config["mel"]), settings)
    model.restore(folder, MADE_BY)
    return model


def compute_spectrograms(rows: Utterances, mel: Mel) -> list[np.ndarray]:
    """Return the log-mel spectrogram (T, F) of every row, normalised by speaker.

    No label is used; timbre and microphone drop out. The rows should hold all that is known of a
    speaker: with only the clip itself to go by, results are much worse (runs/LOG.md).
    """
    bar = tqdm(range(len(rows)), desc="spectrograms", unit=" utt", disable=None, leave=False)
    powers = [mel_power(rows.samples(row), mel) for row in bar]
    return per_speaker(rows.speakers, powers, lambda own: normalise_speaker(own, mel))


class AudioModel(Recogniser):
    """What models of the voice share: batches by seconds of audio."""

    BUDGET = "batch_seconds"

    def describe(self) -> dict:
        return {}

    def prepare(self, rows: Utterances) -> Utterances:
        return rows

    def batches(
        self, rows: Utterances, seed: int | None, budget: int, size: int
    ) -> list[np.ndarray]:
        return cut_batches(rows.sample_counts, budget * RATE, size, seed)


class SpectrogramModel(AudioModel):
    """ModifiedAlexNet in its default setting: log-mel and deltas, normalised by speaker.

    So is every layer of a network with pooling "statistics": its batches are of one speaker, and it
    classifies all of a speaker's together.
    """

    def __init__(self, mel: Mel, settings: dict):
        self.mel, self.settings = mel, settings
        self.network = ModifiedAlexNet(settings["pooling"], mel.bins, settings["dropout"])

    def describe(self) -> dict:
        return {"mel": asdict(self.mel)}

    def prepare(self, rows: Utterances) -> Utterances:
        return rows.with_features(spectrograms=compute_spectrograms(rows, self.mel))

    def batches(
        self, rows: Utterances, seed: int | None, budget: int, size: int
    ) -> list[np.ndarray]:
        if self.network.is_paper:
            return super().batches(rows, seed, budget, size)
        return cut_speaker_batches(rows.speakers, rows.sample_counts, budget * RATE, size, seed)

    def inputs(self, rows: Utterances, chosen: np.ndarray, learning: bool) -> dict[str, Tensor]:
        """Return features (B, 3, T, F), the spectrograms and their deltas, and frame counts."""
        clips = [rows.features["spectrograms"][row] for row in chosen]
        if learning and self.settings["augment"]:
            random = learning_random()
            clips = [augmented(clip, self.settings["augment"], random) for clip in clips]
        return frame_batch([add_deltas(clip, self.mel) for clip in clips])

    def companies(self, rows: Utterances, budget: int, size: int) -> list[list[np.ndarray]]:
        if self.network.is_paper:
            return super().companies(rows, budget, size)
        batches = self.batches(rows, None, budget, size)
        return [list(own) for _, own in groupby(batches, lambda batch: rows.speakers[batch[0]])]

    def classify(self, company: list[dict[str, Tensor]]) -> Tensor:
        if self.network.is_paper:
            return super().classify(company)
        return self.network.classify_speaker(company)


class PaperModel(AudioModel):
    """ModifiedAlexNet on the published spectrograms."""

    def __init__(self, settings: dict):
        self.settings = settings
        self.network = ModifiedAlexNet(settings["pooling"], PAPER_BINS, settings["dropout"])

    def inputs(self, rows: Utterances, chosen: np.ndarray, learning: bool) -> dict[str, Tensor]:
        """Return the paper's features (B, 3, T, 321) and frame counts."""
        return frame_batch(
            [paper_spectrogram(rows.samples(row)).transpose(1, 0, 2) for row in chosen]
        )


class SpeechEncoderModel(AudioModel):
    """A self-supervised speech encoder; each clip is classified without the speaker's others."""

    def __init__(self, encoder: nn.Module, normalise: bool, settings: dict):
        self.settings, self.normalise = settings, normalise
        frozen = settings["encoder_rate"] == 0
        self.network = SpeechClassifier(encoder, normalise, frozen, settings["dropout"])

    def describe(self) -> dict:
        return {"encoder": self.network.encoder.config.to_dict(), "normalise": self.normalise}

    def inputs(self, rows: Utterances, chosen: np.ndarray, learning: bool) -> dict[str, Tensor]:
        """Return samples (B, S) int16, zero after each clip's end, and sample counts."""
        clips = [rows.samples(row) for row in chosen]
        counts = torch.tensor([len(clip) for clip in clips])
        return {"samples": pad(clips, 0), "sample_counts": counts}


def frame_batch(clips: list[np.ndarray]) -> dict[str, Tensor]:
    """Return features (B, 3, T, F) of clips (T, 3, F), zero after each clip's end, and counts."""
    counts = torch.tensor([len(clip) for clip in clips])
    return {"features": pad(clips, 0).transpose(1, 2), "frame_counts": counts}
