"""The ensemble's results as tables of text: for the screen, ensemble.md and the report page."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from common.files import LABELS, LABELS_KO
from fusion.metrics import SCORES, with_interval
from fusion.origin import Corpus
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
HEADERS = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "macro_f1": "Macro F1",
    "uar": "UAR",
    "ece": "ECE",
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
LOADER = FileSystemLoader(Path(__file__).parent)
NOTES = Environment(loader=LOADER, undefined=StrictUndefined).get_template("notes.txt")  # no HTML
EXAMPLES = 10  # predictions shown that dialogue context changed


class Table(NamedTuple):
    """A titled table: header and rows of text, the first column names the row.

    best: column -> the row that is best beyond doubt there; other columns have none.
    """

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    best: dict[str, str] = {}


def title_of(method: str) -> str:
    """Return the name of a method or model for people: "speech_large" is "Speech large"."""
    return TITLES.get(method) or method.replace("_", " ").capitalize()


def make_tables(results: dict) -> dict[str, list[Table]]:
    """Return the tables of the ensemble's results (see ensemble.py) by section."""
    notes, learned = make_notes(results), results["learned"]
    paper = [tabulate_paper(results, notes)] if results["paper"] else []
    context = learned["conversation"]
    return {
        "scores": [tabulate_scores(results, notes), tabulate_comparisons(results, notes)],
        "paper": paper,
        "fusion": [
            tabulate_agreement(results["agreement"], notes),
            tabulate_candidates(results, notes),
            tabulate_weights(learned, notes),
        ],
        "classes": [tabulate_classes(results, score, notes) for score in ("recall", "f1")],
        "ablation": tabulate_ablation(results["ablation"], notes),
        "parts": [
            tabulate_partition(results["test"]["models"], partition, score)
            for partition in results["parts"]
            for score in ("accuracy", "macro_f1")
        ],
        "origin": [
            Table("Origin of the results", "", ["", ""], [*map(list, results["origin"].items())])
        ],
        "conversation": [tabulate_held_out(context, notes)] if context else [],
    }


def make_notes(results: dict) -> dict[str, str]:
    """Return the texts of notes.txt by name, filled with the results."""
    norms = {model: norm for model, norm in results["speaker_norm"].items() if norm}
    module = NOTES.make_module(
        {
            **results,
            "title": title_of,
            "norms": ", ".join(f"{title_of(model)} {norm}" for model, norm in norms.items()),
            "target_title": " and ".join(HEADERS[s] for s in results["target"].split("+")),
            "stacking": next(row for row in results["rows"] if row["method"] == "stacking"),
        }
    )
    return {name: " ".join(str(text).split()) for name, text in vars(module).items()}


def header_of(scores: tuple[str, ...]) -> list[str]:
    return ["", *[HEADERS[score] for score in scores]]


def score_cells(row: dict, scores: tuple[str, ...]) -> list[str]:
    return [with_interval(row, score) for score in scores]


def tabulate_scores(results: dict, notes: dict) -> Table:
    rows = [[title_of(row["method"]), *score_cells(row, SCORES)] for row in results["rows"]]
    header = header_of(SCORES)
    if untied := results["untied"]:
        header.append("Untied")
        for row, scores in zip(rows, untied["scores"].values(), strict=True):
            row.append(with_interval(scores, "accuracy"))
    best = {HEADERS[score]: title_of(method) for score, method in results["best"].items() if method}
    return Table("Scores", notes["scores"], header, rows, best)


def tabulate_comparisons(results: dict, notes: dict) -> Table:
    rows = []
    for pair in results["comparisons"]:
        cells = [f"{title_of(pair['first'])} against {title_of(pair['second'])}"]
        for score in MAIN:
            low, high = pair[f"{score}_ci"]
            cells.append(f"{pair[score]:+.3f} ({low:+.3f} to {high:+.3f})")
            cells.append(p_value(pair[f"{score}_p"]))
        only = f"{pair['first_only']} : {pair['second_only']}"
        rows.append([*cells, only, p_value(pair["mcnemar_p"])])
    header = ["", *[cell for score in MAIN for cell in (HEADERS[score], "p")], "Only", "McNemar"]
    return Table("Who is better?", notes["comparisons"], header, rows)


def tabulate_paper(results: dict, notes: dict) -> Table:
    scores = ("accuracy", "f1", "precision", "recall")
    rows = [
        [name, *score_cells(results["paper"][rule], scores), published]
        for rule, (name, published) in PAPER.items()
        if rule in results["paper"]
    ]
    header = [*header_of(scores), "Paper, KEMDy19"]
    if results["synthetic"]:  # never beside the published scores
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(notes["paper_title"], notes["paper_note"], header, rows)


def tabulate_agreement(agreement: list[dict], notes: dict) -> Table:
    rows = []
    for part in agreement:
        right = part["right"]
        names = "others" if right is None else " + ".join(map(title_of, right)) or "none"
        share = number(part["stacking"] / part["rows"])
        rows.append([names, str(part["rows"]), str(part["stacking"]), share])
    header = ["Right models", "Rows", "Stacking right", "Share"]
    return Table("Agreement of the models", notes["agreement"], header, rows)


def tabulate_candidates(results: dict, notes: dict) -> Table:
    scores = tuple(dict.fromkeys([*results["target"].split("+"), "accuracy", "macro_f1"]))
    candidates = results["learned"]["stacking"]["candidates"]
    rows = [
        [name, f"{row['lead']:+.4f}", f"{row['margin']:.4f}", *[number(row[s]) for s in scores]]
        for name, row in sorted(candidates.items(), key=lambda item: -item[1]["lead"])
    ]
    header = ["", "Lead", "Margin", *[HEADERS[score] for score in scores]]
    return Table("Choice of the stacker", notes["candidates"], header, rows)


