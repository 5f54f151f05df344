"""The training loop of all models and of pretraining.

Shapes: N rows, B rows of a batch, C = 7 classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models import check_choice
from models.speaker import DEFAULT_REGIME
from pipeline.evaluation import metrics
from pipeline.files import write_json
from pipeline.labels import LABELS
from pipeline.learning.checkpoint import State
from pipeline.learning.dataset import Training
from pipeline.learning.recogniser import Recogniser, predict, to_device

STEADY = 3  # epochs over which the validation score is averaged


class Task(Protocol):
    """What the loop learns: batches, their losses, and what is done after each round."""

    network: nn.Module

    def is_over(self, state: State) -> bool:
        """Tell whether no round is left."""

    def title(self, state: State) -> str:
        """Name the round that the state is in, for the progress bar."""

    def batches(self, state: State) -> list[np.ndarray]:
        """Return all batches of the round that the state is in."""

    def factor(self, step: int) -> float:
        """Return what the learning rates are multiplied by in a step, counted from 0."""

    def losses(self, network: nn.Module, rows: np.ndarray, step: int) -> dict[str, Tensor]:
        """Return "loss" and other means over a batch; `network` may be wrapped for processes."""

    def measure(self, state: State) -> None:
        """End the state's round: measure, record, print."""


def learn(
    task: Task,
    state: State,
    accelerator: Accelerator,
    *,
    precision: str,
    clip: float,
    save_minutes: float = math.inf,
) -> None:
    """Go on from the state until the task is over.

    The state is written after every round and every `save_minutes`.
    """
    wrapped, optimizer = accelerator.prepare(task.network, state.optimizer)
    while not task.is_over(state):
        wrapped.train()
        todo = own_batches(task.batches(state), accelerator)[state.position :]
        for rows in progress(todo, task.title(state), state):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * task.factor(state.step)
            with autocast(accelerator, precision):
                losses = task.losses(wrapped, rows, state.step)
            accelerator.backward(losses["loss"])
            accelerator.clip_grad_norm_(task.network.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            state.add(losses, len(rows))
            if accelerator.is_main_process and state.age_minutes >= save_minutes:
                state.save()
        task.measure(state)
        if accelerator.is_main_process:
            state.save()


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
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
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


class Classification:
    """The task of the three models: emotions of the rows to learn from, epoch by epoch.

    rates: learning rates by name prefix, see `parameter_groups`.
    """

    def __init__(self, model: Recogniser, part: Training, rates: dict[str, float]):
        self.model, self.part, self.network = model, part, model.network
        model.calibrate(part.fit)
        self.fit = model.meet(part.fit, *model.LEARNED)
        self.settings = settings = model.settings
        unused = DistributedDataParallelKwargs(find_unused_parameters=model.IN_TURNS)
        self.accelerator = Accelerator(kwargs_handlers=[unused])
        epochs = (self.cut(epoch) for epoch in range(settings["epochs"]))
        self.steps = sum(len(own_batches(batches, self.accelerator)) for batches in epochs)
        groups = parameter_groups(self.network, rates, settings["weight_decay"])
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, settings["beta2"]), fused=True)
        device = self.accelerator.device
        self.weights = class_weights(part.fit.targets, settings["class_weights"]).to(device)
        self.targets = smooth(part.fit.targets, settings["label_smoothing"]).to(device)

    @property
    def limits(self) -> tuple[int, int]:
        """Budget and number of rows of a batch."""
        return self.settings[self.model.BUDGET], self.settings["batch_size"]

    def cut(self, epoch: int) -> list[np.ndarray]:
        """Return all batches of an epoch."""
        seed = 1000 * self.settings["seed"] + epoch if self.settings["shuffle"] else None
        return self.model.batches(self.part.fit, seed, *self.limits)

    def is_over(self, state: State) -> bool:
        best = state.best_round
        is_tired = best is not None and state.round - best >= self.settings["patience"]
        return is_tired or state.round >= self.settings["epochs"]

    def title(self, state: State) -> str:
        return f"epoch {state.round + 1}/{self.settings['epochs']}"

    def batches(self, state: State) -> list[np.ndarray]:
        return self.cut(state.round)

    def factor(self, step: int) -> float:
        return schedule(step, self.steps, self.settings["warmup"], self.settings["schedule"])

    def losses(self, network: nn.Module, rows: np.ndarray, step: int) -> dict[str, Tensor]:
        batch = to_device(self.model.inputs(self.fit, rows, True), self.accelerator.device)
        return {"loss": soft_cross_entropy(network(**batch), self.targets[rows], self.weights)}

    def measure(self, state: State) -> None:
        """Score the validation rows, if there are any; write history.json."""
        scores, steady, held_out = {}, None, self.part.held_out
        if self.part.chooses_epoch:
            logits = predict(self.model, held_out, DEFAULT_REGIME, self.limits, "validation")
            scores = validation_scores(logits, held_out.labels)
            recent = [*state.history[1 - STEADY :], scores]
            steady = sum(entry["macro_f1"] for entry in recent) / len(recent)
        rate = state.optimizer.param_groups[0]["initial_lr"] * self.factor(state.step)
        record = {**state.means, "learning_rate": rate, **scores}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
        print(f"epoch {state.round + 1}: {shown}", flush=True)
        state.end_round({"epoch": state.round + 1, **record}, steady)
        if self.accelerator.is_main_process:
            history = {"epochs": state.history, "best_epoch": state.best_round}
            write_json(self.part.folder / "history.json", history)


def train(model: Recogniser, part: Training, rates: dict[str, float]) -> None:
    """Train a model in place; leave it with the best epoch's weights, or the last epoch's.

    The best epoch has the highest macro F1 on the validation rows, if there are any, in the mean
    with the two epochs before it: of a few hundred rows one epoch's is mostly chance. PATIENCE
    epochs without a better one end the training. Goes on from state.pt in the part's folder.
    """
    task = Classification(model, part, rates)
    torch.manual_seed(model.settings["seed"])
    state = State(part.folder / "state.pt", model.network, task.optimizer)
    if state.load():
        print(f"{state.path}: going on in epoch {state.round + 1} after batch {state.position}")
    options = {name: model.settings[name] for name in ("precision", "clip", "save_minutes")}
    learn(task, state, task.accelerator, **options)
    if part.chooses_epoch:
        model.network.load_state_dict(state.best_weights)
        print(f"best epoch: {state.best_round} of {state.round} (validation macro F1)")


def progress(batches: list[np.ndarray], title: str, state: State) -> Iterator[np.ndarray]:
    """Yield the batches behind a bar of utterances per second and mean loss; quiet in a file."""
    total = sum(map(len, batches))
    with tqdm(total=total, desc=title, unit=" utt", disable=None, leave=False) as bar:
        for rows in batches:
            yield rows
            bar.update(len(rows))
            bar.set_postfix(loss=f"{state.means['loss']:.3f}")


def own_batches(batches: list[np.ndarray], accelerator: Accelerator) -> list[np.ndarray]:
    """Return this process's batches; the first are repeated where the count does not divide."""
    missing = -len(batches) % accelerator.num_processes
    return (batches + batches[:missing])[accelerator.process_index :: accelerator.num_processes]


def validation_scores(logits: Tensor, truth: np.ndarray) -> dict:
    """Return the loss and every score of logits (V, C) against true label ids (V,)."""
    probabilities = logits.softmax(1).numpy()
    loss = functional.cross_entropy(logits, torch.from_numpy(truth)).item()
    return {
        "valid_loss": loss,
        **metrics.scores(truth, probabilities.argmax(1), probabilities),
    }
