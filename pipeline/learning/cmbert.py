"""The text-audio model: CM-BERT, its tokens, and the voice over each of them.

Shapes: B utterances of a batch, L tokens, d audio features per token.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models import check_choice
from models.cmbert import CMBERT
from models.kobert import build_encoder, load_encoder, load_tokenizer
from pipeline.features.clips import augmented
from pipeline.features.mel import Mel, per_speaker
from pipeline.features.paper import PAPER_MFCC_FRAMES, paper_mfcc
from pipeline.features.tokens import average_over_tokens, describe_voice, voice_units
from pipeline.learning.audio import compute_spectrograms
from pipeline.learning.batches import learning_random
from pipeline.learning.checkpoint import read_config
from pipeline.learning.dataset import Utterances
from pipeline.learning.text import TokenReader

NAME = "cmbert"
MADE_BY = "run_classifier.py"


def create(settings: dict) -> CMBERTModel:
    """Start from the pretrained encoder BERT."""
    check_choice("AUDIO", settings["audio"], ("aligned", "paper"))
    tokenizer, encoder = load_tokenizer(settings["bert"]), load_encoder(settings["bert"])
    pad_id = tokenizer.pad_id if settings["pad_id"] < 0 else settings["pad_id"]
    if settings["audio"] == "paper":
        model = PaperVoiceModel(encoder, tokenizer, pad_id, PAPER_MFCC_FRAMES, settings)
    else:
        model = AlignedModel(encoder, tokenizer, pad_id, Mel(), settings)
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad &= not name.startswith(tuple(settings["frozen"]))
    return model


def load(folder: Path) -> CMBERTModel:
    """Load a trained model."""
    config = read_config(folder, MADE_BY)
    encoder, tokenizer = build_encoder(config["encoder"]), load_tokenizer(folder)
    settings, pad_id = config["settings"], config["pad_id"]
    if config["mel"] is None:
        model = PaperVoiceModel(encoder, tokenizer, pad_id, PAPER_MFCC_FRAMES, settings)
    else:
        model = AlignedModel(encoder, tokenizer, pad_id, Mel(**config["mel"]), settings)
    model.restore(folder, MADE_BY)
    return model


class CMBERTModel(TokenReader):
    """What both kinds of CM-BERT share: the network, width d of what it hears over a token."""

    def __init__(self, encoder: nn.Module, tokenizer, pad_id: int, width: int, settings: dict):
        self.settings, self.tokenizer, self.pad_id = settings, tokenizer, pad_id
        self.network = CMBERT(
            encoder,
            width,
            settings["scale"],
            settings["voice"],
            settings["pooling"],
            settings["attention_dropout"],
            settings["dropout"],
        )

    def describe(self) -> dict:
        encoder = self.network.encoder.config.to_dict()
        return {"encoder": encoder, "pad_id": self.pad_id, "mel": None}

    def mask_words(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch with [MASK] in the place of every word."""
        ids, tokenizer = batch["input_ids"], self.tokenizer
        kept = (ids == tokenizer.cls_id) | (ids == tokenizer.sep_id) | (ids == self.pad_id)
        return {**batch, "input_ids": torch.where(kept, ids, tokenizer.mask_id)}


class AlignedModel(CMBERTModel):
    """Every token hears its share of the clip: level, its square and movement of the mel bins."""

    def __init__(self, encoder: nn.Module, tokenizer, pad_id: int, mel: Mel, settings: dict):
        super().__init__(encoder, tokenizer, pad_id, 3 * mel.bins, settings)
        self.mel = mel

    def describe(self) -> dict:
        return {**super().describe(), "mel": asdict(self.mel)}

    def prepare(self, rows: Utterances) -> Utterances:
        spectrograms = compute_spectrograms(rows, self.mel)

        def units_of(own: list[np.ndarray]) -> list[tuple]:
            return [voice_units(own, self.mel)] * len(own)

        units = per_speaker(rows.speakers, spectrograms, units_of)
        return super().prepare(rows).with_features(spectrograms=spectrograms, units=units)

    def inputs(self, rows: Utterances, chosen: np.ndarray, learning: bool) -> dict[str, Tensor]:
        """Return tokens and audio (B, L, d), zero at [CLS], [SEP] and padding.

        Each token gets its share of the clip in proportion to time. While learning, audio is
        augmented, and in a share HIDE_WORDS of the utterances all words are replaced by [MASK]:
        words are learned so fast that the voice would not be listened to.
        """
        batch = self.tokens(rows, chosen)
        random = learning_random() if learning else None
        audio = torch.zeros(*batch["input_ids"].shape, 3 * self.mel.bins)
        for row, ids, place in zip(chosen, batch["input_ids"], audio, strict=True):
            mean, deviation = rows.features["units"][row]
            voice = describe_voice(rows.features["spectrograms"][row], self.mel)
            voice = (voice - mean) / deviation
            tokens = len(rows.features["token_ids"][row]) - 2
            if random:
                voice = augmented(voice, self.settings["augment"], random)
                if random.random() < self.settings["hide_words"]:
                    ids[1 : tokens + 1] = self.tokenizer.mask_id
            heard = average_over_tokens(voice, tokens).reshape(tokens, -1)
            place[1 : tokens + 1] = torch.from_numpy(heard)
        return {**batch, "audio": audio}


class PaperVoiceModel(CMBERTModel):
    """MFCC as published: coefficient number l lies against token number l, no alignment in time."""

    def inputs(self, rows: Utterances, chosen: np.ndarray, learning: bool) -> dict[str, Tensor]:
        """Return tokens and audio (B, MAX_LENGTH, 465); MAX_LENGTH is always padded to."""
        length = self.settings["max_length"]
        audio = np.stack([paper_mfcc(rows.samples(row))[:length] for row in chosen])
        return {**self.tokens(rows, chosen, length), "audio": torch.from_numpy(audio)}
