"""Sessions -> train, valid, test."""

import pytest

from pipeline.corpus.matching import Utterance
from pipeline.corpus.splits import format_sessions, parse_sessions, split_sessions, split_utterances
from pipeline.files import UserError


def speak(session: int, gender: str, number: int, speaker: str = "") -> Utterance:
    """Return an utterance of a session's woman or man, or of another speaker."""
    return Utterance(
        id=f"Sess{session:02d}_script01_{gender}{number:03d}",
        session=session,
        speaker=speaker or f"Sess{session:02d}{gender}",
        gender=gender,
        scenario="script01",
        dialogue_number=1,
        turn=number,
        wav_start=0.0,
        wav_end=1.0,
        labels=("sad",),
        valence=2.0,
        arousal=2.0,
        votes=(0, 0, 0, 0, 10, 0, 0),
        recording="",
        transcript="",
        where="",
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
    utterances = [speak(s, g, n) for s in range(1, 6) for g in "FM" for n in range(3)]
    splits = split_utterances(utterances, split_sessions({"A": range(1, 6)}, "2,4", "1"))
    for attribute in ("id", "speaker", "session"):
        sets = [{getattr(u, attribute) for u in split} for split in splits.values()]
        assert sum(map(len, sets)) == len(set.union(*sets))
    assert [u.id for s in splits.values() for u in s] == [
        u.id for sessions in ((3, 5), (1,), (2, 4)) for u in utterances if u.session in sessions
    ]


def test_speaker_of_two_splits_is_refused():
    utterances = [*(speak(session, "F", 1) for session in range(1, 6)), speak(5, "M", 1, "Sess01F")]
    with pytest.raises(UserError, match="speaker Sess01F is in session 1 .train. and in session 5"):
        split_utterances(utterances, split_sessions({"A": range(1, 6)}, "", ""))


def test_none_holds_out_nothing_for_validation():
    splits = split_sessions({"A": range(1, 21)}, "", "none")
    assert splits == {"train": list(range(1, 17)), "valid": [], "test": [17, 18, 19, 20]}
