"""A hidden Markov model of a dialogue: how emotions follow one another, turn by turn.

The emotion of a turn depends on the last emotion of the same speaker and on the last one of whoever
else spoke; the models' outputs for a turn depend on its emotion alone. The state holds the last
emotion of every speaker, so the forward-backward algorithm is exact (Rabiner, "A tutorial on hidden
Markov models", Proc. IEEE 77(2), 1989).

The transitions between emotions are learned from the labels of the training sessions; whether they
help is measured on held-out rows, by transitions of other sessions than theirs.
Shapes: N rows, n turns of a dialogue, C labels, S = C + 1 states of a speaker: the last label,
or that nothing was said yet.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fusion import metrics
from fusion.fitting import Fold, LogitSet, assign_folds

KINDS = ("past", "whole")
# Of the normal prior on every cell of the transitions, and on the shared part of their diagonals.
PRECISIONS = (10.0, 30.0, 100.0, 1000.0, 1e6)
SHARED_PRECISION = 0.1  # times the cells'
MOST_STATES = 5_000  # of one dialogue, S ** speakers: four speakers of seven labels
SMALLEST = 1e-6  # probability below which a wrong certainty costs no more


@dataclass(frozen=True)
class Turns:
    """One dialogue in the order in which it was spoken.

    rows (n,): the turns' rows.  speaker (n,): 0, 1, ... in order of appearance.  partner (n,): who
    else spoke last, -1 if nobody did.
    """

    rows: np.ndarray
    speaker: np.ndarray
    partner: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, names: np.ndarray) -> "Turns":
        """Take ordered rows (n,) and the speakers' names (n,)."""
        speaker = pd.factorize(names)[0]
        partner = np.full(len(rows), -1)
        for turn in range(1, len(rows)):
            changed = speaker[turn - 1] != speaker[turn]
            partner[turn] = speaker[turn - 1] if changed else partner[turn - 1]
        return cls(rows, speaker, partner)

    def last_labels(self, labels: np.ndarray, nothing: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the last label (n,) of the speaker and of the partner at each turn, or nothing."""
        last = np.full(self.speaker.max() + 2, nothing)  # the last place, -1, stays empty
        own, other = np.empty((2, len(self.rows)), np.int64)
        for turn, (row, speaker) in enumerate(zip(self.rows, self.speaker, strict=True)):
            own[turn], other[turn] = last[speaker], last[self.partner[turn]]
            last[speaker] = labels[row]
        return own, other


def cut_dialogues(table: pd.DataFrame) -> tuple[list[Turns], np.ndarray]:
    """Return the dialogues of a table in the order of time, and the session of each.

    table: with session, dialogue_number, turn, speaker; the rows may stand in any order.
    """
    table = table.reset_index(drop=True).sort_values("turn", kind="stable")
    groups = table.groupby(["session", "dialogue_number"])
    dialogues = [Turns.of(part.index.to_numpy(), part["speaker"]) for _, part in groups]
    return dialogues, np.array([str(session) for (session, _), _ in groups])


@dataclass(frozen=True)
class Transitions:
    """How much likelier (log) a label is after the speaker's own last one and the partner's.

    own, other (S, C): a row is the last label; the last row, nothing said yet, is zero.
    """

    own: np.ndarray
    other: np.ndarray

    def after(self, base: np.ndarray) -> np.ndarray:
        """Return P(label | own last, partner's last), (S, S, C); base (C,): without knowing."""
        return softmax(np.log(base) + self.own[:, None] + self.other[None], axis=-1)


def count_transitions(dialogues: list[Turns], labels: np.ndarray, classes: int) -> np.ndarray:
    """Count each dialogue's turns by own last label, partner's last and label, (D, S, S, C)."""
    counts = np.zeros((len(dialogues), classes + 1, classes + 1, classes))
    for count, turns in zip(counts, dialogues, strict=True):
        np.add.at(count, (*turns.last_labels(labels, classes), labels[turns.rows]), 1)
    return counts


def fit_transitions(counts: np.ndarray, precision: float) -> tuple[np.ndarray, Transitions]:
    """Return P(label) where nothing was said yet (C,), and the likeliest transitions.

    counts (S, S, C). A normal prior draws each cell to the shared part of the diagonal (every
    emotion lasts, or is caught, equally often), and the shared part to 0.
    """
    frequency = counts.sum((0, 1)) + 0.5
    C = len(frequency)
    start, cells, total = np.log(frequency / frequency.sum()), 2 * C * C, max(1.0, counts.sum())
    weights = np.r_[np.ones(C), np.full(cells, precision), [SHARED_PRECISION * precision] * 2]

    def unpack(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shared = steps[C + cells :, None, None] * np.eye(C)
        tables = steps[C : C + cells].reshape(2, C, C) + shared
        return start + steps[:C], np.pad(tables, ((0, 0), (0, 1), (0, 0)))

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        base, (own, other) = unpack(steps)
        log_p = log_softmax(base + own[:, None] + other[None], axis=-1)
        slope = np.exp(log_p) * counts.sum(-1, keepdims=True) - counts
        tables = np.stack([slope.sum(1), slope.sum(0)])[:, :C]
        slopes = np.r_[slope.sum((0, 1)), tables.ravel(), np.trace(tables, axis1=1, axis2=2)]
        value = weights @ steps**2 / 2 - (log_p * counts).sum()
        return value / total, (slopes + weights * steps) / total

    base, tables = unpack(minimize(loss, np.zeros(len(weights)), jac=True, method="L-BFGS-B").x)
    return softmax(base), Transitions(*tables)


def learn_transitions(counts: np.ndarray, sessions: np.ndarray) -> tuple[Transitions, float]:
    """Fit the transitions, and return the precision that predicts dialogues of other sessions best.

    counts (D, S, S, C): of `count_transitions`; sessions (D,): of one session alone, each dialogue
    counts as one.
    """
    has_several = len(np.unique(sessions)) > 1
    fold = assign_folds(sessions if has_several else np.arange(len(counts)))
    losses = dict.fromkeys(PRECISIONS, 0.0)
    for k in np.unique(fold) if fold.any() else ():
        seen, unseen = counts[fold != k].sum(0), counts[fold == k].sum(0)
        for precision in PRECISIONS:
            base, transitions = fit_transitions(seen, precision)
            losses[precision] -= (np.log(transitions.after(base)) * unseen).sum()
    # From one dialogue alone nothing is learned: there is no other to choose the precision by.
    best = min(PRECISIONS, key=losses.get) if fold.any() else PRECISIONS[-1]
    return fit_transitions(counts.sum(0), best)[1], best


def read_turns(
    probabilities: np.ndarray,
    dialogues: list[Turns],
    transitions: Transitions,
    base: np.ndarray,
    whole: bool,
) -> np.ndarray:
    """Return P(label | outputs of the dialogue's turns), (N, C): until the turn, or of all (whole).

    probabilities (N, C): the fusion's, of each turn by itself; base (C,): their mean. A dialogue of
    more than MOST_STATES keeps its probabilities.
    """
    after, result = np.pad(transitions.after(base), ((0, 0), (0, 0), (0, 1))), probabilities.copy()
    for turns in dialogues:
        if has_few_states(turns.speaker.max() + 1, len(base)):
            evidence = probabilities[turns.rows] / base
            result[turns.rows] = read_dialogue(evidence, turns, after, whole)
    return result


def has_few_states(speakers: int, classes: int) -> bool:
    """Tell whether a dialogue is short enough of speakers and labels to be read."""
    return (classes + 1) ** speakers <= MOST_STATES


def read_dialogue(evidence: np.ndarray, turns: Turns, after: np.ndarray, whole: bool) -> np.ndarray:
    """Return P(label | evidence) of one dialogue's turns, (n, C); evidence (n, C): ~ P(. | label).

    after (S, S, S): `Transitions.after`, and 0 for the state of who has said nothing. A belief has
    an axis (S) for each speaker and a last one (1) that stands for no partner.
    """
    speakers, S = int(turns.speaker.max()) + 1, len(after)
    axes, label = [*range(speakers + 1)], speakers + 1
    belief = np.zeros([S] * speakers + [1])
    belief[(S - 1,) * speakers] = 1
    whose = zip(turns.speaker.tolist(), turns.partner.tolist(), strict=True)
    likelihood, steps = np.pad(evidence, ((0, 0), (0, 1))), []
    for (own, partner), of_turn in zip(whose, likelihood, strict=True):
        table = (after if partner >= 0 else after[:, -1:]) * of_turn
        table_axes = [own, partner % label, label]  # no partner, -1: the last axis
        next_axes = [label if axis == own else axis for axis in axes]  # the speaker's last one now
        belief = np.einsum(belief, axes, table, table_axes, next_axes)
        belief /= belief.sum()
        steps.append((belief, table, table_axes, next_axes))
    message, result = np.ones_like(belief), np.empty_like(likelihood)
    for turn, (belief, table, table_axes, next_axes) in reversed([*enumerate(steps)]):
        labels = np.einsum(belief, axes, message, axes, table_axes[:1])
        result[turn] = labels / labels.sum()
        if whole:
            message = np.einsum(message, next_axes, table, table_axes, axes)
            message /= message.max()
    return result[:, :-1]


@dataclass(frozen=True)
class Dialogue:
    """The dialogue model of a stored fusion.

    base (C,): mean probabilities of the turns by themselves; past, whole: whether reading the turns
    until now, or all of them, did not harm held-out rows.
    """

    transitions: Transitions
    base: np.ndarray
    past: bool
    whole: bool

    def read(self, probabilities: np.ndarray, dialogues: list[Turns], kind: str) -> np.ndarray:
        """Return P(label) of rows (N, C) by the `past` or the `whole` dialogue; as is if unused."""
        if not getattr(self, kind):
            return probabilities
        return read_turns(probabilities, dialogues, self.transitions, self.base, kind == "whole")


@dataclass(frozen=True)
class Reading:
    """A fold's dialogues as they were read.

    probabilities: of the test rows by kind, (N, C).  dialogue: the stored model.  learned: for
    tables.  parts: of `learn_by_fold`, of the rows that the fusion was fitted on.
    """

    probabilities: dict[str, np.ndarray]
    dialogue: Dialogue
    learned: dict
    parts: list

    def read_later(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every fitting row (n,) but the first of a dialogue, and P(label) by the past.

        probabilities (N, C): of the fitting rows by themselves.
        """
        later = np.concatenate([turns.rows[1:] for inside, _ in self.parts for turns in inside])
        return later, cross_read(probabilities, self.dialogue.base, self.parts, "past")[later]


def read_fold(
    fold: Fold, crossed: np.ndarray, plain: np.ndarray, train_turns: pd.DataFrame | None
) -> Reading:
    """Read the test rows' dialogues.

    crossed, plain (N, C): the fusion's probabilities, cross-validated, of the rows that it was
    fitted on, and of the test rows.  train_turns: every labelled turn of the training sessions
    (session, dialogue_number, turn, speaker, label by number); without it the transitions are
    learned from the rows that the fusion was fitted on.
    """
    if train_turns is None or not fold.is_held_out:
        train_turns = fold.facts.assign(label=fold.rows.truth)
    base, classes = crossed.mean(0), crossed.shape[1]
    parts = learn_by_fold(fold.facts, train_turns, classes)
    read = {kind: cross_read(crossed, base, parts, kind) for kind in KINDS}
    gains = measure_gain(fold.rows, {"plain": crossed, **read})
    has_past = any(len(turns.rows) > 1 for inside, _ in parts for turns in inside)
    helps = {kind: has_past and gains[kind]["lead"] > -gains[kind]["error"] for kind in KINDS}
    dialogues, sessions = cut_dialogues(train_turns)
    counts = count_transitions(dialogues, train_turns["label"].to_numpy(), classes)
    transitions, precision = learn_transitions(counts, sessions)
    stored = Dialogue(transitions, base, **helps)
    learned = {"turns": len(train_turns), "precision": precision, "held_out": gains, "used": helps}
    learned |= {"own": transitions.own, "other": transitions.other}
    if fold.is_held_out:
        dialogues, _ = cut_dialogues(fold.test.facts)
        read = {kind: stored.read(plain, dialogues, kind) for kind in KINDS}
    else:  # the rows that were fitted on are the test rows
        read = {kind: read[kind] if helps[kind] else plain for kind in KINDS}
    return Reading(read, stored, learned, parts)


def learn_by_fold(
    facts: pd.DataFrame, train_turns: pd.DataFrame, classes: int
) -> list[tuple[list[Turns], Transitions]]:
    """Return the dialogues of rows by fold of sessions, and the transitions of other sessions.

    facts: of these rows; train_turns: see `read_fold`. A fold without other sessions is left out.
    """
    dialogues, sessions = cut_dialogues(facts)
    train_dialogues, train_sessions = cut_dialogues(train_turns)
    counts = count_transitions(train_dialogues, train_turns["label"].to_numpy(), classes)
    fold, parts = assign_folds(sessions), []
    for k in np.unique(fold):
        rest = ~np.isin(train_sessions, sessions[fold == k])
        if rest.any():
            inside = [dialogues[place] for place in np.flatnonzero(fold == k)]
            learned, _ = learn_transitions(counts[rest], train_sessions[rest])
            parts.append((inside, learned))
    return parts


def cross_read(probabilities: np.ndarray, base: np.ndarray, parts: list, kind: str) -> np.ndarray:
    """Return P(label) of rows (N, C); a session is read by transitions of other sessions.

    parts: of `learn_by_fold`; rows of no part keep their probabilities.
    """
    for inside, transitions in parts:
        probabilities = read_turns(probabilities, inside, transitions, base, kind == "whole")
    return probabilities


def measure_gain(rows: LogitSet, read: dict[str, np.ndarray]) -> dict[str, dict]:
    """Return log loss, accuracy, macro F1, lead and error of probabilities (N, C) by kind.

    lead: by how much log loss is lower than plain; error: the lead's standard error, between
    sessions or between rows, whichever is larger (metrics.Estimate).
    """
    every_row, gains = np.arange(len(rows.truth)), {}
    losses = {
        kind: -np.log(np.maximum(values[every_row, rows.truth], SMALLEST))
        for kind, values in read.items()
    }
    for kind, values in read.items():
        lead = metrics.estimate_mean(losses["plain"] - losses[kind], rows.group_numbers)
        scores = metrics.scores(rows.truth, values.argmax(axis=-1))
        gains[kind] = {
            "log_loss": float(losses[kind].mean()),
            **{name: scores[name] for name in ("accuracy", "macro_f1")},
            "lead": float(lead.value),
            "error": float(max(error for error, _ in lead.errors)),
        }
    return gains
