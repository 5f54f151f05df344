"""A fitted fusion as a file: how logits of any of the models become probabilities.

For every set of models that a recording may leave (without a transcript: those that need the voice
alone) there is a matrix: plain numbers in a JSON file, checked on read.
Shapes: M = the models of the set, in the file's order, N rows, C labels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from common.files import DIMENSIONS, LABELS, naming, write_json
from common.stages import read_recorded
from fusion.dialogue import KINDS, Dialogue, Transitions, Turns, has_few_states
from fusion.dimensions import Pool
from fusion.fitting import log_features
from fusion.outputs import read_labels

ALL_SUBSETS = 4  # models, up to which every set of them is fitted
NOTES = ("winner", "temperatures", "speaker_norm", "synthetic", "fitted_on")

ModelSet = tuple[str, ...]


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
        return Linear(self.temperatures, np.vstack([self.matrix[:-1], self.matrix[-1] + scores]))


def list_sets(inputs: dict[str, str]) -> list[ModelSet]:
    """Return the sets of models that a fusion is fitted for.

    inputs: model -> "text", "audio" or "text+audio", what it needs of an utterance. Up to
    ALL_SUBSETS models every set: any of them may be missing. Of more models each by itself, those
    that an utterance of words alone, of a voice alone and of both leaves.
    """
    names = tuple(inputs)
    if len(names) <= ALL_SUBSETS:
        return [s for count in range(1, len(names) + 1) for s in combinations(names, count)]
    by_input = [tuple(n for n in names if inputs[n] == kind) for kind in ("text", "audio")]
    sets = [*[(name,) for name in names], *by_input, names]
    return [models for models in dict.fromkeys(sets) if models]


class Certainty(NamedTuple):
    """A verdict is certain if its confidence is at least `threshold`.

    coverage: the share of the fitting rows that are certain; accuracy: the share of these that are
    right; both cross-validated. All are from 0 to 1.
    """

    threshold: float
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class Fusion:
    """The content of OUTPUTS/fusion.json.

    forms, certain: by set of models; in_dialogue: as certain, of turns that are read with those
    before them, empty if none are. winner: how several models are fused; temperatures,
    speaker_norm: of each model; synthetic: a notice or None; fitted_on: for people; labels: the
    C names. dimensions: of valence and arousal, by set of the models that predict them.
    """

    forms: dict[ModelSet, Linear]
    certain: dict[ModelSet, Certainty]
    in_dialogue: dict[ModelSet, Certainty]
    winner: str
    temperatures: dict[str, float]
    speaker_norm: dict[str, str | None]
    synthetic: str | None
    fitted_on: str
    dialogue: Dialogue | None = None
    labels: tuple[str, ...] = LABELS
    dimensions: dict[ModelSet, Pool] = field(default_factory=dict)

    def find_set(self, models: Collection[str]) -> ModelSet:
        """Return the set of exactly these models, or the largest one within them that is stored.

        Unknown names or none at all are a ValueError.
        """
        if not models or not set(models) <= set(self.temperatures):
            raise ValueError(f"any of {', '.join(self.temperatures)} can be fused, not {[*models]}")
        return max((s for s in self.forms if set(s) <= set(models)), key=len)

    def predict(self, logits: dict[str, np.ndarray]) -> np.ndarray:
        """Return probabilities (N, C) of {model: logits (N, C)}, any of the models."""
        models = self.find_set(logits)
        stacked = np.stack([np.asarray(logits[model], np.float64) for model in models])
        return self.forms[models].predict(stacked)

    def predict_dimensions(self, predicted: dict[str, np.ndarray]) -> np.ndarray | None:
        """Return valence and arousal (N, 2) of {model: (N, 2)}, by the largest stored set of them.

        Within the raters' scale; None where no set of these models was fitted.
        """
        sets = [models for models in self.dimensions if set(models) <= set(predicted)]
        if not sets:
            return None
        models = max(sets, key=len)
        stacked = np.stack([np.asarray(predicted[model], np.float64) for model in models])
        return self.dimensions[models].predict(stacked)

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
        is_used = self.dialogue is not None and self.dialogue.past
        is_known = len(speakers) > 1 and all(speakers)
        return is_used and is_known and has_few_states(len({*speakers}), len(self.labels))

    def threshold(self, models: Collection[str], speakers: Sequence[str] = ()) -> float:
        """Return the confidence below which a verdict of these models is uncertain.

        speakers: who spoke each turn of a dialogue, the verdict's last.
        """
        certain = self.in_dialogue if self.reads(speakers) else self.certain
        return certain[self.find_set(models)].threshold

    def method(self, models: Collection[str]) -> str:
        """Say how these models' outputs are fused."""
        return self.winner if len(self.find_set(models)) > 1 else "calibrated"

    def write(self, path: Path | str) -> None:
        """Write the fusion as JSON."""
        fusions = {
            "+".join(models): {
                "temperatures": form.temperatures.tolist(),
                "matrix": form.matrix.tolist(),
                "certain": self.certain[models]._asdict(),
                "in_dialogue": self.in_dialogue[models]._asdict() if self.in_dialogue else None,
            }
            for models, form in self.forms.items()
        }
        content = {name: getattr(self, name) for name in (*NOTES, "labels")}
        content["dialogue"] = self.dialogue and {
            "own": self.dialogue.transitions.own.tolist(),
            "other": self.dialogue.transitions.other.tolist(),
            "base": self.dialogue.base.tolist(),
            **{kind: getattr(self.dialogue, kind) for kind in KINDS},
        }
        content["dimensions"] = {
            "+".join(models): {
                "weights": pool.weights.tolist(),
                "bias": pool.bias.tolist(),
                "scale": list(pool.scale),
            }
            for models, pool in self.dimensions.items()
        }
        write_json(path, {**content, "fusions": fusions})


