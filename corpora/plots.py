"""Plots of a corpus: counts by class, scenario, session, speaker; lengths, raters, ratings."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common import plots
from common.files import LABELS, SAMPLE_RATE
from corpora.counts import count_classes
from corpora.matching import VOTES

COLOURS = ("#9e9e9e", "#c62828", "#f9a825", "#00838f", "#1565c0", "#6a1b9a", "#2e7d32")
BLUE_GREY = "#546e7a"


def draw_all(folder: Path, used: pd.DataFrame) -> None:
    """Write counts.png and ratings.png."""
    plots.save(folder / "counts.png", draw_counts, used)
    plots.save(folder / "ratings.png", draw_ratings, used)


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list]:
    """Return a figure and its axes in one list, placed by hand: a solver takes a second."""
    figure = Figure(figsize=size, layout="none")
    axes = list(figure.subplots(rows, columns).flat)
    figure.subplots_adjust(left=0.05, right=0.98, top=0.94, bottom=0.11, hspace=0.4, wspace=0.15)
    return figure, axes


def draw_counts(used: pd.DataFrame) -> Figure:
    """Draw utterances by class, whose colours are the legend, scenario, session and speaker."""
    figure, axes = new_figure(2, 2, (12, 7))
    for axis, attribute in zip(axes, ("label", "scenario", "session", "speaker"), strict=True):
        classes = count_classes(used, attribute)[list(LABELS)]
        groups = list(map(str, classes.index))
        # Bars as steps up and down again: one artist a class draws much faster than one a bar.
        steps = np.repeat(np.arange(len(groups)), 2) + np.tile([-0.4, 0.4], len(groups))
        heights = np.kron(classes.to_numpy(float).T, [1, 0])
        axis.stackplot(steps, heights, colors=COLOURS, step="post")
        axis.set(title=f"utterances by {attribute}")
        axis.set_xticks(range(len(groups)), groups, rotation=90)
        axis.tick_params(axis="x", labelsize=6 if len(groups) > 25 else 8)
    return figure


def draw_ratings(used: pd.DataFrame) -> Figure:
    """Draw the recordings' lengths, the raters' agreement, valence and arousal by class."""
    figure, (lengths, agreement, ratings) = new_figure(1, 3, (15, 5))
    seconds = used["sample_count"].to_numpy() / SAMPLE_RATE
    lengths.hist(seconds, bins=60, color=BLUE_GREY)
    lengths.set(title=f"length (median {np.median(seconds):.1f} s)", xlabel="seconds")
    votes = used[VOTES].to_numpy()
    agreement.hist(votes.max(1), bins=np.arange(0.5, votes.sum(1).max() + 1.5), color=BLUE_GREY)
    agreement.set(title="raters who gave the commonest label", xlabel="votes")
    random = np.random.default_rng(0)  # means of ten whole numbers lie on a grid: scatter them
    for label, colour in zip(LABELS, COLOURS, strict=True):
        rows = used[used["label"] == label]
        points = rows[["valence", "arousal"]].dropna().to_numpy()
        if len(points):
            moved = points + random.uniform(-0.05, 0.05, points.shape)
            ratings.plot(*moved.T, ".", color=colour, markersize=2, alpha=0.5)
            ratings.plot(*points.mean(0), "o", color=colour, markeredgecolor="k", label=label)
    ratings.set(title="ratings and mean per class", xlabel="valence", ylabel="arousal")
    ratings.legend(fontsize=8)
    return figure
