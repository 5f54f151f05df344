"""The stored fusion: what is read back predicts what was fitted, and damage is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fusion_files import MODELS, pick, simulate
from scipy.special import softmax

from common.files import UserError
from fusion import choice, methods, stored
from fusion.dialogue import Dialogue, Transitions, Turns
from fusion.dimensions import Pool
from fusion.fitting import LogitSet
from fusion.outputs import INPUTS

C = 7
FLAT = Dialogue(Transitions(*np.zeros((2, C + 1, C))), np.full(C, 1 / C), past=True, whole=False)


def make_fusion(rows, name, inputs=INPUTS, dialogue=None):
    notes = {"speaker_norm": {"audio": "past"}, "synthetic": "SYNTHETIC"}
    chosen = pick(name, rows)
    fusion = choice.fit_fusion(rows, chosen, inputs, None, fitted_on="simulated rows", **notes)
    return replace(fusion, dialogue=dialogue, in_dialogue=fusion.certain if dialogue else {})


@pytest.mark.parametrize("name", [choice.DEFAULT, "logistic regression"])
def test_what_is_read_predicts_what_was_fitted_for_every_set_of_models(tmp_path, name):
    rows, test = simulate(400, (1.5, 1.2, 0.8)), simulate(50, (1.5, 1.2, 0.8), seed=1)
    fitted = make_fusion(rows, name)
    fitted.write(tmp_path / "fusion.json")
    read = stored.load(tmp_path / "fusion.json")
    logits = dict(zip(MODELS, test.logits, strict=True))
    every = read.predict(dict(reversed(logits.items())))  # the order of the models is the file's
    assert (every == choice.fit_candidate(name, rows).predict(test.logits)).all()
    assert len(read.forms) == 7
    for models in read.forms:
        probabilities = read.predict({model: logits[model] for model in models})
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(50))
        assert (read.method(models) == "calibrated") == (len(models) == 1)
    assert read.certain == fitted.certain
    assert read.speaker_norm == {"audio": "past"} and read.synthetic == "SYNTHETIC"
    audio = softmax(logits["audio"] / read.temperatures["audio"], axis=-1)
    assert read.predict({"audio": logits["audio"]}) == pytest.approx(audio)


def test_of_many_models_those_sets_are_fitted_that_an_utterance_leaves():
    inputs = INPUTS | {"speech": "audio", "bert": "text"}
    rows = simulate(200, (1.5, 1.2, 0.8, 0.5, 1.0))
    fusion = make_fusion(rows, choice.DEFAULT, inputs)
    several = [models for models in fusion.forms if len(models) > 1]
    assert several == [("text", "bert"), ("audio", "speech"), tuple(inputs)]
    assert len(fusion.forms) == 5 + 3
    logits = dict(zip(inputs, rows.logits, strict=True))
    words = fusion.predict({model: logits[model] for model in ("bert", "text")})
    expected = choice.fit_candidate(choice.DEFAULT, rows.select([0, 4])).predict(
        rows.logits[[0, 4]]
    )
    assert (words == expected).all()
    # One of the models was not trained: the largest set that the others hold.
    assert fusion.find_set(["text", "bert", "cmbert"]) == ("text", "bert")
    assert len(stored.list_sets(dict.fromkeys("abcd", "audio"))) == 15
    assert stored.list_sets(dict.fromkeys("ab", "audio")) == [("a",), ("b",), ("a", "b")]


def test_no_model_and_an_unknown_one_are_no_fusion():
    fitted = make_fusion(simulate(100, (1.5, 1.2, 0.8)), choice.DEFAULT)
    for models in ({}, {"text": np.zeros((1, 7)), "video": np.zeros((1, 7))}):
        with pytest.raises(ValueError, match="any of text, audio, cmbert"):
            fitted.predict(models)


def test_a_dialogue_is_read_turn_by_turn_as_in_one_pass(tmp_path):
    tables = np.random.default_rng(2).normal(size=(2, C + 1, C))
    tables[:, C] = 0
    dialogue = Dialogue(Transitions(*tables), np.full(C, 1 / C), past=True, whole=True)
    make_fusion(simulate(200, (1.5, 1.2, 0.8)), choice.DEFAULT, dialogue=dialogue).write(
        tmp_path / "f.json"
    )
    read = stored.load(tmp_path / "f.json")
    probabilities = np.random.default_rng(3).dirichlet(np.ones(C), 9)
    names = list("ABABBACBA")
    whole = dialogue.read(probabilities, [Turns.of(np.arange(9), np.array(names))], "past")
    one_by_one = [read.read_turn(names[:n], probabilities[:n]) for n in range(1, 10)]
    assert np.allclose(one_by_one, whole, atol=1e-12) and not np.allclose(whole, probabilities)
    assert (read.read_turn(["A", ""], probabilities[:2]) == probabilities[1]).all()  # nameless


DAMAGES = {
    "a number missing": ("text+audio", "matrix", lambda rows: rows[:-1]),
    "words": ("text", "temperatures", lambda numbers: ["1.0"]),
    "not a number": ("text", "temperatures", lambda numbers: [float("nan")]),
    "too many models": ("text", "temperatures", lambda numbers: [1.0, 1.0]),
    "no threshold": ("text+audio", "certain", lambda certain: None),
    "a threshold above 1": ("audio", "certain", lambda certain: certain | {"threshold": 1.5}),
    "not a threshold": ("text", "certain", lambda certain: certain | {"threshold": float("nan")}),
    "no threshold of turns": ("text", "in_dialogue", lambda certain: None),
    "no transitions": (None, "own", lambda own: [[0.0] * C]),
    "a base of 0": (None, "base", lambda base: [0.0] * C),
    "no word of the past": (None, "past", lambda past: None),
}


@pytest.mark.parametrize(("models", "key", "value"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, models, key, value):
    path = tmp_path / "fusion.json"
    make_fusion(simulate(100, (1.5, 1.2, 0.8)), choice.DEFAULT, dialogue=FLAT).write(path)
    stored.load(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content["fusions"][models] if models else content["dialogue"]
    place[key] = value(place[key])
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"fusion\.json cannot be read .*run ensemble\.py again"):
        stored.load(path)


def make_pools():
    """Return pools of two of the models, and of both."""
    random, scale = np.random.default_rng(0), (1.0, 5.0)
    sets = (("text",), ("cmbert",), ("text", "cmbert"))
    return {s: Pool(random.normal(size=(2, len(s))), random.normal(size=2), scale) for s in sets}


def test_valence_and_arousal_are_fused_by_whatever_models_are_left(tmp_path):
    rows, path = simulate(100, (1.5, 1.2, 0.8)), tmp_path / "fusion.json"
    pools = make_pools()
    replace(make_fusion(rows, choice.DEFAULT), dimensions=pools).write(path)
    read = stored.load(path)
    said = {model: 3 + np.random.default_rng(1).normal(size=(9, 2)) for model in MODELS}
    every = read.predict_dimensions(said)  # audio has none
    assert every.shape == (9, 2) and every.min() >= 1 and every.max() <= 5
    both = np.stack([said["text"], said["cmbert"]])
    assert (every == pools["text", "cmbert"].predict(both)).all()
    text = read.predict_dimensions({"audio": said["audio"], "text": said["text"]})
    assert (text == pools["text",].predict(said["text"][None])).all()
    assert read.predict_dimensions({"audio": said["audio"]}) is None
    assert read.predict_dimensions({}) is None
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["dimensions"]  # a file of an older version
    path.write_text(json.dumps(content), encoding="utf-8")
    assert stored.load(path).predict_dimensions(said) is None


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("text", "weights", [[1.0], [float("nan")]]),
        ("text+cmbert", "weights", [[1.0], [1.0]]),
        ("text", "bias", [0.0]),
        ("text", "bias", ["0", "1"]),
        ("text", "scale", [5.0, 1.0]),
        ("text", "scale", None),
        ("video", "", {"weights": [[1.0], [1.0]], "bias": [0.0, 0.0], "scale": [1.0, 5.0]}),
    ],
)
def test_a_damaged_pool_is_refused_by_the_files_name(tmp_path, name, key, value):
    path = tmp_path / "fusion.json"
    fitted = make_fusion(simulate(100, (1.5, 1.2, 0.8)), choice.DEFAULT)
    replace(fitted, dimensions=make_pools()).write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if key:
        content["dimensions"][name][key] = value
    else:
        content["dimensions"][name] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"fusion\.json cannot be read .*run ensemble\.py again"):
        stored.load(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "fusion.json"
    for text in (
        "[]",
        "{}",
        "null",
        '{"temperatures": {"text": 1}, "dialogue": null, "fusions": {}}',
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"fusion\.json .*run ensemble\.py again"):
            stored.load(path)


@pytest.mark.parametrize(
    "fit", [methods.fit_weighted_soft, methods.fit_half_pool, methods.fit_logistic]
)
def test_models_that_are_surer_than_a_float_can_say_are_fused(fit):
    """Each rules out what another one is sure of: no logarithm of 0 may come of it."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 7, 140)
    said = np.where(random.random((3, 140)) < 0.7, truth, random.integers(0, 7, (3, 140)))
    said[:, 0] = 0, 1, 2  # no two agree
    rows = LogitSet(2000.0 * np.eye(7)[said], truth, np.arange(140))
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        found = fit(rows).predict(rows.logits)
    assert np.isfinite(found).all() and found.sum(axis=1) == pytest.approx(np.ones(140))
    assert (found.argmax(axis=1) == truth).mean() > 0.6
