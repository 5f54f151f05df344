"""Plots of the ensemble's results and of the training curves, a PNG and a PDF each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.files import DIMENSIONS, UserError, naming, read_json, sha256
from common.plots import COLOURS, class_names, save
from common.stages import RECORDS, read_outputs
from fusion import metrics
from fusion.cells import HEADERS, MAIN, title_of
from fusion.outputs import script_of
from fusion.predictions import Predictions

MANY = 10  # classes, above which the names beside a matrix are turned
CURVES = ("loss", "valid_loss"), ("accuracy", "macro_f1", "uar")


def draw_all(
    folder: Path,
    results: dict,
    test: Predictions,
    pred: dict,
    rated: dict,
    confidence: dict,
    histories: dict,
) -> dict[str, Path]:
    """Write every plot to a folder; return {title: its file}.

    pred: method -> labels (N,); rated: method -> valence and arousal (N, 2); confidence: see
    fusion/certainty.py.
    """
    fused = {"soft", "weighted_soft", "hard", "stacking", *results["test"]["models"]}
    shown = {method: labels for method, labels in pred.items() if method in fused}
    figures = [
        ("Scores with 95 % intervals", draw_scores, results["rows"]),
        ("Confusion matrices: rows, and share of the true class", draw_confusion, test, shown),
    ]
    title = "Risk and coverage; the point: verdicts that are not called uncertain"
    figures.append((title, draw_risk_coverage, test, pred, confidence, results["certainty"]))
    if parts := choose_parts(results["parts"]):
        title = "Stacking on parts of the test rows, with 95 % intervals"
        figures.append((title, draw_parts, parts, results["rows"]))
    if learned := results["learned"]["dialogue"]:
        title = "Transitions of emotions: times as likely as on average"
        figures.append((title, draw_transitions, learned, test.labels))
    if "stacking" in rated and np.isfinite(test.ratings.truth).all(axis=1).any():
        figures.append(("Valence and arousal: raters and fusion", draw_ratings, test, rated))
        title = "Centres of the emotions: raters and fusion"
        figures.append((title, draw_plane, test, rated))
    if histories:
        figures.append(("Loss and validation scores by epoch", draw_training, histories))
    written = {}
    for title, draw, *arguments in figures:
        path = folder / f"{draw.__name__.removeprefix('draw_')}.png"
        written[title] = save(path, draw, *arguments, pdf=True)
    return written


def read_histories(outputs: Path, models: tuple[str, ...]) -> dict[str, dict]:
    """Return the training curves of each model that left them; damaged ones are refused."""
    histories, shown = {}, ("epoch", *CURVES[0], *CURVES[1])
    for model in models:
        path, script = outputs / model / "history.json", script_of(outputs, model, "train")
        if not path.is_file():
            continue
        outputs_of = read_outputs(outputs / model / RECORDS / f"{Path(script).stem}.json")
        if outputs_of.get(path.name, sha256(path)) != sha256(path):
            raise UserError(f"{path} has changed since {script} wrote it: run {script} again")
        history = read_json(path, script)
        with naming(path, script):
            histories[model] = {
                "epochs": [
                    {"epoch": entry["epoch"]} | {n: float(entry[n]) for n in shown if n in entry}
                    for entry in history["epochs"]
                ],
                "best_epoch": int(history["best_epoch"] or 0),
            }
    return histories


def draw_scores(rows: list[dict]) -> Figure:
    """Accuracy, macro F1 and UAR of every method as points with their intervals."""
    figure = Figure(figsize=(11, 0.6 + 0.35 * len(rows)))
    axes = figure.subplots(1, 3, sharey=True)
    for axis, score in zip(axes, MAIN, strict=True):
        for place, row in enumerate(rows[::-1]):
            colour = "#c8423b" if row["method"] == "stacking" else "#4c78a8"
            axis.plot(row[f"{score}_ci"], [place, place], color=colour, linewidth=3, alpha=0.6)
            axis.plot(row[score], place, "o", color=colour, markersize=7)
            at, text = (row[score], place), {"textcoords": "offset points", "ha": "center"}
            axis.annotate(f"{row[score]:.3f}", at, (0, 6), **text, fontsize=8)
        axis.set(title=HEADERS[score], ylim=(-0.5, len(rows) - 0.2))
        axis.grid(axis="x", alpha=0.3)
        axis.margins(x=0.12)
    axes[0].set_yticks(range(len(rows)), [title_of(row["method"]) for row in rows[::-1]])
    return figure


def draw_risk_coverage(test: Predictions, pred: dict, confidence: dict, areas: dict) -> Figure:
    """The share of wrong verdicts among the surest of them, one line a method."""
    figure = Figure(figsize=(7, 4.5))
    axis = figure.subplots()
    for number, (method, of_rows) in enumerate(confidence.items()):
        own, is_fusion, values = areas[method], method == "stacking", of_rows[:, 0]
        colour = "#c8423b" if is_fusion else COLOURS[number % len(COLOURS)]
        _, covered, wrong = metrics.risk_coverage(pred[method] == test.truth, values)
        look = {"color": colour, "linewidth": 2.5 if is_fusion else 1}
        label = f"{title_of(method)}: AURC {own['aurc']:.3f}"
        axis.plot(covered / len(values), wrong / covered, label=label, **look)
        if own["risk"] is not None:
            size = 9 if is_fusion else 5
            axis.plot(own["coverage"], own["risk"], "o", color=colour, markersize=size)
    axis.set(xlabel="coverage: share of the verdicts, the surest first", xlim=(0, 1.02))
    axis.set(ylabel="share of wrong ones", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure


def choose_parts(parts: dict[str, dict]) -> dict[str, dict]:
    """Return the parts that are drawn: not every session and speaker."""
    left_out = ("session ", "speaker ")
    return {name: part for name, part in parts.items() if not name.startswith(left_out)}


def draw_parts(parts: dict[str, dict], rows: list[dict]) -> Figure:
    """Stacking's accuracy and macro F1 on every part, and on all rows as a line."""
    figure = Figure(figsize=(11, 1 + 0.24 * len(parts)))
    overall = next(row for row in rows if row["method"] == "stacking")
    for axis, score in zip(figure.subplots(1, 2, sharey=True), MAIN[:2], strict=True):
        axis.axvline(overall[score], color="#999999", linewidth=1)
        for place, part in enumerate(parts.values()):
            scores = part["scores"]["stacking"]
            axis.plot(
                scores[f"{score}_ci"], [place, place], color="#c8423b", linewidth=2, alpha=0.5
            )
            axis.plot(scores[score], place, "o", color="#c8423b", markersize=5)
        axis.set(title=f"{HEADERS[score]} (line: all rows)", xlim=(0, 1))
        axis.set_yticks(
            range(len(parts)),
            [f"{name} ({part['rows']})" for name, part in parts.items()],
            fontsize=8,
        )
        axis.grid(axis="x", alpha=0.3)
        axis.set_ylim(len(parts) - 0.5, -0.5)
    return figure


