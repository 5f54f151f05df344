"""The pages of the project name what is there: links, the log's entries, files and functions."""

import ast
import re

import pytest
from conftest import ROOT

PAGES = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if path.relative_to(ROOT).parts[0] not in (".venv", "data", "outputs")
    or path.parent in (ROOT / "data", ROOT / "outputs")
]


def anchor_of(title):
    """Return what GitHub lets a link to a heading end with."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def list_headings(page, level):
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    return [anchor_of(title) for title in re.findall(rf"(?m)^{level} (.+)", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in list_headings(target, "#+"), link


def test_the_table_of_the_log_has_every_entry_newest_first():
    table = (ROOT / "runs/LOG.md").read_text(encoding="utf-8")
    files = sorted((ROOT / "runs/log").glob("*.md"), reverse=True)
    entries = [f"{file.name}#{entry}" for file in files for entry in list_headings(file, "##")]
    assert len(entries) > 30
    assert re.findall(r"\]\(log/([^)]+)\)", table) == entries


def test_the_workflow_names_what_is_there():
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/])(?:\./)?(tests/\w+|\w+\.(?:sh|txt))\b", text)
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]


def names_of(path):
    """Return the functions, classes, methods (Class.method) and constants of a Python file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{n.name}" for n in inner if isinstance(n, ast.FunctionDef)}
    return names


def test_the_tour_names_what_is_there():
    text = (ROOT / "docs/TOUR.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::([\w.]+)`", text)
    assert len(named) > 60 and text.count("::") == len(named) + 1  # and the one that explains it
    for path, name in named:
        assert name in names_of(ROOT / path), f"{path}::{name}"
    for path in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        assert (ROOT / path).exists() or path.startswith("outputs/"), path
