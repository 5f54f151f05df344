"""Which rows fusions learn from, and which they predict: of one run of the models, or of folds.

All fitting is done on rows held out of training. Where there are none, it is cross-validated on the
test rows: no row's own group is learned from, but other test labels are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fusion import metrics, predictions
from fusion.fitting import LogitSet, cross_fit
from fusion.predictions import HELD_OUT, Predictions


@dataclass(frozen=True)
class Fold:
    """One run of the models: the rows to learn from, the test rows, and two notes for people.

    facts: of the rows to learn from, see Predictions.
    """

    rows: LogitSet
    test: Predictions
    is_held_out: bool
    fitted_on: str
    compared_by: str
    facts: pd.DataFrame | None

    def learn(self, fit: Callable) -> tuple:
        """Return probabilities of the test rows (N, C), and what was fitted on all rows."""
        fitted = fit(self.rows)
        if self.is_held_out:
            return fitted.predict(self.test.logits), fitted
        return cross_fit(fit, self.rows), fitted


def read(outputs: Path) -> Fold:
    """Read the test rows and, if any model wrote them, the held-out rows."""
    test, folder = predictions.load(outputs), outputs / HELD_OUT
    print(f"test rows: {describe(test)} of {', '.join(test.models)} from {outputs}")
    if not predictions.find_models(folder):
        print(f"no held-out rows in {folder}: cross-validation on the test rows instead")
        rows, by = to_logit_set(test)
        note = f"the test rows themselves, cross-validated {by}: other test labels are learned from"
        return Fold(rows, test, False, note, f"{by} on the test rows", test.facts)
    held_out = predictions.load(folder)
    predictions.check_held_out(test, held_out)
    rows, by = to_logit_set(held_out)
    chose = ""
    if any(run.get("settings", {}).get("folds") == 0 for run in held_out.runs.values()):
        chose = "they chose the models' epochs as well"
    note = f"held-out rows ({'; '.join(filter(None, (describe(held_out), chose)))})"
    by += " on the held-out rows" + chose.replace("they", ", which", 1)
    print(f"{note} from {folder}")
    return Fold(rows, test, True, note, by, held_out.facts)


def describe(rows: Predictions) -> str:
    """Say how many rows there are, of how many sessions and speakers."""
    if rows.facts is None:
        return f"{len(rows.truth)} rows of unknown speakers"
    numbers = {kind: len(np.unique(rows.groups(kind))) for kind in ("session", "speaker")}
    counts = [f"{number} {kind}{'s' * (number > 1)}" for kind, number in numbers.items()]
    return f"{len(rows.truth)} rows of {', '.join(counts)}"


def to_logit_set(rows: Predictions) -> tuple[LogitSet, str]:
    """Return rows to learn from, and a description of the groups of the cross-validation.

    Groups are sessions, speakers where there are fewer than three sessions, or none. Standard
    errors are over the groups of the tables' intervals.
    """
    sessions, speakers = rows.groups("session"), rows.groups("speaker")
    if speakers is None:
        groups, by = None, "by row (speakers are unknown)"
    elif len(np.unique(sessions)) >= 3:
        groups, by = sessions, "by session"
    elif len(np.unique(speakers)) >= 2:
        groups, by = speakers, "by speaker (there are fewer than three sessions)"
    else:
        groups, by = None, "by row (there is one speaker)"
    clusters = metrics.choose_groups(sessions, speakers, len(rows.truth))[0]
    return LogitSet(rows.logits, rows.truth, groups, clusters), by


def join(folds: list[Fold]) -> tuple[Predictions, Callable, str, str]:
    """Return the test rows of all folds in order, learn(fit) over them, and the two notes.

    Each fold's rows are predicted by what was fitted on the same fold; learn returns probabilities
    (N, C) and a list of what was fitted.
    """

    def learn(fit: Callable) -> tuple[np.ndarray, list]:
        probabilities, fitted = zip(*[fold.learn(fit) for fold in folds], strict=True)
        return np.concatenate(probabilities), list(fitted)

    test = predictions.join([fold.test for fold in folds])
    on = "; ".join(dict.fromkeys(fold.fitted_on for fold in folds))
    by = "; ".join(dict.fromkeys(fold.compared_by for fold in folds))
    if len(folds) > 1:
        on = f"rows of the same fold, of {len(folds)}: {on}"
    return test, learn, on, by
