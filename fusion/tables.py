"""The ensemble's results as text: tables for the screen, ensemble.md and the report page.

The page, report.html, needs no network: style and plots are inside. Its template, page.html,
escapes all that is written into it.
"""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from common.files import DIMENSIONS
from common.labels import both_names
from fusion.corpus import Corpus
from fusion.metrics import SCORES, show_score, with_interval
from fusion.predictions import Predictions

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
# The published rules, and the accuracy that the paper reports for each on KEMDy19.
PAPER = {
    "stacking_in_sample": ("Stacking, in-sample as published", ".7269"),
    "stacking_cross_validated": ("Stacking, same rule, cross-validated on these rows", "-"),
    "stacking_honest": ("Stacking, same rule, honest", "-"),
    "soft": ("Soft voting, as published", ".6914"),
    "weighted_soft": ("Weighted soft voting, as published", ".7012"),
    "hard": ("Hard voting, as published", ".6844"),
}
EXAMPLES = 20  # mistakes that are shown
LOADER = FileSystemLoader(Path(__file__).parent)
NOTES = Environment(loader=LOADER, undefined=StrictUndefined)  # no HTML
PAGE = Environment(loader=LOADER, undefined=StrictUndefined, autoescape=True)


class Table(NamedTuple):
    """A titled table: header and rows of text, the first column names the row."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def title_of(method: str) -> str:
    """Return the name of a method or model for people: "speech_large" is "Speech large"."""
    return TITLES.get(method) or method.replace("_", " ").capitalize()


def make_tables(results: dict) -> dict[str, Table]:
    """Return the tables of the ensemble's results (see ensemble.py) by name."""
    notes, learned = make_notes(results), results["learned"]
    tables = {
        "scores": tabulate_scores(results, notes["scores"]),
        "comparisons": tabulate_comparisons(results, notes["comparisons"]),
    }
    if results["paper"]:
        tables["paper"] = tabulate_paper(results, notes)
    if results["ablation"]:
        rows = [(f"{row['input']}, {row['speaker_norm']}", row) for row in results["ablation"]]
        title = "Ablation of CM-BERT: voice and words"
        tables["ablation"] = score_table(title, notes["ablation"], rows, MAIN)
    tables["candidates"] = tabulate_candidates(results, notes["candidates"])
    rows = [
        [title_of(model), number(weight), number(learned["temperatures"][model])]
        for model, weight in learned["weights"].items()
    ]
    header = ["", "Weight (weighted soft voting)", "Temperature"]
    tables["weights"] = Table("Weights and temperatures", notes["weights"], header, rows)
    if results["dimensions"]:
        tables |= tabulate_affect(results, notes)
    if results["votes"]:
        tables["votes"] = tabulate_votes(results["votes"], notes["vote_scores"])
    if learned["dialogue"]:
        tables["dialogue"] = tabulate_held_out(learned["dialogue"], notes["held_out"])
    for score in ("recall", "f1"):
        tables[f"class_{score}"] = tabulate_classes(results, score, notes["classes"])
    for score in ("accuracy", "macro_f1") if results["parts"] else ():
        tables[f"part_{score}"] = tabulate_parts(results, score, notes["parts"])
    rows = [*map(list, results["origin"].items())]
    return tables | {"origin": Table("Origin of the results", "", ["", ""], rows)}


def make_notes(results: dict) -> dict[str, str]:
    """Return the texts of notes.txt by name, filled with the results."""
    norms = {model: norm for model, norm in results["speaker_norm"].items() if norm}
    module = NOTES.get_template("notes.txt").make_module(
        {
            **results,
            "title": title_of,
            "norms": ", ".join(f"{title_of(model)} {norm}" for model, norm in norms.items()),
            "target_title": " and ".join(HEADERS[s] for s in results["target"].split("+")),
            "stacking": next(row for row in results["rows"] if row["method"] == "stacking"),
        }
    )
    return {name: " ".join(str(text).split()) for name, text in vars(module).items()}


def score_table(
    title: str, note: str, rows: Iterable[tuple[str, dict]], scores: tuple[str, ...]
) -> Table:
    """Return a table of scores with their intervals; rows: (name, scores of `metrics.measure`)."""
    cells = [[name, *[with_interval(row, score) for score in scores]] for name, row in rows]
    return Table(title, note, ["", *[HEADERS[score] for score in scores]], cells)


def tabulate_scores(results: dict, note: str) -> Table:
    rows = ((title_of(row["method"]), row) for row in results["rows"])
    table = score_table("Scores", note, rows, SCORES)
    if untied := results["untied"]:
        table.header.append("Untied")
        for row, scores in zip(table.rows, untied["scores"].values(), strict=True):
            row.append(with_interval(scores, "accuracy"))
    return table


