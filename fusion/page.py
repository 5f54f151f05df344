"""The ensemble's results as one HTML page that needs no network: style, font and plots inside.

The page is the template page.html, which escapes all that is written into it.
"""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from fontTools import subset
from jinja2 import Environment, StrictUndefined

from common.files import LABELS
from fusion.origin import Corpus
from fusion.predictions import Predictions
from fusion.tables import LOADER, Table, both_names, name_row, title_of

PAGE = Environment(loader=LOADER, autoescape=True, undefined=StrictUndefined)
WORST = 20  # mistakes shown


def write_page(
    results: dict,
    tables: dict[str, list[Table]],
    figures: dict[str, Path],
    test: Predictions,
    pred: dict,
    probabilities: dict,
    corpus: Corpus,
    font: Path | None,
) -> str:
    """Return the page; what is missing of the corpus and of the figures is said and left out.

    tables: by section; figures: title -> PNG; pred, probabilities: by method; font: a file with
    Hangul, of which the page embeds the characters that it needs.
    """
    images = {path.stem: (title, encode(path.read_bytes())) for title, path in figures.items()}
    page = PAGE.get_template("page.html").render(
        results=results,
        rows={row["method"]: row for row in results["rows"]},
        tables=tables,
        images=images,
        mistakes=tabulate_mistakes(test, pred, probabilities["stacking"], corpus),
        corpus=corpus,
        labels=list(zip(LABELS, map(both_names, range(len(LABELS))), strict=True)),
        title_of=title_of,
    )
    return page.replace("<style>", f"<style>{embed_font(font, page)}", 1)


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tabulate_mistakes(
    test: Predictions, pred: dict, probabilities: np.ndarray, corpus: Corpus
) -> Table:
    """Return the wrong rows that stacking was surest of, with every model's prediction."""
    wrong = np.flatnonzero(pred["stacking"] != test.truth)
    rows = []
    for row in wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:WORST]:
        labels = [both_names(test.truth[row]), both_names(pred["stacking"][row])]
        models = [both_names(pred[model][row]) for model in test.models]
        confidence = f"{probabilities[row].max():.2f}"
        rows.append([*name_row(test, corpus, row), *labels, confidence, *models])
    note = f"{len(wrong)} of {len(test.truth)} test rows are wrong; these are the surest of them."
    note += f" {corpus.missing}." if corpus.missing else ""
    header = ["Segment", "Transcript", "True", "Stacking", "Confidence"]
    return Table("", note, [*header, *map(title_of, test.models)], rows)


def embed_font(path: Path | None, text: str) -> str:
    """Return a style rule with the part of a font that the text's Hangul needs, or nothing."""
    if path is None:
        return ""
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    options.drop_tables += ["TSI0", "TSI1", "TSI2", "TSI3", "TSI5"]  # a font editor's notes
    font, buffer = subset.load_font(path, options), BytesIO()
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(character for character in set(text) if character > "\u1000"))
    subsetter.subset(font)
    subset.save_font(font, buffer, options)
    font.close()
    return (
        "@font-face { font-family: 'Embedded Korean'; unicode-range: U+1000-FFFF; font-display: "
        f"block; src: url(data:font/woff;base64,{encode(buffer.getvalue())}) format('woff'); }}\n"
    )
