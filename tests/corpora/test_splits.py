"""Sessions -> train, valid, test."""

import pandas as pd
import pytest

from common.files import UserError
from corpora.splits import format_sessions, parse_sessions, split_sessions, split_utterances


def speak(rows):
    """Return a table of utterances: (session, speaker) of each."""
    return pd.DataFrame(
        {"id": str(number), "session": session, "speaker": speaker, "is_known": True}
        for number, (session, speaker) in enumerate(rows)
    )


def test_session_lists():
    assert parse_sessions("1,3, 5-7", range(1, 21), "test-sessions") == {1, 3, 5, 6, 7}
    assert parse_sessions("", range(1, 21), "test-sessions") == set()
    assert format_sessions([7, 1, 3, 5, 6]) == "1,3,5-7"
    for text, message in (
        ("1;2", "no session or range"),
        ("7-5", "7-5"),
        ("20-22", "no session 21"),
    ):
        with pytest.raises(UserError, match=message):
            parse_sessions(text, range(1, 21), "test-sessions")


@pytest.mark.parametrize(
    "found, test, valid, expected",
    [
        (20, "", "", ("1-14", "15-16", "17-20")),
        (12, "", "", ("1-8", "9", "10-12")),
        (40, "", "", ("1-28", "29-32", "33-40")),
        (3, "", "", ("1", "2", "3")),
        (20, "1-4", "", ("5-18", "19-20", "1-4")),
        (20, "17-20", "2", ("1,3-16", "2", "17-20")),
    ],
)
def test_split_of_sessions(found, test, valid, expected):
    sessions = split_sessions({"A": range(1, found + 1)}, test, valid)
    assert tuple(map(format_sessions, sessions.values())) == expected


@pytest.mark.parametrize(
    "found, test, valid, message",
    [(2, "", "", "left to train"), (5, "4-5", "5", "is in both"), (5, "1-4", "5", "left to train")],
)
def test_impossible_splits(found, test, valid, message):
    with pytest.raises(UserError, match=message):
        split_sessions({"A": range(1, found + 1)}, test, valid)


def test_no_speaker_and_no_utterance_in_two_splits():
    table = speak([(s, f"{s}{g}") for s in range(1, 6) for g in "FM" for _ in range(3)])
    split = split_utterances(table, split_sessions({"A": range(1, 6)}, "2,4", "1"))
    assert sorted(split["id"]) == sorted(table["id"])
    expected = {3: "train", 5: "train", 1: "valid", 2: "test", 4: "test"}
    assert (split["session"].map(expected) == split["split"]).all()
    assert split["split"].drop_duplicates().tolist() == ["train", "valid", "test"]


def test_speaker_of_two_splits_is_refused():
    table = speak([*((session, f"{session}F") for session in range(1, 6)), (5, "1F")])
    with pytest.raises(
        UserError, match="speaker 1F is in session 1 .train. and in session 5 .test"
    ):
        split_utterances(table, split_sessions({"A": range(1, 6)}, "", ""))


def test_none_holds_out_nothing_for_validation():
    splits = split_sessions({"A": range(1, 21)}, "", "none")
    assert splits == {"train": list(range(1, 17)), "valid": [], "test": [17, 18, 19, 20]}


@pytest.mark.parametrize(
    "tested, expected",
    [
        ("", ("1001-1014,2001-2028", "1015-1016,2029-2032", "1017-1020,2033-2040")),
        ("A", ("2001-2036", "2037-2040", "1001-1020")),
    ],
)
def test_each_corpus_gives_its_last_sessions(tested, expected):
    corpora = {"A": range(1001, 1021), "B": range(2001, 2041)}
    sessions = split_sessions(corpora, "", "", tested)
    assert tuple(map(format_sessions, sessions.values())) == expected