def tabulate_comparisons(results: dict, note: str) -> Table:
    rows = []
    for pair in results["comparisons"]:
        cells = [f"{title_of(pair['first'])} against {title_of(pair['second'])}"]
        rows.append([*cells, *[cell for score in MAIN for cell in difference_cells(pair, score)]])
    header = ["", *[cell for score in MAIN for cell in (HEADERS[score], "p")]]
    return Table("Who is better?", note, header, rows)


def difference_cells(pair: dict, score: str) -> list[str]:
    """Return the difference of two methods with its interval, and p; pair: of scoring.compare."""
    if score not in pair:  # a dimension that nobody rated
        return ["-", "-"]
    low, high, p = *pair[f"{score}_ci"], pair[f"{score}_p"]
    shown = f"{pair[score]:+.3f} ({low:+.3f} to {high:+.3f})"
    return [shown, "< 0.001" if p < 0.001 else f"{p:.3f}"]


def tabulate_paper(results: dict, notes: dict) -> Table:
    rules = [rule for rule in PAPER if rule in results["paper"]]
    rows = [(PAPER[rule][0], results["paper"][rule]) for rule in rules]
    table = score_table(notes["paper_title"], notes["paper_note"], rows, SCORES[:4])
    if not results["synthetic"]:  # never beside the published scores
        table.header.append("Paper, KEMDy19")
        for rule, row in zip(rules, table.rows, strict=True):
            row.append(PAPER[rule][1])
    return table


def tabulate_candidates(results: dict, note: str) -> Table:
    scores = tuple(dict.fromkeys([*results["target"].split("+"), "accuracy", "macro_f1"]))
    rows = [
        [name, f"{row['lead']:+.4f}", f"{row['margin']:.4f}", *[number(row[s]) for s in scores]]
        for name, row in results["learned"]["stacking"]["candidates"].items()
    ]
    header = ["", "Lead", "Margin", *[HEADERS[score] for score in scores]]
    return Table("Choice of the stacker", note, header, rows)


def tabulate_held_out(learned: dict, note: str) -> Table:
    """Tabulate the effect of dialogue context on held-out rows; learned: Reading.learned."""
    rows = []
    for kind, scores in learned["held_out"].items():
        cells = [number(scores[name]) for name in ("log_loss", "accuracy", "macro_f1")]
        cells += [f"{scores['lead']:+.4f}", f"{scores['error']:.4f}"]
        used = f"{learned['used'].get(kind, 1):.0%}"
        rows.append([title_of("stacking" if kind == "plain" else f"dialogue_{kind}"), *cells, used])
    header = ["", "Log loss", "Accuracy", "Macro F1", "Lead", "Standard error", "Used"]
    return Table("Dialogue context on held-out rows", note, header, rows)


def tabulate_classes(results: dict, score: str, note: str) -> Table:
    support = zip(results["labels"], results["support"], strict=True)
    names = [f"{label} ({count})" for label, count in support]
    rows = []
    for method, of_class in results["per_class"].items():
        pairs = zip(of_class[score], of_class[f"{score}_ci"], strict=True)
        rows.append([title_of(method), *[show_score(*pair) for pair in pairs]])
    return Table(f"{HEADERS[score]} by class", note, ["", *names], rows)


def tabulate_parts(results: dict, score: str, note: str) -> Table:
    shown = (*results["test"]["models"], "soft", "stacking")
    rows = [
        [f"{name} ({part['rows']})", *[with_interval(part["scores"][m], score) for m in shown]]
        for name, part in results["parts"].items()
    ]
    header = ["", *map(title_of, shown)]
    return Table(f"{HEADERS[score]} on parts of the test rows", note, header, rows)


def tabulate_affect(results: dict, notes: dict[str, str]) -> dict[str, Table]:
    """Return the tables of valence and arousal by name."""
    found, learned = results["dimensions"], results["learned"]["dimensions"]
    columns = {f"{s}_{d}": f"{t}, {d}" for d in DIMENSIONS for s, t in AFFECT_HEADERS.items()}
    rows = [
        [affect_title(method), *[with_interval(scores, name) for name in columns]]
        for method, scores in found["scores"].items()
    ]
    title = "Valence and arousal"
    tables = {"dimensions": Table(title, notes["dimension_scores"], ["", *columns.values()], rows)}
    rows, compared = [], [name for name in columns if name.startswith("ccc")]
    for pair in found["comparisons"]:
        names = f"{affect_title(pair['first'])} against {affect_title(pair['second'])}"
        rows.append([names, *[cell for name in compared for cell in difference_cells(pair, name)]])
    header = ["", *[cell for name in compared for cell in (columns[name], "p")]]
    title = "Valence and arousal: who is better?"
    note = notes["dimension_comparisons"]
    tables["dimension_comparisons"] = Table(title, note, header, rows)
    shown = [m for m in (*found["models"], "stacking") if m in found["scores"]]
    for dimension in DIMENSIONS:
        rows = [
            [f"{name} ({part['rows']})"]
            + [with_interval(part["scores"][m], f"ccc_{dimension}") for m in shown]
            for name, part in found["parts"].items()
        ]
        title = f"{dimension.capitalize()} by class, session and sex"
        header = ["", *map(affect_title, shown)]
        tables[f"parts_{dimension}"] = Table(title, notes["dimension_parts"], header, rows)
    if learned:
        note = notes["dimension_choice"]
        tables["dimension_choice"] = tabulate_affect_choice(learned, note)
    return tables


