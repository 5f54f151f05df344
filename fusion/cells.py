"""What all tables of the ensemble's results are made of: titles, headers and cells."""

from collections.abc import Iterable
from typing import NamedTuple

from fusion.metrics import SCORES, with_interval

TITLES = {
    "majority": "Always majority",
    "baseline_text": "Words: TF-IDF + logistic regression",
    "baseline_audio": "Voice: statistics + support vectors",
    "baseline_both": "Mean of both classics",
    "cmbert": "Text-audio (CM-BERT)",
    "soft": "Soft voting",
    "weighted_soft": "Weighted soft voting",
    "hard": "Hard voting",
    "stacking": "Stacking",
    "dialogue_past": "Dialogue (past)",
    "dialogue_whole": "Dialogue (whole)",
}
NAMES = ("Accuracy", "F1", "Precision", "Recall", "Macro F1", "UAR", "ECE")
HEADERS = dict(zip(SCORES, NAMES, strict=True))
AFFECT_HEADERS = {"ccc": "CCC", "pearson": "r", "rmse": "RMSE"}
# Of valence and arousal, and of a rater's votes, the methods have other names.
AFFECT_TITLES = {
    "baseline_text": "Words: ridge regression",
    "baseline_audio": "Voice: ridge regression",
    "soft": "Mean of the models",
    "stacking": "Fusion",
    "mean": "Mean of the models",
    "pool": "Pool",
}
VOTE_HEADERS = {
    "divergence": "Divergence",
    "top2": "Top 2",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "any": "Any rater",
    "three": "Three raters",
}
MAIN = ("accuracy", "macro_f1", "uar")
MARKUP = str.maketrans({sign: f"\\{sign}" for sign in "|<>`"})


class Table(NamedTuple):
    """A titled table: header and rows of text, the first column names the row."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def title_of(method: str) -> str:
    """Return the name of a method or model for people: "speech_large" is "Speech large"."""
    return TITLES.get(method) or method.replace("_", " ").capitalize()


def score_table(
    title: str, note: str, rows: Iterable[tuple[str, dict]], scores: tuple[str, ...]
) -> Table:
    """Return a table of scores with their intervals; rows: (name, scores of `metrics.measure`)."""
    cells = [[name, *[with_interval(row, score) for score in scores]] for name, row in rows]
    return Table(title, note, ["", *[HEADERS[score] for score in scores]], cells)


def difference_cells(pair: dict, score: str) -> list[str]:
    """Return the difference of two methods with its interval, and p; pair: of scoring.compare."""
    if score not in pair:  # a dimension that nobody rated
        return ["-", "-"]
    low, high, p = *pair[f"{score}_ci"], pair[f"{score}_p"]
    shown = f"{pair[score]:+.3f} ({low:+.3f} to {high:+.3f})"
    return [shown, "< 0.001" if p < 0.001 else f"{p:.3f}"]


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def escape_cell(text: str) -> str:
    """Return a text with nothing in it that is markup of a Markdown table: tags, pipes, links."""
    return text.translate(MARKUP).replace("](", "]\\(")
