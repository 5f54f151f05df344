"""What an utterance sounds like, and how a conversation went, as demo.py shows them.

Shapes: T frames, F mel bins, N turns, C = 7 classes.
"""

import librosa
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.features import Mel
from common.files import SAMPLE_RATE
from common.plots import class_names

COLOURS = ("#b8b8b8", "#c8423b", "#f2c14e", "#9d7cc1", "#4c78a8", "#2f4b5c", "#6a994e")


def draw_spectrogram(spectrogram: np.ndarray, mel: Mel) -> Figure:
    """Draw a log-mel spectrogram (T, F)."""
    figure = Figure(figsize=(7, 2.2))
    axis = figure.subplots()
    seconds = len(spectrogram) * mel.hop / SAMPLE_RATE
    image = axis.imshow(
        spectrogram.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, mel.bins)
    )
    pitches = librosa.mel_frequencies(mel.bins, fmin=mel.lowest, fmax=mel.highest)
    ticks = [250, 500, 1000, 2000, 4000]
    axis.set_yticks(np.interp(ticks, pitches, np.arange(mel.bins) + 0.5), ticks)
    axis.set_xlabel("초 seconds")
    axis.set_ylabel("Hz")
    figure.colorbar(image, ax=axis, label="log power")
    return figure


def draw_turns(probabilities: np.ndarray, speakers: list[str]) -> Figure:
    """Draw a conversation: every turn's probabilities (N, C) as one bar with its speaker."""
    figure = Figure(figsize=(11, 2.6))
    axis = figure.subplots()
    turns, bottom = np.arange(1, len(probabilities) + 1), np.zeros(len(probabilities))
    for share, colour, name in zip(probabilities.T, COLOURS, class_names(), strict=True):
        axis.bar(turns, share, 0.8, bottom, color=colour, label=name)
        bottom += share
    axis.set_xlim(0.4, max(len(turns), 8) + 0.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(turns) <= 16:
        axis.set_xticks(turns, [f"{turn} {who}" for turn, who in zip(turns, speakers, strict=True)])
    axis.set_yticks([0, 0.5, 1])
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure
