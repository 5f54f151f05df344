"""Tables as Markdown, and the report page.

The page, report.html, needs no network: style and plots are inside. Its template, page.html,
escapes all that is written into it.
"""

import base64
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from fusion.cells import Table, escape_cell, title_of

LOADER = FileSystemLoader(Path(__file__).parent)
PAGE = Environment(loader=LOADER, undefined=StrictUndefined, autoescape=True)


def write_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns also line up on a screen.

    Nothing in a cell is markup: a transcript may hold tags, pipes and links.
    """
    cells = [[*map(escape_cell, row)] for row in rows]
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
