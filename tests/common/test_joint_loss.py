"""Valence and arousal: the loss over a batch, the units of the head, the files of testing."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from common.data import load_data
from common.files import LABELS, UserError
from common.losses import Concordance, JointLoss, concordance_loss, describe_dimensions
from common.training import evaluate
from models.head import Head

SILENT = SimpleNamespace(
    device=torch.device("cpu"), num_processes=1, process_index=0, print=lambda text: None
)
TRUTH = torch.tensor([1.0, 2.0, 4.0, 5.0])  # mean 3, variance 2.5


@pytest.mark.parametrize(
    ("values", "ccc"),
    [
        (TRUTH, 1.0),
        (TRUTH + 1, 5 / 6),  # 2 * 2.5 / (2.5 + 2.5 + 1)
        (2 * TRUTH, 10 / 21.5),  # covariance 5, variances 10 and 2.5, means 6 and 3
        (6 - TRUTH, -1.0),
        (torch.full((4,), 3.0), 0.0),
    ],
)
def test_the_loss_is_one_less_lins_coefficient(values, ccc):
    assert concordance_loss(values, TRUTH).item() == pytest.approx(1 - ccc, abs=1e-6)
    blank = torch.cat([TRUTH, torch.tensor([torch.nan])])
    more = torch.cat([values, torch.tensor([99.0])])
    assert concordance_loss(more, blank).item() == pytest.approx(1 - ccc, abs=1e-6)


def test_a_batch_without_two_rated_rows_is_no_loss():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = concordance_loss(values, torch.tensor([torch.nan, 3.0]))
    loss.backward()
    assert loss.item() == 0 and values.grad.tolist() == [0, 0]


def test_processes_together_have_the_gradient_of_one():
    truth = np.random.default_rng(0).uniform(1, 5, (30, 2)).astype(np.float32)
    rows, values = np.arange(4, 13), torch.randn(9, 2)
    alone = values.clone().requires_grad_()
    whole = Concordance(SILENT, truth)(alone, rows)
    whole.backward()
    together = torch.zeros(9, 2)
    for index in range(2):
        own = np.arange(9)[index::2]
        others = torch.zeros(9, 2)  # what the other process hands in
        others[1 - index :: 2] = values[1 - index :: 2]
        process = SimpleNamespace(
            device=torch.device("cpu"),
            num_processes=2,
            process_index=index,
            reduce=lambda every, others=others: every + others,
        )
        part = values[own].clone().requires_grad_()
        loss = Concordance(process, truth)(part, rows)
        loss.backward()
        assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
        together[own] = part.grad / 2  # gradients are averaged
    torch.testing.assert_close(together, alone.grad)


def test_the_head_gives_the_raters_scale_and_leaves_the_logits_alone():
    torch.manual_seed(0)
    units = {"mean": [3.0, 2.0], "std": [0.5, 2.0], "scale": [1, 5]}
    head, plain = Head(4, 7, units), Head(4, 7)
    plain.load_state_dict({name: value[:7] for name, value in head.state_dict().items()})
    hidden = torch.randn(5, 4)
    outputs = head(hidden)
    torch.testing.assert_close(outputs[:, :7], plain(hidden))
    linear = hidden @ head.weight[7:].T + head.bias[7:]
    torch.testing.assert_close(
        outputs[:, 7:], torch.tensor([3.0, 2.0]) + linear * torch.tensor([0.5, 2.0])
    )


def training_of(fit, held_out=None):
    nothing = fit.select(np.zeros(len(fit), bool))
    return SimpleNamespace(
        fit=fit, held_out=nothing if held_out is None else held_out, chooses_epoch=True
    )


def test_the_weight_of_the_dimensions(data):
    fit = load_data(data, "train")
    rows, outputs = np.arange(10), torch.randn(10, 9)
    losses = [JointLoss(SILENT, fit, "label", 0.5, 0.1, w)(outputs, rows) for w in (0.5, 1.0)]
    alone = JointLoss(SILENT, fit, "label", 0.5, 0.1, 1.0)(outputs[:, :7], rows)
    assert (losses[1] - alone).item() == pytest.approx(2 * (losses[0] - alone).item(), rel=1e-4)


def test_the_votes_are_what_the_loss_aims_at(data):
    fit, rows = load_data(data, "train"), np.arange(10)
    for targets, wanted in (("votes", fit.targets("votes")), ("label", fit.targets("label"))):
        logits = torch.from_numpy(np.log(wanted[rows] + 1e-4)).requires_grad_()
        JointLoss(SILENT, fit, targets, 0.0, 0.0, 0.0)(logits, rows).backward()
        assert logits.grad.abs().max() < 1e-3


def test_whether_they_are_learned_is_the_same_in_all_folds(data):
    fit = load_data(data, "train")
    units = describe_dimensions(SILENT, training_of(fit), 1.0, 8)
    assert units["mean"] == pytest.approx(np.nanmean(fit.dimensions, 0), abs=1e-3)
    assert units["scale"] == [1, 5]
    assert describe_dimensions(SILENT, training_of(fit), 0.0, 8) is None
    with pytest.raises(UserError, match="BATCH_SIZE = 1"):
        describe_dimensions(SILENT, training_of(fit), 1.0, 1)
    said = []
    speaking = SimpleNamespace(print=said.append)
    blank = fit.select(np.ones(len(fit), bool))
    blank.table["valence"] = np.nan
    assert describe_dimensions(speaking, training_of(blank), 1.0, 8) is None
    assert "valence" in said[0]
    with pytest.raises(UserError, match="--dimensions 0"):
        describe_dimensions(SILENT, training_of(blank, fit), 1.0, 8)


def test_validation_scores_are_of_the_rows_that_are_rated(data, monkeypatch):
    held_out = load_data(data, "valid")
    rated = np.isfinite(held_out.dimensions[:, 0])
    outputs = np.hstack([np.eye(7)[held_out.labels], np.nan_to_num(held_out.dimensions)])
    outputs[:, 8] = 6 - outputs[:, 8]
    monkeypatch.setattr("common.training.predict", lambda *_: outputs.astype(np.float32))
    scores = evaluate(SILENT, None, training_of(held_out, held_out), [], None)
    assert scores["accuracy"] == 1 and scores["ccc_valence"] == pytest.approx(1, abs=1e-5)
    assert scores["ccc_arousal"] < 0 and not rated.all()
    held_out.table["valence"] = np.nan
    fresh = held_out.select(np.ones(len(held_out), bool))
    assert "ccc_valence" not in evaluate(SILENT, None, training_of(fresh, fresh), [], None)


def test_every_model_leaves_its_valence_and_arousal(trained):
    for folder in (trained.outputs, trained.outputs / "heldout"):
        for model in ("audio", "cmbert"):
            dims = np.load(folder / f"{model}_dims.npy")
            truth = np.load(folder / f"{model}_dims_truth.npy")
            output = np.load(folder / f"{model}_output.npy")
            assert dims.shape == truth.shape == (len(output), 2)
            assert output.shape[1] == len(LABELS)
            assert (dims >= 1).all() and (dims <= 5).all() and np.isfinite(dims).all()
            assert np.isnan(truth[:, 0]).any() and np.isfinite(truth[:, 1]).all()
            run = json.loads((folder / f"{model}_run.json").read_text())
            assert run["dimension_scale"] == [1, 5]
        assert not (folder / "text_dims.npy").exists()  # trained with a weight of 0
    ids = np.load(trained.outputs / "cmbert_index.npy")
    loaded = load_data(trained.data, "test")
    assert ids.tolist() == loaded.ids.tolist()
    np.testing.assert_array_equal(
        np.load(trained.outputs / "cmbert_dims_truth.npy"), loaded.dimensions
    )


def test_the_words_of_a_row_carry_its_votes_once(trained):
    header = (trained.outputs / "text_rows.tsv").read_text().split("\n")[0].split("\t")
    assert len(header) == len(set(header)) and {"gender", "votes_sad"} <= set(header)


def test_the_rows_say_how_long_how_many_words_and_how_loud(trained):
    table = load_data(trained.data, "test").table
    for model in ("text", "audio", "cmbert"):
        rows = pd.read_csv(trained.outputs / f"{model}_rows.tsv", sep="\t", quoting=3)
        np.testing.assert_allclose(rows["seconds"] * 16_000, table["sample_count"])
        assert rows["words"].tolist() == [len(text.split(" ")) for text in table["text"]]
        np.testing.assert_allclose(rows[["level", "noise"]], table[["level", "noise"]], rtol=1e-6)
