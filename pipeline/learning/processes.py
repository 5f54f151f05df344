"""The processes that torchrun or accelerate launch started: they train one model together.

Started plainly there is one, and every function here does nothing. All have the same weights and
meet the same batches, each computes its rows of a batch, and what they find is added up: the
result is that of one process, up to the order of sums. The first process alone writes.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import torch
from accelerate import PartialState
from torch import distributed, nn

from models.processes import meeting, total


def join() -> torch.device:
    """Meet the other processes, if there are any; return the device of this one."""
    # Without a GPU accelerate lets each process believe that it is alone, unless told otherwise.
    on_cpu = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.cuda.is_available()
    return PartialState(cpu=on_cpu).device


def count() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def place() -> int:
    """Return this process's number, counted from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Tell whether this is the process that writes and prints."""
    return place() == 0


def wait() -> None:
    """Wait until all processes are here."""
    if distributed.is_initialized():
        with meeting():
            distributed.barrier()


def leave() -> None:
    """End all processes but the first, which goes on as if it had always been alone."""
    join()
    if distributed.is_initialized():
        others = not is_first()
        wait()
        distributed.destroy_process_group()
        if others:
            sys.exit()


def share(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Return this process's rows of a batch, and by how many processes each row is computed.

    By one; but if there are fewer rows than processes, every process computes them all.
    """
    if len(rows) < count():
        return rows, count()
    return rows[place() :: count()], 1


def begin_alike(network: nn.Module) -> None:
    """Give all processes the first one's weights."""
    if distributed.is_initialized():
        with meeting():
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)


def add_gradients(network: nn.Module) -> None:
    """Add up the gradients over the processes; all of them have used the same parameters."""
    if distributed.is_initialized():
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = total(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, added in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(added.view_as(gradient))
