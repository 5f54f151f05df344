"""Plots of the training curves."""

from itertools import chain
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fusion.predictions import MODELS
from fusion.tables import NAMES
from pipeline.figures import style
from pipeline.files import read_json, reading

MADE_BY = {"text": "text_train.py", "audio": "audio_train.py", "cmbert": "run_classifier.py"}
CURVES = ("loss", "valid_loss"), ("accuracy", "macro_f1", "uar")


def read_histories(outputs: Path) -> dict[str, dict]:
    """Return the history of each model that left one."""
    paths = {model: outputs / model / "history.json" for model in MODELS}
    histories = {m: read_json(p, MADE_BY[m]) for m, p in paths.items() if p.is_file()}
    for model, history in histories.items():
        with reading(paths[model], MADE_BY[model]):
            check(history)
    return histories


def draw_all(folder: Path, histories: dict[str, dict]) -> dict[str, Path]:
    """Draw the curves of the models that left a history; return {what it shows: its file}."""
    if not histories:
        return {}
    path = style.save(folder / "training.png", draw_training, histories)
    return {"Loss and validation scores by epoch": path}


def check(history: dict) -> None:
    """Raise an error for a history that cannot be drawn."""
    for entry in history["epochs"]:
        values = [entry["epoch"], *(entry[name] for name in chain(*CURVES) if name in entry)]
        if not all(isinstance(value, int | float) for value in values):
            raise ValueError("not numbers")
    if not isinstance(history["best_epoch"], int | None):
        raise ValueError("best_epoch is no number")


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