def affect_title(method: str) -> str:
    """Return the name of a method of valence and arousal for people."""
    return AFFECT_TITLES.get(method) or title_of(method)


def tabulate_affect_choice(learned: dict, note: str) -> Table:
    """Tabulate by dimension the candidates' CCC, the winner, and the weights of the models."""
    rows = []
    for dimension, weights in learned["weights"].items():
        ccc = learned["candidates"].get(dimension, {})
        chosen = learned["winners"][dimension]
        rows.append([f"{dimension}: chosen", chosen, ""])
        for name in dict.fromkeys([*weights, *ccc]):
            cells = [number(ccc.get(name)), number(weights.get(name))]
            rows.append([f"{dimension}: {affect_title(name)}", *cells])
    return Table("Choice of the fusion of valence and arousal", note, ["", "CCC", "Weight"], rows)


def tabulate_votes(votes: dict, note: str) -> Table:
    """Tabulate the methods by the raters' votes, and one rater by the others."""
    every = {title_of(method): scores for method, scores in votes["scores"].items()}
    if votes["people"]:
        every["One rater against the others"] = votes["people"]
    rows = [
        [name, *[with_interval({s: None} | scores, s) for s in VOTE_HEADERS]]
        for name, scores in every.items()
    ]
    return Table("By the raters' votes", note, ["", *VOTE_HEADERS.values()], rows)


def tabulate_mistakes(
    test: Predictions, pred: dict, confidence: np.ndarray, corpus: Corpus
) -> Table:
    """Return the wrong rows that stacking was surest of, with every method's prediction.

    confidence (N,): stacking's.
    """
    wrong = np.flatnonzero(pred["stacking"] != test.truth)
    note = f"{len(wrong)} of {len(test.truth)} test rows are wrong; these are the surest of them."
    note += f" {corpus.missing}." if corpus.missing else ""
    methods, rows = ["stacking", *test.models, *[m for m in pred if m.startswith("dialogue_")]], []
    for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:EXAMPLES]:
        segment = f"row {row}" if test.ids is None else str(test.ids[row])
        text = "-" if corpus.transcripts is None else corpus.transcripts[row]
        labels = [test.truth[row], *[pred[method][row] for method in methods]]
        names = [both_names(test.labels[label]) for label in labels]
        rows.append([segment, text, f"{confidence[row]:.2f}", *names])
    header = ["Segment", "Transcript", "Confidence", "True", *map(title_of, methods)]
    return Table("", note, header, rows)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def write_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns also line up on a screen.

    Nothing in a cell is markup: a transcript may hold tags, pipes and links.
    """
    markup = str.maketrans({sign: f"\\{sign}" for sign in "|<>`"})
    cells = [[cell.translate(markup).replace("](", "]\\(") for cell in row] for row in rows]
    align = ["left", *["right"] * (len(header) - 1)]
    return tabulate(cells, header, "pipe", disable_numparse=True, colalign=align)


def write_markdown(notice: str | None, tables: Iterable[Table]) -> str:
    """Return the tables as one Markdown page; the notice stands above and below them."""
    banner = [f"**{notice}**"] if notice else []
    parts = ["# Ensemble", *banner]
    for table in tables:
        parts += [f"## {table.title}", table.note, write_table(table.header, table.rows)]
    return "\n\n".join([*parts, *banner]) + "\n"


def write_page(results: dict, tables: dict[str, Table], figures: dict[str, Path]) -> str:
    """Return the report page; figures: title -> PNG."""
    images = {
        path.stem: (title, base64.b64encode(path.read_bytes()).decode())
        for title, path in figures.items()
    }
    return PAGE.get_template("page.html").render(
        results=results,
        rows={row["method"]: row for row in results["rows"]},
        tables=tables,
        images=images,
        title_of=title_of,
    )
