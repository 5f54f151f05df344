"""Valence and arousal of the models' rows: the files, and whether they fit.

For each model that has learned them, `{name}_dims.npy` (float, N x 2: DIMENSIONS in the raters'
scale) and `{name}_dims_truth.npy` (float, N x 2, the raters' means, NaN where a cell was blank);
the scale is `dimension_scale` of {name}_run.json. A model without them has neither file.
Shapes: N rows, D = 2 dimensions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.files import DIMENSIONS, UserError, naming, read_array
from fusion.outputs import again, refuse, script_of

SCALE = (1.0, 5.0)  # of KEMDy's raters, where a model's run does not say it


@dataclass(frozen=True)
class Ratings:
    """Valence and arousal of N rows.

    truth (N, D): NaN where no rater gave it; predicted: model or baseline -> (N, D), finite; scale:
    the lowest and the highest number that a rater can give.
    """

    truth: np.ndarray
    predicted: dict[str, np.ndarray]
    scale: tuple[float, float]


def read_ratings(folder: Path, runs: dict[str, dict], ids: np.ndarray | None, count: int):
    """Return the Ratings of the models and baselines that have them, None if none has.

    runs: model or baseline -> content of {name}_run.json; ids (count,): of the segments, or None.
    """
    kinds = ("dims", "dims_truth")
    names = [n for n in runs if any((folder / f"{n}_{kind}.npy").exists() for kind in kinds)]
    truth, predicted, scale = None, {}, None
    for name in names:
        script, own = script_of(folder, name), read_scale(folder, name, runs[name])
        values, true = (read_array(folder / f"{name}_{kind}.npy", script) for kind in kinds)
        check_ratings(folder, name, values, true, own, count, ids)
        first, scale = folder / f"{names[0]}_dims_truth.npy", scale or own
        if own != scale:
            path = folder / f"{name}_run.json"
            raise UserError(
                f"{path}: dimension_scale {own}, of {names[0]} {scale}{again(folder, name)}"
            )
        truth, path = true if truth is None else truth, folder / f"{name}_dims_truth.npy"
        differs = ~((true == truth) | (np.isnan(true) & np.isnan(truth))).all(axis=1)
        refuse(path, differs, f"not as in {first.name}{again(folder, name)}", ids)
        predicted[name] = values.astype(np.float64)
    return Ratings(truth.astype(np.float64), predicted, scale) if names else None


def join_ratings(parts: list[Ratings | None]) -> Ratings | None:
    """Return the rows of several folders, which have passed `check_same_ratings`, as one."""
    if parts[0] is None:
        return None
    names = parts[0].predicted
    predicted = {name: np.concatenate([part.predicted[name] for part in parts]) for name in names}
    return Ratings(np.concatenate([part.truth for part in parts]), predicted, parts[0].scale)


def read_scale(folder: Path, model: str, run: dict) -> tuple[float, float]:
    """Return the raters' scale by a model's run; one that is no scale is a UserError."""
    with naming(folder / f"{model}_run.json", script_of(folder, model)):
        low, high = map(float, run.get("dimension_scale", SCALE))
        if not -np.inf < low < high < np.inf:
            raise ValueError("dimension_scale: not the lowest and the highest rating")
    return low, high


def check_ratings(
    folder: Path,
    model: str,
    predicted: np.ndarray,
    truth: np.ndarray,
    scale: tuple[float, float],
    count: int,
    ids: np.ndarray | None,
) -> None:
    """Check shapes, types and values of one model's valence and arousal."""
    hint = again(folder, model)
    for kind, array in {"dims": predicted, "dims_truth": truth}.items():
        path, shape = folder / f"{model}_{kind}.npy", (count, len(DIMENSIONS))
        if array.shape != shape or array.dtype.kind != "f":
            raise UserError(
                f"{path}: {array.dtype} of shape {array.shape}, where numbers of shape {shape} are "
                f"expected from {model}_output.npy{hint}"
            )
        wrong = np.isinf(array) if kind == "dims_truth" else ~np.isfinite(array)
        refuse(path, wrong.any(axis=1), f"not a finite number{hint}", ids)
    outside = (truth < scale[0]) | (truth > scale[1])
    path = folder / f"{model}_dims_truth.npy"
    refuse(path, outside.any(axis=1), f"outside the raters' scale {scale}{hint}", ids)


def check_same_ratings(
    names: Iterable[str], folder: Path, ours: Ratings | None, other: Path, theirs: Ratings | None
) -> None:
    """Refuse two folders of which one has valence and arousal of a model and the other has not.

    names: of the models and baselines that both have; two scales are refused, too.
    """
    for name in names:
        has = [one is not None and name in one.predicted for one in (ours, theirs)]
        if has[0] != has[1]:
            without, place = (other, folder) if has[0] else (folder, other)
            raise UserError(
                f"{without / name}_dims.npy is missing, {place} has it{again(without, name)}"
            )
    if ours and theirs and ours.scale != theirs.scale:
        raise UserError(
            f"{other} has valence and arousal of the scale {theirs.scale}, {folder} of {ours.scale}"
            ": they must be of the same corpus"
        )