def load(path: Path | str) -> Fusion:
    """Read a fusion that ensemble.py wrote; a damaged file or another one is a UserError."""
    content = read_recorded(Path(path).parent, Path(path).name, "ensemble.py")
    with naming(path, "ensemble.py"):
        labels = read_labels(content)
        dialogue = content["dialogue"] and read_dialogue(content["dialogue"], len(labels))
        fusions = {tuple(name.split("+")): one for name, one in content["fusions"].items()}
        notes = {name: content[name] for name in NOTES}
        singles = {(model,) for model in notes["temperatures"]}
        if not singles or singles - fusions.keys():
            raise ValueError("a model has no calibration")
        read_numbers(list(notes["temperatures"].values()), len(singles))
        with_turns = fusions if dialogue and dialogue.past else {}
        return Fusion(
            forms={m: read_form(one, len(m), len(labels)) for m, one in fusions.items()},
            certain={models: read_certainty(one["certain"]) for models, one in fusions.items()},
            in_dialogue={m: read_certainty(one["in_dialogue"]) for m, one in with_turns.items()},
            dialogue=dialogue,
            labels=labels,
            dimensions=read_pools(content.get("dimensions", {}), notes["temperatures"]),
            **notes,
        )


def read_numbers(values: list, *shape: int) -> np.ndarray:
    """Return numbers of JSON as an array of this shape; anything odd is a ValueError."""
    array = np.array(values)
    if array.shape != shape or array.dtype.kind not in "if" or not np.isfinite(array).all():
        raise ValueError(f"no numbers of shape {shape}")
    return array.astype(float)


def read_form(content: dict, models: int, classes: int) -> Linear:
    shape = (models + 1) * classes + 1, classes
    temperatures = read_numbers(content["temperatures"], models)
    return Linear(temperatures, read_numbers(content["matrix"], *shape))


def read_certainty(content: dict) -> Certainty:
    certainty = read_numbers([content[name] for name in Certainty._fields], 3)
    if not ((certainty >= 0) & (certainty <= 1)).all():
        raise ValueError("a share is not between 0 and 1")
    return Certainty(*certainty.tolist())


def read_pools(content: dict, known: Collection[str]) -> dict[ModelSet, Pool]:
    """Read the pools of valence and arousal, by set of `known` models."""
    pools = {}
    for name, one in content.items():
        models = tuple(name.split("+"))
        low, high = read_numbers(one["scale"], 2).tolist()
        if not set(models) <= set(known) or not low < high:
            raise ValueError("a set of other models, or no scale")
        weights = read_numbers(one["weights"], len(DIMENSIONS), len(models))
        pools[models] = Pool(weights, read_numbers(one["bias"], len(DIMENSIONS)), (low, high))
    return pools


def read_dialogue(content: dict, classes: int) -> Dialogue:
    tables = [read_numbers(content[name], classes + 1, classes) for name in ("own", "other")]
    base, used = read_numbers(content["base"], classes), [content[kind] for kind in KINDS]
    if not (base > 0).all() or not set(used) <= {True, False}:
        raise ValueError("no model of a dialogue")
    return Dialogue(Transitions(*tables), base, *used)
