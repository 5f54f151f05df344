"""The fusion with dialogue context: fitted, judged on held-out rows, and applied to test rows.

The transitions between emotions are learned from the labels of the training sessions; whether they
help is judged on held-out rows, by transitions of other sessions than theirs.
Shapes: N rows, n of them, C = 7 labels.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusion import metrics
from fusion.choice import Choice
from fusion.dialogue import FOLDS, Dialogue, Transitions, Turns, cut_dialogues, learn_transitions
from fusion.dialogue import read_turns as read_dialogues
from fusion.fitting import LogitSet
from fusion.folds import Fold
from fusion.metrics import Estimate

KINDS = ("past", "whole")
SMALLEST = 1e-6  # probability below which a wrong certainty costs no more


class Reading(NamedTuple):
    """P(label) of the test rows by kind, (N, C); the stored model; what was learned, for tables.

    smooth: probabilities (N, C) of the fitting rows, each by itself -> which of them are read with
    the turns before them (n,), and their P(label) by transitions of other sessions (n, C). None
    where the past is not used.
    """

    probabilities: dict[str, np.ndarray]
    dialogue: Dialogue
    learned: dict
    smooth: Callable | None


def read_folds(
    folds: list[Fold], choices: list[Choice], turns: list[pd.DataFrame], plain: np.ndarray
) -> list[Reading]:
    """Read the test rows of every fold; [] where the order of the turns is not on record.

    turns: for each fold see `read_fold`, or empty; plain (N, C): the fusion's, of all folds.
    """
    if any(fold.facts is None or fold.test.facts is None for fold in folds):
        print("no dialogue rows: *_rows.tsv with the order of the turns is missing")
        return []
    ends = np.cumsum([len(fold.test.truth) for fold in folds])
    every = turns or [None] * len(folds)
    parts = zip(folds, choices, every, np.split(plain, ends[:-1]), strict=True)
    return [read_fold(*part) for part in parts]


def join(readings: list[Reading]) -> dict[str, np.ndarray]:
    """Return the probabilities (N, C) of all folds' test rows by method; {} without readings."""
    return {
        f"dialogue_{kind}": np.concatenate([reading.probabilities[kind] for reading in readings])
        for kind in (KINDS if readings else ())
    }


def read_fold(
    fold: Fold, choice: Choice, train_turns: pd.DataFrame | None, plain: np.ndarray
) -> Reading:
    """Read the test rows' dialogues.

    plain (N, C): the fusion's probabilities of the test rows. train_turns: every labelled turn of
    the training sessions (session, dialogue_number, turn, speaker, label by number); without it the
    transitions are learned from the rows that the fusion was fitted on.
    """
    if train_turns is None or not fold.is_held_out:
        train_turns = fold.facts.assign(label=fold.rows.truth)
    base, parts = choice.cross_validated.mean(0), learn_apart(fold.facts, train_turns)
    crossed = cross_read(choice.cross_validated, base, parts)
    judged = judge(fold.rows, choice.cross_validated, crossed)
    dialogues, sessions = cut_dialogues(train_turns)
    transitions, learned = learn_transitions(dialogues, train_turns["label"].to_numpy(), sessions)
    has_past = any(len(turns.rows) > 1 for inside, _ in parts for turns in inside)
    helps = {kind: has_past and judged[kind]["lead"] > -judged[kind]["error"] for kind in KINDS}
    stored = Dialogue(transitions, base, **helps)
    smooth = partial(read_later, base=base, parts=parts) if helps["past"] else None
    tables = {name: getattr(transitions, name).tolist() for name in ("own", "other")}
    learned |= {"turns": len(train_turns), "held_out": judged, "used": helps, **tables}
    if fold.is_held_out:
        dialogues, _ = cut_dialogues(fold.test.facts)
        read = {kind: stored.read(plain, dialogues, kind) for kind in KINDS}
    else:  # the rows that were fitted on are the test rows
        read = {kind: crossed[kind] if helps[kind] else plain for kind in KINDS}
    return Reading(read, stored, learned, smooth)


