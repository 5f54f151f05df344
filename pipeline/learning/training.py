"""The training loop that the three models share, and prediction with what it trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from pipeline.evaluation import metrics
from pipeline.files import UserError, check_choice, write_json
from pipeline.labels import LABELS
from pipeline.learning.checkpoint import State
from pipeline.learning.dataset import Utterances

Batches = Callable[[Utterances, int | None], list[np.ndarray]]  # shuffled by a seed or in order
Inputs = Callable[[Utterances, np.ndarray, bool], dict]  # rows, training? -> the model's arguments


@dataclass(frozen=True)
class Optimisation:
    """The settings of optimisation in a training script's block, where each is explained."""

    seed: int
    precision: str
    epochs: int
    patience: int
    shuffle: bool
    weight_decay: float
    beta2: float
    schedule: str
    warmup: float
    clip: float
    class_weights: float
    label_smoothing: float
    save_minutes: float

    @classmethod
    def of(cls, namespace: dict) -> Optimisation:
        """Take them from a script's globals()."""
        return cls(**{field.name: namespace[field.name.upper()] for field in fields(cls)})


def autocast(accelerator: Accelerator, precision: str) -> torch.autocast:
    """Return the precision of the forward pass as a context.

    precision: "bf16" or "float32"; "auto" is bf16 where the processor has it.
    """
    check_choice("PRECISION", precision, ("auto", "bf16", "float32"))
    enabled = precision == "bf16" or (precision == "auto" and has_bf16())
    return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=enabled)


