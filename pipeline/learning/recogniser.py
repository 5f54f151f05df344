"""What training, testing and predicting share of the three models: a network and its input.

Each model's file has `NAME`, `MADE_BY` (the script that trains it), `create(settings)`, which
starts from what was pretrained, and `load(folder)`, which loads what was trained; both return a
Recogniser.
Shapes: N rows, B utterances of a batch, C = 7 classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.files import LABELS, UserError, naming
from models.processes import total
from pipeline.learning import processes
from pipeline.learning.batches import Step
from pipeline.learning.checkpoint import read_weights
from pipeline.learning.dataset import Utterances

Change = Callable[[dict], dict]  # a network's arguments -> others, for an ablation


class Recogniser(ABC):
    """A network with all that turns utterances into its input.

    settings: the block of the script that trains it, names in lower case.
    """

    LEARNED: tuple[str, ...] = ()  # regimes that are met while learning; none: they do not matter
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
        """Return the rows with the features that depend on no weights that are trained."""

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
    def inputs(
        self, rows: Utterances, chosen: np.ndarray, step: Step | None = None
    ) -> dict[str, Tensor]:
        """Return the network's arguments for the chosen rows (B,).

        step: the training's step in which they are learned, augmented; chosen: this process's rows
        of its batch.
        """

    def calibrate(self, rows: Utterances) -> None:  # noqa: B027 - most models have nothing to do
        """Take from the rows to learn from what needs no training: the average speaker."""

    def settle(self, rows: Utterances, batches: list[np.ndarray]) -> None:  # noqa: B027 - as above
        """Measure on batches to learn from what depends on the weights but is not learned."""

    def meet(self, rows: Utterances, *regimes: str) -> Utterances:
        """Return prepared rows with what is known of each one's speaker under each of the regimes.

        REGIMES of models/speaker.py; a model that hears no voice, or each clip by itself, has no
        use for them.
        """
        return rows

    def known(self, regime: str) -> str | None:
        """Return what outputs are normalised by: "utterance" if it does not matter, None: text."""
        return regime if self.LEARNED else "utterance"

    def companies(
        self, rows: Utterances, regime: str, budget: int, size: int
    ) -> list[list[np.ndarray]]:
        """Return all rows in groups of batches that are recognised together: one each.

        Rows of like length are in a batch, as in learning, so that little is padded.
        """
        return [[batch] for batch in self.batches(rows, 0, budget, size)]

    def recognise(
        self, rows: Utterances, company: list[np.ndarray], regime: str, change: Change
    ) -> Tensor:
        """Return the logits (B, C) of one company's batches, in their order.

        rows: met under the regime.  change: is applied to the inputs of every batch.
        """
        made = [change(self.inputs(rows, batch)) for batch in company]
        return torch.cat([self.network(**to_device(batch, self.device)) for batch in made])

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def restore(self, folder: Path, made_by: str) -> None:
        """Take over the weights that a training left in its folder."""
        weights = read_weights(folder, made_by)
        with naming(folder / "model.safetensors", made_by):
            self.network.load_state_dict(weights)


def predict(
    model: Recogniser,
    rows: Utterances,
    regime: str,
    limits: tuple[int, int],
    title: str,
    change: Change = lambda inputs: inputs,
) -> Tensor:
    """Return logits (N, C) float32 of prepared rows in their order, each predicted once.

    regime: what is known of the speakers (models/speaker.py).  limits: budget and rows of a batch.
    Several processes each predict a part; all return the whole.
    """
    rows = model.meet(rows, regime)
    companies = model.companies(rows, regime, *limits)
    logits = torch.full((len(rows), len(LABELS)), torch.nan)
    for company in companies:
        logits[np.concatenate(company)] = 0  # the processes fill their rows; the sum is whole
    was_training = model.network.training
    model.network.eval()
    quiet = None if processes.is_first() else True
    bar = tqdm(total=len(rows), desc=title, unit=" utt", disable=quiet, leave=False, delay=1)
    with torch.inference_mode(), bar:
        for company in companies[processes.place() :: processes.count()]:
            chosen = np.concatenate(company)
            found = model.recognise(rows, company, regime, change)
            logits[chosen] = found.float().cpu()
            bar.update(len(chosen))
        logits = total(logits.to(model.device)).cpu()
    model.network.train(was_training)
    if not logits.isfinite().all():
        row = int((~logits.isfinite()).any(1).nonzero()[0])
        raise UserError(
            f"{title}: the output for {rows.ids[row]} is not a number: "
            "train again with a lower learning rate"
        )
    return logits


def to_device(batch: dict, device: torch.device) -> dict:
    """Move a network's arguments; from pinned memory a GPU takes them while it computes."""
    return change_tensors(batch, lambda x: x.to(device, non_blocking=device.type == "cuda"))


def pinned(batch: dict, device: torch.device) -> dict:
    """Return a network's arguments as the device takes them fastest: for a GPU in pinned memory."""
    return change_tensors(batch, Tensor.pin_memory) if device.type == "cuda" else batch


def change_tensors(batch: dict, change: Callable[[Tensor], Tensor]) -> dict:
    """Return a network's arguments with all tensors changed; they may stand in lists."""

    def changed(value):
        if isinstance(value, list):
            return [changed(item) for item in value]
        return change(value) if isinstance(value, Tensor) else value

    return {name: changed(value) for name, value in batch.items()}
