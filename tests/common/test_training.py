"""Schedule, loss, parameter groups, evaluation; the three copies of the loop."""

import ast
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.nn import functional

from common.files import UserError
from common.losses import SoftCrossEntropy, class_weights, share
from common.training import (
    parameter_groups,
    predict,
    set_lr,
    start,
    validation_scores,
)


@pytest.mark.parametrize(
    ("shape", "expected"), [("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]), ("cosine", [0, 0.5, 1])]
)
def test_the_rate_warms_up_and_falls_to_nothing(shape, expected):
    optimizer = SimpleNamespace(param_groups=[{"initial_lr": 2.0}, {"initial_lr": 0.1}])
    rates = []
    for step in range(6):
        set_lr(optimizer, step, 6, 0.34, shape)
        rates.append(optimizer.param_groups[0]["lr"] / 2)
        assert optimizer.param_groups[1]["lr"] == pytest.approx(rates[-1] * 0.1)
    assert rates[: len(expected)] == pytest.approx(expected)
    if shape == "cosine":
        assert rates[3:] == pytest.approx([0.5 + 0.5 * np.cos(np.pi * k / 4) for k in (1, 2, 3)])


def accelerator(number=1, index=0):
    return SimpleNamespace(device=torch.device("cpu"), num_processes=number, process_index=index)


@pytest.mark.parametrize(("power", "smoothing"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.05)])
def test_the_loss_is_torchs_for_hard_labels(power, smoothing):
    random = np.random.default_rng(0)
    labels = random.integers(0, 7, 60)
    targets = np.eye(7, dtype=np.float32)[labels]
    logits, rows = torch.randn(20, 7), random.choice(60, 20, replace=False)
    found = SoftCrossEntropy(accelerator(), targets, power, smoothing)(logits, rows)
    frequency = targets.mean(0)
    weights = torch.tensor(frequency**-power / (frequency**-power * frequency).sum())
    expected = functional.cross_entropy(
        logits, torch.tensor(labels[rows]), weights, label_smoothing=smoothing
    )
    smoothed = targets[rows] * (1 - smoothing) + smoothing / 7  # ours divides by their weights
    scale = weights[labels[rows]].sum() / (torch.tensor(smoothed) * weights).sum()
    torch.testing.assert_close(found, expected * scale)


def test_processes_together_have_the_loss_of_one():
    targets = np.random.default_rng(0).dirichlet(np.ones(7), 30).astype(np.float32)
    logits, rows = torch.randn(9, 7), np.arange(3, 12)
    whole = SoftCrossEntropy(accelerator(), targets, 0.5, 0.1)(logits, rows)
    parts = []
    for index in range(2):
        own = share(accelerator(2, index), np.arange(9))
        loss = SoftCrossEntropy(accelerator(2, index), targets, 0.5, 0.1)
        parts.append(loss(logits[own], rows))
    torch.testing.assert_close(sum(parts) / 2, whole)
    assert share(accelerator(4, 3), rows[:3]).tolist() == rows[:3].tolist()


def test_rare_classes_weigh_more_and_absent_ones_nothing():
    targets = np.repeat(np.eye(7)[[0, 1, 2]], [60, 30, 10], axis=0)
    weights = class_weights(targets, 1.0)
    assert weights[:3].tolist() == pytest.approx([1 / 1.8, 1 / 0.9, 1 / 0.3], rel=1e-5)
    assert not weights[3:].any()


def test_groups_have_their_rate_by_the_longest_prefix_and_no_decay_on_norms_and_biases():
    network = nn.ModuleDict(
        {"encoder": nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), "head": nn.Linear(3, 2)}
    )
    network["norm"] = nn.BatchNorm2d(2)
    network["encoder"][0].bias.requires_grad = False
    groups = parameter_groups(network, {"": 1.0, "encoder": 0.1, "encoder.1": 0.01}, 0.5)
    found = {id(p): (g["initial_lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected = {
        "encoder.0.weight": (0.1, 0.5),
        "encoder.1.weight": (0.01, 0.0),
        "encoder.1.bias": (0.01, 0.0),
        "head.weight": (1.0, 0.5),
        "head.bias": (1.0, 0.0),
        "norm.weight": (1.0, 0.0),
        "norm.bias": (1.0, 0.0),
    }
    names = {name: id(p) for name, p in network.named_parameters()}
    assert found == {names[name]: value for name, value in expected.items()}


class Echo(nn.Module):
    """Logits that are the batch; dropout, so that the mode is seen."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.classifier = nn.Linear(1, 7)

    def forward(self, values):
        return self.dropout(values)


class Rows:
    def __init__(self, count):
        self.ids = np.array([f"row{n}" for n in range(count)])

    def __len__(self):
        return len(self.ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_predictions_come_back_to_their_rows_without_dropout(workers):
    values = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
    batches = np.array_split(np.random.default_rng(1).permutation(23), 6)
    network = Echo().train()
    found = predict(
        start(), network, batches, lambda rows: {"values": values[rows]}, Rows(23), "x", workers
    )
    np.testing.assert_array_equal(found, values)
    assert network.training
    values[5, 2] = np.nan
    with pytest.raises(UserError, match="the output for row5 is not a number"):
        predict(start(), network, batches, lambda r: {"values": values[r]}, Rows(23), "x", 0)


def test_scores_are_means_over_classes_and_weighted_by_them():
    truth, pred = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    scores = validation_scores(np.eye(7, dtype=np.float32)[pred] * 9, truth)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    f1 = np.array([2 / 3, 1 / 2, 1])
    assert scores["macro_f1"] == pytest.approx(f1.mean())
    assert scores["f1"] == pytest.approx((f1 * [3, 2, 1]).sum() / 6)


def test_the_three_training_scripts_have_the_same_loop():
    """But for batch normalisation's averages, which the voice alone has, and text's workers."""
    loops = []
    for name in ("text_train.py", "audio_train.py", "run_classifier.py"):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        (loop,) = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.For) and ast.unparse(node.iter).startswith("run.epochs")
        ]
        lines = ast.unparse(loop).replace(", workers=0", "").splitlines()
        own = ("some = ", "recompute_batch_norm(")
        loops.append([line for line in lines if not line.strip().startswith(own)])
    assert loops[0] == loops[1] == loops[2] and len(loops[0]) > 12
