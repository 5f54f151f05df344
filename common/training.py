"""What the training loops share: device, precision, schedule, loss, and evaluation.

Shapes: N rows, B rows of a batch, C classes.
"""

import math
import os
import sys
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.data import Dataset, MakeBatch, Training
from common.files import DIMENSIONS, UserError
from common.losses import concordance_loss
from common.tracking import check_trackers

# Batches are made by worker processes beside a GPU, where a fork is cheap. Beside a network on the
# CPU they would take its cores: an epoch of two threads and a worker on two cores took 1.4 times as
# long (runs/LOG.md).
WORKERS = 0
if torch.cuda.is_available() and sys.platform == "linux":
    WORKERS = min(8, os.cpu_count() or 1)


def start(deterministic: bool = False, log: tuple[str, ...] = ()) -> Accelerator:
    """Join the processes that torchrun or accelerate launch started, or begin alone.

    log: trackers that are to be there (common/tracking.py).
    """
    check_trackers(log)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)  # takes a second
    # Without a GPU accelerate lets each process believe that it is alone, unless told otherwise.
    on_cpu = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.cuda.is_available()
    return Accelerator(cpu=on_cpu)


def autocast(accelerator: Accelerator, precision: str) -> torch.autocast:
    """Return the context of a training's forward pass: "float32", "bf16", or "auto".

    "auto" is bf16 where it is faster. Predictions are always made in float32.
    """
    is_bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16())
    return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=is_bf16)


def has_fast_bf16() -> bool:
    """Tell whether this processor multiplies matrices faster in bf16 than in float32.

    A CPU does with AMX; by AVX-512's bf16 alone it takes twice as long as in float32 (runs/LOG.md).
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported()


def seed_step(accelerator: Accelerator, seed: int, step: int) -> None:
    """Let what is drawn in a step, dropout, depend on seed, step and process alone.

    So a training that was stopped goes on as if it had not been.
    """
    place = accelerator.process_index
    torch.manual_seed(np.random.SeedSequence([seed, step, place]).generate_state(1)[0])


def parameter_groups(model: nn.Module, rates: dict[str, float], weight_decay: float) -> list[dict]:
    """Return AdamW's parameter groups: a learning rate per name prefix, no decay on bias and norms.

    rates: {name prefix: learning rate}; the longest prefix that fits counts, "" fits all.
    Parameters that do not require a gradient are left out.
    """
    groups = {}
    norms = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
    norm_names = {name for name, module in model.named_modules() if isinstance(module, norms)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            prefix = max((p for p in rates if name.startswith(p)), key=len)
            owner, _, kind = name.rpartition(".")
            decay = 0.0 if kind == "bias" or owner in norm_names else weight_decay
            groups.setdefault((prefix, decay), []).append(parameter)
    return [
        {"name": prefix, "params": parameters, "initial_lr": rates[prefix], "weight_decay": decay}
        for (prefix, decay), parameters in groups.items()
    ]


def set_lr(
    optimizer: torch.optim.Optimizer, step: int, steps: int, warmup: float, shape: str
) -> None:
    """Set every group's learning rate: warm-up, then "linear" or "cosine" down to 0.

    step: counted from 0, of `steps` in all.  warmup: share of them.
    """
    warm = int(warmup * steps)
    progress = min(1.0, (step - warm) / max(1, steps - warm))
    falling = 1 - progress if shape == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * (step / warm if step < warm else falling)


def load_batches(items: Sequence, make_batch: MakeBatch, workers: int = WORKERS) -> DataLoader:
    """Return what `make_batch` makes of each item's parts, in order, made ahead by workers."""

    def collate(item: tuple) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array) for name, array in make_batch(*item).items()}

    return DataLoader(
        items,
        batch_size=None,
        collate_fn=collate,
        num_workers=min(workers, len(items)),
        pin_memory=torch.cuda.is_available(),
    )


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@torch.no_grad()  # what a network keeps of a length may be needed in training
def predict(
    accelerator: Accelerator,
    network: nn.Module,
    batches: Sequence[np.ndarray],
    make_batch: MakeBatch,
    data: Dataset,
    title: str,
    workers: int = WORKERS,
) -> np.ndarray:
    """Return the outputs (N, C) or (N, C + 2) of all rows of `data`, each predicted once, float32.

    batches: rows, cut anyhow.  Several processes each predict a part; all return the whole.
    """
    width = network.classifier.out_features
    outputs = torch.zeros(len(data), width, device=accelerator.device)
    was_training = network.training
    network.eval()
    own = batches[accelerator.process_index :: accelerator.num_processes]
    quiet = None if accelerator.is_main_process else True
    with tqdm(total=len(data), desc=title, unit=" utt", disable=quiet, leave=False, delay=1) as bar:
        for rows, batch in zip(
            own, load_batches([(rows,) for rows in own], make_batch, workers), strict=True
        ):
            outputs[rows] = network(**to_device(batch, accelerator.device)).float()
            bar.update(len(rows))
    network.train(was_training)
    outputs = accelerator.reduce(outputs).cpu().numpy()
    wrong = np.flatnonzero(~np.isfinite(outputs).all(1))
    if len(wrong):
        raise UserError(
            f"{title}: the output for {data.ids[wrong[0]]} is not a number: "
            "train again with a lower learning rate"
        )
    return outputs


def evaluate(
    accelerator: Accelerator,
    network: nn.Module,
    training: Training,
    batches: Sequence[np.ndarray],
    make_batch: MakeBatch,
) -> dict[str, float]:
    """Return the scores of a training's validation rows; none where they choose no epoch."""
    if not training.chooses_epoch:
        return {}
    held_out = training.held_out
    outputs = predict(accelerator, network, batches, make_batch, held_out, "validation")
    classes = len(held_out.label_names)
    scores = validation_scores(outputs[:, :classes], held_out.labels)
    for place, values in enumerate(outputs[:, classes:].T):
        truth = torch.from_numpy(held_out.dimensions[:, place])
        if truth.isfinite().sum() < 2:
            continue
        concordance = 1 - concordance_loss(torch.from_numpy(values), truth)
        scores[f"ccc_{DIMENSIONS[place]}"] = concordance.item()
    return scores


def validation_scores(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return loss and scores of logits (N, C) against true label ids (N,)."""
    from sklearn.metrics import accuracy_score, f1_score, recall_score  # here: takes a second

    pred = logits.argmax(1)
    loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth)).item()
    return {
        "valid_loss": loss,
        "accuracy": accuracy_score(truth, pred),
        "f1": f1_score(truth, pred, average="weighted", zero_division=0),
        "macro_f1": f1_score(truth, pred, average="macro", zero_division=0),
        "uar": recall_score(truth, pred, average="macro", zero_division=0),
    }


def leave_others(accelerator: Accelerator) -> None:
    """End all processes but the first, which goes on as if it had always been alone."""
    is_main = accelerator.is_main_process
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if not is_main:
        sys.exit()
    AcceleratorState._reset_state(reset_partial_state=True)  # else the next one waits for them
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
