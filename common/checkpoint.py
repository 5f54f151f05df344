"""Where a training stands: the state that it can go on from, and the model that it leaves."""

import math
import signal
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from common.data import Dataset, Training, plan_trainings
from common.files import (
    UserError,
    naming,
    sha256,
    unwritable,
    write_atomically,
    write_bytes,
    write_json,
)
from common.losses import share
from common.stages import PASSED_OVER, Stage, describe_machine
from common.tracking import Trackers
from common.training import WORKERS, load_batches, to_device

AVERAGED = 3  # epochs over which the validation score is averaged: one epoch's is mostly chance
ENCODER = "encoder.safetensors"  # beside model.safetensors, where it is frozen
SHOWN = 64  # rows of a batch that an error names
COUNTERS = ("epoch", "position", "step", "best_epoch", "best_score")


class Checkpoint:
    """The state of one training, on disk and in memory: all that its next step depends on.

    network: the model as it is without what accelerate wraps around it.  identity: settings, data
    and contents of pretrained weights: a state of another identity is refused.  The first Ctrl-C or
    SIGTERM saves the step that it falls into and ends the program.
    """

    def __init__(
        self,
        training: Training,
        identity: dict,
        accelerator: Accelerator,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        save_minutes: float = math.inf,
        trackers: Trackers | None = None,
    ):
        self.training, self.identity, self.accelerator = training, identity, accelerator
        self.network, self.optimizer, self.save_minutes = network, optimizer, save_minutes
        self.trackers = trackers
        self.path = training.folder / "state.pt"
        self.id = uuid.uuid4().hex  # of this training, however often it is stopped
        self.epoch = 0  # epochs that are finished
        self.position = 0  # steps done in this epoch
        self.step = 0  # steps done in all
        self.sums = {}  # of this epoch: name -> sum over rows
        self.rows = 0  # of this epoch, counted in `sums`
        self.history = []  # one record an epoch
        self.best_epoch, self.best_score, self.best_weights = None, -1.0, {}
        self.saved_at, self.stop_asked = time.monotonic(), False
        self.load()
        if threading.current_thread() is threading.main_thread() and self.is_alone:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.ask_to_stop)

    @property
    def is_alone(self) -> bool:
        return self.accelerator.num_processes == 1

    def let_stop(self) -> None:
        """Let what comes after the training be interrupted as any program, at once."""
        if self.stop_asked:
            self.save()  # which ends it
        if threading.current_thread() is threading.main_thread() and self.is_alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def ask_to_stop(self, number: int, frame: object) -> None:
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True

    def epochs(self, count: int, patience: int) -> Iterator[int]:
        """Yield the epochs that are left, until `patience` of them were no better than the best.

        patience: 0 for all of them.
        """
        if self.trackers:
            self.trackers.start(self.history, self.id)
        while self.epoch < count:
            if patience and self.best_epoch and self.epoch - self.best_epoch >= patience:
                break
            yield self.epoch
        self.let_stop()
        if self.trackers:
            self.trackers.finish()

    def batches(
        self, plan: list[np.ndarray], make_batch: Callable, workers: int = WORKERS
    ) -> Iterator[tuple[int, np.ndarray, dict[str, Tensor]]]:
        """Yield step, rows and this process's batch of what is left of an epoch, behind a bar.

        make_batch: (rows, step) -> a network's arguments.
        """
        todo = plan[self.position :]
        items = [(share(self.accelerator, rows), self.step + n) for n, rows in enumerate(todo)]
        quiet = None if self.accelerator.is_main_process else True
        total = sum(map(len, todo))
        title = f"epoch {self.epoch + 1}"
        with tqdm(total=total, desc=title, unit=" utt", disable=quiet, leave=False) as bar:
            loader = load_batches(items, make_batch, workers)
            for rows, batch in zip(todo, loader, strict=True):
                yield self.step, rows, to_device(batch, self.accelerator.device)
                bar.update(len(rows))
                bar.set_postfix(loss=f"{self.sums['loss'] / self.rows:.3f}")

    def end_step(self, loss: Tensor, gradient: Tensor, rows: np.ndarray) -> None:
        """Count a step over a batch's rows; refuse a number that is none; save now and then.

        loss: of this process's share.  gradient: its norm.
        """
        found = torch.stack([self.accelerator.reduce(loss.detach(), "mean"), gradient]).tolist()
        for name, value in zip(("loss", "gradient"), found, strict=True):
            if not math.isfinite(value):
                raise UserError(self.describe_nan(f"the {name} became {value}", rows))
            self.sums[name] = self.sums.get(name, 0.0) + value * len(rows)
        self.rows += len(rows)
        self.position += 1
        self.step += 1
        if self.stop_asked or time.monotonic() - self.saved_at >= 60 * self.save_minutes:
            self.save()

    def describe_nan(self, what: str, rows: np.ndarray) -> str:
        """Return the message for a step that went wrong: its batch, what to do, what is kept."""
        ids = self.training.fit.ids[rows]
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        kept = f"; {self.path} holds the last good state" if self.path.is_file() else ""
        return (
            f"{what} in step {self.step + 1}, over {', '.join(ids[:SHOWN])}{more}: lower the "
            f"learning rate, set PRECISION to float32, or look at these rows{kept}"
        )

    def end_epoch(self, scores: dict[str, float]) -> None:
        """Record and print an epoch; keep its weights if it is the best so far.

        scores: of the validation rows, empty without any.  The best epoch has the highest macro F1
        in the mean with the two epochs before it.
        """
        means = {name: total / self.rows for name, total in self.sums.items()}
        lr = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        text = ", ".join(f"{name} {value:.4g}" for name, value in (means | scores).items())
        self.accelerator.print(f"epoch {self.epoch + 1}: {text}", flush=True)
        self.history.append({"epoch": self.epoch + 1, **means, "learning_rate": lr, **scores})
        self.epoch, self.position, self.sums, self.rows = self.epoch + 1, 0, {}, 0
        if scores:
            recent = [record["macro_f1"] for record in self.history[-AVERAGED:]]
            score = sum(recent) / len(recent)
            if score > self.best_score:
                self.best_epoch, self.best_score = self.epoch, score
                weights = self.own_weights()
                self.best_weights = {n: w.detach().cpu().clone() for n, w in weights.items()}
        if self.accelerator.is_main_process:
            history = {"epochs": self.history, "best_epoch": self.best_epoch}
            write_json(self.training.folder / "history.json", history)
        self.save()
        if self.trackers:
            self.trackers.add(self.history[-1])

    def own_weights(self) -> dict[str, Tensor]:
        """Return the weights and the statistics that move in the training.

        The frozen ones, which a large encoder has, come from its checkpoint again.
        """
        frozen = {n for n, p in self.network.named_parameters() if not p.requires_grad}
        return {n: w for n, w in self.network.state_dict().items() if n not in frozen}

    def take_best(self) -> None:
        """Leave the network with the best epoch's weights, or the last epoch's."""
        if self.best_weights:
            self.network.load_state_dict(self.best_weights, strict=False)
            self.accelerator.print(
                f"best epoch: {self.best_epoch} of {self.epoch} (validation macro F1)"
            )

    def save(self) -> None:
        """Write the state atomically; end the program if that was asked for."""
        content = {
            "identity": self.identity,
            "id": self.id,
            "network": self.own_weights(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums,
            "rows": self.rows,
            "history": self.history,
            "best_weights": self.best_weights,
            "counters": {name: getattr(self, name) for name in COUNTERS},
        }
        if self.accelerator.is_main_process:
            write_state(self.path, content)
        self.saved_at = time.monotonic()
        if self.stop_asked:
            raise KeyboardInterrupt(f"the same command goes on in epoch {self.epoch + 1}")

    def load(self) -> None:
        """Go back to the saved state, if there is one; refuse another run's."""
        if not self.path.is_file():
            return
        content = read_state(self.path, self.identity)
        with naming(self.path, "this script, with --restart,"):
            if content["network"].keys() != self.own_weights().keys():
                raise ValueError("other weights")
            self.network.load_state_dict(content["network"], strict=False)
            self.optimizer.load_state_dict(content["optimizer"])
            for name in ("sums", "rows", "history", "best_weights"):
                setattr(self, name, content[name])
            vars(self).update({name: content["counters"][name] for name in COUNTERS})
            self.id = content.get("id", self.id)  # a state of an earlier version has none
        print(f"{self.path}: going on in epoch {self.epoch + 1} after batch {self.position}")


@contextmanager
def write_tensors(path: Path) -> Iterator[Path]:
    """Yield a temporary path as `write_atomically` does, for writers whose errors are their own."""
    try:
        with write_atomically(path) as temporary:
            yield temporary
    except (RuntimeError, SafetensorError) as error:  # torch.save's, save_file's
        raise unwritable(path, " ".join(str(error).split())[:200]) from None


def write_state(path: Path, content: dict) -> None:
    """Write what a training goes on from; `identity` in it says whose it is."""
    with write_tensors(path) as temporary:
        torch.save(content, temporary)


def read_state(path: Path, identity: dict) -> dict:
    """Read what `write_state` wrote; UserError for a damaged one, or one of another identity."""
    try:
        with zipfile.ZipFile(path) as archive:  # whose checksums torch does not compare
            if archive.testzip():
                raise ValueError("a checksum is wrong")
        content = torch.load(path, weights_only=True, map_location="cpu")
        is_same = content["identity"] == identity
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): delete it to start anew"
        ) from None
    if not is_same:
        raise UserError(
            f"{path} is of other settings, data or weights: give the same to go on with it, or "
            "--restart to start over"
        )
    return content


