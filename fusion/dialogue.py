"""A hidden Markov model of a dialogue: how emotions follow one another, turn by turn.

The emotion of a turn depends on the last emotion of the same speaker and on the last one of whoever
else spoke; the models' outputs for a turn depend on its emotion alone. The state holds the last
emotion of every speaker, so the forward-backward algorithm is exact (Rabiner, "A tutorial on hidden
Markov models", Proc. IEEE 77(2), 1989).
Shapes: N rows, n turns of a dialogue, C = 7 labels, S = C + 1 states of a speaker: the last label,
or that nothing was said yet.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from common.files import LABELS

C = len(LABELS)
FOLDS = 5
# Of the normal prior on every cell of the transitions, and on the shared part of their diagonals.
PRECISIONS = (10.0, 30.0, 100.0, 1000.0, 1e6)
SHARED_PRECISION = 0.1  # times the cells'
MOST_SPEAKERS = 4  # of one dialogue: S ** speakers states


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
        numbers: dict = {}
        speaker = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        partner = np.full(len(rows), -1)
        for turn in range(1, len(rows)):
            changed = speaker[turn - 1] != speaker[turn]
            partner[turn] = speaker[turn - 1] if changed else partner[turn - 1]
        return cls(rows, speaker, partner)

    def last_labels(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the last label (n,) of the speaker and of the partner at each turn, C if none."""
        last = np.full(self.speaker.max() + 2, C)  # the last place, -1, stays empty
        own, other = np.empty((2, len(self.rows)), np.int64)
        for turn, (row, speaker) in enumerate(zip(self.rows, self.speaker, strict=True)):
            own[turn], other[turn] = last[speaker], last[self.partner[turn]]
            last[speaker] = labels[row]
        return own, other


def cut_dialogues(table: pd.DataFrame) -> tuple[list[Turns], np.ndarray]:
    """Return the dialogues of a table in the order of time, and the session of each.

    table: with session, dialogue_number, turn, speaker; the rows may stand in any order.
    """
    number = table.groupby(["session", "dialogue_number"]).ngroup().to_numpy()
    order = np.lexsort([table["turn"], number])
    cuts = np.flatnonzero(np.diff(number[order])) + 1
    speaker = table["speaker"].to_numpy()
    dialogues = [Turns.of(rows, speaker[rows]) for rows in np.split(order, cuts)]
    sessions = table["session"].astype(str).to_numpy()
    return dialogues, np.array([sessions[turns.rows[0]] for turns in dialogues])


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


def count_transitions(dialogues: list[Turns], labels: np.ndarray) -> np.ndarray:
    """Count turns by own last label, partner's last label and label, (S, S, C)."""
    counts = np.zeros((C + 1, C + 1, C))
    for turns in dialogues:
        np.add.at(counts, (*turns.last_labels(labels), labels[turns.rows]), 1)
    return counts


def fit_transitions(counts: np.ndarray, precision: float) -> tuple[np.ndarray, Transitions]:
    """Return P(label) where nothing was said yet (C,), and the likeliest transitions.

    counts (S, S, C). A normal prior draws each cell to the shared part of the diagonal (every
    emotion lasts, or is caught, equally often), and the shared part to 0.
    """
    frequency = counts.sum((0, 1)) + 0.5
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


def learn_transitions(
    dialogues: list[Turns], labels: np.ndarray, groups: np.ndarray
) -> tuple[Transitions, dict]:
    """Fit the transitions with the precision that predicts dialogues of other groups best.

    groups: the session of each dialogue. Returns the transitions, and log losses by precision.
    """
    from sklearn.model_selection import GroupKFold  # takes a second, and predicting needs none

    counts = np.stack([count_transitions([turns], labels) for turns in dialogues])
    if len(np.unique(groups)) < 2:
        groups = np.arange(len(dialogues))
    losses = dict.fromkeys(PRECISIONS, 0.0)
    parts = min(FOLDS, len(np.unique(groups)))
    # From one dialogue alone nothing is learned: there is no other to choose the precision by.
    splits = GroupKFold(parts).split(groups, groups=groups) if parts > 1 else ()
    for rest, held in splits:
        seen, unseen = counts[rest].sum(0), counts[held].sum(0)
        for precision in PRECISIONS:
            base, transitions = fit_transitions(seen, precision)
            losses[precision] -= (np.log(transitions.after(base)) * unseen).sum() / counts.sum()
    best = min(PRECISIONS, key=losses.get) if parts > 1 else PRECISIONS[-1]
    return fit_transitions(counts.sum(0), best)[1], {"precision": best, "losses": losses}


