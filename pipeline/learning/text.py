"""The text model: KoBERT or another BERT, its tokenizer, and rows as its batches.

Shapes: B utterances of a batch, L tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.files import naming
from models.kobert import (
    HubTokenizer,
    KoBERTClassifier,
    KoBERTTokenizer,
    build_encoder,
    check_positions,
    check_unknown_share,
    load_encoder,
    load_tokenizer,
)
from pipeline.learning.batches import Step, cut_batches, pad
from pipeline.learning.checkpoint import read_config
from pipeline.learning.dataset import Utterances
from pipeline.learning.recogniser import Recogniser

NAME = "text"
MADE_BY = "text_train.py"


def create(settings: dict) -> TextModel:
    """Start from the pretrained encoder BERT."""
    bert = settings["bert"]
    tokenizer = load_tokenizer(bert)
    encoder = load_encoder(bert, settings["head"] == "pooler")
    check_positions(encoder, settings["max_length"], bert)
    return TextModel(encoder, tokenizer, settings)


def load(folder: Path) -> TextModel:
    """Load a trained model."""
    config, tokenizer = read_config(folder, MADE_BY), read_tokenizer(folder, MADE_BY)
    with naming(folder / "config.json", MADE_BY):
        settings = config["settings"]
        encoder = build_encoder(config["encoder"], settings["head"] == "pooler")
        model = TextModel(encoder, tokenizer, settings)
    model.restore(folder, MADE_BY)
    return model


def read_tokenizer(folder: Path, made_by: str) -> KoBERTTokenizer | HubTokenizer:
    """Return the tokenizer of a finished training."""
    with naming(folder / "spiece.model", made_by):
        return load_tokenizer(folder)


class TokenReader(Recogniser):
    """What models that read words share: a tokenizer, batches by tokens.

    tokenizer, pad_id: the token that pads.
    """

    BUDGET = "batch_tokens"

    def files(self) -> dict[str, bytes]:
        return self.tokenizer.files()

    def prepare(self, rows: Utterances) -> Utterances:
        length = self.settings["max_length"]
        ids = [self.tokenizer.encode(text, length) for text in rows.table["text"]]
        return rows.with_features(token_ids=ids)

    def inspect(self, rows: Utterances) -> str:
        ids, unknown = rows.features["token_ids"], self.tokenizer.unk_id
        share = check_unknown_share(ids, unknown, self.settings["bert"])
        return f"; {share:.2%} of tokens unknown"

    def batches(
        self, rows: Utterances, seed: int | None, budget: int, size: int
    ) -> list[np.ndarray]:
        return cut_batches(rows.token_counts, budget, size, seed)

    def tokens(self, rows: Utterances, chosen: np.ndarray, length: int = 0) -> dict[str, Tensor]:
        """Return input_ids and attention_mask, int64 (B, L); L is at least `length`."""
        ids = [rows.features["token_ids"][row] for row in chosen]
        input_ids = pad(ids, self.pad_id, length)
        counts = torch.tensor([len(own) for own in ids])
        mask = torch.arange(input_ids.shape[1])[None] < counts[:, None]
        return {"input_ids": input_ids, "attention_mask": mask.long()}


class TextModel(TokenReader):
    """Logits from the words alone."""

    def __init__(self, encoder: nn.Module, tokenizer, settings: dict):
        self.settings, self.tokenizer, self.pad_id = settings, tokenizer, tokenizer.pad_id
        self.network = KoBERTClassifier(encoder, settings["head"], settings["dropout"])

    def describe(self) -> dict:
        return {"encoder": self.network.encoder.config.to_dict(), "pad_id": self.pad_id}

    def known(self, regime: str) -> None:
        return None

    def inputs(
        self, rows: Utterances, chosen: np.ndarray, step: Step | None = None
    ) -> dict[str, Tensor]:
        """Return tokens; while learning, a share HIDE_TOKENS of the inner ones becomes [MASK]."""
        batch = self.tokens(rows, chosen)
        if step and self.settings["hide_tokens"]:
            for row, ids in zip(chosen, batch["input_ids"], strict=True):
                inner = ids[1 : len(rows.features["token_ids"][row]) - 1]
                hidden = step.random(row).random(len(inner)) < self.settings["hide_tokens"]
                inner[torch.from_numpy(hidden)] = self.tokenizer.mask_id
        return batch
