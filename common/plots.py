"""What all plots share: fonts, style, saving, painting; and the plot of CM-BERT's attention.

Class names are Korean where the font in the package koreanize-matplotlib is found, else English.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from PIL import Image

from common.files import write_atomically
from common.labels import english, korean

ATTENTION_TITLES = {
    "text": "similarity in words (alpha)",
    "audio": "similarity in voice (beta)",
    "fused": "attention",
}
COLOURS = ("#4c78a8", "#54a24b", "#b279a2", "#e8a33d", "#72b7b2", "#9d755d")  # of models
RESOLUTION = 130  # dots per inch
STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.grid": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # TrueType: what journals take
}
logging.getLogger("fontTools.subset").setLevel(logging.ERROR)  # it lists what it leaves out


def find_font() -> Path | None:
    """Return koreanize-matplotlib's font file, unimported: importing would restyle every plot."""
    package = find_spec("koreanize_matplotlib")
    font = package and Path(package.origin).parent / "fonts" / "NanumGothic.ttf"
    return font if font and font.is_file() else None


def class_names(labels: Iterable[str]) -> list[str]:
    """Return the names of labels in a language that the plots can write."""
    return [*map(korean if find_font() else english, labels)]


def save(path: Path, draw: Callable[..., Figure], *arguments, pdf: bool = False) -> Path:
    """Draw a figure in the project's style and write it as PNG.

    Not by its own savefig, which lays everything out twice.
    pdf: for a paper, a PDF beside it as well, which takes twice the time.
    """
    with in_style():
        figure = draw(*arguments)
        image = Image.fromarray(paint_figure(figure))
        with write_atomically(path) as temporary:
            image.save(temporary, "png", dpi=(RESOLUTION, RESOLUTION), compress_level=4)
        if pdf:
            figure.set_layout_engine("none")  # as it is laid out now
            with write_atomically(path.with_suffix(".pdf")) as temporary:
                undated = {"CreationDate": None}  # the same plot is the same file
                FigureCanvasPdf(figure).print_pdf(temporary, metadata=undated)
    return path


def paint(draw: Callable[..., Figure], *arguments) -> np.ndarray:
    """Draw a figure in the project's style; return its pixels, (height, width, 3) uint8."""
    with in_style():
        return paint_figure(draw(*arguments))


def paint_figure(figure: Figure) -> np.ndarray:
    """Return a figure's pixels, (height, width, 3) uint8."""
    figure.set_dpi(RESOLUTION)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextmanager
def in_style() -> Iterator[None]:
    """Draw what is drawn in the block in the project's style."""
    style = STYLE | {"text.parse_math": False}  # a label or a word may have a $ in it
    if font := find_font():
        font_manager.fontManager.addfont(font)
        style["font.family"] = [font_manager.FontProperties(fname=font).get_name(), "DejaVu Sans"]
    with matplotlib.rc_context(style):
        yield


def draw_attention(pieces: list[str], maps: dict[str, np.ndarray], title: str) -> Figure:
    """Draw three maps (L, L) side by side: rows attend to columns; each has its own scale."""
    figure = Figure(figsize=(4 + 0.5 * len(pieces), 2.2 + 0.18 * len(pieces)))
    words = [piece.replace("▁", "") or "▁" for piece in pieces]
    for axis, (name, caption) in zip(figure.subplots(1, 3), ATTENTION_TITLES.items(), strict=True):
        image = axis.imshow(maps[name], cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(words)), words, rotation=90)
        axis.set_yticks(range(len(words)), words)
        axis.set_title(caption)
        figure.colorbar(image, ax=axis, shrink=0.8)
    figure.suptitle(title)
    return figure
