"""Plots of the ensemble's results, one PNG each."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fusion import metrics
from fusion.predictions import BASELINES, MODELS, Predictions
from fusion.tables import NAMES
from pipeline.figures.style import class_names, save
from pipeline.labels import LABELS

COLOURS = {
    "majority": "#b8b8b8",
    "baseline_text": "#9db7d1",
    "baseline_audio": "#f6cf9d",
    "baseline_both": "#8a8a8a",
    "text": "#4c78a8",
    "audio": "#f2a541",
    "cmbert": "#54a24b",
    "soft": "#c9b3dd",
    "weighted_soft": "#9d7cc1",
    "hard": "#6f4e99",
    "stacking": "#c8423b",
    "dialogue_past": "#8c2d26",
    "dialogue_whole": "#3f1411",
}


def draw_all(
    folder: Path, results: dict, test: Predictions, pred: dict, probabilities: dict
) -> dict[str, Path]:
    """Write every plot of the ensemble; return {what it shows: its file}.

    What is there to be beaten and what reads the conversation has scores alone: their classes are
    left to the tables.
    """
    beaten = ("majority", *BASELINES, "dialogue_past", "dialogue_whole")
    pred = without(pred, beaten)
    probabilities = without(probabilities, beaten)
    plots = {
        "Scores with 95 % intervals": ("scores", draw_scores, results["rows"]),
        "Confusion matrices: rows, and share of the true class": (
            "confusion",
            draw_confusion,
            test.truth,
            pred,
        ),
        "F1 by class": ("per_class", draw_classes, without(results["per_class"], beaten)),
        "Reliability: is a confidence of .7 right in 70 % of cases?": (
            "reliability",
            draw_reliability,
            test.truth,
            probabilities,
        ),
        "Who was right, and what stacking made of it": (
            "agreement",
            draw_agreement,
            results["agreement"],
        ),
    }
    single = [part for part in results["parts"] if part["title"] in ("By session", "By speaker")]
    if single:
        plots["Accuracy by session and by speaker"] = ("parts", draw_parts, single)
    if learned := results["learned"].get("conversation"):
        title = "How emotions follow one another: times as likely as usual"
        plots[title] = ("transitions", draw_transitions, learned)
    return {
        title: save(folder / f"{name}.png", draw, *arguments)
        for title, (name, draw, *arguments) in plots.items()
    }


def without(by_method: dict, left_out: tuple[str, ...]) -> dict:
    return {method: value for method, value in by_method.items() if method not in left_out}


def draw_scores(rows: list[dict]) -> Figure:
    """Accuracy, macro F1 and UAR of every method as points with their intervals."""
    figure = Figure(figsize=(11, 0.6 + 0.35 * len(rows)))
    axes = figure.subplots(1, 3, sharey=True)
    for axis, score in zip(axes, ("accuracy", "macro_f1", "uar"), strict=True):
        for place, row in enumerate(rows[::-1]):
            colour = COLOURS[row["method"]]
            axis.plot(row[f"{score}_ci"], [place, place], color=colour, linewidth=3, alpha=0.6)
            axis.plot(row[score], place, "o", color=colour, markersize=7)
            axis.annotate(
                f"{row[score]:.3f}", (row[score], place), (0, 6), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
        axis.set_title({"accuracy": "Accuracy", "macro_f1": "Macro F1", "uar": "UAR"}[score])
        axis.grid(axis="x", alpha=0.3)
        axis.margins(x=0.12)
        axis.set_ylim(-0.5, len(rows) - 0.2)
    axes[0].set_yticks(range(len(rows)), [NAMES[row["method"]] for row in rows[::-1]])
    return figure


def draw_parts(partitions: list[dict]) -> Figure:
    """Accuracy of the single models and of stacking on each session and each speaker."""
    figure = Figure(figsize=(12, 3.1 * len(partitions)))
    methods = (*MODELS, "stacking")
    axes = figure.subplots(len(partitions), 1, squeeze=False).ravel()
    for axis, partition in zip(axes, partitions, strict=True):
        parts = partition["parts"]
        for number, method in enumerate(methods):
            value = np.array([part["scores"][method]["accuracy"] for part in parts.values()])
            bounds = np.array([part["scores"][method]["accuracy_ci"] for part in parts.values()]).T
            axis.errorbar(
                np.arange(len(parts)) + 0.16 * (number - 1.5), value, np.abs(bounds - value),
                fmt="o", markersize=5, linewidth=1.6, alpha=0.8, color=COLOURS[method],
                label=NAMES[method],
            )  # fmt: skip
        axis.set_xticks(range(len(parts)), parts, rotation=90 if len(parts) > 12 else 0)
        axis.set(title=partition["title"], ylabel="accuracy", ylim=(0, 1))
        axis.grid(axis="y", alpha=0.3)
    figure.axes[0].legend(ncols=4, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def draw_confusion(truth: np.ndarray, pred: dict) -> Figure:
    """One matrix a method: true class down, predicted class across."""
    figure = Figure(figsize=(17, 8.6))
    axes = figure.subplots(2, 4).ravel()
    for axis, method in zip(axes, pred, strict=False):
        counts = metrics.confusion(truth, pred[method])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                text = f"{counts[row, column]}\n{share:.0%}"
                ink = "white" if share > 0.5 else "black"
                place = {"ha": "center", "va": "center", "linespacing": 1.25}
                place["in_layout"] = False  # inside its cell: 343 texts less to measure
                axis.text(column, row, text, color=ink, fontsize=7.5, **place)
        axis.set_xticks(range(len(LABELS)), class_names(), fontsize=8)
        axis.set_yticks(range(len(LABELS)), class_names(), fontsize=8)
        axis.set_title(f"{NAMES[method]}: accuracy {np.trace(counts) / len(truth):.3f}")
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
    for axis in axes[len(pred) :]:
        axis.set_axis_off()
    legend = "in a cell: rows,\nand their share of the true class\n(the shade)"
    axes[-1].text(0.5, 0.5, legend, ha="center", va="center", fontsize=11, color="#62707d")
    return figure


def draw_classes(per_class: dict) -> Figure:
    """Bars of every method's F1 for every class."""
    figure = Figure(figsize=(12, 3.8))
    axis = figure.subplots()
    width = 0.8 / len(per_class)
    for number, (method, values) in enumerate(per_class.items()):
        places = np.arange(len(LABELS)) - 0.4 + (number + 0.5) * width
        axis.bar(places, values["f1"], width, color=COLOURS[method], label=NAMES[method])
    axis.set_xticks(range(len(LABELS)), class_names(), fontsize=11)
    axis.set_ylabel("F1")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.legend(ncols=1, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def draw_reliability(truth: np.ndarray, probabilities: dict) -> Figure:
    """Accuracy against confidence; a point's area is its share of the rows."""
    figure = Figure(figsize=(12, 7))
    axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for axis, (method, values) in zip(axes, probabilities.items(), strict=True):
        pred = values.argmax(axis=-1)
        bins, confidence, correct = metrics.calibration_bins(truth, pred, values)
        rows = np.bincount(bins, minlength=metrics.BINS)
        used = rows > 0
        mean_confidence = np.bincount(bins, weights=confidence, minlength=metrics.BINS)[used]
        accuracy = np.bincount(bins, weights=correct, minlength=metrics.BINS)[used] / rows[used]
        mean_confidence /= rows[used]
        axis.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
        axis.plot(mean_confidence, accuracy, color=COLOURS[method], linewidth=1.2)
        areas = 8 + 900 * rows[used] / len(truth)
        axis.scatter(mean_confidence, accuracy, s=areas, color=COLOURS[method], alpha=0.75)
        error = metrics.calibration_error(truth, pred, values)
        axis.set_title(f"{NAMES[method]}: ECE {error:.3f}")
        axis.grid(alpha=0.25)
        axis.set(xlim=(0, 1.03), ylim=(-0.03, 1.05))
    for axis in axes[3:]:
        axis.set_xlabel("confidence")
    for axis in axes[::3]:
        axis.set_ylabel("share that is right")
    return figure


def draw_transitions(learned: dict) -> Figure:
    """How much likelier a label is after the speaker's own last one, and after the partner's."""
    figure = Figure(figsize=(12, 5))
    names = {"own": "the speaker's own last turn", "other": "the partner's last turn"}
    for axis, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        ratios = np.array(learned[name])[: len(LABELS)]
        axis.imshow(ratios, cmap="RdBu_r", vmin=-1.5, vmax=1.5)
        for (row, column), ratio in np.ndenumerate(ratios):
            ink = "white" if abs(ratio) > 1 else "black"
            axis.text(
                column, row, f"{np.exp(ratio):.2f}", color=ink, fontsize=8, ha="center", va="center"
            )
        axis.set_xticks(range(len(LABELS)), class_names(), fontsize=8)
        axis.set_yticks(range(len(LABELS)), class_names(), fontsize=8)
        axis.set(xlabel="this turn", ylabel=title)
    return figure


def draw_agreement(agreement: list[dict]) -> Figure:
    """Rows by which of the three models was right, and how many of them stacking has right."""
    totals = np.array([part["rows"] for part in agreement])
    gained = np.array([part["stacking"] for part in agreement])
    figure = Figure(figsize=(10, 4))
    dots, bars = figure.subplots(1, 2, sharey=True, width_ratios=[1, 3.4])
    for place, part in enumerate(agreement):
        for column, model in enumerate(MODELS):
            face = COLOURS[model] if model in part["right"] else "white"
            dots.plot(column, place, "o", markersize=13, color=COLOURS[model], mfc=face)
    dots.set_xticks(range(3), ["Text", "Audio", "CM-BERT"])
    dots.set_yticks([])
    dots.set(xlim=(-0.6, 2.6), title="who was right (filled)")
    dots.spines[["left", "bottom"]].set_visible(False)
    dots.tick_params(length=0)
    bars.barh(range(len(totals)), totals, color="#d9d9d9", label="stacking wrong")
    bars.barh(range(len(totals)), gained, color=COLOURS["stacking"], label="stacking right")
    for place, (total, gain) in enumerate(zip(totals, gained, strict=True)):
        if total:
            text = f"  {gain} of {total} ({gain / total:.0%})"
            bars.text(total, place, text, va="center", fontsize=8.5)
    bars.set(xlabel="test rows", xlim=(0, totals.max() * 1.25))
    bars.legend(frameon=False, loc="lower right")
    return figure