def learn_apart(
    facts: pd.DataFrame, train_turns: pd.DataFrame
) -> list[tuple[list[Turns], Transitions]]:
    """Return the dialogues of rows by fold of sessions, and the transitions of other sessions.

    facts: of these rows; train_turns: see `read_fold`. A fold without other sessions is left out.
    """
    dialogues, sessions = cut_dialogues(facts)
    known, theirs = cut_dialogues(train_turns)
    labels, names, parts = train_turns["label"].to_numpy(), np.unique(sessions), []
    for part in np.array_split(names, min(FOLDS, len(names))):
        rest = ~np.isin(theirs, part)
        if rest.any():
            inside = [
                turns for turns, name in zip(dialogues, sessions, strict=True) if name in part
            ]
            others = [turns for turns, other in zip(known, rest, strict=True) if other]
            parts.append((inside, learn_transitions(others, labels, theirs[rest])[0]))
    return parts


def cross_read(
    probabilities: np.ndarray, base: np.ndarray, parts: list, kinds: tuple[str, ...] = KINDS
) -> dict[str, np.ndarray]:
    """Return P(label) of rows (N, C) by kind; a session is read by transitions of other sessions.

    probabilities (N, C): of the rows by themselves; base (C,): the fusion's mean; parts: of
    `learn_apart`; rows of no part keep their probabilities.
    """
    read = {kind: probabilities.copy() for kind in kinds}
    for inside, transitions in parts:
        rows = np.concatenate([turns.rows for turns in inside])
        for kind, values in read.items():
            whole = kind == "whole"
            values[rows] = read_dialogues(probabilities, inside, transitions, base, whole)[rows]
    return read


def read_later(
    probabilities: np.ndarray, base: np.ndarray, parts: list
) -> tuple[np.ndarray, np.ndarray]:
    """Return every row (n,) but the first of a dialogue, and their P(label) by the past (n, C)."""
    later = np.concatenate([turns.rows[1:] for inside, _ in parts for turns in inside])
    return later, cross_read(probabilities, base, parts, ("past",))["past"][later]


def judge(rows: LogitSet, plain: np.ndarray, read: dict[str, np.ndarray]) -> dict[str, dict]:
    """Return log loss, accuracy, macro F1, lead and error by kind, `plain` included.

    lead: by how much log loss is lower than plain; error: the lead's standard error, between
    sessions or between rows, whichever is larger (metrics.Estimate).
    """
    every, groups, count = {"plain": plain, **read}, rows.cluster_numbers, len(rows.truth)
    likelihood = {kind: values[np.arange(count), rows.truth] for kind, values in every.items()}
    losses = {kind: -np.log(np.maximum(values, SMALLEST)) for kind, values in likelihood.items()}
    judged = {}
    for kind, values in every.items():
        saved = losses["plain"] - losses[kind]
        others = np.maximum(count - np.bincount(groups), 1)
        without_group = (saved.sum() - np.bincount(groups, weights=saved)) / others
        without_row = (saved.sum() - saved) / max(count - 1, 1)
        scores = metrics.scores(rows.truth, values.argmax(axis=-1))
        judged[kind] = {
            "log_loss": float(losses[kind].mean()),
            "accuracy": scores["accuracy"],
            "macro_f1": scores["macro_f1"],
            "lead": float(saved.mean()),
            "error": float(max(Estimate(saved.mean(), without_group, without_row).errors)),
        }
    return judged


def summarise(readings: list[Reading]) -> dict:
    """Return what was learned, for tables: of several folds the means."""
    every = [reading.learned for reading in readings]
    return {
        **{name: [learned[name] for learned in every] for name in ("turns", "precision")},
        "used": {kind: [learned["used"][kind] for learned in every] for kind in KINDS},
        **{
            name: np.mean([learned[name] for learned in every], 0).tolist()
            for name in ("own", "other")
        },
        "held_out": {
            kind: {
                score: float(np.mean([learned["held_out"][kind][score] for learned in every]))
                for score in scores
            }
            for kind, scores in every[0]["held_out"].items()
        },
    }
