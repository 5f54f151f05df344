"""What training, testing and predicting share of the three models: a network and its input.

Each model's file has `NAME`, `MADE_BY` (the script that trains it), `create(settings)`, which
starts from what was pretrained, and `load(folder)`, which loads what was trained; both return a
Recogniser.
Shapes: B utterances of a batch, C = 7 classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.learning.checkpoint import read_weights
from pipeline.learning.dataset import Utterances


class Recogniser(ABC):
    """A network with all that turns utterances into its input.

    settings: the block of the script that trains it, names in lower case.
    """

    BUDGET: str  # the setting that limits a batch with its padding: BATCH_TOKENS or BATCH_SECONDS
    network: nn.Module
    settings: dict

    @abstractmethod
    def describe(self) -> dict:
        """Return what config.json needs beside the settings to build the network again."""

    def files(self) -> dict[str, bytes]:
        """Return the files that belong beside the weights: the tokenizer's."""
        return {}

    @abstractmethod
    def prepare(self, rows: Utterances) -> Utterances:
        """Return the rows with the features that depend on no weights."""

    def inspect(self, rows: Utterances) -> str:
        """Return a remark on prepared rows to learn from; UserError if they cannot be learned."""
        return ""

    @abstractmethod
    def batches(
        self, rows: Utterances, seed: int | None, budget: int, size: int
    ) -> list[np.ndarray]:
        """Cut prepared rows into batches of at most `size`: shuffled by a seed, else in order.

        budget: at most so many tokens or seconds, padding included.
        """

    @abstractmethod
    def inputs(self, rows: Utterances, chosen: np.ndarray, learning: bool) -> dict[str, Tensor]:
        """Return the network's arguments for the chosen rows (B,), augmented while learning."""

    def companies(self, rows: Utterances, budget: int, size: int) -> list[list[np.ndarray]]:
        """Return all rows in groups of batches that are classified together: one each."""
        return [[batch] for batch in self.batches(rows, None, budget, size)]

    def classify(self, company: list[dict[str, Tensor]]) -> Tensor:
        """Return the logits (B, C) of one company's batches, in their order."""
        return torch.cat([self.network(**batch) for batch in company])

    def restore(self, folder: Path, made_by: str) -> None:
        """Take over the weights that a training left in its folder."""
        self.network.load_state_dict(read_weights(folder, made_by))
