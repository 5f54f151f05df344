"""What an utterance sounds like, and how a conversation went, as demo.py shows them.

Shapes: T frames, F mel bins, N turns, C labels.
"""

from collections.abc import Sequence

import librosa
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from common.features import Mel
from common.files import SAMPLE_RATE
from common.labels import both_names, english
from common.plots import class_names, find_font
from predicting import Answer

COLOURS = ("#b8b8b8", "#c8423b", "#f2c14e", "#9d7cc1", "#4c78a8", "#2f4b5c", "#6a994e")
UNSURE = "#555555"  # of the hatching in the legend
ROW = 5  # names in a row of it


def draw_voice(spectrogram: np.ndarray, mel: Mel, windows: Sequence[Answer] = ()) -> Figure:
    """Draw a log-mel spectrogram (T, F), and above it the emotions of its windows, if any."""
    figure = Figure(figsize=(7, 3.2 if windows else 2.2))
    heights = [1, 2] if windows else [1]
    *strip, axis = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[
        :, 0
    ]
    seconds = len(spectrogram) * mel.hop / SAMPLE_RATE
    image = axis.imshow(
        spectrogram.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, mel.bins)
    )
    pitches = librosa.mel_frequencies(mel.bins, fmin=mel.lowest, fmax=mel.highest)
    ticks = [250, 500, 1000, 2000, 4000]
    axis.set_yticks(np.interp(ticks, pitches, np.arange(mel.bins) + 0.5), ticks)
    axis.set_xlabel("초 seconds")
    axis.set_ylabel("Hz")
    for above in strip:
        draw_strip(above, windows)
    axis.set_xlim(0, seconds)
    figure.colorbar(image, ax=[*strip, axis], label="log power")
    return figure


def draw_strip(axis: Axes, windows: Sequence[Answer]) -> None:
    """Draw the likeliest emotion of each window as a bar as high as its probability.

    Uncertain ones are hatched; where nobody speaks there is a dash.
    """
    begin, name = windows[0].recording.start, both_names if find_font() else english
    patches = {}
    for window in windows:
        start, end = window.recording.start - begin, window.recording.end - begin
        if window.emotion is None:
            axis.text((start + end) / 2, 0.1, "–", ha="center")
            continue
        colour = choose_colours(window.labels)[window.labels.index(window.emotion)]
        look = {"facecolor": colour, "edgecolor": "white"}
        patches[window.emotion] = Patch(**look, label=name(window.emotion))
        hatch = "////" if window.uncertain else ""
        axis.bar(start, window.confidence, end - start, align="edge", hatch=hatch, **look)
    if any(window.uncertain for window in windows):
        unsure = "불확실 uncertain" if find_font() else "uncertain"
        look = {"facecolor": UNSURE, "edgecolor": "white", "hatch": "////"}
        patches[None] = Patch(**look, label=unsure)
    axis.set_ylim(0, 1)
    axis.set_yticks([0, 0.5, 1])
    axis.tick_params(labelbottom=False)
    axis.set_ylabel("p")
    axis.legend(
        handles=[*patches.values()],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=ROW,
        frameon=False,
        fontsize=8,
        handlelength=1,
        columnspacing=1,
    )


def choose_colours(labels: Sequence[str]) -> Sequence:
    """Return a colour for each label."""
    return COLOURS if len(labels) <= len(COLOURS) else colormaps["tab20"].colors * 2


def draw_turns(probabilities: np.ndarray, speakers: list[str], labels: Sequence[str]) -> Figure:
    """Draw a conversation: every turn's probabilities (N, C) as one bar with its speaker."""
    figure = Figure(figsize=(11, 2.6))
    axis = figure.subplots()
    turns, bottom = np.arange(1, len(probabilities) + 1), np.zeros(len(probabilities))
    names = class_names(labels)
    for share, colour, name in zip(probabilities.T, choose_colours(labels), names, strict=False):
        axis.bar(turns, share, 0.8, bottom, color=colour, label=name)
        bottom += share
    axis.set_xlim(0.4, max(len(turns), 8) + 0.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(turns) <= 16:
        axis.set_xticks(turns, [f"{turn} {who}" for turn, who in zip(turns, speakers, strict=True)])
    axis.set_yticks([0, 0.5, 1])
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def draw_path(points: np.ndarray, turn: int, scale: tuple[float, float]) -> Figure:
    """Draw the way of a conversation through the plane of valence and arousal.

    points (N, 2): of every turn, nan where not known.  turn: which is marked, from 0.
    scale: the raters' lowest and highest number.
    """
    figure = Figure(figsize=(3.6, 3.4))
    axis = figure.subplots()
    axis.axhline(np.mean(scale), color="#d0d0d0", linewidth=0.8)
    axis.axvline(np.mean(scale), color="#d0d0d0", linewidth=0.8)
    known = np.isfinite(points).all(1)
    axis.plot(*points[known].T, color="#4c78a8", linewidth=1, alpha=0.5)
    axis.scatter(*points[known].T, s=14, color="#4c78a8")
    if known[turn]:
        axis.scatter(*points[turn], s=90, color="#c8423b", zorder=3)
    for place in np.flatnonzero(known):
        axis.annotate(str(place + 1), points[place], (4, 4), textcoords="offset points")
    ends = "부정 negative", "긍정 positive", "차분 calm", "흥분 excited"
    left, right, low, high = ends if find_font() else (word.split()[1] for word in ends)
    margin = 0.03 * (scale[1] - scale[0])  # a point on the edge is seen whole
    limits = scale[0] - margin, scale[1] + margin
    axis.set(xlim=limits, ylim=limits)
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(MaxNLocator(integer=True))
    axis.set_aspect("equal")
    axis.set_xlabel(f"{left} – valence – {right}")
    axis.set_ylabel(f"{low} – arousal – {high}")
    return figure
