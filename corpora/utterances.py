"""The table of utterances that every reader of a corpus makes, and what is the same in all of them.

A reader returns one row an utterance, COLUMNS, votes_{label} for each label that it met, and
PLACES; `label` is blank where the votes are to decide.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from common.files import LABELS, UserError
from corpora.account import Account

# Of an utterance.  label: of tied labels the first, as the paper chose; labels: all of them, joined
# by ";".  wav_start, wav_end: seconds in the dialogue.
COLUMNS = {
    **{"id": object, "session": int, "speaker": object, "gender": object, "scenario": object},
    **{"dialogue_number": int, "turn": int, "wav_start": float, "wav_end": float},
    **dict.fromkeys(("label", "labels", "text"), object),
    **{"valence": float, "arousal": float},
}
# Of the table alone.  recording, transcript: paths below the corpus's folder; without transcript
# `text` has the words, None if the corpus has none.  where: file and row of the annotation.
# first_second, last_second: of the recording, nan for its own beginning and end.  split: the
# corpus's own, or "".  is_known: whether the speaker is, who then stands in one split only.
PLACES = {
    **dict.fromkeys(("recording", "transcript"), object),
    **{"first_second": float, "last_second": float, "split": object, "is_known": bool},
    "where": object,
}
EXTRA = {"strength": float}  # of some corpora: how strong the raters found the emotion, their mean
VOTES = "votes_"
# How AI Hub's and ETRI's corpora spell the seven, which differs between their releases.
SPELLINGS = {
    "neutral": "중립",
    "angry": "anger 화남 분노",
    "happy": "happiness joy 기쁨 행복",
    "surprise": "surprised 놀람",
    "sad": "sadness 슬픔",
    "fear": "fearful 공포 두려움",
    "disgust": "disqust disgusted 혐오",
}
FOLDED = {name: name for name in LABELS} | {
    other: name for name, others in SPELLINGS.items() for other in others.split()
}
GENDERS = dict.fromkeys(("f", "female", "여", "여자", "여성"), "F")
GENDERS |= dict.fromkeys(("m", "male", "남", "남자", "남성"), "M")


def assemble(utterances: Iterable[dict], labels: Iterable[str]) -> pd.DataFrame:
    """Return the table of utterances, sorted by ID.

    Each has COLUMNS, `votes` {label: number}, those of PLACES that are not as usual, and perhaps
    EXTRA; other entries are left out. labels: those that get a column of votes.
    """
    utterances = sorted(utterances, key=lambda utterance: utterance["id"])
    extra = {name: kind for name, kind in EXTRA.items() if any(name in u for u in utterances)}
    types = COLUMNS | {f"{VOTES}{label}": int for label in labels} | PLACES | extra
    usual = {"text": None, "transcript": "", "split": "", "is_known": True}
    usual |= dict.fromkeys(("first_second", "last_second"), float("nan"))
    rows = (
        usual
        | utterance
        | {f"{VOTES}{label}": utterance["votes"].get(label, 0) for label in labels}
        for utterance in utterances
    )
    return pd.DataFrame(rows, columns=list(types), dtype=object).astype(types)


def fold_label(text: str) -> str:
    """Return KEMDy's name of an emotion in another spelling; ValueError for any other word."""
    word = text.strip().casefold()
    if word and word not in FOLDED:
        raise ValueError(f"unknown emotion '{text.strip()}'")
    return FOLDED.get(word, "")


def keep_one_each(utterances: Iterable[dict], account: Account, path: Path) -> list[dict]:
    """Keep the first of several identical utterances with the same ID; refuse others, and none.

    path: of the corpus, for what is said.
    """
    kept: dict[str, dict] = {}
    passed_over = dict.fromkeys(("where", "scenario", "dialogue_number", "turn"))
    for utterance in utterances:
        first = kept.setdefault(utterance["id"], utterance)
        if first is utterance:
            continue
        # By what they look like: nan is not equal to itself.
        if repr(first | passed_over) != repr(utterance | passed_over):
            raise UserError(
                f"{utterance['id']} is listed twice and differently: {first['where']} and "
                f"{utterance['where']}; remove the wrong row"
            )
        account.note(utterance["id"], "identical row again", utterance["where"])
    if not kept:
        reasons = "; ".join(f"{n} {reason}" for _, n, reason in account.count_reasons()[:3])
        raise UserError(f"{path}: none of {account.annotation_rows} rows can be used: {reasons}")
    return list(kept.values())


def number_each(names: Iterable[object]) -> dict[object, int]:
    """Return the number of each name in the order of appearance, from 1."""
    return {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
