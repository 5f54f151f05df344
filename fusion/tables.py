"""The ensemble's results as tables of text: for the screen, ensemble.md and the report page."""

from typing import NamedTuple

from fusion.metrics import SCORES
from fusion.predictions import MODELS
from pipeline.labels import LABELS

NAMES = {
    "majority": "Always majority",
    "baseline_text": "Words: TF-IDF + logistic regression",
    "baseline_audio": "Voice: statistics + support vectors",
    "baseline_both": "Mean of both classics",
    "text": "Text",
    "audio": "Audio",
    "cmbert": "Text-audio (CM-BERT)",
    "soft": "Soft voting",
    "weighted_soft": "Weighted soft voting",
    "hard": "Hard voting",
    "stacking": "Stacking",
    "dialogue_past": "Dialogue (past)",
    "dialogue_whole": "Dialogue (whole)",
}
# What models know of a test speaker (models/speaker.py).
KNOWN = {
    "alone": "the utterance alone",
    "past": "the earlier turns (past)",
    "all": "every utterance, later ones too, no label (all: transductive)",
}
# Columns where every part of the test rows has a line of its own.
SHOWN = (*MODELS, "soft", "stacking")
HEADERS = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "macro_f1": "Macro F1",
    "uar": "UAR",
    "ece": "ECE",
}
# The published rules, and the accuracy that the paper reports for each on KEMDy19.
PAPER = {
    "stacking_in_sample": ("Stacking, in-sample as published", ".7269"),
    "stacking_cross_validated": ("Stacking, same rule, cross-validated on these rows", "-"),
    "stacking_honest": ("Stacking, same rule, honest", "-"),
    "soft": ("Soft voting, as published", ".6914"),
    "weighted_soft": ("Weighted soft voting, as published", ".7012"),
    "hard": ("Hard voting, as published", ".6844"),
}


class Table(NamedTuple):
    """A titled table: header and rows of text, the first column names the row.

    best: column -> the row that is best beyond doubt there; other columns have none.
    """

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    best: dict[str, str] = {}


def make_tables(results: dict) -> dict[str, list[Table]]:
    """Return every table of the ensemble's results (see scoring.py, `evaluate`) by section."""
    sections = {
        "scores": [tabulate_scores(results), tabulate_comparisons(results)],
        "paper": [tabulate_paper(results)],
        "fusion": [
            tabulate_agreement(results),
            tabulate_candidates(results),
            tabulate_weights(results),
        ],
        "classes": [tabulate_classes(results, "recall"), tabulate_classes(results, "f1")],
        "ablation": [tabulate_ablation(results["ablation"])] if results["ablation"] else [],
        "parts": [
            *[
                tabulate_partition(partition, score)
                for partition in results["parts"]
                for score in ("accuracy", "macro_f1")
            ],
            *([tabulate_untied(results["untied"])] if results["untied"] else []),
            *[tabulate_scenario(results, name) for name in results["scenarios"]],
        ],
        "origin": [tabulate_origin(results["origin"])],
    }
    known = describe_known(results["known"])
    return {
        name: [table._replace(note=(table.note + known).strip()) for table in tables]
        for name, tables in sections.items()
    }


def describe_known(known: dict) -> str:
    """Say what the models that hear a voice know of its speaker; "" if that is not on record."""
    regimes: dict[str, list[str]] = {}
    for model, regime in known.items():
        if regime:
            regimes.setdefault(regime, []).append(NAMES[model])
    said = [f"{KNOWN[regime]} in {' and '.join(models)}" for regime, models in regimes.items()]
    return f" Known of a speaker: {'; '.join(said)}." if said else ""


def tabulate_scores(results: dict) -> Table:
    rows = [
        [NAMES[row["method"]], *[with_interval(row, score) for score in SCORES]]
        for row in results["rows"]
    ]
    header = ["", *HEADERS.values()]
    note = (
        f"{results['test']}. F1, precision and recall are weighted by class; UAR is the mean "
        "recall of the classes; ECE is the expected calibration error (lower is better; of few "
        f"rows it is too high on average). In brackets: 95 % intervals over {results['resampled']},"
        " leaving out one at a time (jackknife, Student's t). Majority, weights and stacking are "
        f"fitted on {results['fitted_on']}.{results['spread']}"
    )
    if untied := results["untied"]:
        header.append("Untied")
        for row, scores in zip(rows, untied["scores"].values(), strict=True):
            row.append(with_interval(scores, "accuracy"))
        note += f" Untied: accuracy on the {untied['rows']} rows without tied labels."
    best = {HEADERS[score]: NAMES[method] for score, method in results["best"].items() if method}
    return Table("Scores", note, header, rows, best)


