"""Plots of the training curves."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.predictions import MODELS
from pipeline.evaluation.tables import NAMES
from pipeline.figures import style
from pipeline.files import read_json


def draw_all(folder: Path, outputs: Path) -> dict[str, Path]:
    """Draw the curves of the models that left a history; return {what it shows: its file}."""
    paths = {model: outputs / model / "history.json" for model in MODELS}
    histories = {m: read_json(p, "the training") for m, p in paths.items() if p.is_file()}
    if not histories:
        return {}
    path = style.save(folder / "training.png", draw_training, histories)
    return {"Loss and validation scores by epoch": path}


def draw_training(histories: dict[str, dict]) -> Figure:
    """Loss and validation scores by epoch, one column a model; the chosen epoch is marked."""
    figure = Figure(figsize=(4 * len(histories), 5.2))
    axes = figure.subplots(2, len(histories), sharex="col", squeeze=False)
    curves = (("loss", "valid_loss"), ("accuracy", "macro_f1", "uar"))
    for column, (model, history) in enumerate(histories.items()):
        epochs = [entry["epoch"] for entry in history["epochs"]]
        for axis, names in zip(axes[:, column], curves, strict=True):
            for name in names:
                values = [entry.get(name) for entry in history["epochs"]]
                if None not in values:
                    label = {"loss": "training loss", "valid_loss": "validation loss"}.get(name)
                    axis.plot(epochs, values, "o-", markersize=3, label=label or name)
            if history.get("best_epoch"):
                axis.axvline(history["best_epoch"], color="#999999", linestyle=":", linewidth=1.5)
            axis.grid(alpha=0.25)
            if axis.lines:
                axis.legend(frameon=False, fontsize=8)
        axes[0, column].set_title(NAMES[model])
        axes[1, column].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[1, column].set_xlabel("epoch (dotted: the one kept)")
    return figure
