"""What a training aims at: cross-entropy of the emotions, concordance of valence and arousal.

Shapes: N rows, B rows of a batch, C classes.
"""

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional

from common.data import Dataset, Training
from common.files import DIMENSIONS, ENOUGH_RATED, UserError

LEAST_STD = 0.02  # of valence or arousal, as a share of the raters' scale


def class_weights(targets: np.ndarray, power: float) -> Tensor:
    """Return loss weights (C,), (1 / frequency) ** power scaled to mean 1; absent classes 0."""
    frequency = targets.mean(0)
    weights = np.where(frequency > 0, np.maximum(frequency, 1e-12) ** -power, 0.0)
    return torch.tensor(weights / (weights * frequency).sum(), dtype=torch.float32)


class SoftCrossEntropy:
    """Weighted cross-entropy to smoothed target distributions, as torch's to hard labels.

    targets (N, C): of all rows.  class_power: see class_weights.  smoothing: share of each target
    that is spread over all classes.
    """

    def __init__(
        self, accelerator: Accelerator, targets: np.ndarray, class_power: float, smoothing: float
    ):
        self.accelerator = accelerator
        smoothed = torch.from_numpy(targets * (1 - smoothing) + smoothing / targets.shape[1])
        self.targets = smoothed.to(accelerator.device)
        self.weights = class_weights(targets, class_power).to(accelerator.device)

    def __call__(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Return the loss of logits for this process's share of a batch's rows.

        Sum over rows / sum of their weights; processes, whose gradients are averaged, together give
        what one process gives for the whole batch.
        """
        own = share(self.accelerator, rows)
        weighted = self.targets[own] * self.weights
        loss = -(weighted * functional.log_softmax(logits.float(), 1)).sum() / weighted.sum()
        if len(own) == len(rows):
            return loss
        part = weighted.sum() / (self.targets[rows] * self.weights).sum()
        return loss * part * self.accelerator.num_processes


class Concordance:
    """1 - CCC of a batch (Lin, 1989), the mean over valence and arousal; blank cells do not count.

    truth (N, 2): of all rows, nan where blank. A batch with fewer than two rated rows has 0.
    """

    def __init__(self, accelerator: Accelerator, truth: np.ndarray):
        self.accelerator = accelerator
        self.truth = torch.from_numpy(truth).to(accelerator.device)

    def __call__(self, values: Tensor, rows: np.ndarray) -> Tensor:
        """Return the loss of values (B, 2), this process's share of a batch's rows.

        Of several processes each takes the others' values as they are, so that all have the loss of
        the whole batch, and their gradients, which are averaged, together are its gradient.
        """
        values, parts = values.float(), self.accelerator.num_processes
        own = share(self.accelerator, np.arange(len(rows)))
        if len(own) < len(rows):
            every = torch.zeros(len(rows), 2, device=values.device)
            every[own] = values.detach()
            every = self.accelerator.reduce(every)
            every[own] = values
            values = every
        loss = sum(map(concordance_loss, values.T, self.truth[rows].T)) / 2
        if len(own) == len(rows):
            return loss
        return loss.detach() + parts * (loss - loss.detach())


def concordance_loss(values: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - CCC of values (B,) and truth (B,) that may be nan, () float32."""
    values, truth = values[truth.isfinite()], truth[truth.isfinite()]
    if len(truth) < 2:
        return values.sum() * 0
    offset = values.mean() - truth.mean()
    covariance = ((values - values.mean()) * (truth - truth.mean())).mean()
    spread = values.var(unbiased=False) + truth.var(unbiased=False) + offset.square()
    return 1 - 2 * covariance / spread.clamp(min=1e-8)


class JointLoss:
    """Cross-entropy of the emotions, and `weight` times that of valence and arousal.

    outputs (B, C + 2), or (B, C) with a weight of 0. targets: "label" or "votes".
    """

    def __init__(
        self,
        accelerator: Accelerator,
        fit: Dataset,
        targets: str,
        class_power: float,
        smoothing: float,
        weight: float,
    ):
        without = int((fit.votes.sum(1) == 0).sum()) if targets == "votes" else 0
        if without:
            accelerator.print(f"{without} rows have no votes: their label is the target")
        of_rows = fit.targets(targets)
        self.emotions = SoftCrossEntropy(accelerator, of_rows, class_power, smoothing)
        self.dimensions = Concordance(accelerator, fit.dimensions)
        self.weight, self.classes = weight, of_rows.shape[1]

    def __call__(self, outputs: Tensor, rows: np.ndarray) -> Tensor:
        loss = self.emotions(outputs[:, : self.classes], rows)
        if outputs.shape[1] == self.classes:
            return loss
        return loss + self.weight * self.dimensions(outputs[:, self.classes :], rows)


def describe_dimensions(
    accelerator: Accelerator, training: Training, weight: float, batch_size: int
) -> dict | None:
    """Return the units of valence and arousal in a network (models/head.py); None: not learned.

    Whether they are is the same in all folds; a fold that could not is a UserError.
    """
    if not weight:
        return None
    if batch_size == 1:
        raise UserError(
            f"DIMENSIONS = {weight:g}: 1 - CCC is of a batch, and BATCH_SIZE = 1: give "
            "--dimensions 0 or larger batches"
        )
    fit, others = training.fit, training.held_out
    rated, elsewhere = (np.isfinite(rows.dimensions).sum(0) for rows in (fit, others))
    name = DIMENSIONS[(rated + elsewhere).argmin()]
    if (rated + elsewhere).min() < ENOUGH_RATED:
        accelerator.print(f"hardly any row has {name}: DIMENSIONS = {weight:g} has no effect")
        return None
    if rated.min() < ENOUGH_RATED:
        raise UserError(
            f"DIMENSIONS = {weight:g}: of {fit} to learn from {rated.min()} have "
            f"{DIMENSIONS[rated.argmin()]}: give --dimensions 0"
        )
    low, high = fit.dimension_scale
    return {
        "mean": np.nanmean(fit.dimensions, 0).tolist(),
        "std": np.nanstd(fit.dimensions, 0).clip(LEAST_STD * (high - low)).tolist(),
        "scale": [low, high],
    }


def share(accelerator: Accelerator, rows: np.ndarray) -> np.ndarray:
    """Return this process's rows of a batch; all of them if there are fewer than processes."""
    if len(rows) < accelerator.num_processes:
        return rows
    return rows[accelerator.process_index :: accelerator.num_processes]
