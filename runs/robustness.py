"""How good models and fusion are in each condition in which they were tested.

    python -m runs.robustness

Reads   OUTPUTS/*_{truth,output,...}.npy, OUTPUTS/fusion.json, OUTPUTS/conditions/*/ (the test
        scripts with a CONDITION; runs/robustness.sh runs them)
Writes  OUTPUTS/conditions/robustness.{json,md,png}, robustness_reliability.png

Nothing is fitted: the stored fusion is applied, and the confidence below which a verdict is called
uncertain is the stored one. A model that does not hear what changes answers as on the clean rows.
"""

from common import settings  # first of all: it answers --help

# isort: split

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.conditions import is_of_words, split_condition
from common.files import UserError, write_json, write_text
from common.plots import COLOURS, save
from common.ranges import OF_WORDS, SOUNDS
from fusion import predictions, stored
from fusion.cells import title_of
from fusion.metrics import (
    estimate_mean,
    estimate_risk,
    measure,
    plain_interval,
    reliability,
    share_interval,
    show_score,
    with_interval,
)
from fusion.outputs import CONDITIONS, INPUTS
from fusion.page import write_table
from fusion.predictions import Predictions
from fusion.stored import Fusion

# ----------------------------------------------------------------------------------------------
OUTPUTS = "outputs"  # of a finished run
# ----------------------------------------------------------------------------------------------

CLEAN, FUSED = "clean", "fusion"
SAME = ("data_hash", "settings", "environment", "speaker_norm")  # of {name}_run.json


def main() -> None:
    outputs = Path(OUTPUTS)
    fusion = stored.load(outputs / "fusion.json")
    clean = predictions.load(outputs, baselines=())
    if {*clean.models} != {*fusion.temperatures}:
        raise UserError(f"{outputs}/fusion.json is of other models: run ensemble.py again")
    every = {CLEAN: clean}
    for folder in sorted((outputs / CONDITIONS).glob("*/")):
        if predictions.find_models(folder):
            condition, heard = read_condition(clean, folder)
            every |= {condition: heard} if heard else {}
    if len(every) == 1:
        raise UserError(f"{outputs / CONDITIONS} has no results: run runs/robustness.sh")
    every = {name: every[name] for name in sorted(every, key=place_of)}
    results = {name: evaluate(heard, clean, fusion) for name, heard in every.items()}
    page = write_page(results, clean, fusion)
    place = outputs / CONDITIONS
    write_json(place / "robustness.json", results)
    write_text(place / "robustness.md", page)
    save(place / "robustness.png", draw, results, pdf=True)
    save(place / "robustness_reliability.png", draw_reliability, results, pdf=True)
    print(page)
    print(f"written: {place}/robustness.json, robustness.md, robustness*.png")


def place_of(condition: str) -> tuple:
    """Return the order of conditions: the clean rows, then kind by kind, what is better first."""
    kind, rest = split_condition(condition)
    number = 0 if kind == "asr" else float(rest or 0)
    kinds = [CLEAN, *SOUNDS, *OF_WORDS]
    return kinds.index(kind), number if kind == "words" else -number, rest


def read_condition(clean: Predictions, folder: Path) -> tuple[str, Predictions | None]:
    """Return a condition and what all models say in it; None, which is said, if it is not whole.

    Those that do not hear what changes in it say what they say of the clean rows.
    """
    heard = predictions.load(folder, baselines=())
    names = {run.get("condition", "") for run in heard.runs.values()}
    condition = next(iter(names))
    changed = "text" if is_of_words(condition) else "audio"
    said = {model: run.get("input", "text+audio") for model, run in clean.runs.items()}
    needed = {model for model in clean.models if changed in INPUTS.get(model, said[model])}
    others = [
        model
        for model, run in heard.runs.items()
        if any(run.get(name) != clean.runs.get(model, {}).get(name) for name in SAME)
    ]
    why = ""
    if "" in names:
        why = "of no condition"
    elif len(names) > 1:
        why = f"of several conditions, {', '.join(sorted(names))}"
    elif missing := sorted(needed - {*heard.models}):
        why = f"{missing[0]} was not tested in it"
    elif heard.labels != clean.labels or not np.array_equal(heard.ids, clean.ids):
        why = "other rows or labels than the clean ones"
    elif others:
        why = f"{others[0]} was trained or tested otherwise than for the clean rows"
    if why:
        print(f"{folder} is left out: {why}: run runs/robustness.sh")
        return condition, None
    own = dict(zip(heard.models, heard.logits, strict=True))
    logits = [own.get(model, kept) for model, kept in zip(clean.models, clean.logits, strict=True)]
    return condition, replace(clean, logits=np.stack(logits))