def read_turns(
    probabilities: np.ndarray,
    dialogues: list[Turns],
    transitions: Transitions,
    base: np.ndarray,
    whole: bool,
) -> np.ndarray:
    """Return P(label | outputs of the dialogue's turns), (N, C): until the turn, or of all (whole).

    probabilities (N, C): the fusion's, of each turn by itself; base (C,): their mean. A dialogue of
    more than MOST_SPEAKERS keeps its probabilities.
    """
    after, result = transitions.after(base), probabilities.copy()
    for turns in dialogues:
        if turns.speaker.max() < MOST_SPEAKERS:
            evidence = probabilities[turns.rows] / base
            result[turns.rows] = read_dialogue(evidence, turns, after, whole)
    return result


def read_dialogue(evidence: np.ndarray, turns: Turns, after: np.ndarray, whole: bool) -> np.ndarray:
    """Return P(label | evidence) of one dialogue's turns, (n, C); evidence (n, C): ~ P(. | label).

    A belief has an axis (S) for each speaker and a last one (1) that stands for no partner.
    """
    speakers = turns.speaker.max() + 1
    belief = np.zeros((*[C + 1] * speakers, 1))
    belief[(C,) * speakers] = 1
    # A turn's axes, and P(label | own, partner) x evidence.
    steps = [
        ((own, partner), (after if partner >= 0 else after[:, C:]) * heard)
        for own, partner, heard in zip(turns.speaker, turns.partner, evidence, strict=True)
    ]
    beliefs = []
    for axes, table in steps:
        belief = np.moveaxis(belief, axes, (0, 1))
        belief = np.einsum("ab...,abc->cb...", belief, table)
        belief = np.concatenate([belief, np.zeros_like(belief[:1])]) / belief.sum()
        belief = np.moveaxis(belief, (0, 1), axes)
        beliefs.append(belief)
    message, result = np.ones_like(belief), np.empty_like(evidence)
    for turn in reversed(range(len(steps))):
        (own, partner), table = steps[turn]
        labels = np.moveaxis(beliefs[turn] * message, own, 0)[:C].reshape(C, -1).sum(1)
        result[turn] = labels / labels.sum()
        if whole:
            message = np.moveaxis(message, (own, partner), (0, 1))[:C]
            message = np.einsum("cb...,abc->ab...", message, table)
            message = np.moveaxis(message / message.max(), (0, 1), (own, partner))
    return result


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

    def to_json(self) -> dict:
        tables = {name: getattr(self.transitions, name).tolist() for name in ("own", "other")}
        return {**tables, "base": self.base.tolist(), "past": self.past, "whole": self.whole}

    @classmethod
    def from_json(cls, content: dict) -> "Dialogue":
        """Read what `to_json` wrote; anything odd is a KeyError, TypeError or ValueError."""
        own, other, base = (np.array(content[name], float) for name in ("own", "other", "base"))
        shapes = own.shape, other.shape, base.shape
        if shapes != ((C + 1, C), (C + 1, C), (C,)) or not (base > 0).all():
            raise ValueError("no transitions between the emotions")
        if not all(np.isfinite(each).all() for each in (own, other, base)):
            raise ValueError("transitions that are no numbers")
        if not {content["past"], content["whole"]} <= {True, False}:
            raise ValueError("not said whether the conversation is used")
        return cls(Transitions(own, other), base, content["past"], content["whole"])
