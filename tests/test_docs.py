"""The pages of the project: every link leads somewhere, the log's table has every entry."""

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
