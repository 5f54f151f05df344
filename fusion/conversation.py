"""The fusion that reads the conversation: fitted, judged on held-out rows, and applied.

How emotions follow one another is learned from the labels of the training sessions; whether that
helps is judged on held-out rows, by transitions of other sessions than theirs.
Shapes: N rows, C = 7 labels.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusion import dialogue, metrics
from fusion.choice import Choice
from fusion.dialogue import FOLDS, Dialogue, Transitions, Turns
from fusion.fitting import Rows
from fusion.folds import Fold

KINDS = ("past", "whole")
SMALLEST = 1e-6  # probability below which a wrong certainty costs no more


def read_folds(
    folds: list[Fold], choices: list[Choice], told: list[pd.DataFrame], plain: np.ndarray
) -> list["Reading"]:
    """Read the test rows of every fold; [] where the order of the turns is not on record.

    told: see `read_fold`, for each fold, or empty; plain (N, C): the fusion's, of all folds.
    """
    ends = np.cumsum([len(fold.test.truth) for fold in folds])
    parts = zip(
        folds, choices, told or [None] * len(folds), np.split(plain, ends[:-1]), strict=True
    )
    readings = [read_fold(*part) for part in parts]
    if None not in readings:
        return readings
    print("no dialogue rows: *_rows.tsv, which tells the order of the turns, is missing")
    return []


class Reading(NamedTuple):
    """P(label) of the test rows by kind, (N, C); what is stored; what was learned, for tables.

    smooth: probabilities (N, C) of the rows that were fitted on, each by itself -> which rows are
    read with the turns before them (n,), and their P(label) by transitions of other sessions
    (n, C). None where the past is not used.
    """

    probabilities: dict[str, np.ndarray]
    dialogue: Dialogue
    learned: dict
    smooth: Callable | None


def join(readings: list[Reading]) -> dict[str, np.ndarray]:
    """Return the probabilities (N, C) of all folds' test rows by method; {} without readings."""
    return {
        f"dialogue_{kind}": np.concatenate([reading.probabilities[kind] for reading in readings])
        for kind in (KINDS if readings else ())
    }


def read_fold(
    fold: Fold, choice: Choice, told: pd.DataFrame | None, plain: np.ndarray
) -> Reading | None:
    """Read the test rows' dialogues; None where the order of the turns is not on record.

    plain (N, C): the fusion's probabilities of the test rows. told: every labelled turn of the
    training sessions (session, dialogue_number, turn, speaker, label by number); without it those
    rows tell how emotions follow one another that the fusion was fitted on.
    """
    if fold.facts is None or fold.test.facts is None:
        return None
    if told is None or not fold.is_held_out:
        told = fold.facts.assign(label=fold.rows.truth)
    base, apart = choice.cross_validated.mean(0), learn_apart(fold.facts, told)
    crossed = cross_read(choice.cross_validated, base, apart)
    judged = judge(fold.rows, choice.cross_validated, crossed)
    found, sessions = dialogue.cut_table(told)
    labels = told["label"].to_numpy()
    transitions, learned = dialogue.learn_transitions(found, labels, sessions)
    has_past = any(len(turns.rows) > 1 for own, _ in apart for turns in own)
    helps = {kind: has_past and judged[kind]["lead"] > -judged[kind]["error"] for kind in KINDS}
    stored = Dialogue(transitions, base, **helps)
    smooth = partial(read_later, base=base, apart=apart) if helps["past"] else None
    learned |= {"turns": len(told), "held_out": judged, "used": helps}
    learned |= {name: getattr(transitions, name).tolist() for name in ("own", "other")}
    if not fold.is_held_out:  # the rows that were fitted on are the test rows
        chosen = {kind: crossed[kind] if helps[kind] else plain for kind in KINDS}
        return Reading(chosen, stored, learned, smooth)
    dialogues, _ = dialogue.cut_table(fold.test.facts)
    found = {kind: stored.read(plain, dialogues, kind) for kind in KINDS}
    return Reading(found, stored, learned, smooth)


