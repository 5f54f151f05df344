"""Plots of the ensemble's results and of the training curves, one PNG each."""

import zlib
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.files import LABELS, naming, read_json
from common.plots import class_names, save
from fusion import metrics
from fusion.predictions import BASELINES, SCRIPTS, Predictions
from fusion.tables import HEADERS, MAIN, title_of

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
CURVES = ("loss", "valid_loss"), ("accuracy", "macro_f1", "uar")


def colour_of(method: str):
    """Return a method's colour; of a model without one, a colour made of its name."""
    hue = zlib.crc32(method.encode()) / 2**32
    return COLOURS.get(method) or tuple(hsv_to_rgb((hue, 0.6, 0.7)))


def draw_all(
    folder: Path,
    results: dict,
    test: Predictions,
    pred: dict,
    probabilities: dict,
    histories: dict[str, dict],
) -> dict[str, Path]:
    """Write every plot to a folder; return {title: its file}.

    Baselines and dialogue methods are in the plot of scores alone: the others would be crowded.
    """
    crowding = {"majority", *BASELINES, "dialogue_past", "dialogue_whole"}
    pred, probabilities = (
        {method: value for method, value in by_method.items() if method not in crowding}
        for by_method in (pred, probabilities)
    )
    single = [part for part in results["parts"] if part["title"] in ("By session", "By speaker")]
    learned = results["learned"]["conversation"]
    plots = {
        "Scores with 95 % intervals": (draw_scores, results["rows"]),
        "Confusion matrices: rows, and share of the true class": (draw_confusion, test.truth, pred),
        "Reliability: is a confidence of .7 right in 70 % of cases?": (
            draw_reliability,
            test.truth,
            probabilities,
        ),
        "Agreement of the models, and what stacking made of it": (
            draw_agreement,
            results["agreement"],
            test.models,
        ),
        "Accuracy by session and by speaker": (draw_parts, single, test.models) if single else (),
        "Transitions of emotions: times as likely as on average": (
            (draw_transitions, learned) if learned else ()
        ),
        "Loss and validation scores by epoch": (draw_training, histories) if histories else (),
    }
    return {
        title: save(folder / f"{draw.__name__.removeprefix('draw_')}.png", draw, *arguments)
        for title, (draw, *arguments) in ((t, plot) for t, plot in plots.items() if plot)
    }


def read_histories(outputs: Path, models: tuple[str, ...]) -> dict[str, dict]:
    """Return the training curves of each model that left them, checked."""
    histories = {}
    for model in models:
        path, script = (
            outputs / model / "history.json",
            SCRIPTS.get(model, "").replace("test", "train"),
        )
        if path.is_file():
            histories[model] = read_json(path, script)
            with naming(path, script):
                names = ("epoch", *CURVES[0], *CURVES[1])
                for entry in histories[model]["epochs"]:
                    if not all(isinstance(entry.get(name, 0), int | float) for name in names):
                        raise ValueError("not numbers")
                if not isinstance(histories[model]["best_epoch"], int | None):
                    raise ValueError("best_epoch is no number")
    return histories


def draw_scores(rows: list[dict]) -> Figure:
    """Accuracy, macro F1 and UAR of every method as points with their intervals."""
    figure = Figure(figsize=(11, 0.6 + 0.35 * len(rows)))
    axes = figure.subplots(1, 3, sharey=True)
    for axis, score in zip(axes, MAIN, strict=True):
        for place, row in enumerate(rows[::-1]):
            colour = colour_of(row["method"])
            axis.plot(row[f"{score}_ci"], [place, place], color=colour, linewidth=3, alpha=0.6)
            axis.plot(row[score], place, "o", color=colour, markersize=7)
            at, text = (row[score], place), {"textcoords": "offset points", "ha": "center"}
            axis.annotate(f"{row[score]:.3f}", at, (0, 6), **text, fontsize=8)
        axis.set(title=HEADERS[score], ylim=(-0.5, len(rows) - 0.2))
        axis.grid(axis="x", alpha=0.3)
        axis.margins(x=0.12)
    axes[0].set_yticks(range(len(rows)), [title_of(row["method"]) for row in rows[::-1]])
    return figure