def draw_confusion(test: Predictions, pred: dict) -> Figure:
    """One matrix a method: true class down, predicted class across."""
    size = max(4.3, 0.5 * len(test.labels))  # inches
    figure = Figure(figsize=(4 * size, size * -(-len(pred) // 4)))
    axes = figure.subplots(-(-len(pred) // 4), 4, squeeze=False).ravel()
    for axis, (method, labels) in zip(axes, pred.items(), strict=False):
        counts = metrics.confusion(test.truth, labels, len(test.labels))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        cells = zip(counts.flat, shares.flat, strict=True)
        texts = [f"{n}\n{s:.0%}" if n else "" for n, s in cells]
        write_cells(axis, texts, shares > 0.5, test.labels)
        axis.set_title(f"{title_of(method)}: accuracy {np.trace(counts) / len(test.truth):.3f}")
        axis.set(xlabel="predicted", ylabel="true")
    for axis in axes[len(pred) :]:
        axis.set_axis_off()
    return figure


def write_cells(axis: Axes, texts: list[str], is_dark: np.ndarray, labels: Sequence[str]) -> None:
    """Write texts (C x C) in the cells of a matrix and the class names beside it."""
    for text, dark, (row, column) in zip(
        texts, is_dark.flat, np.ndindex(*is_dark.shape), strict=True
    ):
        look = {"ha": "center", "va": "center", "linespacing": 1.25, "fontsize": 7.5}
        # in_layout: inside its cell, so the layout need not measure 343 texts
        axis.text(column, row, text, color="white" if dark else "black", in_layout=False, **look)
    names, turned = class_names(labels), {"rotation": 90} if len(labels) > MANY else {}
    axis.set_xticks(range(len(labels)), names, fontsize=8, **turned)
    axis.set_yticks(range(len(labels)), names, fontsize=8)


def draw_transitions(learned: dict, labels: Sequence[str]) -> Figure:
    """How much likelier a label is after the speaker's last label, and after the partner's."""
    size = max(5, 0.5 * len(labels))  # inches
    figure = Figure(figsize=(2.4 * size, size))
    names = {"own": "the speaker's last turn", "other": "the partner's last turn"}
    for axis, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        ratios = np.array(learned[name])[: len(labels)]
        axis.imshow(ratios, cmap="RdBu_r", vmin=-1.5, vmax=1.5)
        texts = [f"{ratio:.2f}" for ratio in np.exp(ratios.flat)]
        write_cells(axis, texts, np.abs(ratios) > 1, labels)
        axis.set(xlabel="this turn", ylabel=title)
    return figure


def draw_ratings(test: Predictions, rated: dict) -> Figure:
    """The fusion's value over the raters' for every row, one panel a dimension."""
    figure = Figure(figsize=(10, 5))
    low, high = test.ratings.scale
    panels = zip(
        figure.subplots(1, 2), DIMENSIONS, test.ratings.truth.T, rated["stacking"].T, strict=True
    )
    for axis, name, truth, fused in panels:
        axis.plot([low, high], [low, high], color="#999999", linewidth=1)
        axis.scatter(
            truth, fused, s=12, alpha=max(0.05, min(0.5, 100 / len(truth))), color="#4c78a8"
        )
        axis.set(title=name, xlabel="raters", ylabel="fusion", aspect="equal")
        axis.set(xlim=(low - 0.1, high + 0.1), ylim=(low - 0.1, high + 0.1))
        axis.grid(alpha=0.25)
    return figure


def draw_plane(test: Predictions, rated: dict) -> Figure:
    """Mean valence and arousal of every emotion's rows: by the raters, and by the fusion."""
    figure = Figure(figsize=(6.5, 6))
    axis, (low, high) = figure.subplots(), test.ratings.scale
    known = np.isfinite(test.ratings.truth).all(axis=1)
    for label, name in enumerate(class_names(test.labels)):
        rows = known & (test.truth == label)
        if rows.any():
            (x, y), (u, v) = test.ratings.truth[rows].mean(0), rated["stacking"][rows].mean(0)
            axis.plot([x, u], [y, v], color="#999999", linewidth=1)
            axis.plot(x, y, "o", color="#4c78a8", label=None if axis.texts else "raters")
            axis.plot(u, v, "D", color="#c8423b", label=None if axis.texts else "fusion")
            axis.annotate(name, (x, y), (6, 4), textcoords="offset points")
    middle = (low + high) / 2
    axis.axhline(middle, color="#dddddd", linewidth=1, zorder=0)
    axis.axvline(middle, color="#dddddd", linewidth=1, zorder=0)
    axis.set(xlim=(low, high), ylim=(low, high), xlabel=DIMENSIONS[0], ylabel=DIMENSIONS[1])
    axis.set_aspect("equal")
    axis.legend(frameon=False)
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
                    axis.plot(epochs, values, "o-", markersize=3, label=name)
            if history["best_epoch"]:
                axis.axvline(history["best_epoch"], color="#999999", linestyle=":", linewidth=1.5)
            axis.grid(alpha=0.25)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(frameon=False, fontsize=8)
        axes[0, column].set_title(title_of(model))
        axes[1, column].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[1, column].set_xlabel("epoch (dotted: the one kept)")
    return figure