def learn_apart(facts: pd.DataFrame, told: pd.DataFrame) -> list[tuple[list[Turns], Transitions]]:
    """Return the dialogues of rows by fold of sessions, and the transitions of other sessions.

    facts: of these rows; told: see `read_fold`. Sessions that are all that is told are left out.
    """
    dialogues, sessions = dialogue.cut_table(facts)
    known, theirs = dialogue.cut_table(told)
    labels, names, apart = told["label"].to_numpy(), np.unique(sessions), []
    for part in np.array_split(names, min(FOLDS, len(names))):
        rest = ~np.isin(theirs, part)
        if not rest.any():
            continue
        own = [turns for turns, name in zip(dialogues, sessions, strict=True) if name in part]
        others = [turns for turns, other in zip(known, rest, strict=True) if other]
        apart.append((own, dialogue.learn_transitions(others, labels, theirs[rest])[0]))
    return apart


def cross_read(
    probabilities: np.ndarray, base: np.ndarray, apart: list, kinds: tuple[str, ...] = KINDS
) -> dict[str, np.ndarray]:
    """Return P(label) of rows (N, C) by kind; of a session's labels its own rows learn nothing.

    probabilities (N, C): of the rows by themselves; base (C,): the fusion's mean; apart: see
    `learn_apart`, whose rows alone change.
    """
    found = {kind: probabilities.copy() for kind in kinds}
    for own, transitions in apart:
        rows = np.concatenate([turns.rows for turns in own])
        for kind, values in found.items():
            read = dialogue.read_turns(probabilities, own, transitions, base, kind == "whole")
            values[rows] = read[rows]
    return found


def read_later(
    probabilities: np.ndarray, base: np.ndarray, apart: list
) -> tuple[np.ndarray, np.ndarray]:
    """Return every row (n,) but the first of a dialogue, and their P(label) by the past (n, C)."""
    later = np.concatenate([turns.rows[1:] for own, _ in apart for turns in own])
    return later, cross_read(probabilities, base, apart, ("past",))["past"][later]


def judge(rows: Rows, plain: np.ndarray, read: dict[str, np.ndarray]) -> dict:
    """Return log loss, accuracy and macro F1 by kind; lead: how much log loss it saves, and error.

    error: the lead's standard error, between sessions or between rows, whichever is larger
    (metrics.Estimate).
    """
    truth = rows.truth
    losses = {
        kind: -np.log(np.maximum(values[np.arange(len(truth)), truth], SMALLEST))
        for kind, values in {"plain": plain, **read}.items()
    }
    judged = {}
    for kind, values in {"plain": plain, **read}.items():
        scores = metrics.scores(truth, values.argmax(axis=-1))
        lead = metrics.estimate_mean(losses["plain"] - losses[kind], rows.cluster_numbers)
        judged[kind] = {
            "log_loss": float(losses[kind].mean()),
            "accuracy": scores["accuracy"],
            "macro_f1": scores["macro_f1"],
            "lead": float(lead.value),
            "error": float(max(lead.errors)),
        }
    return judged


def summarise(readings: list[Reading]) -> dict:
    """Return what was learned, for tables: of several folds the means."""
    first, every = readings[0].learned, [reading.learned for reading in readings]
    return {
        "turns": [learned["turns"] for learned in every],
        "precision": [learned["precision"] for learned in every],
        "used": {kind: [learned["used"][kind] for learned in every] for kind in KINDS},
        "own": np.mean([learned["own"] for learned in every], axis=0).tolist(),
        "other": np.mean([learned["other"] for learned in every], axis=0).tolist(),
        "held_out": {
            kind: {
                score: float(np.mean([learned["held_out"][kind][score] for learned in every]))
                for score in scores
            }
            for kind, scores in first["held_out"].items()
        },
    }
