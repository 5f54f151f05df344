"""What a stage keeps: trained models with all that testing needs, and the state to go on from."""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from common.files import (
    UserError,
    check_recorded,
    naming,
    read_json,
    unwritable,
    write_atomically,
    write_bytes,
    write_json,
)
from pipeline.record import differences

SHOWN = 64  # rows of a batch that an error names


@contextmanager
def write_tensors(path: Path) -> Iterator[Path]:
    """Yield a temporary path as `write_atomically` does, for writers whose errors are their own."""
    try:
        with write_atomically(path) as temporary:
            yield temporary
    except (SafetensorError, RuntimeError) as error:  # the latter is torch.save's
        raise unwritable(path, " ".join(str(error).split())[:200]) from None


def save_weights(network: nn.Module, path: Path) -> None:
    """Write every tensor of a network, atomically."""
    weights = {
        # A copy of each: safetensors takes no tensor that two names share.
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    with write_tensors(path) as temporary:
        save_file(weights, temporary)


def write_files(folder: Path | str, files: dict[str, bytes]) -> None:
    """Write what belongs beside a network's weights, by name."""
    for name, content in files.items():
        write_bytes(Path(folder) / name, content)


def read_config(folder: Path, made_by: str) -> dict:
    """Return config.json of a finished training whose files are all whole.

    made_by: the script that trains.
    """
    path = folder / "config.json"
    if not path.is_file() and any((folder / "unfinished").glob("running.json")):
        raise UserError(f"{folder}: its training is unfinished: run {made_by} again, it goes on")
    config = read_json(path, made_by)
    for path in filter(Path.is_file, folder.iterdir()):
        check_recorded(path)
    return config


def read_weights(folder: Path, made_by: str) -> dict[str, torch.Tensor]:
    """Return the weights of a finished training by name."""
    path = folder / "model.safetensors"
    with naming(path, made_by):
        return load_file(path)


def save_encoder(
    encoder: nn.Module, tokenizer, folder: Path | str, precision: torch.dtype = torch.float32
) -> None:
    """Write config.json, model.safetensors and the tokenizer: what load_encoder reads."""
    weights = encoder.state_dict().items()
    tensors = {name: tensor.to("cpu", precision).contiguous() for name, tensor in weights}
    with write_tensors(Path(folder) / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_files(folder, tokenizer.files())
    write_json(Path(folder) / "config.json", encoder.config.to_diff_dict())


class State:
    """All that the next training step depends on, kept in one file that loads without pickle.

    A training goes in rounds, after each of which it is measured: epochs, or so many steps.
    identity: what a run must share with an unfinished one to go on with it: settings, inputs ...
    """

    COUNTERS = ("round", "position", "step", "best_round", "best_score")

    def __init__(
        self,
        path: Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        identity: dict | None = None,
    ):
        self.path, self.network, self.optimizer = path, network, optimizer
        self.identity = identity or {}
        self.round = 0  # rounds that are finished
        self.position = 0  # steps done in this round
        self.step = 0  # steps done in all
        self.sums = {}  # of this round: name -> [sum over rows, rows]
        self.history = []  # one record a round
        self.best_round, self.best_score, self.best_weights = None, -1.0, {}
        self.saved_at = time.monotonic()

    @property
    def means(self) -> dict[str, float]:
        """What was added in this round, its mean over the rows."""
        return {name: total / rows for name, (total, rows) in self.sums.items()}

    @property
    def age_minutes(self) -> float:
        """Minutes since the state was last written."""
        return (time.monotonic() - self.saved_at) / 60

    def add(self, found: dict[str, torch.Tensor], rows: np.ndarray, names: Callable) -> None:
        """Count one step over a batch's rows with its mean "loss" and other means.

        names: rows -> what the user calls them, for a number that is none.
        """
        for name, tensor in found.items():
            value = tensor.item()
            if not math.isfinite(value):
                raise UserError(self.describe_nan(f"the {name} became {value}", names(rows)))
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value * len(rows), count + len(rows)]
        self.position += 1
        self.step += 1

    def describe_nan(self, what: str, batch: Sequence[str]) -> str:
        """Return the message for a step that went wrong: its batch, what to do, what is kept."""
        more = f" and {len(batch) - SHOWN} more" * (len(batch) > SHOWN)
        kept = f"; {self.path} holds the last good state" * self.path.is_file()
        return (
            f"{what} in step {self.step + 1}, over {', '.join(batch[:SHOWN])}{more}: lower the "
            f"learning rate, set PRECISION to float32, or look at these rows{kept}"
        )

    def end_round(self, record: dict, score: float | None = None) -> None:
        """Keep a round's record, and its weights if its score is the best so far."""
        self.history.append(record)
        self.round, self.position, self.sums = self.round + 1, 0, {}
        if score is not None and score > self.best_score:
            self.best_round, self.best_score = self.round, score
            self.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.network.state_dict().items()
            }

    def save(self) -> None:
        """Write the state atomically."""
        content = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums,
            "history": self.history,
            "best_weights": self.best_weights,
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
        }
        with write_tensors(self.path) as path:
            torch.save(content, path)
        self.saved_at = time.monotonic()

    def load(self, check: Callable[[dict, int], None] | None = None) -> bool:
        """Go back to the saved state, if there is one; tell whether there was.

        check: raises UserError for the identity and the step of a run that must not go on here; by
        default of every other identity.
        """
        if not self.path.is_file():
            return False
        try:
            with zipfile.ZipFile(self.path) as archive:  # whose checksums torch does not compare
                if archive.testzip():
                    raise ValueError("a checksum is wrong")
            content = torch.load(self.path, weights_only=True, map_location="cpu")
            (check or self.check)(content["identity"], content["counters"]["step"])
            self.take(content)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.path} cannot be read ({type(error).__name__}): delete it to start anew"
            ) from None
        return True

    def check(self, saved: dict, step: int) -> None:
        """Refuse another run's state."""
        if why := differences(saved, self.identity):
            raise UserError(
                f"{self.path} is of a run of {why}: give the same to go on with it, or --restart "
                "to start over"
            )

    def take(self, content: dict) -> None:
        """Take over what `save` wrote."""
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.sums, self.history = content["sums"], content["history"]
        self.best_weights = content["best_weights"]
        vars(self).update({name: content["counters"][name] for name in self.COUNTERS})
