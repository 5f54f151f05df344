"""Labels against votes, whole files: a few odd rows are noted, many stop the stage."""

import re
from dataclasses import replace

import hostile
import pytest

from common.files import LABELS, UserError
from corpora.annotation import OFF_SCALE, OUTVOTED, SILENT_RATERS
from extras.sample.writer import Vote, row_of_votes


def read(root, *changes):
    """Return what a KEMDy19 corpus with these edits is read as: {id: utterance}, account."""
    if not root.exists():
        hostile.write(root, "KEMDy19", [hostile.Change("", edit=change) for change in changes])
    return hostile.read(root)


def reasons(account):
    return sorted((entry["id"], entry["reason"]) for entry in account.noted)


def rewrite(root, name, change):
    """Change the cells of an annotation file: change(list of rows, each a list of cells)."""
    path = root / "annotation" / name
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(row) for row in change(rows)) + "\n")


def test_one_row_that_contradicts_its_votes_is_noted_and_kept(tmp_path):
    first = "Sess02_script01_F001"
    odd = hostile.edit_row(first, "F", emotion="fear", valence=9.0, arousal=-3.0)
    votes = hostile.edit_row(first, "F", votes=(Vote("happy", 4, 4),) * 10)
    utterances, account = read(tmp_path / "c", odd, votes)
    assert reasons(account) == sorted([(first, OUTVOTED), (first, OFF_SCALE)])
    assert account.noted[0]["where"] == (
        "annotation/Session02_F_res.csv row 3: Sess02_script01_F001: fear 9 -3, votes happy 10"
    )
    assert utterances[first].label == "fear"


def test_labels_that_agree_with_their_votes_and_half_a_tie_that_does_not(tmp_path):
    """A tie, raters of two labels, a misspelling, one label named twice."""
    tie = row_of_votes((Vote("sad", 2, 2), Vote("neutral", 3, 3)) * 5)
    rows = [
        tie,
        replace(tie, votes=(Vote("sad;neutral", 2, 2),) * 10),
        replace(tie, emotion="disgust", votes=(Vote("disqust", 2, 2),) * 10),
        replace(row_of_votes((Vote("sad;sad", 2, 2),) * 10), emotion="sad;sad"),
        replace(tie, emotion="sad"),
    ]
    names = [f"Sess02_script01_F00{number}" for number in (1, 2, 3, 4, 5)]
    changes = [
        hostile.edit(n, rows=dict.fromkeys("FM", row)) for n, row in zip(names, rows, strict=True)
    ]
    utterances, account = read(tmp_path / "c", *changes)
    assert {reason[0] for reason in reasons(account)} == {names[4]}
    assert hostile.votes_of(utterances[names[3]]) == (0, 0, 0, 0, 10, 0, 0)
    labels = [utterances[name].labels for name in names]
    assert labels == [*["neutral;sad"] * 2, "disgust", "sad", "sad"]


def test_a_rater_without_a_vote_is_noted_and_never_refused(tmp_path):
    """In every row of a session, as if one rater had not come."""
    root = tmp_path / "c"
    hostile.write(root, "KEMDy19", [])

    def leave(rows):
        return [*rows[:2], *([*row[:40], "", "", ""] for row in rows[2:])]

    rewrite(root, "Session02_F_res.csv", leave)
    utterances, account = read(root)
    assert len(utterances) == 150
    assert [entry["reason"] for entry in account.noted] == [SILENT_RATERS] * 30


@pytest.mark.parametrize("odd", [3, 4])
def test_more_than_a_tenth_of_a_file_is_refused(tmp_path, odd):
    """Of 30 rows 3 are a tenth and 4 are more."""
    names = [f"Sess02_script01_F00{number}" for number in range(1, odd + 1)]
    changes = [hostile.edit_row(name, "F", votes=(Vote("fear", 2, 2),) * 10) for name in names]
    if odd < 4:
        _, account = read(tmp_path / "c", *changes)
        assert reasons(account) == [(name, OUTVOTED) for name in names]
        return
    with pytest.raises(UserError) as caught:
        read(tmp_path / "c", *changes)
    assert re.fullmatch(
        "annotation/Session02_F_res.csv: label is not what most raters chose in 4 of 30 rows, .*"
        "Session02_F_res.csv row 3, Sess02_script01_F001: .*, votes fear 10; correct .*",
        str(caught.value),
    )


