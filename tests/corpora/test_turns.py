"""The order of the conversation: turn numbers and Wav times."""

import math
import re
from dataclasses import replace

import hostile
import pytest

from extras.sample.writer import KEMDY20, Segment, unanimous

SLIP = "Wav start is before that of the turn above"


def read(root, *changes, kind="KEMDy19", style=None):
    hostile.write(root, kind, [hostile.Change("", edit=change) for change in changes], style)
    return hostile.read(root)


def noted(account):
    return [(entry["id"], entry["reason"]) for entry in account.noted]


def test_both_speakers_are_counted_in_each_dialogue(tmp_path):
    utterances, account = read(tmp_path)
    for name, utterance in utterances.items():
        number = 2 * int(name[-3:])
        assert utterance.turn == (number - 1 if "_F" in name else number)
    woman, man = (utterances[f"Sess02_impro01_{letter}003"] for letter in "FM")
    assert man.wav_start == woman.wav_start + 1
    assert man.wav_end == pytest.approx(man.wav_start + 0.1)
    assert noted(account) == []


ORDERS = (
    ("script01", "script02", "impro01"),
    ("impro01", "script01", "script02"),
    ("script02", "impro01", "script01"),
)


def in_order(*dialogues):
    """Return the change of every session's annotation to this order of dialogues."""

    def reorder(sessions):
        for session in sessions:
            session.segments.sort(key=lambda segment: dialogues.index(segment.id.split("_")[1]))

    return reorder


def numbers(utterances):
    """Return the number of every dialogue, by session and name."""
    found = {(u.session, u.scenario, u.dialogue_number) for u in utterances.values()}
    assert len(found) == len({each[:2] for each in found})
    return {(session, scenario): number for session, scenario, number in found}


@pytest.mark.parametrize("kind", ["KEMDy19", "KEMDy20"])
@pytest.mark.parametrize("order", ORDERS)
def test_dialogues_are_numbered_in_the_order_of_rows_and_not_of_names(tmp_path, kind, order):
    utterances, account = read(tmp_path, in_order(*order), kind=kind)
    there = [name for name in order if kind == "KEMDy19" or name.startswith("script")]
    expected = {
        (session, name): number
        for session in range(1, hostile.SESSIONS + 1)
        for number, name in enumerate(there, 1)
    }
    assert numbers(utterances) == expected
    assert noted(account) == []


def test_a_row_in_a_wrong_place_moves_no_dialogue(tmp_path):
    def move(sessions):
        segments = sessions[1].segments
        segments.insert(0, segments.pop())  # the last one of impro01

    utterances, _ = read(tmp_path, move)
    assert [numbers(utterances)[2, name] for name in ORDERS[0]] == [1, 2, 3]


def test_a_dialogue_that_cannot_be_used_keeps_its_number(tmp_path):
    def empty(sessions):
        for segment in list(sessions[1].segments[:10]):
            hostile.edit(segment.id, audio=None)(sessions)

    utterances, _ = read(tmp_path, empty)
    assert [numbers(utterances).get((2, name)) for name in ORDERS[0]] == [None, 2, 3]


@pytest.mark.parametrize(
    "move", [lambda rows: [*rows[20:], *rows[:20]], lambda rows: [rows[1], rows[0], *rows[2:]]]
)
def test_files_in_different_orders_are_noted(tmp_path, move):
    hostile.write(tmp_path, "KEMDy19", [])
    path = tmp_path / "annotation" / "Session02_M_res.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], *move(lines[2:])]) + "\n")
    utterances, account = hostile.read(tmp_path)
    assert [numbers(utterances)[2, name] for name in ORDERS[0]] == [1, 2, 3]
    assert [utterances[f"Sess02_script01_{n}"].turn for n in ("F001", "M001")] == [1, 2]
    reason = "the session's two files list the segments in different orders, F's counts"
    assert noted(account) == [("Session02", reason)]


def test_a_turn_that_cannot_be_used_leaves_a_gap_and_a_phantom_none(tmp_path):
    def plant(sessions):
        phantom = {
            "F": replace(unanimous("sad"), id="Sess02_script01_M031"),
            "M": replace(unanimous("sad"), id="Sess02_script01_F031"),
        }
        sessions[1].segments.insert(2, Segment("none", phantom, start=31.5, end=31.6))
        hostile.edit("Sess02_script01_F002", audio=None)(sessions)

    utterances, _ = read(tmp_path, plant)
    turns = {n: utterances[f"Sess02_script01_{n}"].turn for n in ("F001", "M001", "M002", "F003")}
    assert turns == {"F001": 1, "M001": 2, "M002": 4, "F003": 5}