def draw_parts(partitions: list[dict], models: tuple[str, ...]) -> Figure:
    """Accuracy of the single models and of stacking on each session and each speaker."""
    figure = Figure(figsize=(12, 3.1 * len(partitions)))
    methods = (*models, "stacking")
    offsets = 0.64 * (np.arange(len(methods)) / len(methods) - 0.375)
    axes = figure.subplots(len(partitions), 1, squeeze=False).ravel()
    for axis, partition in zip(axes, partitions, strict=True):
        parts = partition["parts"]
        for method, offset in zip(methods, offsets, strict=True):
            scores = [part["scores"][method] for part in parts.values()]
            value = np.array([row["accuracy"] for row in scores])
            bounds = np.abs(np.array([row["accuracy_ci"] for row in scores]).T - value)
            look = {"fmt": "o", "markersize": 5, "linewidth": 1.6, "alpha": 0.8}
            look |= {"color": colour_of(method), "label": title_of(method)}
            axis.errorbar(np.arange(len(parts)) + offset, value, bounds, **look)
        axis.set_xticks(range(len(parts)), parts, rotation=90 if len(parts) > 12 else 0)
        axis.set(title=partition["title"], ylabel="accuracy", ylim=(0, 1))
        axis.grid(axis="y", alpha=0.3)
    figure.axes[0].legend(ncols=4, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def draw_confusion(truth: np.ndarray, pred: dict) -> Figure:
    """One matrix a method: true class down, predicted class across."""
    figure = Figure(figsize=(17, 4.3 * (len(pred) // 4 + 1)))
    axes = figure.subplots(len(pred) // 4 + 1, 4).ravel()  # at least one is left for the legend
    for axis, (method, labels) in zip(axes, pred.items(), strict=False):
        counts = metrics.confusion(truth, labels)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        texts = [
            f"{n}\n{s:.0%}" if n else "" for n, s in zip(counts.flat, shares.flat, strict=True)
        ]
        write_cells(axis, texts, shares > 0.5)
        axis.set_title(f"{title_of(method)}: accuracy {np.trace(counts) / len(truth):.3f}")
        axis.set(xlabel="predicted", ylabel="true")
    for axis in axes[len(pred) :]:
        axis.set_axis_off()
    legend = "in a cell: rows,\nand their share of the true class\n(the shade)"
    axes[-1].text(0.5, 0.5, legend, ha="center", va="center", fontsize=11, color="#62707d")
    return figure


def write_cells(axis: Axes, texts: list[str], is_dark: np.ndarray) -> None:
    """Write texts (C x C) in the cells of a matrix and the class names beside it."""
    for text, dark, (row, column) in zip(
        texts, is_dark.flat, np.ndindex(*is_dark.shape), strict=True
    ):
        look = {"ha": "center", "va": "center", "linespacing": 1.25, "fontsize": 7.5}
        # in_layout: inside its cell, so the layout need not measure 343 texts
        axis.text(column, row, text, color="white" if dark else "black", in_layout=False, **look)
    axis.set_xticks(range(len(LABELS)), class_names(), fontsize=8)
    axis.set_yticks(range(len(LABELS)), class_names(), fontsize=8)


def draw_reliability(truth: np.ndarray, probabilities: dict) -> Figure:
    """Accuracy against confidence; a point's area is its share of the rows."""
    lines = -(-len(probabilities) // 3)
    figure = Figure(figsize=(12, 3.5 * lines))
    axes = figure.subplots(lines, 3, sharex=True, sharey=True).ravel()
    for axis, (method, values) in zip(axes, probabilities.items(), strict=False):
        pred = values.argmax(axis=-1)
        bins, *every = metrics.calibration_bins(truth, pred, values)
        rows = np.bincount(bins, minlength=metrics.BINS)
        used = rows > 0
        confidence, accuracy = (
            np.bincount(bins, weights=value, minlength=metrics.BINS)[used] / rows[used]
            for value in every
        )
        axis.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
        axis.plot(confidence, accuracy, color=colour_of(method), linewidth=1.2)
        areas = 8 + 900 * rows[used] / len(truth)
        axis.scatter(confidence, accuracy, s=areas, color=[colour_of(method)], alpha=0.75)
        error = metrics.calibration_error(truth, pred, values)
        axis.set_title(f"{title_of(method)}: ECE {error:.3f}")
        axis.grid(alpha=0.25)
        axis.set(xlim=(0, 1.03), ylim=(-0.03, 1.05), xlabel="confidence", ylabel="share right")
        axis.label_outer()
    for axis in axes[len(probabilities) :]:
        axis.set_axis_off()
    return figure


def draw_transitions(learned: dict) -> Figure:
    """How much likelier a label is after the speaker's last label, and after the partner's."""
    figure = Figure(figsize=(12, 5))
    names = {"own": "the speaker's last turn", "other": "the partner's last turn"}
    for axis, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        ratios = np.array(learned[name])[: len(LABELS)]
        axis.imshow(ratios, cmap="RdBu_r", vmin=-1.5, vmax=1.5)
        write_cells(axis, [f"{ratio:.2f}" for ratio in np.exp(ratios.flat)], np.abs(ratios) > 1)
        axis.set(xlabel="this turn", ylabel=title)
    return figure


def draw_agreement(agreement: list[dict], models: tuple[str, ...]) -> Figure:
    """Rows by the models that are right, and how many of them stacking has right."""
    totals = np.array([part["rows"] for part in agreement])
    right = np.array([part["stacking"] for part in agreement])
    figure = Figure(figsize=(10, 1 + 0.37 * len(agreement)))
    dots, bars = figure.subplots(1, 2, sharey=True, width_ratios=[len(models), 10])
    for place, part in enumerate(agreement):
        for column, model in enumerate(models if part["right"] is not None else ()):
            face = colour_of(model) if model in part["right"] else "white"
            dots.plot(column, place, "o", markersize=13, color=colour_of(model), mfc=face)
        text = f"  {right[place]} of {totals[place]} ({right[place] / totals[place]:.0%})"
        bars.text(totals[place], place, text, va="center", fontsize=8.5)
    dots.set_xticks(range(len(models)), [title_of(model) for model in models], rotation=20)
    dots.set_yticks([])
    dots.set(xlim=(-0.6, len(models) - 0.4), title="right (filled)")
    dots.spines[["left", "bottom"]].set_visible(False)
    dots.tick_params(length=0)
    bars.barh(range(len(totals)), totals, color="#d9d9d9", label="stacking wrong")
    bars.barh(range(len(totals)), right, color=colour_of("stacking"), label="stacking right")
    bars.set(xlabel="test rows", xlim=(0, totals.max() * 1.25))
    bars.legend(frameon=False, loc="lower right")
    return figure


def draw_training(histories: dict[str, dict]) -> Figure:
    """Loss and validation scores by epoch, one column a model; the chosen epoch is marked."""
    figure = Figure(figsize=(4 * len(histories), 5.2))
    axes = figure.subplots(2, len(histories), sharex="col", squeeze=False)
    for column, (model, history) in enumerate(histories.items()):
        epochs = [entry["epoch"] for entry in history["epochs"]]
        for axis, names in zip(axes[:, column], CURVES, strict=True):
            for name in names:
                values = [entry.get(name) for entry in history["epochs"]]
                if None not in values:
                    label = {"loss": "training loss", "valid_loss": "validation loss"}.get(
                        name, name
                    )
                    axis.plot(epochs, values, "o-", markersize=3, label=label)
            if history["best_epoch"]:
                axis.axvline(history["best_epoch"], color="#999999", linestyle=":", linewidth=1.5)
            axis.grid(alpha=0.25)
            if axis.lines:
                axis.legend(frameon=False, fontsize=8)
        axes[0, column].set_title(title_of(model))
        axes[1, column].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[1, column].set_xlabel("epoch (dotted: the one kept)")
    return figure
