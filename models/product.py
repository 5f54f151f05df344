"""Linear layers by oneDNN where that multiplies matrices twice as fast as torch does by itself.

torch multiplies float32 matrices by MKL, which takes AVX2 on processors that are not Intel's, also
where they have AVX-512.
Shapes: N rows, I inputs and O outputs of a layer.
"""

import platform
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def has_faster_product() -> bool:
    """Tell whether this is such a processor: AMD's with AVX-512."""
    has_product = torch.backends.mkldnn.enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not has_product:
        return False
    cpu = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (cpu.read_text() if cpu.is_file() else platform.processor())


def multiply(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (N, I) @ weight (O, I).T + bias (O,), by oneDNN: (N, O)."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class Product(torch.autograd.Function):
    """`multiply` of rows (N, I), with its gradients."""

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return multiply(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            multiply(gradient, weight.T) if of_rows else None,
            multiply(gradient.T, rows.T) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


class Linear(nn.Linear):
    """A linear layer by oneDNN, in float32 on a CPU; elsewhere as it ever was."""

    def forward(self, rows: Tensor) -> Tensor:
        is_changed = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if is_changed or rows.device.type != "cpu" or rows.dtype != torch.float32:
            return super().forward(rows)
        if rows.ndim < 2 or not rows.numel():
            return super().forward(rows)
        # Behind the function, as what it returns may be no view: some networks change it in place.
        found = Product.apply(rows.flatten(0, -2), self.weight, self.bias)
        return found.unflatten(0, rows.shape[:-1])


def speed_up(network: nn.Module) -> nn.Module:
    """Return a network whose linear layers are multiplied by oneDNN where that is faster."""
    if has_faster_product():
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = Linear
    return network
