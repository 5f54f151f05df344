"""The training loop of all models and of pretraining.

Shapes: N rows, B rows of a batch, C = 7 classes.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from common.files import LABELS, write_json
from fusion import metrics
from models import check_choice
from models.processes import total
from models.speaker import DEFAULT_REGIME
from pipeline.learning import processes
from pipeline.learning.batches import Step, made_ahead
from pipeline.learning.checkpoint import State
from pipeline.learning.dataset import Training
from pipeline.learning.recogniser import Recogniser, pinned, predict, to_device

ASKED: list[int] = []  # signals that ask to stop after this step
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

    def inputs(self, rows: np.ndarray, step: int) -> dict:
        """Return the network's arguments for this process's share of a batch; in a thread."""

    def losses(self, batch: dict, rows: np.ndarray) -> dict[str, Tensor]:
        """Return "loss" and other means over a batch.

        batch: `inputs` on the device.  Of several processes, each returns what it adds to them.
        """

    def names(self, rows: np.ndarray) -> list[str]:
        """Return what the user calls these rows."""

    def measure(self, state: State) -> None:
        """End the state's round: measure, record, print."""


@contextmanager
def noted_stop() -> Iterator[None]:
    """Note a first Ctrl-C or SIGTERM in ASKED instead of breaking off a step.

    Of several processes, which wait for one another, each is broken off at once.
    """

    def note(number, frame):
        if ASKED or processes.count() > 1:
            raise KeyboardInterrupt
        ASKED.append(number)

    ASKED.clear()
    signals = (signal.SIGINT, signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    before = [signal.signal(each, note) for each in signals] if is_main else []
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=False):
            signal.signal(each, handler)


def stop_if(asked: object, title: str) -> None:
    """End the program, whose state is saved, if that was asked for."""
    if asked:
        raise KeyboardInterrupt(f"the same command goes on in {title}")


@noted_stop()
def learn(
    task: Task,
    state: State,
    *,
    seed: int,
    precision: str,
    clip: float,
    save_minutes: float = math.inf,
) -> None:
    """Go on from the state until the task is over.

    The state is written after every round and every `save_minutes`. Several processes take every
    step together, each with its share of the batch.
    """
    network, optimizer, device = task.network, state.optimizer, processes.join()
    processes.begin_alike(network)
    while not task.is_over(state):
        network.train()
        todo = task.batches(state)[state.position :]
        made = made_ahead(
            lambda item: pinned(task.inputs(item[1], item[0]), device), enumerate(todo, state.step)
        )
        for (step, rows), batch in progress(made, todo, task.title(state), state):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * task.factor(step)
            draw_from(seed, step)
            with autocast(device, precision):
                losses = task.losses(to_device(batch, device), rows)
            losses["loss"].backward()
            processes.add_gradients(network)
            norm = nn.utils.clip_grad_norm_(network.parameters(), clip)
            found = total(torch.stack(list(losses.values())).detach())
            found = dict(zip(losses, found, strict=True))
            # Refuses what is no number, before it is learned.
            state.add({**found, "gradient": norm, "clipped": norm > clip}, rows, task.names)
            optimizer.step()
            optimizer.zero_grad()
            is_last = bool(ASKED)  # once: it may be asked for at any moment
            if processes.is_first() and (is_last or state.age_minutes >= save_minutes):
                state.save()
            stop_if(is_last, task.title(state))
        task.measure(state)
        if processes.is_first():
            state.save()
        stop_if(ASKED and not task.is_over(state), task.title(state))


def draw_from(seed: int, step: int) -> None:
    """Let what is drawn in a step, dropout, depend on seed, step and process alone.

    So a training that was stopped goes on as if it had not been.
    """
    torch.manual_seed(np.random.SeedSequence([seed, step, processes.place()]).generate_state(1)[0])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the precision of the forward pass as a context.

    precision: "bf16" or "float32"; "auto" is bf16 where the processor is faster with it.
    """
    check_choice("PRECISION", precision, ("auto", "bf16", "float32"))
    enabled = precision == "bf16" or (precision == "auto" and has_bf16())
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def has_bf16() -> bool:
    """Tell whether this processor multiplies matrices faster in bf16 than in float32.

    A CPU does with AMX; by AVX-512's bf16 alone it takes twice as long as in float32 (runs/LOG.md).
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported()


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
            prefix = next(prefix for prefix in rates if name.startswith(prefix))
            owner, _, kind = name.rpartition(".")
            decay = 0.0 if kind == "bias" or owner in norm_names else weight_decay
            groups.setdefault((prefix, decay), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": prefix,
            "lr": rates[prefix],
            "initial_lr": rates[prefix],
            "weight_decay": decay,
        }
        for (prefix, decay), parameters in groups.items()
    ]


