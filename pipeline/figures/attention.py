"""CM-BERT's attention for one utterance, with the words on the axes."""

import numpy as np
from matplotlib.figure import Figure

TITLES = {
    "text": "similarity in words (alpha)",
    "audio": "similarity in voice (beta)",
    "fused": "attention",
}


def draw_attention(pieces: list[str], maps: dict[str, np.ndarray], title: str) -> Figure:
    """Draw three maps (L, L) side by side: rows attend to columns; each has its own scale."""
    figure = Figure(figsize=(4 + 0.5 * len(pieces), 2.2 + 0.18 * len(pieces)))
    words = [piece.replace("▁", "") or "▁" for piece in pieces]
    for axis, (name, caption) in zip(figure.subplots(1, 3), TITLES.items(), strict=True):
        image = axis.imshow(maps[name], cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(words)), words, rotation=90)
        axis.set_yticks(range(len(words)), words)
        axis.set_title(caption)
        figure.colorbar(image, ax=axis, shrink=0.8)
    figure.suptitle(title)
    return figure
