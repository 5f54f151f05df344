"""A fitted fusion as a file: how logits of any of the models become probabilities.

For every set of models that a recording may have (without a transcript: the voice alone) there is
one of three forms, each a few arrays: plain numbers in a JSON file, checked when they are read.
Shapes: M = the models of the set, in the order of predictions.MODELS, N rows, C = 7 labels.
"""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from fusion.dialogue import MOST_SPEAKERS, Dialogue, Turns
from fusion.predictions import MODELS
from pipeline.files import UserError, read_json, write_json
from pipeline.labels import LABELS

CLASSES = len(LABELS)
SETS = [models for count in range(1, len(MODELS) + 1) for models in combinations(MODELS, count)]


@dataclass(frozen=True)
class Average:
    """Weighted mean of softmax(logits / temperature), raised to a power and normalised again.

    temperatures, weights (M,); power (): above 1 where the mean is less certain than it may be.
    """

    temperatures: np.ndarray
    weights: np.ndarray
    power: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        calibrated = log_softmax(logits / self.temperatures[:, None, None], axis=-1)
        mean = logsumexp(calibrated, axis=0, b=self.weights[:, None, None])
        return softmax(self.power * mean, axis=-1)

    def check(self, models: int) -> bool:
        """Tell whether the arrays have the shapes and values of a fusion of so many models."""
        shapes = (models,), (models,), ()
        if shapes != (self.temperatures.shape, self.weights.shape, self.power.shape):
            return False
        positive = (self.temperatures > 0).all() and self.power > 0
        return bool(positive and (self.weights >= 0).all() and self.weights.any())


@dataclass(frozen=True)
class Linear:
    """Softmax of a matrix times all calibrated log-probabilities, the soft vote's, and a 1.

    temperatures (M,); matrix (K, C), K = (M + 1) x C + 1.
    """

    temperatures: np.ndarray
    matrix: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        return softmax(log_features(logits, self.temperatures) @ self.matrix, axis=-1)

    def shift(self, scores: np.ndarray) -> "Linear":
        """Return the fusion whose log-probabilities are shifted by scores (C,)."""
        matrix = self.matrix.copy()
        matrix[-1] += scores
        return Linear(self.temperatures, matrix)

    def check(self, models: int) -> bool:
        """Tell whether the arrays have the shapes and values of a fusion of so many models."""
        fit = self.matrix.shape == ((models + 1) * CLASSES + 1, CLASSES)
        return fit and self.temperatures.shape == (models,) and (self.temperatures > 0).all()


@dataclass(frozen=True)
class Trees:
    """Softmax of sums of small decision trees over all probabilities, LightGBM's in arrays.

    feature, left, right (T, I) int and threshold (T, I): the inner nodes of tree t, which votes for
    label t mod C; a row goes left where its feature is at most the threshold. A child is an inner
    node with a larger number or, negative, ~leaf; leaf (T, I + 1); offset (C,) is added to sums.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray
    offset: np.ndarray

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of logits (M, N, C)."""
        features, votes = probability_features(logits).T, np.zeros((CLASSES, logits.shape[1]))
        for tree in range(len(self.leaf)):
            arrived = np.zeros((self.leaf.shape[1] - 1, logits.shape[1]), bool)
            arrived[0] = True
            for node, rows in enumerate(arrived):
                left = features[self.feature[tree, node]] <= self.threshold[tree, node]
                for child, part in ((self.left[tree, node], left), (self.right[tree, node], ~left)):
                    if child < 0:
                        votes[tree % CLASSES] += self.leaf[tree, ~child] * (rows & part)
                    else:
                        arrived[child] |= rows & part
        return softmax(votes.T + self.offset, axis=-1)

    def shift(self, scores: np.ndarray) -> "Trees":
        """Return the fusion whose log-probabilities are shifted by scores (C,)."""
        return dataclasses.replace(self, offset=self.offset + scores)

    def check(self, models: int) -> bool:
        """Tell whether the arrays are trees of so many models' probabilities, without a circle."""
        if self.leaf.ndim != 2 or self.offset.shape != (CLASSES,):
            return False
        count, leaves = self.leaf.shape
        inner = count, leaves - 1
        if count % CLASSES or any(
            array.shape != inner for array in (self.feature, self.threshold, self.left, self.right)
        ):
            return False
        children = np.stack([self.left, self.right])
        onward = (children > np.arange(inner[1])) & (children < inner[1])
        ends = (children < 0) & (children >= -leaves)
        known = (self.feature >= 0) & (self.feature < models * CLASSES)
        return (onward | ends).all() and known.all()


Form = Average | Linear | Trees
FORMS = {"average": Average, "linear": Linear, "trees": Trees}


def log_features(logits: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Return the features of `Linear` for logits (M, N, C), (N, K)."""
    calibrated = log_softmax(logits / temperatures[:, None, None], axis=-1)
    return np.hstack([*calibrated, log_vote(logits), np.ones((logits.shape[1], 1))])


def log_vote(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean probabilities, (N, C)."""
    return np.logaddexp.reduce(log_softmax(logits, axis=-1)) - np.log(len(logits))


def probability_features(logits: np.ndarray) -> np.ndarray:
    """Return all probabilities of logits (M, N, C), (N, M x C)."""
    return np.hstack(softmax(logits, axis=-1))


class Certainty(NamedTuple):
    """Which verdicts are certain: those of at least `threshold` confidence.

    coverage: the share of the rows fitted on that are; accuracy: the share of these that are right;
    both cross-validated. All are from 0 to 1.
    """

    threshold: float
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class Fusion:
    """What OUTPUTS/fusion.json holds.

    methods, forms, certain: by set of models; in_dialogue: the same as certain, of turns that are
    read with those before them, empty if none are. temperatures: of each model; known: what each
    model knows of a speaker; synthetic: a notice or None; fitted_on: for people. dialogue: what is
    known of conversations, None if nothing.
    """

    methods: dict
    forms: dict
    certain: dict
    in_dialogue: dict
    temperatures: dict
    known: dict
    synthetic: str | None
    fitted_on: str
    dialogue: Dialogue | None = None

    def predict(self, logits: dict[str, np.ndarray]) -> np.ndarray:
        """Return probabilities (N, C) of {model: logits (N, C)}, any of the models."""
        models = name_set(logits)
        stacked = np.stack([np.asarray(logits[model], np.float64) for model in models])
        return self.forms[models].predict(stacked)

    def read_turn(self, speakers: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        """Return P(label) of a dialogue's last turn by all turns until then, (C,).

        speakers: who spoke each of the n turns; probabilities (n, C): `predict` of each by itself.
        """
        if not self.reads(speakers):
            return probabilities[-1]
        turns = Turns.of(np.arange(len(speakers)), np.array(speakers))
        return self.dialogue.read(probabilities, [turns], "past")[-1]

    def reads(self, speakers: Sequence[str]) -> bool:
        """Tell whether the last of a dialogue's turns is read with those before it.

        speakers: who spoke each turn; unless all have names it is not known who speaks to whom.
        """
        return (
            self.dialogue is not None
            and self.dialogue.past
            and len(speakers) > 1
            and all(speakers)
            and len(set(speakers)) <= MOST_SPEAKERS
        )

    def threshold(self, models: Collection[str], speakers: Sequence[str] = ()) -> float:
        """Return the confidence below which a verdict of these models is uncertain.

        speakers: who spoke each turn of a dialogue, the verdict's last.
        """
        certain = self.in_dialogue if self.reads(speakers) else self.certain
        return certain[name_set(models)].threshold

    def method(self, models: Collection[str]) -> str:
        """Say how these models' outputs are fused."""
        return self.methods[name_set(models)]

    def write(self, path: Path | str) -> None:
        """Write the fusion as JSON."""
        fusions = {
            "+".join(models): {
                "method": self.methods[models],
                **describe_form(form),
                "certain": self.certain[models]._asdict(),
                "in_dialogue": self.in_dialogue[models]._asdict() if self.in_dialogue else None,
            }
            for models, form in self.forms.items()
        }
        by_set = ("methods", "forms", "certain", "in_dialogue")
        others = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*by_set, "dialogue")
        }
        dialogue = self.dialogue and self.dialogue.to_json()
        write_json(path, {**others, "dialogue": dialogue, "fusions": fusions})


def name_set(models: Collection[str]) -> tuple[str, ...]:
    """Return the models in the order of MODELS; unknown names or none at all are a ValueError."""
    if not models or not set(models) <= set(MODELS):
        raise ValueError(f"any of {', '.join(MODELS)} can be fused, not {list(models)}")
    return tuple(model for model in MODELS if model in models)


def describe_form(form: Form) -> dict:
    """Return a form as JSON, `read_form`'s inverse."""
    name = next(name for name, kind in FORMS.items() if isinstance(form, kind))
    arrays = {field.name: getattr(form, field.name) for field in dataclasses.fields(form)}
    return {"form": name, **{name: array.tolist() for name, array in arrays.items()}}


def read_form(content: dict, models: int) -> Form:
    """Return the form that JSON describes; anything odd is a KeyError, TypeError or ValueError."""
    kind = FORMS[content["form"]]
    arrays = {field.name: np.array(content[field.name]) for field in dataclasses.fields(kind)}
    for name, array in arrays.items():
        integers = name in ("feature", "left", "right")
        if array.dtype.kind not in ("i" if integers else "if") or not np.isfinite(array).all():
            raise ValueError(f"'{name}' does not hold numbers")
    form = kind(**arrays)
    if not form.check(models):
        raise ValueError(f"no {content['form']} fusion of {models} models")
    return form


def read_certainty(content: dict) -> Certainty:
    """Return the certainty that JSON describes; KeyError, TypeError or ValueError if it is odd."""
    certainty = Certainty(*(float(content[name]) for name in Certainty._fields))
    if not all(0 <= share <= 1 for share in certainty):
        raise ValueError("a share is not between 0 and 1")
    return certainty


def load(path: Path | str) -> Fusion:
    """Read a fusion that ensemble.py wrote; a damaged or strange file is a UserError."""
    content = read_json(path, "ensemble.py")
    try:
        temperatures = {model: float(content["temperatures"][model]) for model in MODELS}
        dialogue = content["dialogue"] and Dialogue.from_json(content["dialogue"])
        fusions = {models: content["fusions"]["+".join(models)] for models in SETS}
        return Fusion(
            methods={models: str(own["method"]) for models, own in fusions.items()},
            forms={models: read_form(own, len(models)) for models, own in fusions.items()},
            certain={models: read_certainty(own["certain"]) for models, own in fusions.items()},
            in_dialogue={
                models: read_certainty(own["in_dialogue"])
                for models, own in fusions.items()
                if dialogue and dialogue.past
            },
            temperatures=temperatures,
            known=dict(content["known"]),
            synthetic=content["synthetic"],
            fitted_on=str(content["fitted_on"]),
            dialogue=dialogue,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error!r}): run ensemble.py again") from None
