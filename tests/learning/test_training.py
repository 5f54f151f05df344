"""The training loop: losses and schedules by hand, what a step changes, going on after a stop."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from pipeline.learning import audio, cmbert, text, training
from pipeline.learning.dataset import Training, load_utterances
from stage_settings import PAPER, stage_settings
from torch import nn

from common.files import UserError
from fusion import metrics
from models import ModelError
from models.alexnet import MaskedBatchNorm

ONE_EPOCH = {
    "epochs": 1,
    "patience": 100,
    "schedule": "linear",
    "warmup": 0.0,
    "beta2": 0.999,
    "batch_size": 8,
    "save_minutes": 1000.0,
}


@pytest.fixture(scope="module")
def fit(data):
    return load_utterances(data, "train")


@pytest.fixture(scope="module")
def held_out(data):
    return load_utterances(data, "valid")


@pytest.fixture
def text_model(bert):
    """Return a function: changes of the settings -> a new text model of seed 0."""

    def make(**changes):
        torch.manual_seed(0)
        settings = stage_settings("text", bert=str(bert), **{**ONE_EPOCH, **changes})
        return text.create(settings)

    return make


def run(model, folder, fit, rate=1e-3, rates=None, held_out=None):
    """Train a model on rows, without validation unless there are rows held out."""
    fit = model.prepare(fit)
    chosen = model.prepare(held_out) if held_out is not None else fit.select(np.zeros(len(fit)))
    part = Training(folder, fit, chosen, chooses_epoch=held_out is not None)
    training.train(model, part, rates or {"": rate})
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# --- loss


def test_class_weights_by_hand():
    targets = np.eye(7)[[0, 0, 0, 1]]  # three neutral, one angry: frequencies 3/4, 1/4
    # 1 / f = 4/3, 4; their mean over the rows is (3 * 4/3 + 4) / 4 = 2
    np.testing.assert_allclose(training.class_weights(targets, 1.0)[:2], [2 / 3, 2], rtol=1e-6)
    assert not training.class_weights(targets, 1.0)[2:].any()
    # f ** -.5 = 1.1547, 2; mean (3 * 1.1547 + 2) / 4 = 1.36603
    half = training.class_weights(targets, 0.5)[:2]
    np.testing.assert_allclose(half, [0.845299, 1.464102], rtol=1e-5)
    np.testing.assert_allclose(training.class_weights(targets, 0.0)[:2], [1, 1], rtol=1e-6)
    shares = np.array([[0.5, 0.5, 0, 0, 0, 0, 0]] * 3)
    np.testing.assert_allclose(training.class_weights(shares, 1.0)[:2], [1, 1], rtol=1e-6)


def test_loss_equals_torchs_for_hard_labels():
    torch.manual_seed(0)
    logits, labels = torch.randn(12, 7), torch.randint(7, (12,))
    weights = torch.rand(7) + 0.2
    expected = nn.functional.cross_entropy(logits, labels, weight=weights)
    ours = training.soft_cross_entropy(logits, torch.eye(7)[labels], weights)
    torch.testing.assert_close(ours, expected)


def test_loss_equals_torchs_for_distributions_and_smoothing():
    torch.manual_seed(0)
    logits, ones = torch.randn(12, 7), torch.ones(7)
    shares = torch.rand(12, 7).softmax(1)
    expected = nn.functional.cross_entropy(logits, shares)
    torch.testing.assert_close(training.soft_cross_entropy(logits, shares, ones), expected)
    labels = torch.randint(7, (12,))
    smooth = training.smooth(np.eye(7, dtype=np.float32)[labels], 0.1)
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(training.soft_cross_entropy(logits, smooth, ones), expected)


# --- optimisation


def test_schedule_by_hand():
    linear = [training.schedule(step, 10, 0.2, "linear") for step in range(11)]
    expected = [0, 1 / 2, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]
    np.testing.assert_allclose(linear, expected)
    cosine = [training.schedule(step, 10, 0.2, "cosine") for step in (0, 1, 2, 4, 6, 8, 10)]
    bend = np.sqrt(2) / 4  # cos(45 degrees) / 2
    np.testing.assert_allclose(cosine, [0, 0.5, 1, 0.5 + bend, 0.5, 0.5 - bend, 0], atol=1e-12)
    assert [training.schedule(step, 4, 0.0, "linear") for step in range(5)] == [
        1,
        0.75,
        0.5,
        0.25,
        0,
    ]
    assert training.schedule(0, 1, 0.1, "linear") == 1  # the only step of a tiny run does learn


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_schedule_equals_transformers(shape):
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_scheduler(shape, optimizer, num_warmup_steps=3, num_training_steps=30)
    for step in range(30):
        ours = training.schedule(step, 30, 0.1, shape)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_parameter_groups_take_the_first_prefix_that_fits():
    model = nn.ModuleDict(
        {"body": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "top": nn.Linear(2, 2)}
    )
    model["top"].weight.requires_grad = False
    groups = training.parameter_groups(model, {"top": 3.0, "b": 2.0, "": 1.0}, 0.01)
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
        for name, other in model.named_parameters()
        if parameter is other
    }
    assert found == {
        "body.weight": (2.0, 0.01),
        "body.bias": (2.0, 0.0),
        "norm.weight": (1.0, 0.0),
        "norm.bias": (1.0, 0.0),
        "top.bias": (3.0, 0.0),
    }


def test_no_norm_and_no_bias_decays():
    norms = (nn.LayerNorm(2), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), MaskedBatchNorm(2))
    model = nn.ModuleList([*norms, nn.Conv2d(2, 2, 1), nn.Linear(2, 2)])
    groups = training.parameter_groups(model, {"": 1.0}, 0.01)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name for name, p in model.named_parameters() if decays[id(p)]}
    assert found == {"4.weight", "5.weight"}


class Lookup(nn.Module):
    """Logits of each row from a table, so that a training can be written down by hand."""

    def __init__(self, rows):
        super().__init__()
        self.table = nn.Parameter(torch.randn(rows, 7, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids, attention_mask):
        return self.table[input_ids[:, 0]]


def adamw_by_hand(table, targets, batches, settings, rate):
    """Return the table (N, 7) after these batches, and the loss of each (Loshchilov, 2019)."""
    n, frequency = targets.shape[1], targets.mean(0)
    weights = np.array([f ** -settings["class_weights"] if f else 0.0 for f in frequency])
    weights /= (weights * frequency).sum()
    share, beta2, losses = settings["label_smoothing"], settings["beta2"], []
    targets = (targets * (1 - share) + share / n) * weights
    first, second = np.zeros_like(table), np.zeros_like(table)
    for step, batch in enumerate(batches, 1):
        own, total = targets[batch], targets[batch].sum()
        shares = np.exp(table[batch]) / np.exp(table[batch]).sum(1, keepdims=True)
        losses.append(-(own * np.log(shares)).sum() / total)
        gradient = np.zeros_like(table)
        gradient[batch] = (own.sum(1, keepdims=True) * shares - own) / total
        gradient *= min(1.0, settings["clip"] / np.sqrt((gradient**2).sum()))
        now = rate * (1 - (step - 1) / len(batches))  # linear to 0, without a warm-up
        table = table * (1 - now * settings["weight_decay"])
        first = 0.9 * first + 0.1 * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        spread = np.sqrt(second / (1 - beta2**step)) + 1e-8
        table = table - now * first / (1 - 0.9**step) / spread
    return table, losses


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"clip": 0.03},
        {"beta2": 0.9},
        {"weight_decay": 2.0},
        {"label_smoothing": 0.4},
        {"class_weights": 1.0},
    ],
    ids=lambda change: " ".join(change) or "plain",
)
def test_a_training_is_adamw_on_the_weighted_smoothed_loss(text_model, fit, tmp_path, change):
    plain = {"clip": 100.0, "weight_decay": 0.0, "label_smoothing": 0.0, "class_weights": 0.0}
    settings = ONE_EPOCH | plain | change
    model = text_model(**settings | {"epochs": 2})
    model.network = Lookup(len(fit))
    model.prepare = lambda rows: rows.with_features(token_ids=[[r, 3] for r in range(len(rows))])
    met = note_batches(model)
    table = model.network.table.detach().double().numpy()
    found = run(model, tmp_path, fit, rate=0.05)["table"]
    expected, losses = adamw_by_hand(table, fit.targets, met, settings, 0.05)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    history = json.loads((tmp_path / "history.json").read_text())
    sizes = [len(batch) for batch in met]
    told = [np.average(losses[at : at + 3], weights=sizes[at : at + 3]) for at in (0, 3)]
    assert [epoch["loss"] for epoch in history["epochs"]] == pytest.approx(told, rel=1e-5)


@pytest.mark.parametrize(
    ("precision", "has_bf16", "expected"),
    [
        ("float32", True, torch.float32),
        ("bf16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_matrices_are_multiplied_in_the_precision_asked_for(
    text_model, fit, tmp_path, monkeypatch, precision, has_bf16, expected
):
    monkeypatch.setattr(training, "has_bf16", lambda: has_bf16)
    model, met = text_model(precision=precision), set()
    for layer in model.network.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda _, inputs, output: met.add(output.dtype))
    weights = run(model, tmp_path, fit.select(np.arange(len(fit)) < 4))
    assert met == {expected}
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.mark.parametrize("has_amx", [True, False])
def test_a_cpu_without_amx_is_faster_in_float32(monkeypatch, has_amx):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert training.has_bf16() is has_amx


def test_unknown_precision_is_refused():
    with pytest.raises(ModelError, match=r"PRECISION = 'fp16'.*bf16"):
        training.autocast(torch.device("cpu"), "fp16")


# --- what one step changes


def changed_by_one_step(model, folder, fit, steps=None, **options):
    """Names of the parameters that one step on all rows (or these steps) changes."""
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    model.batches = lambda rows, seed, budget, size: steps or [np.arange(len(rows))]
    run(model, folder, fit, **options)
    changed = {n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])}
    return changed, set(before)


ONE_STEP = {**ONE_EPOCH, "weight_decay": 0.0}  # a decay would move what has no gradient


@pytest.mark.parametrize("head", ["mean", "pooler"])
def test_a_step_changes_the_whole_text_model(text_model, fit, tmp_path, head):
    changed, every = changed_by_one_step(text_model(head=head, weight_decay=0.0), tmp_path, fit)
    assert changed == every


def test_a_step_changes_the_whole_audio_model_of_the_paper(fit, tmp_path):
    model = audio.create(stage_settings("audio", **ONE_STEP, **PAPER["audio"]))
    few = fit.select(np.arange(len(fit)) < 6)
    changed, every = changed_by_one_step(model, tmp_path, few)
    assert changed == every


VOICES = "stranger", "known"


@pytest.mark.parametrize("voice", VOICES)
def test_a_step_changes_the_network_of_its_kind_of_voice(fit, tmp_path, voice):
    model = audio.create(stage_settings("audio", **ONE_STEP))
    own = np.flatnonzero(fit.speakers == "Sess01F").view(audio.KnownVoice)
    mixed = np.array([*own[:3], *np.flatnonzero(fit.speakers == "Sess02M")[:3]])
    changed, every = changed_by_one_step(
        model, tmp_path, fit, steps=[own if voice == "known" else mixed]
    )
    shared = tuple(f"{each}.convolutions.{layer}." for each in VOICES for layer in (0, 1))
    assert changed == {name for name in every if name.startswith((voice, *shared))}
    assert {name.split(".")[0] for name in every} == set(VOICES)


def test_both_networks_learn_where_one_speaker_says_all(fit, tmp_path):
    model = audio.create(stage_settings("audio", **ONE_STEP))
    one = fit.select(fit.speakers == "Sess01F")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    after = run(model, tmp_path, one)
    for voice in VOICES:
        own = [f"{voice}.classifier.weight", f"{voice}.norms.0.running_mean"]
        assert not any(torch.equal(before[name], after[name]) for name in own), voice


@pytest.mark.parametrize("chooses", [True, False])
def test_average_speaker_is_that_of_the_weights_that_are_kept(fit, held_out, tmp_path, chooses):
    """It does not lag behind them: measured again, it is the same."""
    model = audio.create(stage_settings("audio", **{**ONE_EPOCH, "epochs": 2}))
    kept = run(model, tmp_path, fit, held_out=held_out if chooses else None)
    rows = model.meet(model.prepare(fit), *model.LEARNED)
    limits = model.settings["batch_seconds"], model.settings["batch_size"]
    model.settle(rows, model.batches(rows, 1000 * model.settings["seed"], *limits))
    averages = {name: own for name, own in kept.items() if "running" in name}
    assert len(averages) == 2 * 2 * 5  # mean and variance, of two networks' layers
    for name, tensor in averages.items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor)


def test_a_step_changes_cmbert(bert, fit, tmp_path):
    model = cmbert.create(stage_settings("cmbert", bert=str(bert), **ONE_STEP, hide_words=0.3))
    changed, every = changed_by_one_step(model, tmp_path, fit)
    # b of the attention, added to all weights, drops out of the softmax (article, equation 6).
    assert changed == every - {"attention.bias"}
    assert not model.network.attention.bias.requires_grad


def test_a_step_in_the_papers_setting_leaves_embeddings_and_classifier(bert, fit, tmp_path):
    settings = stage_settings("cmbert", bert=str(bert), **ONE_STEP, **PAPER["cmbert"])
    rates = {"encoder": 2e-5, "": 0.01}
    changed, every = changed_by_one_step(cmbert.create(settings), tmp_path, fit, rates=rates)
    frozen = ("encoder.embeddings", "classifier", "attention.bias")
    assert changed == {name for name in every if not name.startswith(frozen)}


# --- epochs


def note_batches(model):
    """Let a model note the rows that it learns from; return the list."""
    met, inputs = [], model.inputs

    def noting(rows, chosen, step=None):
        assert step
        met.append(chosen.tolist())
        return inputs(rows, chosen, step)

    model.inputs = noting
    return met


def test_each_epoch_meets_every_row_once(text_model, fit, tmp_path):
    model = text_model(epochs=2)
    met = note_batches(model)
    run(model, tmp_path / "shuffled", fit)
    epochs = [sum(met[:3], []), sum(met[3:], [])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1]
    model = text_model(epochs=2, shuffle=False)
    met = note_batches(model)
    run(model, tmp_path / "in order", fit)
    assert sum(met, []) == list(range(20)) * 2


def test_best_epoch_is_kept_and_history_tells(text_model, fit, held_out, tmp_path):
    model = text_model(epochs=4)
    run(model, tmp_path, fit, rate=5e-3, held_out=held_out)
    history = json.loads((tmp_path / "history.json").read_text())
    scores = [epoch["macro_f1"] for epoch in history["epochs"]]
    assert len(scores) == 4
    steady = [np.mean(scores[max(0, last - 2) : last + 1]) for last in range(4)]
    assert np.argmax(steady) == history["best_epoch"] - 1  # the first of equals
    logits = training.predict(model, model.prepare(held_out), "past", (10**6, 8), "")
    ours = metrics.scores(held_out.labels, logits.argmax(1).numpy())["macro_f1"]
    assert ours == pytest.approx(scores[history["best_epoch"] - 1])
    rates = [epoch["learning_rate"] for epoch in history["epochs"]]
    np.testing.assert_allclose(rates, 5e-3 * np.array([10, 7, 4, 1]) / 12)  # of its last step


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_epoch_is_chosen_in_the_precision_of_testing(
    text_model, fit, held_out, tmp_path, precision
):
    model = text_model(epochs=1, precision=precision, dropout=0.0)
    run(model, tmp_path, fit, rate=5e-3, held_out=held_out)
    (epoch,) = json.loads((tmp_path / "history.json").read_text())["epochs"]
    logits = training.predict(model, model.prepare(held_out), "past", (10**6, 8), "")
    found = training.validation_scores(logits, held_out.labels)
    assert epoch["valid_loss"] == pytest.approx(found["valid_loss"], rel=1e-6)


def test_the_history_tells_the_rates_of_the_last_step(text_model, fit, tmp_path):
    """Of a single step its own, for each group of parameters."""
    rates = {"classifier": 3e-3, "": 2e-4}
    for name, epochs, factor in (("one", 1, 1.0), ("two", 2, 0.5)):
        run(text_model(batch_size=99, epochs=epochs), tmp_path / name, fit, rates=rates)
        epoch = json.loads((tmp_path / name / "history.json").read_text())["epochs"][-1]
        found = epoch["learning_rate_classifier"], epoch["learning_rate"]
        assert found == pytest.approx((3e-3 * factor, 2e-4 * factor))


def test_patience_ends_a_training_that_stands_still(text_model, fit, held_out, tmp_path):
    run(text_model(epochs=9, patience=2), tmp_path, fit, rate=0.0, held_out=held_out)
    history = json.loads((tmp_path / "history.json").read_text())
    assert (len(history["epochs"]), history["best_epoch"]) == (3, 1)


def test_learning_lowers_the_loss(text_model, fit, tmp_path):
    run(text_model(epochs=10, class_weights=0.0), tmp_path, fit, rate=3e-3)
    losses = [e["loss"] for e in json.loads((tmp_path / "history.json").read_text())["epochs"]]
    assert losses[-1] < 0.8 * losses[0]


def test_a_loss_that_is_no_number_names_its_batch_and_the_last_state_stays(
    text_model, fit, tmp_path
):
    model, calls = text_model(epochs=2), []
    batches = [model.batches(model.prepare(fit), 1000 + epoch, 2048, 8) for epoch in range(2)]
    steps = len(batches[0])

    def poison(classifier, inputs):
        calls.append(inputs)
        if len(calls) == steps + 2:
            classifier.bias.data[3] = torch.nan

    model.network.classifier.register_forward_pre_hook(poison)
    with pytest.raises(UserError) as error:
        run(model, tmp_path, fit)
    said = str(error.value)
    assert f"the loss became nan in step {steps + 2}" in said and "lower the learning rate" in said
    assert [name for name in fit.ids if name in said] == sorted(fit.ids[batches[1][1]])
    assert f"{tmp_path / 'state.pt'} holds the last good state" in said
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["counters"]["round"] == 1
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


def test_a_gradient_that_is_no_number_is_not_learned(text_model, fit, tmp_path):
    model = text_model()
    weight = model.network.classifier.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(UserError, match=r"the gradient became (inf|nan) in step 1, over Sess"):
        run(model, tmp_path, fit)
    assert torch.equal(weight, before)


def test_clipped_gradients_are_counted_in_the_history(text_model, fit, tmp_path):
    for clip, clipped in ((1e-6, 1.0), (1e6, 0.0)):
        model = text_model()
        model.settings["clip"] = clip
        run(model, tmp_path / str(clip), fit)
        history = json.loads((tmp_path / str(clip) / "history.json").read_text())["epochs"]
        assert {entry["clipped"] for entry in history} == {clipped}
        assert all(1e-6 < entry["gradient"] < 1e6 for entry in history)


# --- prediction


class Echo(nn.Module):
    """Returns its first input token in the first logit; NaN for a poisoned one."""

    def __init__(self, poisoned):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.poisoned = poisoned

    def forward(self, input_ids, attention_mask):
        assert not self.training
        first = (input_ids[:, :1] * self.weight).masked_fill(
            input_ids[:, :1] == self.poisoned, torch.nan
        )
        return nn.functional.pad(first, (0, 6))


def echo(model, rows, poisoned=-1):
    rows = rows.with_features(token_ids=[[100 + row, 3] for row in range(len(rows))])
    model.network = Echo(poisoned).train()
    in_order = model.batches
    model.batches = lambda rows, seed, budget, size: in_order(rows, 5, budget, size)  # shuffled
    return training.predict(model, rows, "past", (10**6, 8), "valid")


def test_predictions_come_in_row_order_whatever_the_batches(text_model, held_out):
    logits = echo(text_model(), held_out)
    assert logits[:, 0].tolist() == list(range(100, 110))
    assert logits.dtype == torch.float32


def test_a_prediction_that_is_no_number_names_its_row(text_model, held_out):
    with pytest.raises(UserError, match="Sess03_script01_M007 is not a number"):
        echo(text_model(), held_out, poisoned=108)


# --- going on after a stop


class Stop(Exception):
    """Stands for the end of the process."""


def interrupt(model, calls):
    """Let a model end the training at its given batch."""
    left, inputs = iter(range(calls)), model.inputs

    def interrupted(rows, chosen, step=None):
        if step and next(left, None) is None:
            raise Stop
        return inputs(rows, chosen, step)

    model.inputs = interrupted
    return model


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("steps", [1, 3, 5])  # of 3 an epoch
def test_resuming_equals_not_stopping(text_model, fit, held_out, tmp_path, steps, precision):
    changes = {"epochs": 3, "precision": precision, "schedule": "cosine", "warmup": 0.2}

    def fresh():
        return text_model(**changes, save_minutes=0.0, dropout=0.5)

    whole = run(fresh(), tmp_path / "whole", fit, held_out=held_out)
    with pytest.raises(Stop):
        run(interrupt(fresh(), steps), tmp_path / "parts", fit, held_out=held_out)
    model = fresh()
    torch.manual_seed(12345)  # another process
    assert same(run(model, tmp_path / "parts", fit, held_out=held_out), whole)
    histories = [(tmp_path / name / "history.json").read_text() for name in ("whole", "parts")]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("kind", ["settings", "inputs", "training"])
def test_a_state_of_another_run_is_refused_and_kept(text_model, fit, tmp_path, kind):
    identity = {"settings": {"seed": 1}, "inputs": {"bert": "a"}, "training": {"number": 0}}

    def go_on(identity):
        model = text_model()
        rows = model.prepare(fit)
        part = Training(tmp_path, rows, rows.select(np.zeros(len(rows))), False, identity)
        training.train(model, part, {"": 1e-3})

    go_on(identity)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(UserError, match=rf"state.pt is of a run of other {kind} .*--restart"):
        go_on(identity | {kind: dict.fromkeys(identity[kind], 2)})
    assert (tmp_path / "state.pt").read_bytes() == before
    go_on(identity)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_it_to_stop_is_told_how_it_goes_on(text_model, fit, tmp_path, number):
    def fresh():
        return text_model(epochs=4)

    whole, model = run(fresh(), tmp_path / "whole", fit), fresh()
    inputs, left = model.inputs, iter(range(5))

    def interrupted(rows, chosen, step=None):
        if next(left, None) is None:
            model.inputs = inputs
            os.kill(os.getpid(), number)
        return inputs(rows, chosen, step)

    model.inputs = interrupted
    with pytest.raises(KeyboardInterrupt, match=r"the same command goes on in epoch [23]/4"):
        run(model, tmp_path / "parts", fit)
    steps = torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["counters"]["step"]
    assert 3 <= steps < 12  # the step was not lost, though no state was due
    assert same(run(fresh(), tmp_path / "parts", fit), whole)


def test_a_flipped_bit_in_the_state_is_found(text_model, fit, tmp_path):
    run(text_model(), tmp_path, fit)
    path = tmp_path / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in a tensor, which torch would take
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"state.pt cannot be read"):
        run(text_model(), tmp_path, fit)


@pytest.mark.parametrize("steps", [4, 7])  # of 3 an epoch: in the second one, in the third
def test_going_on_knows_the_best_epoch_so_far(text_model, fit, held_out, tmp_path, steps):
    """Where nothing is learned the first epoch stays the best, and patience counts from it."""

    def fresh():
        return text_model(epochs=9, patience=3, save_minutes=0.0)

    with pytest.raises(Stop):
        run(interrupt(fresh(), steps), tmp_path, fit, rate=0.0, held_out=held_out)
    run(fresh(), tmp_path, fit, rate=0.0, held_out=held_out)
    history = json.loads((tmp_path / "history.json").read_text())
    assert (history["best_epoch"], len(history["epochs"])) == (1, 4)


def test_the_seed_decides_the_weights(bert, fit, tmp_path):
    def go(folder, seed):
        torch.manual_seed(seed)
        model = text.create(stage_settings("text", bert=str(bert), **ONE_EPOCH, seed=seed))
        return run(model, tmp_path / folder, fit)

    first, again, other = go("a", 1), go("b", 1), go("c", 2)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("damage", ["cut", "garbled", "empty"])
def test_damaged_state_is_refused(text_model, fit, tmp_path, damage):
    run(text_model(), tmp_path, fit)
    state = tmp_path / "state.pt"
    content = state.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "garbled": b"no state" * 99, "empty": b""}
    state.write_bytes(damaged[damage])
    with pytest.raises(UserError, match=r"state.pt cannot be read \(\w+\): delete it"):
        run(text_model(), tmp_path, fit)


@pytest.mark.parametrize(
    ("script", "setting"),
    [
        *(("audio_train.py", name) for name in ("features", "pooling", "schedule", "precision")),
        *(
            ("run_classifier.py", name)
            for name in ("audio", "scale", "voice", "pooling", "speaker_norm")
        ),
        ("text_train.py", "head"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_by_its_settings_name(
    script, setting, data, bert, run_script, tmp_path
):
    words = [] if script == "audio_train.py" else ["--bert", bert]
    places = ("--data", data, "--outputs", tmp_path)
    done = run_script(script, *places, "--epochs", 1, *words, f"--{setting}", "nonsense")
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert f": error: {setting.upper()}" in done.stderr and "nonsense" in done.stderr
