"""Sums over the processes that train one network together, each with its rows of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from models import ModelError


@contextmanager
def meeting() -> Iterator[None]:
    """Say in one line that another process is gone, where all are waited for."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"another process of this training has ended ({reason})") from None


class Total(torch.autograd.Function):
    """The sum of a tensor over all processes; every process's loss has a part in its gradient."""

    @staticmethod
    def forward(context, own: Tensor) -> Tensor:
        added = own.contiguous().clone()
        with meeting():
            distributed.all_reduce(added)
        return added

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return Total.forward(context, gradient)


def total(own: Tensor) -> Tensor:
    """Return the sum over all processes, the tensor itself where there is one."""
    return Total.apply(own) if distributed.is_initialized() else own