def tabulate_weights(learned: dict, notes: dict) -> Table:
    rows = [
        [title_of(model), f"{temperature:.3f}", f"{learned['weights'][model]:.3f}"]
        for model, temperature in learned["temperatures"].items()
    ]
    return Table("Weighted soft voting", notes["weights"], ["", "Temperature", "Weight"], rows)


def tabulate_classes(results: dict, score: str, notes: dict) -> Table:
    rows = []
    for method, values in results["per_class"].items():
        classes = zip(values[score], values[f"{score}_ci"], strict=True)
        cells = [with_interval({score: v, f"{score}_ci": bounds}, score) for v, bounds in classes]
        rows.append([title_of(method), *cells])
    header = ["", *[f"{name} ({n})" for name, n in zip(LABELS, results["support"], strict=True)]]
    return Table(f"{HEADERS[score]} by class", notes["classes"], header, rows)


def tabulate_partition(models: list[str], partition: dict, score: str) -> Table:
    """Tabulate one score on each of the parts that make up the test rows."""
    shown = (*models, "soft", "stacking")
    rows = [
        [f"{name} ({part['rows']})", *[with_interval(part["scores"][m], score) for m in shown]]
        for name, part in partition["parts"].items()
    ]
    note = f"Beside a name its test rows. {partition['note']} All scores: ensemble_details.json."
    header = ["", *map(title_of, shown)]
    return Table(f"{partition['title']}: {HEADERS[score]}", note, header, rows)


def tabulate_ablation(ablation: list[dict], notes: dict) -> list[Table]:
    rows = []
    for row in ablation:
        norm = f", {row['speaker_norm']}" if row["speaker_norm"] else ""
        rows.append([row["input"] + norm, *score_cells(row, MAIN)])
    title = "Ablation of CM-BERT: voice and words"
    return [Table(title, notes["ablation"], header_of(MAIN), rows)] if rows else []


def tabulate_held_out(learned: dict, notes: dict) -> Table:
    """Tabulate the effect of dialogue context on held-out rows; learned: conversation.summarise."""
    rows = []
    for kind, scores in learned["held_out"].items():
        used = learned["used"].get(kind, [True])
        said = f"{sum(used)} of {len(used)} folds" if len(used) > 1 else "yes" if used[0] else "no"
        cells = [number(scores[name]) for name in ("log_loss", "accuracy", "macro_f1")]
        cells += [f"{scores['lead']:+.4f}", f"{scores['error']:.4f}", said]
        rows.append([title_of("stacking" if kind == "plain" else f"dialogue_{kind}"), *cells])
    header = ["", "Log loss", "Accuracy", "Macro F1", "Lead", "Standard error", "Used"]
    return Table("Dialogue context on held-out rows", notes["held_out"], header, rows)


def tabulate_changes(test: Predictions, pred: dict, probabilities: dict, corpus: Corpus) -> Table:
    """Return the test rows whose prediction the past of the dialogue changed, the surest first."""
    before, after = pred["stacking"], pred["dialogue_past"]
    changed = np.flatnonzero(before != after)
    right = {name: int((pred[name][changed] == test.truth[changed]).sum()) for name in pred}
    sure = probabilities["dialogue_past"][changed, after[changed]]
    rows = []
    for row in changed[np.argsort(-sure, kind="stable")][:EXAMPLES]:
        labels = [test.truth[row], before[row], after[row], pred["dialogue_whole"][row]]
        turn = str(test.facts["turn"].iloc[row])
        rows.append([*name_row(test, corpus, row), turn, *map(both_names, labels)])
    note = (
        f"The turns before changed {len(changed)} of {len(before)} predictions: of these stacking "
        f"had {right['stacking']} right, the dialogue {right['dialogue_past']}. The surest ones."
    )
    methods = map(title_of, ("stacking", "dialogue_past", "dialogue_whole"))
    header = ["Segment", "Transcript", "Turn", "True", *methods]
    return Table("Predictions that dialogue context changed", note, header, rows)


def name_row(test: Predictions, corpus: Corpus, row: int) -> list[str]:
    """Return a test row's segment and transcript."""
    segment = f"row {row}" if test.ids is None else str(test.ids[row])
    return [segment, "-" if corpus.transcripts is None else corpus.transcripts[row]]


def both_names(label: int) -> str:
    return f"{LABELS[label]} {LABELS_KO[label]}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def write_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns also line up on a screen.

    Nothing in a cell is markup: a transcript may hold tags, pipes and links.
    """
    markup = {ord(sign): f"\\{sign}" for sign in "|<>`"}
    cells = [[cell.translate(markup).replace("](", "]\\(") for cell in row] for row in rows]
    align = ["left", *["right"] * (len(header) - 1)]
    return tabulate(cells, header, "pipe", disable_numparse=True, colalign=align)


def write_markdown(notice: str | None, tables: list[Table]) -> str:
    """Return the tables as one Markdown page; the notice stands above and below them."""
    banner = [f"**{notice}**"] if notice else []
    parts = ["# Ensemble", *banner]
    for table in tables:
        parts += [f"## {table.title}", table.note, write_table(table.header, table.rows)]
    return "\n\n".join([*parts, *banner]) + "\n"
