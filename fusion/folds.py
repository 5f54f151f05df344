"""Which rows fusions learn from, and which they predict: of one run of the models, or of folds.

Whatever learns does so on rows held out of training. Where there are none, it is cross-validated on
the test rows: no row's own group is learned from, but other test labels are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fusion import metrics, predictions, scoring
from fusion.fitting import Rows, cross_fit
from fusion.predictions import MODELS, Predictions


@dataclass(frozen=True)
class Fold:
    """One run of the models: the rows to learn from, the test rows, and two notes for people.

    facts: of the rows to learn from, see Predictions.
    """

    rows: Rows
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
    test = predictions.load(outputs)
    print(f"test rows: {describe(test)} from {outputs}")
    if not any((outputs / "valid" / f"{model}_output.npy").exists() for model in MODELS):
        print(f"no held-out rows in {outputs / 'valid'}: cross-validation on the test rows instead")
        groups, by = choose_groups(test)
        note = f"the test rows themselves, cross-validated {by}: other test labels are learned from"
        rows = Rows(test.logits, test.truth, groups, choose_clusters(test))
        return Fold(rows, test, False, note, f"{by} on the test rows", test.facts)
    held_out = predictions.load(outputs / "valid")
    predictions.check_pair(test, held_out)
    groups, by = choose_groups(held_out)
    settings = [run.get("settings", {}) for run in held_out.runs.values()]
    chose = "; they chose the models' epochs as well" * any(s.get("folds") == 0 for s in settings)
    note = f"held-out rows ({describe(held_out)}{chose})"
    by += f" on the held-out rows{chose.replace('; they', ', which')}"
    print(f"{note} from {outputs / 'valid'}")
    rows = Rows(held_out.logits, held_out.truth, groups, choose_clusters(held_out))
    return Fold(rows, test, True, note, by, held_out.facts)


def describe(rows: Predictions) -> str:
    """Say how many rows there are, of how many sessions and speakers."""
    if rows.groups("speaker") is None:
        return f"{len(rows.truth)} rows without known segment IDs"
    numbers = {kind: len(np.unique(rows.groups(kind))) for kind in ("session", "speaker")}
    counts = [f"{number} {kind}{'s' * (number > 1)}" for kind, number in numbers.items()]
    return f"{len(rows.truth)} rows of {', '.join(counts)}"


def choose_groups(rows: Predictions) -> tuple[np.ndarray | None, str]:
    """Return the groups (N,) that cross-validation keeps together, and how that is said."""
    sessions, speakers = rows.groups("session"), rows.groups("speaker")
    if speakers is None:
        return None, "by row (no segment IDs)"
    if len(np.unique(sessions)) >= 3:
        return sessions, "by session"
    if len(np.unique(speakers)) >= 2:
        return speakers, "by speaker (there are fewer than three sessions)"
    return None, "by row (there is one speaker)"


def choose_clusters(rows: Predictions) -> np.ndarray:
    """Return the groups (N,) of which standard errors are: those of the tables' intervals."""
    return scoring.groups_of(rows, np.ones(len(rows.truth), bool))[0]


def describe_spread(folds: list[Fold], pred: np.ndarray) -> str:
    """Say what a method's predictions (N,) of all folds' test rows are worth by fold; "" of one."""
    if len(folds) == 1:
        return ""
    ends = np.cumsum([len(fold.test.truth) for fold in folds])[:-1]
    parts = zip(folds, np.split(pred, ends), strict=True)
    scores = [metrics.scores(fold.test.truth, own) for fold, own in parts]
    said = []
    for name, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1"), ("uar", "UAR")):
        values = [row[name] for row in scores]
        said.append(f"{title} {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
    return f" Mean and standard deviation of stacking in the {len(folds)} folds: {', '.join(said)}."


def join(folds: list[Fold]) -> tuple[Predictions, Callable, str, str]:
    """Return the test rows of all folds in order, learn(fit) over them, and the two notes.

    Each fold's rows are predicted by what was fitted on its own; learn returns probabilities (N, C)
    and a list of what was fitted.
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