def test_a_row_missing_from_one_file_shifts_nobody(tmp_path):
    """Neither the woman's row in the F file nor the man's in the M file."""

    def shorten(sessions):
        del sessions[1].segments[4].rows["F"]  # F003: rated by the M file only
        del sessions[1].segments[1].rows["M"]
        del sessions[1].segments[6].rows["M"]  # F004: rated by the F file only

    utterances, account = read(tmp_path, shorten)
    assert {e["id"] for e in account.dropped} == {"Sess02_script01_F003", "Sess02_script01_M001"}
    order = ("F001", "F002", "M002", "M003", "F004", "M004")
    turns = [utterances[f"Sess02_script01_{name}"].turn for name in order]
    assert turns == [1, 3, 4, 6, 7, 8]
    assert noted(account) == account.repaired == []


def test_annotation_decides_and_neither_id_nor_clock(tmp_path):
    def move(sessions):
        segments = sessions[1].segments
        segments.insert(3, segments.pop(0))

    utterances, account = read(tmp_path, move)
    order = [f"Sess02_script01_{name}" for name in ("M001", "F002", "M002", "F001", "F003")]
    assert [utterances[name].turn for name in order] == [1, 2, 3, 4, 5]
    assert noted(account) == [(order[3], SLIP)]


def test_blank_and_unreadable_times(tmp_path):
    names = "Sess02_script01_F001", "Sess02_script01_M001"
    blank = hostile.edit(names[0], start="", end="")
    utterances, account = read(tmp_path, blank, hostile.edit(names[1], start="soon", end="later"))
    for turn, name in enumerate(names, 1):
        utterance = utterances[name]
        assert math.isnan(utterance.wav_start) and math.isnan(utterance.wav_end)
        assert utterance.turn == turn
    assert noted(account) == [(names[1], "Wav time unreadable, left blank")]
    where = r"annotation/Session02_M_res\.csv row \d+: .*soon.*"
    assert re.fullmatch(where, account.noted[0]["where"])


def test_kemdy20_counts_both_users_whatever_prefix_their_ids_have(tmp_path):
    """Session 2's file holds IDs with session 1's prefix: its own dialogue, session and people."""

    def rename(sessions):
        sessions[1].segments[:] = [
            replace(segment, id=segment.id.replace("Sess02", "Sess01"), start=float(place))
            for place, segment in enumerate(sessions[1].segments)
        ]

    utterances, account = read(
        tmp_path, rename, kind="KEMDy20", style=replace(KEMDY20, sensors=("E4-EDA",))
    )
    second = [u for u in utterances.values() if u.session == 2]
    assert len(second) == 10 and all(u.id.startswith("Sess01") for u in second)
    assert {u.speaker for u in second} == {"User003F", "User004M"}
    script = sorted((u.turn, u.wav_start, u.speaker) for u in second if u.scenario == "script01")
    assert script == [
        (turn, turn - 1.0, ("User003F", "User004M")[(turn - 1) % 2]) for turn in range(1, 6)
    ]


@pytest.mark.parametrize("kind", ["KEMDy19", "KEMDy20"])
@pytest.mark.parametrize("listed_by", ["start", "end"])
def test_turns_may_overlap(tmp_path, kind, listed_by):
    """Two who speak at once are listed either way, and nothing is to be said of it."""
    spans = [(0.0, 4.0), (3.8, 9.0), (8.8, 12.0), (9.5, 11.0), (12.0, 13.0)]
    spans = sorted(spans, key=lambda span: span[listed_by == "end"])

    def overlap(sessions):
        segments = sessions[1].segments
        for place, (start, end) in enumerate(spans):
            segments[place] = replace(segments[place], start=start, end=end)
        del segments[len(spans) :]

    utterances, account = read(tmp_path, overlap, kind=kind)
    found = sorted((u.turn, u.wav_start) for u in utterances.values() if u.session == 2)
    assert found == list(enumerate((start for start, _ in spans), 1))
    assert noted(account) == []
