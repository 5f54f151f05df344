"""What a stage keeps: trained models with all that testing needs, and the state to go on from."""

from __future__ import annotations

import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.files import UserError, read_json, write_atomically, write_json
from pipeline.labels import LABELS
from pipeline.learning.dataset import Utterances

PLACES = ("data", "outputs")
RESULTS = ("config.json", "model.safetensors", "history.json", "state.pt")


class Run:
    """The results folder of a stage while it trains, so that a killed stage can go on.

    `running.json` names the settings and the data; it stands until the stage is finished. A stage
    that finds its own goes on where the other stopped; anything else is cleared away first.
    """

    def __init__(self, folder: Path, settings: dict, data: Utterances, accelerator: Accelerator):
        self.folder = Path(folder)
        self.marker = self.folder / "running.json"
        self.is_main = accelerator.is_main_process
        # DATA and OUTPUTS may spell the same place in many ways: the data hash identifies the data.
        identity = {name: value for name, value in settings.items() if name not in PLACES}
        self.config = {
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in identity.items()},
            "labels": list(LABELS),
            "data_hash": data.data_hash,
            "synthetic": data.synthetic,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "numpy": np.__version__,
            },
        }
        if self.is_main:
            self.begin()
        accelerator.wait_for_everyone()

    def begin(self) -> None:
        """Find the unfinished run of the same settings, or clear away what is there."""
        if self.marker.is_file():
            if read_json(self.marker, "the training") == self.config:
                print(f"{self.folder}: going on with the unfinished run of these settings")
                return
            print(f"{self.folder}: clearing away an unfinished run of other settings or data")
        for folder in (self.folder, *self.folder.glob("fold*")):
            for name in RESULTS:
                (folder / name).unlink(missing_ok=True)
        write_json(self.marker, self.config)

    def is_finished(self, name: str) -> bool:
        """Tell whether the training `name` of this run was finished before."""
        return (self.folder / name / "config.json").is_file()

    def save(self, name: str, model: nn.Module, held_out: Utterances, **extra: object) -> None:
        """Write model.safetensors and, last, config.json of the training `name`.

        config.json names the sessions held out of training, and carries what `extra` adds.
        """
        if not self.is_main:
            return
        folder = self.folder / name
        weights = {key: tensor.cpu().contiguous() for key, tensor in model.state_dict().items()}
        with write_atomically(folder / "model.safetensors") as path:
            save_file(weights, path)
        sessions = sorted(int(session) for session in set(held_out.table["session"]))
        write_json(folder / "config.json", {**self.config, "held_out": sessions, **extra})
        (folder / "state.pt").unlink(missing_ok=True)
        print(f"wrote {folder}/model.safetensors, config.json, history.json")

    def finish(self) -> None:
        """Mark the whole stage as finished."""
        if self.is_main:
            self.marker.unlink()


def load_checkpoint(folder: Path, made_by: str) -> tuple[dict, dict]:
    """Return config.json and the weights of a finished training."""
    folder = Path(folder)
    if (folder / "running.json").is_file():
        raise UserError(f"{folder}: its training is unfinished: run {made_by} again, it goes on")
    config = read_json(folder / "config.json", made_by)
    try:
        return config, load_file(folder / "model.safetensors")
    except Exception as error:
        raise UserError(
            f"{folder}/model.safetensors cannot be read ({error}): run {made_by} again"
        ) from None


class State:
    """All that the next training step depends on, kept in one file that loads without pickle."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
    ):
        self.path, self.model = path, model
        self.optimizer, self.scheduler = optimizer, scheduler
        self.epoch = 0
        self.step = 0  # batches done in this epoch
        self.loss_sum = 0.0
        self.rows = 0
        self.best_score = -1.0
        self.best_weights = {}
        self.saved_at = time.monotonic()
        self.history = {"epochs": [], "best_epoch": None}

    @property
    def mean_loss(self) -> float:
        return self.loss_sum / max(1, self.rows)

    @property
    def age_minutes(self) -> float:
        """Minutes since the state was last written."""
        return (time.monotonic() - self.saved_at) / 60

    def add(self, loss: float, rows: int) -> None:
        """Count one step of `rows` utterances with mean loss `loss`."""
        if not math.isfinite(loss):
            raise UserError(
                f"the loss became {loss} in epoch {self.epoch + 1}, batch {self.step + 1}: "
                "lower the learning rate, or set PRECISION to float32"
            )
        self.step += 1
        self.loss_sum += loss * rows
        self.rows += rows

    def end_epoch(self, learning_rate: float, scores: dict) -> None:
        """Record an epoch and its validation scores (or {}); keep its weights if they are best."""
        record = {"loss": self.mean_loss, "learning_rate": learning_rate, **scores}
        self.epoch, self.step, self.loss_sum, self.rows = self.epoch + 1, 0, 0.0, 0
        self.history["epochs"].append({"epoch": self.epoch, **record})
        if scores and scores["macro_f1"] > self.best_score:
            self.best_score = scores["macro_f1"]
            self.history["best_epoch"] = self.epoch
            self.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }
        shown = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
        print(f"epoch {self.epoch}: {shown}", flush=True)

    def is_out_of_patience(self, patience: int) -> bool:
        best = self.history["best_epoch"]
        return best is not None and self.epoch - best >= patience

    def save(self) -> None:
        """Write the state atomically."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "best_weights": self.best_weights,
            "history": self.history,
            "counters": [self.epoch, self.step, self.loss_sum, self.rows, self.best_score],
        }
        with write_atomically(self.path) as path:
            torch.save(content, path)
        self.saved_at = time.monotonic()

    def load(self) -> None:
        """Go back to the saved state, if there is one."""
        if not self.path.is_file():
            return
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise UserError(
                f"{self.path} cannot be read ({type(error).__name__}): delete it to start anew"
            ) from None
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        torch.set_rng_state(content["random"])
        if content["random_cuda"]:
            torch.cuda.set_rng_state_all(content["random_cuda"])
        self.best_weights, self.history = content["best_weights"], content["history"]
        self.epoch, self.step, self.loss_sum, self.rows, self.best_score = content["counters"]
        print(f"{self.path}: going on in epoch {self.epoch + 1} after batch {self.step}")
