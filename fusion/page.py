"""The ensemble's results as one HTML page that needs no network: style, font and plots inside."""

import base64
from html import escape
from io import BytesIO
from itertools import starmap
from pathlib import Path

import numpy as np
from fontTools import subset

from fusion.origin import Corpus
from fusion.predictions import MODELS, Predictions
from fusion.tables import NAMES, Table, describe_known, interval, number
from pipeline.labels import LABELS, LABELS_KO

WORST = 20  # mistakes shown
BOLD = (
    " Bold: better than every other row beyond doubt (the paired test of the comparisons below, "
    "p < .05 against each). Without bold no row is, whichever figure is the largest."
)

STYLE = """
:root { --ink: #1f2933; --soft: #62707d; --line: #dde3e8; --accent: #c8423b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 28px 32px 80px; color: var(--ink);
  font: 15px/1.55 "Embedded Korean", system-ui, -apple-system, "Segoe UI", "Malgun Gothic",
  sans-serif; }
h1 { font-size: 30px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 6px; }
h3 { font-size: 16px; margin: 26px 0 4px; }
p { margin: 4px 0 10px; } .note { color: var(--soft); font-size: 13.5px; max-width: 860px; }
.banner { background: #fff3cd; border-left: 6px solid #e0a800; padding: 10px 16px; margin: 14px 0;
  font-weight: 600; }
.cards { display: flex; flex-wrap: wrap; gap: 14px; margin: 22px 0; }
.card { flex: 1 1 220px; border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px;
  color: var(--soft); font-size: 13.5px; }
.card b { display: block; font-size: 28px; line-height: 1.2; color: var(--ink); }
.card.main b { color: var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: 8px 0; }
th, td { padding: 4px 8px; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } tbody tr:hover { background: #f5f7f9; }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
.text td { vertical-align: top; } .text td:nth-child(2) { white-space: normal; min-width: 260px; }
td.best { font-weight: 700; }
img { max-width: 100%; display: block; margin: 6px 0; }
details { border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; margin: 10px 0; }
summary { cursor: pointer; font-weight: 600; }
nav a { margin-right: 16px; color: #2b6cb0; text-decoration: none; font-size: 14px; }
"""


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

    tables: by section; figures: title -> PNG; pred, probabilities: by method; font:
    a file with Hangul, of which the page embeds what it needs.
    """
    title = "Emotion recognition from text and voice: the ensemble"
    mistakes = show_mistakes(test, pred, probabilities["stacking"], corpus)
    sections = {
        "scores": ("Scores", show_scores(tables["scores"], figures)),
        "fusion": ("Fusion", show_fusion(tables["fusion"], figures)),
        **show_conversation(tables.get("conversation"), figures),
        "classes": ("Classes", show_classes(tables["classes"], figures)),
        "parts": ("Parts", show_parts(tables["parts"], figures)),
        "ablation": ("Ablation", show_ablation(tables["ablation"])),
        "paper": ("The paper's procedure", show_table(tables["paper"][0])),
        "mistakes": ("Worst mistakes", mistakes),
        "training": ("Training", show_training(figures)),
        "corpus": ("Corpus", show_corpus(corpus)),
        "origin": ("Origin", show_origin(tables["origin"][0], test)),
    }
    links = [f"<a href=#{anchor}>{escape(name)}</a>" for anchor, (name, _) in sections.items()]
    body = [
        f"<h1>{title}</h1><p class=note>{escape(describe(results))}</p>",
        banner(results["synthetic"]),
        f"<nav>{''.join(links)}</nav>",
        show_cards(results),
        *[f'<section id="{anchor}">{part}</section>' for anchor, (_, part) in sections.items()],
        banner(results["synthetic"]),
    ]
    content = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{embed_font(font, content)}{STYLE}</style></head>\n"
        f"<body>\n{content}\n</body></html>\n"
    )


def show_scores(tables: list[Table], figures: dict[str, Path]) -> str:
    scores, comparisons = tables
    return "\n".join(
        [
            show_table(scores._replace(note=scores.note + BOLD)),
            show_figure(figures, "scores"),
            show_table(comparisons),
        ]
    )


def show_fusion(tables: list[Table], figures: dict[str, Path]) -> str:
    agreement, candidates, weights = tables
    return "\n".join(
        [
            "<h2>Fusion</h2>",
            show_figure(figures, "agreement"),
            show_details(agreement),
            show_details(candidates),
            show_details(weights),
            show_figure(figures, "reliability"),
        ]
    )


def show_conversation(tables: list[Table] | None, figures: dict[str, Path]) -> dict:
    """Return the section of the conversation, if the order of the turns was read."""
    if not tables:
        return {}
    held_out, changed = tables
    plot = show_figure(figures, "transitions")
    parts = ["<h2>Conversation</h2>", show_table(held_out), plot, show_table(changed, "text")]
    return {"conversation": ("Conversation", "\n".join(parts))}


def show_classes(tables: list[Table], figures: dict[str, Path]) -> str:
    plots = [show_figure(figures, name) for name in ("confusion", "per_class")]
    return "\n".join(["<h2>Classes</h2>", *plots, *map(show_details, tables)])


def show_parts(tables: list[Table], figures: dict[str, Path]) -> str:
    plot = show_figure(figures, "parts")
    return "\n".join(["<h2>Parts of the test rows</h2>", plot, *map(show_details, tables)])


def show_ablation(tables: list[Table]) -> str:
    missing = "<h2>Ablation</h2><p class=note>No ablation of these very predictions.</p>"
    return "".join(map(show_table, tables)) or missing


def show_origin(table: Table, test: Predictions) -> str:
    """Return how the results came about, down to every setting of the models."""
    runs = [(NAMES[model], run.get("settings", {})) for model, run in test.runs.items()]
    said = "<p class=note>Settings of the models; of several folds, those of the first one's.</p>"
    return "\n".join([show_table(table, "text"), said, *starmap(show_settings, runs)])


def describe(results: dict) -> str:
    """Return the line under the title: the rows, what is known of speakers, when, how, of what."""
    origin = results["origin"]
    made = "; ".join(f"{name.lower()}: {origin[name]}" for name in ("Date", "Command", "Commit"))
    return f"{results['test']}.{describe_known(results['known'])} {made}; data: {origin['Data']}."


def show_training(figures: dict[str, Path]) -> str:
    missing = "<p class=note>No training curves: the models left no history.json.</p>"
    return f"<h2>Training</h2>{show_figure(figures, 'training') or missing}"


def banner(notice: str | None) -> str:
    return f"<p class=banner>{escape(notice)}</p>" if notice else ""


def embed_font(path: Path | None, text: str) -> str:
    """Return a style rule with the part of a font that the text's Hangul needs, or nothing."""
    if path is None:
        return ""
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    options.drop_tables += ["TSI0", "TSI1", "TSI2", "TSI3", "TSI5"]  # a font editor's notes
    font = subset.load_font(path, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(character for character in set(text) if character > "\u1000"))
    subsetter.subset(font)
    buffer = BytesIO()
    subset.save_font(font, buffer, options)
    font.close()
    content = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"@font-face {{ font-family: 'Embedded Korean'; unicode-range: U+1000-FFFF; "
        f"font-display: block; src: url(data:font/woff;base64,{content}) format('woff'); }}\n"
    )


