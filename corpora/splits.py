"""Sessions -> train, valid, test: no speaker and no utterance in two of them."""

import re
from collections.abc import Iterable

import pandas as pd

from common.files import UserError

SPLITS = ("train", "valid", "test")


def parse_sessions(text: str, found: Iterable[int], setting: str) -> set[int]:
    """Read a list such as "1,3,5-7" of sessions that the corpus has.

    Raises UserError for anything else; `setting` is its name in the message.
    """
    sessions: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([0-9]+)(?:\s*-\s*([0-9]+))?", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"--{setting}: '{part}' is no session or range: write 17-20 or 1,3,5-7")
        sessions.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    missing = sorted(sessions - set(found))
    if missing:
        raise UserError(
            f"--{setting}: the corpus has no session {', '.join(map(str, missing))}; "
            f"it has {format_sessions(found)}"
        )
    return sessions


def format_sessions(sessions: Iterable[int]) -> str:
    """Write sessions as parse_sessions reads them, runs as ranges: 1-8,10."""
    runs: list[list[int]] = []
    for session in sorted(sessions):
        if runs and session == runs[-1][-1] + 1:
            runs[-1].append(session)
        else:
            runs.append([session])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def split_sessions(
    corpora: dict[str, Iterable[int]], test: str, valid: str, test_corpus: str = "", unit: str = ""
) -> dict[str, list[int]]:
    """Return the sessions of each split; corpora: name -> its sessions.

    Empty settings: test is the last fifth of each corpus's sessions (rounded up), valid the last
    tenth of all (rounded down, at least one) among those left. KEMDy19: test 17-20, valid 15-16.
    "none" as `valid` holds nothing out for validation. Of the corpus `test_corpus` all sessions are
    tested, of the others only those that `test` names. unit: what each session is made of, if the
    corpus has none.
    """
    each = [sorted(sessions) for sessions in corpora.values()]
    found = sorted(session for own in each for session in own)
    tested = parse_sessions(test, found, "test-sessions") | set(corpora.get(test_corpus, ()))
    tested = tested or {s for own in each for s in own[-((len(own) + 4) // 5) :]}
    held_out = set()
    if valid != "none":
        held_out = parse_sessions(valid, found, "valid-sessions")
        for own in each if not held_out else []:
            free = [session for session in own if session not in tested]
            held_out.update(free[-max(1, len(own) // 10) :])
    if both := tested & held_out:
        raise UserError(f"session {format_sessions(both)} is in both --test- and --valid-sessions")
    trained = [session for session in found if session not in tested | held_out]
    if not trained and unit and not (test or valid or test_corpus):
        units = f"{len(found)} {unit}{'s' * (len(found) != 1)}"
        raise UserError(
            f"{units}: three at least, to train, to choose and to test, five or more are better"
        )
    if not trained:
        raise UserError(
            f"no session is left to train on: the corpus has {format_sessions(found)}, test takes "
            f"{format_sessions(tested)}, valid {format_sessions(held_out)}"
        )
    return {"train": trained, "valid": sorted(held_out), "test": sorted(tested)}


def split_utterances(table: pd.DataFrame, sessions: dict[str, list[int]]) -> pd.DataFrame:
    """Return the utterances with their `split`, one split after another.

    Raises UserError for a known speaker who is in two splits.
    """
    split_of = {session: split for split in SPLITS for session in sessions[split]}
    table = table.assign(split=table["session"].map(split_of))
    for speaker, rows in table[table["is_known"]].groupby("speaker"):
        first, other = rows.iloc[0], rows[rows["split"] != rows["split"].iloc[0]]
        if len(other):
            raise UserError(
                f"speaker {speaker} is in session {first['session']} ({first['split']}) and in "
                f"session {other['session'].iloc[0]} ({other['split'].iloc[0]}): put both into one "
                "split with --test-sessions and --valid-sessions"
            )
    return pd.concat([table[table["split"] == split] for split in SPLITS], ignore_index=True)


def check_not_empty(table: pd.DataFrame, sessions: dict[str, list[int]]) -> None:
    """Raise UserError for a split with sessions and no utterances, or training on one label."""
    for split in SPLITS:
        if sessions[split] and not (table["split"] == split).any():
            raise UserError(
                f"no usable utterance for {split} in session {format_sessions(sessions[split])}: "
                "see above what was dropped, or choose other sessions"
            )
    learnt = table["label"][table["split"] == "train"].unique()
    if len(learnt) < 2:
        raise UserError(
            f"all training rows are '{learnt[0]}': there is nothing to tell apart; choose other "
            "sessions for test and validation, or correct the labels"
        )