def has_bf16() -> bool:
    """Tell whether this processor multiplies bf16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def parameter_groups(model: nn.Module, rates: dict[str, float], weight_decay: float) -> list[dict]:
    """Return AdamW's parameter groups: a learning rate per name prefix, no decay on bias and norms.

    rates: {name prefix: learning rate}, the first prefix that fits counts; "" fits all. Parameters
    that do not require a gradient are left out.
    """
    groups = {}
    norms = (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)
    norm_names = {name for name, module in model.named_modules() if isinstance(module, norms)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = next(rate for prefix, rate in rates.items() if name.startswith(prefix))
            owner, _, kind = name.rpartition(".")
            decay = 0.0 if kind == "bias" or owner in norm_names else weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def schedule(step: int, total: int, warmup: float, shape: str) -> float:
    """Return the learning rate's factor at a step: warm-up, then "linear" or "cosine" to 0."""
    check_choice("SCHEDULE", shape, ("linear", "cosine"))
    warm = int(warmup * total)
    if step < warm:
        return step / warm
    progress = min(1.0, (step - warm) / max(1, total - warm))
    return 1 - progress if shape == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(
    model: nn.Module, settings: Optimisation, rates: dict[str, float], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and the schedule of its rates over this many steps."""
    groups = parameter_groups(model, rates, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, settings.beta2), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: schedule(step, steps, settings.warmup, settings.schedule)
    )
    return optimizer, scheduler


def class_weights(targets: np.ndarray, power: float) -> Tensor:
    """Return loss weights (C,), (1 / frequency) ** power scaled to mean 1; absent classes 0."""
    frequency = targets.mean(0)
    weights = np.where(frequency > 0, np.maximum(frequency, 1e-12) ** -power, 0.0)
    return torch.tensor(weights / (weights * frequency).sum(), dtype=torch.float32)


def smooth(targets: np.ndarray, share: float) -> Tensor:
    """Return the distributions (N, C) with a `share` of each spread over all classes."""
    return torch.from_numpy(targets * (1 - share) + share / len(LABELS))


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted cross-entropy of logits (B, C) to target distributions (B, C).

    Weighted as torch's cross_entropy weights hard labels: sum over rows / sum of their weights.
    """
    weighted = targets * weights
    return -(weighted * functional.log_softmax(logits.float(), 1)).sum() / weighted.sum()


def predict(
    model: nn.Module,
    utterances: Utterances,
    batches: Batches,
    inputs: Inputs,
    title: str,
) -> Tensor:
    """Return logits (N, C) float32 in row order; every row is predicted exactly once.

    To a model that is `by_speaker`, `batches` come speaker by speaker, and it classifies all of a
    speaker's together.
    """
    by_speaker = getattr(model, "by_speaker", False)

    def speaker_of(rows: np.ndarray) -> str:
        return utterances.table["speaker"].iloc[rows[0]]

    logits = torch.full((len(utterances), len(LABELS)), torch.nan)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    bar = tqdm(total=len(utterances), desc=title, unit=" utt", disable=None, leave=False)
    with torch.inference_mode(), bar:
        cut = batches(utterances, None)
        groups = [[rows] for rows in cut]
        if by_speaker:
            groups = [list(own) for _, own in groupby(cut, speaker_of)]
        for parts in groups:
            rows = np.concatenate(parts)
            made = [to_device(inputs(utterances, part, False), device) for part in parts]
            found = model.classify_speaker(made) if by_speaker else model(**made[0])
            logits[torch.from_numpy(rows)] = found.float().cpu()
            bar.update(len(rows))
    model.train(was_training)
    if not logits.isfinite().all():
        row = int((~logits.isfinite()).any(1).nonzero()[0])
        raise UserError(
            f"{title}: the output for {utterances.ids[row]} is not a number: "
            "train again with a lower learning rate"
        )
    return logits


def train(
    model: nn.Module,
    folder: Path,
    settings: Optimisation,
    rates: dict[str, float],
    *,
    fit: Utterances,
    held_out: Utterances | None,
    batches: Batches,
    inputs: Inputs,
    accelerator: Accelerator,
) -> None:
    """Train `model` in place; leave it with the best epoch's weights (the last if no `held_out`).

    rates: learning rates by name prefix, see `parameter_groups`.  fit: rows to learn from.
    held_out: validation sessions; the best epoch has their highest macro F1, and PATIENCE epochs
    without a better one end the training.
    Writes history.json every epoch and state.pt every epoch and every SAVE_MINUTES; if state.pt
    exists, goes on from it.
    """

    def epoch_batches(epoch: int) -> list[np.ndarray]:
        order = 1000 * settings.seed + epoch if settings.shuffle else None
        return share(batches(fit, order), accelerator)

    steps = sum(len(epoch_batches(epoch)) for epoch in range(settings.epochs))
    optimizer, scheduler = make_optimizer(model, settings, rates, steps)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    weights = class_weights(fit.targets, settings.class_weights).to(accelerator.device)
    targets = smooth(fit.targets, settings.label_smoothing).to(accelerator.device)
    torch.manual_seed(settings.seed)
    state = State(folder / "state.pt", model, optimizer, scheduler)
    state.load()
    while state.epoch < settings.epochs and not state.is_out_of_patience(settings.patience):
        wrapped.train()
        todo = epoch_batches(state.epoch)[state.step :]
        for rows in progress(todo, f"epoch {state.epoch + 1}/{settings.epochs}", state):
            batch = to_device(inputs(fit, rows, True), accelerator.device)
            with autocast(accelerator, settings.precision):
                logits = wrapped(**batch)
            loss = soft_cross_entropy(logits, targets[rows], weights)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            state.add(loss.item(), len(rows))
            if accelerator.is_main_process and state.age_minutes >= settings.save_minutes:
                state.save()
        scores = {}
        if held_out is not None:
            logits = predict(model, held_out, batches, inputs, "validation")
            scores = validation_scores(logits, held_out.labels)
        state.end_epoch(scheduler.get_last_lr()[0], scores)
        if accelerator.is_main_process:
            write_json(folder / "history.json", state.history)
            state.save()
    if held_out is not None:
        model.load_state_dict(state.best_weights)
        print(f"best epoch: {state.history['best_epoch']} of {state.epoch} (validation macro F1)")


def progress(batches: list[np.ndarray], title: str, state: State) -> Iterator[np.ndarray]:
    """Yield the batches behind a bar of utterances per second and mean loss; quiet in a file."""
    total = sum(map(len, batches))
    with tqdm(total=total, desc=title, unit=" utt", disable=None, leave=False) as bar:
        for rows in batches:
            yield rows
            bar.update(len(rows))
            bar.set_postfix(loss=f"{state.mean_loss:.3f}")


def to_device(batch: dict, device: torch.device) -> dict:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def validation_scores(logits: Tensor, truth: np.ndarray) -> dict:
    """Return the loss and every score of logits (V, C) against true label ids (V,)."""
    probabilities = logits.softmax(1).numpy()
    loss = functional.cross_entropy(logits, torch.from_numpy(truth)).item()
    return {
        "valid_loss": loss,
        **metrics.scores(truth, probabilities.argmax(1), probabilities),
    }


def share(batches: list[np.ndarray], accelerator: Accelerator) -> list[np.ndarray]:
    """Return this process's batches; the first are repeated where the count does not divide."""
    missing = -len(batches) % accelerator.num_processes
    return (batches + batches[:missing])[accelerator.process_index :: accelerator.num_processes]