def unfinished_trainings(stage: Stage, data: Dataset, folds: int) -> Iterator[Training]:
    """Yield the trainings of a stage that an earlier, broken off run of it has not done."""
    for training in plan_trainings(data, folds, stage.unfinished):
        if (training.folder / "config.json").is_file():
            print(f"{training.folder}: already trained in this run")
        else:
            yield training


def write_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights, atomically."""
    weights = {
        # A copy of each: safetensors takes no tensor that two names share.
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    with write_tensors(path) as temporary:
        save_file(weights, temporary)


def save_model(run: Checkpoint, stage: Stage, network: dict, files: dict[str, bytes]) -> None:
    """Write the weights, what belongs beside them by name and, last, config.json.

    network: all that predictions depend on beside the weights.
    """
    if not run.accelerator.is_main_process:
        return
    folder, data = run.training.folder, run.training.fit
    write_weights(run.network, folder / "model.safetensors")
    for name, content in files.items():
        write_bytes(folder / name, content)
    config = {
        "script": stage.script,
        "network": network,
        "settings": {k: v for k, v in stage.settings.items() if k not in PASSED_OVER},
        "inputs": stage.made_of["inputs"],
        "labels": list(data.label_names),
        "held_out": sorted(set(run.training.held_out.sessions.tolist())),
        "data_hash": data.data_hash,
        "synthetic": data.manifest["synthetic"],
        "warnings": data.manifest.get("warnings", []),
        "corpus": data.manifest["corpus"]["kind"],
        "sessions": data.manifest["sessions"],
        "text_style": data.manifest["settings"]["text_style"],
        "reference_range": data.manifest["reference_range"],
        **describe_machine(),
    }
    write_json(folder / "config.json", config)
    run.path.unlink(missing_ok=True)


def load_weights(
    network: nn.Module, folder: Path, script: str, file: str = "model.safetensors"
) -> nn.Module:
    """Return a network with the weights that a training left in its folder."""
    with naming(folder / file, script):
        network.load_state_dict(load_file(folder / file))
    return network


def save_frozen(encoder: nn.Module, run: Checkpoint, folder: Path) -> str:
    """Write a speech encoder that is frozen from now on; return the hash of its weights."""
    if not run.accelerator.is_main_process:
        return ""
    if not (folder / ENCODER).is_file():  # by an earlier fold
        write_weights(encoder, folder / ENCODER)
    return sha256(folder / ENCODER)


def load_frozen(encoder: nn.Module, folder: Path, script: str) -> nn.Module:
    """Return a speech encoder with the weights that `save_frozen` left for a model.

    folder: of the model, or of one of its folds.
    """
    is_fold = folder.name.startswith("fold") and not (folder / ENCODER).is_file()
    return load_weights(encoder, folder.parent if is_fold else folder, script, ENCODER)