def evaluate(heard: Predictions, clean: Predictions, fusion: Fusion) -> dict[str, dict]:
    """Return the scores of every model and of the fusion in a condition.

    Beside those of `measure`: `uncertain`, the share of verdicts called so; the accuracy of
    those that are and that are not; `aurc`, the area under the risk-coverage curve; `reliability`,
    see metrics; `loss`, how much less accurate than on the clean rows.
    """
    groups, _ = heard.resample()
    found = {}
    for method in (*heard.models, FUSED):
        models = heard.models if method == FUSED else (method,)
        own, before = (
            fusion.predict({m: rows.logits[rows.models.index(m)] for m in models})
            for rows in (heard, clean)
        )
        pred = own.argmax(1)
        right, was_right = (each.argmax(1) == heard.truth for each in (own, before))
        is_uncertain = own.max(1) < fusion.threshold(models)
        uncertain = estimate_mean(is_uncertain.astype(float), groups)
        area = estimate_risk(right, own.max(1), groups)
        loss = estimate_mean(was_right.astype(float) - right, groups)
        found[method] = {
            **measure(heard.truth, pred, own, groups),
            "uncertain": float(uncertain.value),
            "uncertain_ci": share_interval(uncertain, len(pred)).tolist(),
            "accuracy_certain": mean_of(right[~is_uncertain]),
            "accuracy_uncertain": mean_of(right[is_uncertain]),
            "aurc": float(area.value),
            "aurc_ci": plain_interval(area, 0),
            "reliability": reliability(right, own.max(1)),
            "loss": float(loss.value),
            "loss_ci": plain_interval(loss, -1),
        }
    return found


def mean_of(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def write_page(results: dict, clean: Predictions, fusion: Fusion) -> str:
    """Return the tables as Markdown."""

    def tabulate(cell: Callable[[dict], str]) -> str:
        rows = [[shown(name), *map(cell, methods.values())] for name, methods in results.items()]
        return write_table(["", *map(title_of, results[CLEAN])], rows)

    groups = clean.resample()[1]
    notice = [f"**{fusion.synthetic}**"] if fusion.synthetic else []
    about = f"{len(clean.truth)} test rows, 95 % intervals over {groups}. "
    about += f"The fusion ({fusion.winner}) is the stored one, fitted on {fusion.fitted_on}. "
    about += "The speaker's statistics are those of recordings in the same condition."
    header = ["", "Accuracy", "Lost (paired)", "Macro F1", "ECE", "Uncertain"]
    header += ["Accuracy, certain", "Accuracy, uncertain"]
    rows = [
        [
            shown(name),
            with_interval(own, "accuracy"),
            "-" if name == CLEAN else show_score(own["loss"], own["loss_ci"]),
            *[with_interval(own, score) for score in ("macro_f1", "ece", "uncertain")],
            *[share(own[f"accuracy_{kind}"]) for kind in ("certain", "uncertain")],
        ]
        for name, methods in results.items()
        for own in [methods[FUSED]]
    ]
    parts = ["# When recordings are worse", *notice, about]
    parts += ["## Accuracy", tabulate(lambda own: with_interval(own, "accuracy"))]
    parts += ["## The fusion", write_table(header, rows)]
    parts += ["## Share called uncertain", tabulate(lambda own: share(own["uncertain"]))]
    parts += ["## ECE", tabulate(lambda own: share(own["ece"]))]
    about = "The area under the risk-coverage curve: the share of wrong verdicts among the surest, "
    about += "mean over all coverages; without any order it is the share of all that are wrong."
    parts += ["## AURC (lower is better)", about, tabulate(lambda own: with_interval(own, "aurc"))]
    return "\n\n".join([*parts, *notice]) + "\n"


def shown(condition: str) -> str:
    """Return a condition as it is printed: of a recogniser's folder, the last name."""
    kind, colon, name = condition.partition(":")
    return f"{kind}{colon}{Path(name).name}"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(results: dict) -> Figure:
    """Accuracy by condition, one colour a model; the fusion with its intervals."""
    figure = Figure(figsize=(2 + 0.8 * len(results), 4.5))
    axis, places = figure.subplots(), np.arange(len(results))
    methods = list(results[CLEAN])
    for number, method in enumerate(methods):
        own = [by_method[method] for by_method in results.values()]
        values = np.array([each["accuracy"] for each in own])
        is_fusion = method == FUSED
        colour = "#c8423b" if is_fusion else COLOURS[number % len(COLOURS)]
        at = places + 0.5 * (number / max(len(methods) - 1, 1) - 0.5)
        bounds = np.array([each["accuracy_ci"] for each in own])
        axis.vlines(at, *bounds.T, color=colour, linewidth=3 if is_fusion else 1, alpha=0.5)
        axis.plot(at, values, "o", color=colour, markersize=7 if is_fusion else 5)
        axis.axhline(values[0], color=colour, linewidth=0.8, linestyle=":", alpha=0.7)
        axis.plot([], [], "o", color=colour, label=title_of(method))
    axis.set_xticks(places, [*map(shown, results)], rotation=30, ha="right")
    axis.set(ylabel="accuracy (dotted: of the clean rows)", xlim=(-0.5, len(results) - 0.5))
    axis.grid(axis="y", alpha=0.3)
    columns, above = min(len(methods), 4), {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
    axis.legend(frameon=False, fontsize=8, ncols=columns, **above)
    return figure


def draw_reliability(results: dict) -> Figure:
    """Share right over the fusion's confidence, one panel a condition; larger points: more rows."""
    columns = min(len(results), 4)
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.7 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (name, methods) in zip(axes, results.items(), strict=False):
        own = methods[FUSED]
        counts, confidence, right = np.array(own["reliability"]).T
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        axis.plot(confidence, right, color="#c8423b", linewidth=1)
        axis.scatter(confidence, right, 400 * counts / counts.sum(), color="#c8423b", alpha=0.6)
        axis.set_title(f"{shown(name)}: ECE {own['ece']:.3f}")
        axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    for axis in axes[len(results) :]:
        axis.set_axis_off()
    figure.supxlabel("confidence")
    figure.supylabel("share right")
    return figure


if __name__ == "__main__":
    settings.run(main)