def show_cards(results: dict) -> str:
    """The four numbers to look at first."""
    rows = {row["method"]: row for row in results["rows"]}
    stacking, single = rows["stacking"], rows[results["best_single"]]
    paper = results["paper"]["stacking_in_sample"]
    winner = results["learned"]["stacking"]["winner"]
    chosen = f"Stacking, accuracy; {winner}, chosen {results['compared_by']}"
    cards = [
        ("main", stacking, chosen),
        ("", single, f"Best single model: {NAMES[results['best_single']]}"),
        ("", rows["majority"], "Always the most frequent emotion"),
        ("", paper, "The paper's stacking rule: in-sample, not comparable"),
    ]
    shown = [
        f'<div class="card {kind}"><b>{number(row["accuracy"])}</b>{escape(text)}'
        f" (95 %: {interval(row['accuracy_ci'])})</div>"
        for kind, row, text in cards
    ]
    return f"<div class=cards>{''.join(shown)}</div>"


def show_table(table: Table, kind: str = "") -> str:
    """Return title, note and table."""
    return (
        f"<h2>{escape(table.title)}</h2><p class=note>{escape(table.note)}</p>"
        f"{show_rows(table, kind)}"
    )


def show_details(table: Table) -> str:
    """Return a table that opens on a click."""
    return (
        f"<details><summary>{escape(table.title)}</summary><p class=note>{escape(table.note)}</p>"
        f"{show_rows(table)}</details>"
    )


