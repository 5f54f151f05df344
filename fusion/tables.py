"""The tables of the ensemble's results; the notes beside them stand in notes.txt."""

from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.labels import both_names
from fusion.cells import (
    HEADERS,
    MAIN,
    Table,
    difference_cells,
    number,
    score_table,
    title_of,
)
from fusion.corpus import Corpus
from fusion.gaps import LEAST
from fusion.metrics import SCORES, show_score, with_interval
from fusion.parts import GROUPS
from fusion.predictions import Predictions
from fusion.rated_tables import tabulate_affect, tabulate_votes

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
    if results["certainty"]:
        tables["certainty"] = tabulate_certainty(results, notes["certainty"])
    if results["dimensions"]:
        tables |= tabulate_affect(results, notes)
    if results["votes"]:
        tables["votes"] = tabulate_votes(results["votes"], notes["vote_scores"])
    if learned["dialogue"]:
        tables["dialogue"] = tabulate_held_out(learned["dialogue"], notes["held_out"])
    for score in ("recall", "f1"):
        tables[f"class_{score}"] = tabulate_classes(results, score, notes["classes"])
    if results["gaps"]:
        tables["gaps"] = tabulate_gaps(results, notes["gaps"])
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
            "least": LEAST,
            "norms": ", ".join(f"{title_of(model)} {norm}" for model, norm in norms.items()),
            "target_title": " and ".join(HEADERS[s] for s in results["target"].split("+")),
            "stacking": next(row for row in results["rows"] if row["method"] == "stacking"),
        }
    )
    return {name: " ".join(str(text).split()) for name, text in vars(module).items()}


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


def tabulate_certainty(results: dict, note: str) -> Table:
    rows, accuracy = [], {row["method"]: row["accuracy"] for row in results["rows"]}
    for method, own in results["certainty"].items():
        cells = [title_of(method), with_interval(own, "aurc")]
        shown = own["excess"], own["coverage"], own["risk"], 1 - accuracy[method]
        rows.append([*cells, *["-" if value is None else f"{value:.3f}" for value in shown]])
    header = ["", "AURC", "Excess", "Certain", "Wrong of these", "Wrong of all"]
    return Table("Risk and coverage", note, header, rows)


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


def tabulate_gaps(results: dict, note: str) -> Table:
    """Tabulate the best and the worst part of each group, and how far they lie apart."""
    rows = []
    for gap in results["gaps"]:
        cells = [GROUPS[gap["group"]]]
        for name in (gap["best"], gap["worst"]):
            part = results["parts"][name]
            cells.append(f"{name} ({part['rows']})")
            cells.append(with_interval(part["scores"]["stacking"], "accuracy"))
        pair = {"accuracy": gap["gap"], "accuracy_ci": gap["ci"], "accuracy_p": gap["p"]}
        rows.append([*cells, *difference_cells(pair, "accuracy"), str(gap["pairs"])])
    header = ["", "Best", "Accuracy", "Worst", "Accuracy", "Gap", "p, corrected", "Pairs"]
    return Table("Largest gaps in stacking's accuracy", note, header, rows)


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