def tabulate_partition(partition: dict, score: str) -> Table:
    """Tabulate one score on each of the parts that make up the test rows."""
    rows = [
        [f"{name} ({part['rows']})", *[with_interval(part["scores"][m], score) for m in SHOWN]]
        for name, part in partition["parts"].items()
    ]
    note = f"Beside a name its test rows. {partition['note']} All scores: ensemble_details.json."
    header = ["", *[NAMES[method] for method in SHOWN]]
    return Table(f"{partition['title']}: {HEADERS[score]}", note, header, rows)


def tabulate_ablation(ablation: list[dict]) -> Table:
    scores = ("accuracy", "macro_f1", "uar")
    rows = [
        [
            row["input"] + (f", known: {row['known']}" if row["known"] else ""),
            *[with_interval(row, score) for score in scores],
        ]
        for row in ablation
    ]
    note = "The same trained CM-BERT on test rows that lack something. In brackets: 95 % intervals."
    title = "What CM-BERT has of the voice and of the words"
    return Table(title, note, ["", *[HEADERS[score] for score in scores]], rows)


def tabulate_origin(origin: dict[str, str]) -> Table:
    return Table("How this came about", "", ["", ""], [list(item) for item in origin.items()])


def tabulate_untied(untied: dict) -> Table:
    note = f"The {untied['rows']} test rows with one label, to which half of the literature keeps."
    return tabulate_part("Without tied rows", note, untied, SCORES)


def tabulate_scenario(results: dict, name: str) -> Table:
    part = results["scenarios"][name]
    title = {"script": "Scripted dialogues only", "impro": "Improvised dialogues only"}[name]
    scores = tuple(score for score in SCORES if score != "ece")
    return tabulate_part(title, f"{part['rows']} test rows.", part, scores)


def tabulate_part(title: str, note: str, part: dict, scores: tuple[str, ...]) -> Table:
    """Tabulate the scores of some of the test rows, each with its interval."""
    rows = [
        [NAMES[method], *[with_interval(values, score) for score in scores]]
        for method, values in part["scores"].items()
    ]
    note += f" In brackets: 95 % intervals over {part['resampled']}."
    return Table(title, note, ["", *[HEADERS[score] for score in scores]], rows)


def tabulate_comparisons(results: dict) -> Table:
    scores = ("accuracy", "macro_f1", "uar")
    rows = []
    for pair in results["comparisons"]:
        cells = [f"{NAMES[pair['first']]} against {NAMES[pair['second']]}"]
        for score in scores:
            low, high = pair[f"{score}_ci"]
            cells += [
                f"{pair[score]:+.3f} ({low:+.3f} to {high:+.3f})",
                p_value(pair[f"{score}_p"]),
            ]
        only = f"{pair['first_only']} : {pair['second_only']}"
        rows.append([*cells, only, p_value(pair["mcnemar_p"])])
    note = (
        "Difference, in brackets its 95 % interval, and p: one paired t test over "
        f"{results['resampled']}. Only: rows that only the first : only the second has right, with "
        "McNemar's exact p, which takes rows for independent. Best single model: "
        f"{NAMES[results['best_single']]} (by test accuracy: the hardest to beat)."
    )
    header = ["", *[cell for score in scores for cell in (HEADERS[score], "p")], "Only", "McNemar"]
    return Table("Who is better?", note, header, rows)


def tabulate_agreement(results: dict) -> Table:
    rows = []
    for part in results["agreement"]:
        models = " + ".join(NAMES[model] for model in part["right"]) or "none of the three"
        share = number(part["stacking"] / part["rows"]) if part["rows"] else "-"
        rows.append([models, str(part["rows"]), str(part["stacking"]), share])
    header = ["Right is", "Rows", "Stacking right", "Share"]
    return Table("Who was right", "Test rows by which single models are right.", header, rows)