def show_rows(table: Table, kind: str = "") -> str:
    best = [table.best.get(title) for title in table.header]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    lines = []
    for row in table.rows:
        cells = [
            f"<td{' class=best' * (winner == row[0])}>{escape(cell)}</td>"
            for cell, winner in zip(row, best, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class=wide><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def show_figure(figures: dict[str, Path], name: str) -> str:
    """Return a plot with its title, the PNG inside the page; nothing if there is none."""
    found = [(title, path) for title, path in figures.items() if path.stem == name]
    return "".join(f"<h3>{escape(title)}</h3>{show_image(path, title)}" for title, path in found)


def show_image(path: Path, title: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{content}">'


def show_mistakes(test: Predictions, pred: dict, probabilities: np.ndarray, corpus: Corpus) -> str:
    """Return the wrong rows that stacking was surest of, with transcript and every model's word."""
    transcripts = corpus.transcripts
    wrong = np.flatnonzero(pred["stacking"] != test.truth)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:WORST]
    rows = []
    for row in surest:
        said = transcripts[row] if transcripts is not None else "-"
        segment = str(test.ids[row]) if test.ids is not None else f"row {row}"
        labels = [both(test.truth[row]), both(pred["stacking"][row])]
        models = [both(pred[model][row]) for model in MODELS]
        rows.append([segment, said, *labels, f"{probabilities[row].max():.2f}", *models])
    note = f"{len(wrong)} of {len(test.truth)} test rows are wrong; these are the surest of them."
    if transcripts is None:
        note += f" {corpus.missing}."
    header = ["Segment", "Transcript", "True", "Stacking", "Confidence", "Text", "Audio", "CM-BERT"]
    return show_table(Table("Worst mistakes", note, header, rows), kind="text")


def both(label: int) -> str:
    return f"{LABELS[label]} {LABELS_KO[label]}"


def show_corpus(corpus: Corpus) -> str:
    """Return the counts of the manifests: utterances by split and class, and what was left out."""
    parts = ["<h2>Corpus</h2>", f"<p class=note>{escape(corpus.missing)}</p>"]
    header = ["", *[both(label) for label in range(len(LABELS))], "utterances", "hours"]
    for folder, manifest in corpus.manifests.items():
        counts, source = manifest["counts"], manifest["corpus"]
        rows = [
            [
                split,
                *[str(counts["class"][split][label]) for label in LABELS],
                str(counts["split"][split]),
                f"{counts['seconds'][split] / 3600:.2f}",
            ]
            for split in counts["split"]
        ]
        note = (
            f"{source['kind']} ({source['name']}); {len(manifest['dropped'])} annotated utterances "
            f"dropped and {len(manifest['repaired'])} repaired: {folder}/manifest.json lists each."
        )
        parts.append(f"<p class=note>{escape(note)}</p>{show_rows(Table('', '', header, rows))}")
    return "\n".join(parts)


def show_settings(title: str, settings: dict) -> str:
    rows = [[name, str(value)] for name, value in settings.items()]
    if not rows:
        return f"<p class=note>{escape(title)}: settings are not on record.</p>"
    return show_details(Table(title, "", ["setting", "value"], rows))