def test_a_rater_in_the_place_of_the_total_is_found_out(tmp_path):
    """The header names the columns wrongly, and the votes tell."""

    def mix_votes(sessions):
        """Let the first rater of every row choose what the others do not."""
        for session in sessions:
            for place, segment in enumerate(session.segments):
                rows = {
                    key: row_of_votes((Vote("fear", 1, 5), *row.votes[1:]))
                    for key, row in segment.rows.items()
                }
                session.segments[place] = replace(segment, rows=rows)

    def swap(row):
        return [*row[:10], *row[13:16], *row[10:13], *row[16:]]

    root = tmp_path / "c"
    hostile.write(root, "KEMDy19", [hostile.Change("", edit=mix_votes)])
    for path in (root / "annotation").iterdir():
        rewrite(root, path.name, lambda rows: [*rows[:2], *map(swap, rows[2:])])
    with pytest.raises(UserError, match="Session01_F_res.csv: label is not.*not those of"):
        read(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [["KEMDy19: ratings"], *rows],
        lambda rows: [rows[0], ["x"] * 43, *rows[1:]],
        lambda rows: [[str(number), *row] for number, row in enumerate(rows)],
    ],
    ids=["title", "third row", "index column"],
)
def test_other_headers_are_read_right(tmp_path, change):
    expected, _ = read(tmp_path / "healthy")
    hostile.write(tmp_path / "c", "KEMDy19", [])
    for path in (tmp_path / "c" / "annotation").iterdir():
        rewrite(tmp_path / "c", path.name, change)
    utterances, account = read(tmp_path / "c")
    assert account.noted == []
    found = [repr(u[2:-1]) for u in utterances.values()]  # nan is not equal to itself
    assert found == [repr(u[2:-1]) for u in expected.values()]


def test_first_row_with_a_wrong_id_is_data(tmp_path):
    wrong = "../../outside"
    changes = [hostile.edit_row("Sess02_script01_F001", key, id=wrong) for key in "FM"]
    utterances, account = read(tmp_path / "c", *changes)
    assert len(utterances) == 149
    assert [entry["id"] for entry in account.dropped] == [wrong]
    assert account.annotation_rows == 300


def test_ids_under_another_name_are_refused(tmp_path):
    root = tmp_path / "c"
    hostile.write(root, "KEMDy19", [])

    def shift(rows):
        return [["", *rows[0]], ["", *rows[1]], *rows[2:]]

    rewrite(root, "Session02_F_res.csv", shift)
    with pytest.raises(UserError, match="IDs stand in column 10, the name 'Segment ID' over colu"):
        read(root)


def test_a_cell_nobody_uses_is_noted_and_one_in_use_stops(tmp_path):
    """The F file's row of a man's segment rates the listener."""
    listener = hostile.edit_row("Sess02_script01_M001", "F", votes=(Vote("meh", 3, 3),) * 10)
    total = hostile.edit_row("Sess02_script01_M002", "F", emotion="bored")
    utterances, account = read(tmp_path / "c", listener, total)
    assert len(utterances) == 150
    assert [(e["id"], e["reason"]) for e in account.noted] == [
        ("Sess02_script01_M001", "unreadable cell in a row that is not used"),
        ("Sess02_script01_M002", "unreadable cell in a row that is not used"),
    ]
    assert "Session02_F_res.csv row 4: unknown emotion 'meh'" in account.noted[0]["where"]
    used = hostile.edit_row("Sess02_script01_M002", "M", emotion="bored")
    with pytest.raises(UserError, match="Session02_M_res.csv row 6: unknown emotion 'bored'"):
        read(tmp_path / "d", used)


def test_other_numbers_of_raters_are_read_and_noted(tmp_path):
    root = tmp_path / "c"
    hostile.write(root, "KEMDy19", [])
    rewrite(root, "Session02_F_res.csv", lambda rows: [row[:37] for row in rows])
    utterances, account = read(root)
    assert sum(hostile.votes_of(utterances["Sess02_script01_F001"])) == 8
    assert reasons(account) == [("annotation/Session02_F_res.csv", "8 raters, not 10")]


@pytest.mark.parametrize("kind", ["KEMDy19", "KEMDy20"])
@pytest.mark.parametrize(
    ("old", "new", "name", "found"),
    [
        (r",(\d)\.(\d)(?=,)", r',"\1,\2"', "Valence", "'3,0' is not a number"),
        (r",(\d)\.(\d)(?=,)", r",\1,\2", "a rater", "unknown emotion '3'"),
        ("|".join(LABELS), "중립", "Emotion", "unknown emotion '중립'"),
    ],
)
def test_a_file_of_which_no_row_can_be_read(tmp_path, kind, old, new, name, found):
    """Decimal commas, words of another language: what was found, in which row and column."""
    hostile.write(tmp_path, kind, [])
    path = min(tmp_path.glob("annotation/*"))
    text = re.sub(old, new, path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="cp949")
    with pytest.raises(UserError) as error:
        hostile.read(tmp_path)
    place = rf"annotation/{path.name}: none of its \d+ rows can be read: .* row 3, "
    assert re.match(rf"{place}{found}.* \(column \d+, {name}\); numbers have", str(error.value))
