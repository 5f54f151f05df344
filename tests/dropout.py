"""What dropout does, seen from the layer behind it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def given_to(layer: nn.Module, run: Callable[[], object]) -> Tensor:
    """Return what a layer is given while `run` runs."""
    met = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: met.append(inputs[0].detach()))
    with torch.no_grad():
        run()
    hook.remove()
    return torch.cat([each.flatten() for each in met])


def share_dropped(model: nn.Module, layer: nn.Module, run: Callable[[], object]) -> float:
    """Return the share of what a layer is given that is 0 while learning, and only then."""
    model.eval()
    whole = given_to(layer, run)
    torch.manual_seed(0)
    model.train()
    learning = given_to(layer, run)
    return (learning[whole != 0] == 0).float().mean().item()
