"""Linear layers by oneDNN: the numbers and the gradients of torch's own."""

import copy

import pytest
import torch
from torch import nn

from models import product


@pytest.fixture(autouse=True)
def faster(monkeypatch):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(product, "has_faster_product", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12)])
def test_outputs_and_gradients_are_those_of_a_linear_layer(bias, shape):
    torch.manual_seed(0)
    plain = nn.Linear(12, 8, bias=bias).double()
    ours = product.speed_up(nn.Sequential(copy.deepcopy(plain).float()))[0]
    assert type(ours) is product.Linear
    rows = torch.randn(shape, requires_grad=True)
    exact = rows.detach().double().requires_grad_()
    aim = torch.randn(*shape[:-1], 8)
    (ours(rows) * aim).sum().backward()
    (plain(exact) * aim).sum().backward()
    torch.testing.assert_close(ours(rows), plain(exact).float())
    torch.testing.assert_close(rows.grad, exact.grad.float())
    for own, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad.float())


def test_a_frozen_weight_gets_no_gradient():
    ours = product.speed_up(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    ours[0].requires_grad_(False)
    ours(torch.randn(3, 4)).sum().backward()
    assert ours[0].weight.grad is None
    assert ours[1].weight.grad.abs().sum() > 0


def test_what_a_layer_returns_may_be_changed_in_place():
    ours = product.speed_up(nn.Sequential(nn.Linear(4, 4)))[0]
    outputs = ours(torch.randn(2, 3, 4))
    outputs[:, 0] = 0
    outputs.sum().backward()
    assert ours.weight.grad.abs().sum() > 0


def test_bf16_stays_torchs():
    ours = product.speed_up(nn.Sequential(nn.Linear(4, 4)))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(torch.randn(3, 4)).dtype == torch.bfloat16


def test_layers_of_another_kind_stay_as_they_are():
    class Own(nn.Linear):
        pass

    assert type(product.speed_up(nn.Sequential(Own(2, 2)))[0]) is Own
