"""The parts of the test rows that are scored apart, by group: by sex, by length, by loudness ...

Shapes: N test rows.
"""

from math import inf

import numpy as np

from fusion.corpus import Corpus
from fusion.predictions import Predictions

GROUPS = {
    "corpus": "Corpus",
    "session": "Session",
    "speaker": "Speaker",
    "gender": "Sex",
    "scenario": "Kind of dialogue",
    "votes": "Agreement of the raters",
    "length": "Length of the utterance",
    "words": "Number of words",
    "level": "Level of the recording",
    "noise": "Noise of the recording",
    "turns": "Known turns of the speaker",
    "transcript": "Transcript in training",
}
VOTE_SHARES = (0.5, 0.7, 0.9)  # of the raters, at which the test rows are parted
# Where a part ends: name -> the first number that is no longer in it.
SECONDS = {"under 1 s": 1, "1 to 2 s": 2, "2 to 4 s": 4, "4 to 8 s": 8, "over 8 s": inf}
WORDS = {"0 to 2": 3, "3 to 5": 6, "6 to 10": 11, "over 10": inf}
TURNS = {"0": 1, "1 to 4": 5, "5 or more": inf}
THIRDS = ("low", "middle", "high")

Parts = dict[str, np.ndarray]  # name -> (N,) bool


def find_groups(test: Predictions, corpus: Corpus) -> dict[str, Parts]:
    """Return the parts of each of GROUPS that is known; none is empty, no two of a group overlap.

    A group is left out where all rows are alike in it, but for raters and transcripts.
    """
    kinds = ("corpus", "session", "speaker", "gender", "scenario")
    found = {kind: part_names(kind, test.groups(kind)) for kind in kinds}
    found |= {kind: part_thirds(kind, test, edges) for kind, edges in corpus.edges.items()}
    if test.facts is not None:
        found["votes"] = part_votes(test)
        found["length"] = part_numbers("length", test.measure("seconds"), SECONDS)
        found["words"] = part_numbers("words", test.measure("words"), WORDS)
        found["turns"] = part_numbers("known turns", count_turns(test), TURNS)
    if corpus.seen is not None:
        found["transcript"] = {"transcript seen": corpus.seen, "transcript unseen": ~corpus.seen}
    groups = {}
    for group in GROUPS:
        parts = {name: rows for name, rows in found.get(group, {}).items() if rows.any()}
        if len(parts) > 1 or (parts and group in ("votes", "transcript")):
            groups[group] = parts
    return groups


def part_names(kind: str, groups: np.ndarray | None) -> Parts:
    """Part the rows by the names of their groups (N,), of which "" is unknown."""
    names = sorted(
        {*([] if groups is None else groups.tolist())}, key=lambda name: (len(name), name)
    )
    return {f"{kind} {name}": groups == name for name in names if name and len(names) > 1}


def part_numbers(kind: str, values: np.ndarray | None, ends: dict[str, float]) -> Parts:
    """Part the rows by numbers (N,), nan where unknown; ends: of SECONDS, WORDS or TURNS."""
    if values is None:
        return {}
    starts = (-inf, *ends.values())
    parts = zip(ends.items(), starts, strict=False)
    return {f"{kind} {name}": (start <= values) & (values < end) for (name, end), start in parts}


def part_thirds(kind: str, test: Predictions, edges: np.ndarray) -> Parts:
    """Part the rows at the edges (N, 2) of the thirds of their training rows."""
    values = test.measure(kind)
    if values is None:
        return {}
    third = np.where(np.isfinite(values), (values[:, None] > edges).sum(axis=1), -1)
    return {f"{kind} {name}": third == number for number, name in enumerate(THIRDS)}


def part_votes(test: Predictions) -> Parts:
    """Part the rows by the share of the raters that chose the label."""
    votes = test.votes
    with np.errstate(invalid="ignore"):  # rows without votes
        share = votes[np.arange(len(votes)), test.truth] / votes.sum(axis=1)
    steps = zip((-1.0, *VOTE_SHARES), (*VOTE_SHARES, 1.0), strict=True)
    return {f"votes to {high:g}": (low < share) & (share <= high) for low, high in steps}


def count_turns(test: Predictions) -> np.ndarray:
    """Return how many test rows of the same speaker come before each row in its session, (N,)."""
    in_time = test.facts.sort_values(["dialogue_number", "turn"], kind="stable")
    counts = in_time.groupby(["session", "speaker"]).cumcount()
    return counts.reindex(test.facts.index).to_numpy()


def choose_part_groups(test: Predictions, part: np.ndarray) -> np.ndarray:
    """Return the groups that the intervals of a part (N,) of the rows leave out, (rows,).

    Within one session they are rows: they show what chance may do in it, and nothing of others.
    """
    sessions = test.groups("session")
    if sessions is not None and len(set(sessions[part])) == 1 and not part.all():
        return np.arange(part.sum())
    return test.resample(part)[0]
