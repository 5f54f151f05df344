"""The stored fusion: what is read back predicts what was fitted, and damage is refused."""

import json
from dataclasses import replace

import lightgbm
import numpy as np
import pytest
from scipy.special import softmax
from test_stacking import simulate

from fusion import choice
from fusion import stored as fusion
from fusion.dialogue import Dialogue, Transitions
from fusion.fitting import LogitSet
from fusion.stored import Average, Fusion
from pipeline.files import UserError

MODELS, POOL, TREES = MODELS, "log-linear pool", "LightGBM"


def make_fusion(rows, name) -> Fusion:
    cross_validated = softmax(rows.logits.sum(axis=0), axis=-1)
    chosen = choice.Choice(name, choice.fit_candidate(name, rows), {}, cross_validated)
    return choice.fit_fusion(rows, chosen, {"audio": "past"}, "SYNTHETIC", "simulated rows")


@pytest.mark.parametrize("name", choice.CANDIDATES)
def test_what_is_read_predicts_what_was_fitted_for_every_set_of_models(tmp_path, name):
    rows, test = simulate(400, (1.5, 1.2, 0.8)), simulate(50, (1.5, 1.2, 0.8), seed=1)
    fitted = make_fusion(rows, name)
    fitted.write(tmp_path / "fusion.json")
    read = fusion.load(tmp_path / "fusion.json")
    logits = dict(zip(MODELS, test.logits, strict=True))
    every = read.predict(dict(reversed(logits.items())))  # the order of the models is the file's
    assert (every == choice.fit_candidate(name, rows).predict(test.logits)).all()
    for models in fusion.SETS:
        probabilities = read.predict({model: logits[model] for model in models})
        assert probabilities.shape == (50, 7)
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(50))
        assert (read.method(models) == "calibrated") == (len(models) == 1)
    assert read.certain == fitted.certain
    assert read.known == {"audio": "past"} and read.synthetic == "SYNTHETIC"
    audio = softmax(logits["audio"] / read.temperatures["audio"], axis=-1)
    assert read.predict({"audio": logits["audio"]}) == pytest.approx(audio)


def test_no_model_and_an_unknown_one_are_no_fusion():
    fitted = make_fusion(simulate(100, (1.5, 1.2, 0.8)), POOL)
    for models in ({}, {"text": np.zeros((1, 7)), "video": np.zeros((1, 7))}):
        with pytest.raises(ValueError, match="any of text, audio, cmbert"):
            fitted.predict(models)


def test_average_by_hand():
    logits = np.log([[[0.6, 0.4]], [[0.2, 0.8]]])
    form = Average(np.ones(2), np.array([0.75, 0.25]), np.array(2.0))
    assert form.predict(logits) == pytest.approx(np.array([[0.25, 0.25]]) / 0.5)  # .5 and .5
    sharp = Average(np.array([0.5, 1.0]), np.array([1.0, 0.0]), np.array(1.0))
    assert sharp.predict(logits) == pytest.approx(np.array([[0.36, 0.16]]) / 0.52)


@pytest.mark.parametrize("labels", [7, 3, 1])
def test_trees_are_those_of_lightgbm(labels):
    rows, test = simulate(300, (1.5, 1.2, 0.8)), simulate(200, (1.5, 1.2, 0.8), seed=1)
    rows = rows.take(rows.truth < labels)
    settings = {"objective": "multiclass", "num_class": 7, "num_leaves": 4, "max_depth": 2}
    data = lightgbm.Dataset(fusion.probability_features(rows.logits), rows.truth)
    booster = lightgbm.train({**settings, "verbose": -1, "num_threads": 1}, data, 20)
    ours = methods.read_trees(booster.model_to_string()).predict(test.logits)
    expected = booster.predict(fusion.probability_features(test.logits))
    assert ours == pytest.approx(expected, abs=1e-12)


DAMAGES = {
    "a number missing": ("text+audio", "leaf", lambda rows: rows[:-1]),
    "a circle": ("text+audio", "left", lambda rows: [[0, -1, -1], *rows[1:]]),
    "a leaf that is not there": ("text+audio", "right", lambda rows: [[-9] * 3, *rows[1:]]),
    "another model's feature": ("text+audio", "feature", lambda rows: [[14, 0, 0], *rows[1:]]),
    "words": ("text", "weights", lambda weights: ["1.0"]),
    "not a number": ("text", "weights", lambda weights: [float("nan")]),
    "too many models": ("text", "weights", lambda weights: [0.5, 0.5]),
    "another form": ("text", "form", lambda form: "pickle"),
    "no threshold": ("text+audio", "certain", lambda certain: None),
    "a threshold above 1": ("audio", "certain", lambda certain: certain | {"threshold": 1.5}),
    "not a threshold": ("text", "certain", lambda certain: certain | {"threshold": float("nan")}),
    "no threshold of turns": ("text", "in_dialogue", lambda certain: None),
}


@pytest.mark.parametrize(("models", "key", "value"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, models, key, value):
    path = tmp_path / "fusion.json"
    fitted = make_fusion(simulate(100, (1.5, 1.2, 0.8)), TREES)
    flat = Dialogue(Transitions(*np.zeros((2, 8, 7))), np.full(7, 1 / 7), past=True, whole=False)
    replace(fitted, dialogue=flat, in_dialogue=fitted.certain).write(path)
    assert fusion.load(path).in_dialogue == fitted.certain
    content = json.loads(path.read_text(encoding="utf-8"))
    content["fusions"][models][key] = value(content["fusions"][models][key])
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"fusion\.json is damaged .*run ensemble\.py again"):
        fusion.load(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "fusion.json"
    for text in ("[]", "{}", "null", '{"temperatures": {"text": 1, "audio": 1, "cmbert": 1}}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"fusion\.json .*run ensemble\.py again"):
            fusion.load(path)


@pytest.mark.parametrize("name", choice.CANDIDATES)
def test_models_that_are_surer_than_a_float_can_say_are_fused(name):
    """Each rules out what another one is sure of: no logarithm of 0 may come of it."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 7, 140)
    said = np.where(random.random((3, 140)) < 0.7, truth, random.integers(0, 7, (3, 140)))
    said[:, 0] = 0, 1, 2  # no two agree
    rows = LogitSet(2000.0 * np.eye(7)[said], truth, None)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        found = choice.fit_candidate(name, rows).predict(rows.logits)
    assert np.isfinite(found).all() and found.sum(axis=1) == pytest.approx(np.ones(140))
    assert (found.argmax(axis=1) == truth).mean() > 0.6