def last_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the learning rates of the last step: `learning_rate`, and with each other's prefix."""
    groups = optimizer.param_groups
    return {"_".join(filter(None, ("learning_rate", g["name"]))): g["lr"] for g in groups}


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
        self.model, self.part = model, part
        device = processes.join()
        self.network = model.network.to(device)
        model.calibrate(part.fit)
        self.fit = model.meet(part.fit, *model.LEARNED)
        self.settings = settings = model.settings
        self.steps = sum(len(self.cut(epoch)) for epoch in range(settings["epochs"]))
        groups = parameter_groups(self.network, rates, settings["weight_decay"])
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, settings["beta2"]), fused=True)
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
        patience = self.settings["patience"]
        is_tired = patience and best is not None and state.round - best >= patience
        return is_tired or state.round >= self.settings["epochs"]

    def title(self, state: State) -> str:
        return f"epoch {state.round + 1}/{self.settings['epochs']}"

    def batches(self, state: State) -> list[np.ndarray]:
        return self.cut(state.round)

    def factor(self, step: int) -> float:
        return schedule(step, self.steps, self.settings["warmup"], self.settings["schedule"])

    def inputs(self, rows: np.ndarray, step: int) -> dict:
        own, _ = processes.share(rows)
        return self.model.inputs(self.fit, own, Step(rows, self.settings["seed"], step))

    def losses(self, batch: dict, rows: np.ndarray) -> dict[str, Tensor]:
        own, copies = processes.share(rows)
        loss = soft_cross_entropy(self.network(**batch), self.targets[own], self.weights)
        weight, whole = ((self.targets[part] * self.weights).sum() for part in (own, rows))
        return {"loss": loss * (weight / whole / copies)}

    def names(self, rows: np.ndarray) -> list[str]:
        return self.part.fit.ids[rows].tolist()

    def settle(self) -> None:
        self.model.settle(self.fit, self.cut(0))

    def measure(self, state: State) -> None:
        """Score the validation rows, if there are any; write history.json."""
        scores, steady, held_out = {}, None, self.part.held_out
        if self.part.chooses_epoch:
            self.settle()
            # In float32, as the tests are: bf16 would choose the epoch by other logits.
            logits = predict(self.model, held_out, DEFAULT_REGIME, self.limits, "validation")
            scores = validation_scores(logits, held_out.labels)
            recent = [*state.history[1 - STEADY :], scores]
            steady = sum(entry["macro_f1"] for entry in recent) / len(recent)
        record = {**state.means, **last_rates(state.optimizer), **scores}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
        print(f"epoch {state.round + 1}: {shown}", flush=True)
        state.end_round({"epoch": state.round + 1, **record}, steady)
        if processes.is_first():
            history = {"epochs": state.history, "best_epoch": state.best_round}
            write_json(self.part.folder / "history.json", history)


def train(model: Recogniser, part: Training, rates: dict[str, float]) -> None:
    """Train a model in place; leave it with the best epoch's weights, or the last epoch's.

    The best epoch has the highest macro F1 on the validation rows, if there are any, in the mean
    with the two epochs before it: of a few hundred rows one epoch's is mostly chance. PATIENCE
    epochs without a better one end the training (0: none do). Goes on from state.pt in the part's
    folder.
    """
    task = Classification(model, part, rates)
    state = State(part.folder / "state.pt", model.network, task.optimizer, part.identity)
    if state.load():
        print(f"{state.path}: going on in epoch {state.round + 1} after batch {state.position}")
    options = ("seed", "precision", "clip", "save_minutes")
    learn(task, state, **{name: model.settings[name] for name in options})
    if part.chooses_epoch:
        model.network.load_state_dict(state.best_weights)
        print(f"best epoch: {state.best_round} of {state.round} (validation macro F1)")
    else:
        task.settle()


def progress(made: Iterable, todo: list[np.ndarray], title: str, state: State) -> Iterator:
    """Yield what is made behind a bar of utterances per second and mean loss; quiet in a file."""
    quiet = None if processes.is_first() else True
    total_rows = sum(map(len, todo))
    with tqdm(total=total_rows, desc=title, unit=" utt", disable=quiet, leave=False) as bar:
        for each, rows in zip(made, todo, strict=True):
            yield each
            bar.update(len(rows))
            bar.set_postfix(loss=f"{state.means['loss']:.3f}")


def validation_scores(logits: Tensor, truth: np.ndarray) -> dict:
    """Return the loss and every score of logits (V, C) against true label ids (V,)."""
    probabilities = logits.softmax(1).numpy()
    loss = functional.cross_entropy(logits, torch.from_numpy(truth)).item()
    return {
        "valid_loss": loss,
        **metrics.scores(truth, probabilities.argmax(1), probabilities),
    }
