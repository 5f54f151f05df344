"""The results for a paper and for other programs: ensemble.tex and ensemble.csv."""

import re
from collections.abc import Iterator

import pandas as pd
from tabulate import LATEX_ESCAPE_RULES, tabulate

from fusion.cells import Table

LONG = ("part_", "parts_", "origin")  # as long as there are speakers, or no scores: not for a page
COLUMNS = ["table", "row", "score", "value", "low", "high", "rows", "groups"]
HEAD = r"""% \usepackage{booktabs,graphicx}; for Korean labels \usepackage{kotex} as well"""
TABLE = r"""\begin{table}
\caption{%s}
\label{tab:%s}
\centering\smallskip
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
%s}
\end{table}"""


def write_latex(results: dict, tables: dict[str, Table]) -> str:
    """Return the tables of scores as LaTeX, each a float of its own; captions hold the notes."""
    origin = [" ".join(f"% {name}: {value}".split()) for name, value in results["origin"].items()]
    floats = []
    for name, table in tables.items():
        if not name.startswith(LONG):
            title = table.title if table.title.endswith("?") else f"{table.title}."
            texts = filter(None, [title, results["synthetic"], table.note])
            caption = escape_latex(" ".join(texts))
            floats.append(TABLE % (caption, name.replace("_", "-"), write_tabular(table)))
    return "\n\n".join(["\n".join([HEAD, *origin]), *floats]) + "\n"


def write_tabular(table: Table) -> str:
    """Return a tabular with booktabs' rules; minus signs and ranges as they are set in print."""
    rows = []
    for name, *cells in table.rows:
        cells = [re.sub(r"^-$|(?<=\d)-(?=-?\d)", "\N{EN DASH}", cell) for cell in cells]
        rows.append([name, *[re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", cell) for cell in cells]])
    align = ["left", *["right"] * (len(table.header) - 1)]
    return tabulate(rows, table.header, "latex_booktabs", disable_numparse=True, colalign=align)


def escape_latex(text: str) -> str:
    return "".join(LATEX_ESCAPE_RULES.get(sign, sign) for sign in text)


def write_csv(results: dict) -> str:
    """Return every score, one a line; rows, groups: how many it and its interval rest on.

    The table "class happy" or "gender F" is of these test rows alone. A difference of two methods
    has its p in a line of its own, `accuracy_p`.
    """
    table = pd.DataFrame(list_scores(results), columns=COLUMNS).astype({"groups": "Int64"})
    return table.to_csv(index=False)


def list_scores(results: dict) -> Iterator[list]:
    """Yield the lines of ensemble.csv, in the order of ensemble.md."""
    rows, groups = sum(results["support"]), results["groups"]
    scores = {row["method"]: row for row in results["rows"]}
    yield from melt("scores", {"rows": rows, "groups": groups, "scores": scores})
    if results["untied"]:
        yield from melt("untied", results["untied"])
    yield from melt_pairs("comparisons", results, rows, groups)
    yield from melt("paper", {"rows": rows, "groups": groups, "scores": results["paper"]})
    certainty = {"rows": rows, "groups": groups, "scores": results["certainty"] or {}}
    yield from melt("certainty", certainty)
    if affect := results["dimensions"]:
        yield from melt("dimensions", {"rows": rows, "groups": groups} | affect)
        yield from melt_pairs("dimension_comparisons", affect, rows, groups)
        for name, part in affect["parts"].items():
            yield from melt(f"dimensions, {name}", part)
    if votes := results["votes"]:
        yield from melt("votes", votes)
        people = {"one rater": votes["people"] or {}}
        yield from melt("votes", {"rows": votes["people_rows"], "groups": None, "scores": people})
    for place, label in enumerate(results["labels"]):
        of_class = {
            method: {name: values[place] for name, values in scores.items()}
            for method, scores in results["per_class"].items()
        }
        part = {"rows": results["support"][place], "groups": groups, "scores": of_class}
        yield from melt(f"class {label}", part)
    for name, part in results["parts"].items():
        yield from melt(name, part)


def melt(table: str, part: dict) -> Iterator[list]:
    """Yield a line for every score that has an interval; part: as of scoring.score_part."""
    for method, scores in part["scores"].items():
        for name, value in scores.items():
            if scores.get(f"{name}_ci") is not None:
                bounds = scores[f"{name}_ci"]
                yield [table, method, name, value, *bounds, part["rows"], part["groups"]]


def melt_pairs(table: str, results: dict, rows: int, groups: int) -> Iterator[list]:
    """Yield the differences of two methods, first less second, and their p."""
    for pair in results["comparisons"]:
        name = f"{pair['first']} - {pair['second']}"
        yield from melt(table, {"rows": rows, "groups": groups, "scores": {name: pair}})
        for score in [score for score in pair if score.endswith("_p")]:
            yield [table, name, score, pair[score], None, None, rows, groups]
