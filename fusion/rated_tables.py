"""The tables of what raters gave beside the label: valence and arousal, and their votes."""

from common.files import DIMENSIONS
from fusion.cells import (
    AFFECT_HEADERS,
    AFFECT_TITLES,
    VOTE_HEADERS,
    Table,
    difference_cells,
    number,
    title_of,
)
from fusion.metrics import with_interval


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