def tabulate_candidates(results: dict) -> Table:
    stacking, certain = results["learned"]["stacking"], results["learned"]["certain"]
    scores = list(dict.fromkeys([*results["target"].split("+"), "accuracy", "macro_f1"]))
    ranked = sorted(stacking["candidates"].items(), key=lambda item: -item[1]["lead"])
    rows = [
        [name, f"{row['lead']:+.4f}", f"{row['reach']:.4f}", *[number(row[s]) for s in scores]]
        for name, row in ranked
    ]
    target = " and ".join(HEADERS[score] for score in results["target"].split("+"))
    refitted = "refitted on all of them"
    if not results["is_held_out"]:
        refitted = (
            "which new utterances get, fitted on all test rows; a test row's own prediction comes "
            "from a choice and a fit on the labels of the other groups' test rows"
        )
    note = (
        f"Cross-validated {results['compared_by']}. Lead: in the mean of {target}, over the usual "
        f"choice ({stacking['usual']}), which stays unless another's lead is larger than what its "
        "95 % interval, over sessions as in the other tables, reaches to either side. Chosen: "
        f"{stacking['winner']}, {refitted}. Of these rows {certain['coverage']:.0%} are fused with "
        f"a confidence of at least {certain['threshold']:.3f}; {certain['accuracy']:.1%} of those "
        "are right. Below, a verdict of all models is called uncertain; fewer models, and turns "
        "read with those before them, have thresholds of their own (fusion.json). Logistic "
        "regression and LightGBM compete where there are at least five groups."
    )
    header = ["", "Lead", "95 % interval ±", *[HEADERS[score] for score in scores]]
    return Table("Choice of the stacker", note, header, rows)


def tabulate_weights(results: dict) -> Table:
    learned = results["learned"]["weighted_soft"]
    rows = [
        [NAMES[model], f"{learned['temperatures'][model]:.3f}", f"{learned['weights'][model]:.3f}"]
        for model in MODELS
    ]
    note = "Logits are divided by the temperature; above 1 the model was too sure of itself."
    return Table("Weighted soft voting", note, ["", "Temperature", "Weight"], rows)


def tabulate_classes(results: dict, score: str) -> Table:
    rows = [
        [NAMES[method], *map(shown, values[score], values[f"{score}_ci"])]
        for method, values in results["per_class"].items()
    ]
    header = ["", *[f"{name} ({n})" for name, n in zip(LABELS, results["support"], strict=True)]]
    note = f"In brackets: test rows; 95 % intervals over {results['resampled']}."
    return Table(f"{HEADERS[score]} by class", note, header, rows)


def tabulate_paper(results: dict) -> Table:
    paper, scores = results["paper"], ("accuracy", "f1", "precision", "recall")
    rows = [
        [name, *[with_interval(paper[rule], score) for score in scores], published]
        for rule, (name, published) in PAPER.items()
        if rule in paper
    ]
    header = ["", *[HEADERS[score] for score in scores], "Paper, KEMDy19"]
    stacking = next(row for row in results["rows"] if row["method"] == "stacking")
    said, rule = "cross-validated on these rows", "stacking_cross_validated"
    note = (
        "The published rules on the same test rows. As published, stacking is fitted and scored on "
        "the same test labels; cross-validated, on the test labels of other groups of the same "
        "rows. "
    )
    if results["is_held_out"]:
        said, rule = "honest", "stacking_honest"
        note += f"Honest, the same rule is fitted on {results['fitted_on']}. "
    note += (
        "Hard voting's published weights always choose the text model's label. In brackets: 95 % "
        f"intervals over {results['resampled']}."
    )
    if results["synthetic"]:  # never beside the published scores
        header, rows = header[:-1], [row[:-1] for row in rows]
    else:
        note += (
            " Paper: the accuracy that it reports on KEMDy19, of its own models on its own split; "
            ".7269 is in-sample. No score here can be held against it."
        )
    title = (
        f"The paper's procedure: its stacking row is in-sample "
        f"({number(paper['stacking_in_sample']['accuracy'])}); {said}: "
        f"{number(paper[rule]['accuracy'])} by the same rule, "
        f"{number(stacking['accuracy'])} by this project's stacking"
    )
    return Table(title, note, header, rows)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def interval(bounds: list | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def with_interval(scores: dict, score: str) -> str:
    return shown(scores[score], scores[f"{score}_ci"])


def shown(value: float | None, bounds: list | None) -> str:
    return "-" if value is None else f"{value:.3f} ({bounds[0]:.2f}-{bounds[1]:.2f})"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def align(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns also line up on a screen."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *others])} |"

    rule = ["-" * widths[0], *[f"{'-' * (width - 1)}:" for width in widths[1:]]]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def as_text(cell: str) -> str:
    """Return a cell in which nothing is markup: a transcript may hold tags, pipes and links."""
    return cell.translate({ord(sign): f"\\{sign}" for sign in "|<>`"}).replace("](", "]\\(")


def write_markdown(notice: str | None, tables: list[Table]) -> str:
    """Return the tables as one Markdown page; the notice stands above and below them."""
    banner = [f"**{notice}**"] if notice else []
    parts = ["# Ensemble", *banner]
    for table in tables:
        rows = [list(map(as_text, row)) for row in table.rows]
        parts += [f"## {table.title}", table.note, align(table.header, rows)]
    return "\n\n".join([*parts, *banner]) + "\n"
