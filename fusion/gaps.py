"""The largest gap in accuracy between two parts of the test rows, within each group, and its test.

Two parts share no row, but mostly their sessions: the jackknife leaves a session out of both.
Shapes: N test rows.
"""

from collections.abc import Sequence

import numpy as np

from fusion import metrics
from fusion.parts import Parts
from fusion.predictions import Predictions

LEAST = 20  # rows of a part that a gap is taken from
UNITS = ("session", "speaker")  # groups that are not tested: intervals are over them


def find_gaps(test: Predictions, pred: np.ndarray, groups: dict[str, Parts]) -> list[dict]:
    """Return each group's largest gap in accuracy, the largest first.

    pred (N,); groups: of parts.find_groups. A gap is taken between parts of LEAST rows or more, in
    two sessions or more, unless all test rows are of one: then its interval is over rows.
    p is corrected twice: times the pairs of parts of which the gap is the largest (Bonferroni), and
    over the groups (Holm, "A simple sequentially rejective multiple test procedure", 1979).
    """
    right, gaps = pred == test.truth, []
    sessions = test.groups("session")
    if sessions is None or len(set(sessions)) == 1:
        sessions = np.arange(len(right))
    for group in [group for group in groups if group not in UNITS]:
        parts = {
            name: rows
            for name, rows in groups[group].items()
            if rows.sum() >= LEAST and len(set(sessions[rows])) > 1
        }
        if len(parts) < 2:
            continue
        names = sorted(parts, key=lambda name: right[parts[name]].mean())
        worst, best = names[0], names[-1]
        pairs = len(parts) * (len(parts) - 1) // 2
        found = compare_parts(right, parts[best], parts[worst], sessions)
        p = min(1.0, pairs * found["p"])
        gaps.append({"group": group, "best": best, "worst": worst, **found, "pairs": pairs, "p": p})
    for gap, p in zip(gaps, correct([gap["p"] for gap in gaps]), strict=True):
        gap["p"] = p
    return sorted(gaps, key=lambda gap: -gap["gap"])


def compare_parts(
    right: np.ndarray, first: np.ndarray, second: np.ndarray, sessions: np.ndarray
) -> dict:
    """Return the accuracy of one part less that of another, its interval and p.

    right (N,) bool; first, second: the parts, (N,) bool; sessions (N,). One t test, with one degree
    of freedom less than the sessions of the part that has fewer, or than its rows: whichever is
    the surer to err upwards.
    """
    units = np.unique(sessions, return_inverse=True)[1]
    gap, without, variance, freedom = 0.0, 0.0, 0.0, []
    for sign, part in ((1, first), (-1, second)):
        count, hits = np.bincount(units, part), np.bincount(units, part & right)
        rows, total = count.sum(), hits.sum()
        gap += sign * total / rows
        without += sign * (total - hits) / (rows - count)
        # Agresti and Caffo, 2000: a right and a wrong row more, so that no share is certain.
        share = (total + 1) / (rows + 2)
        variance += share * (1 - share) / (rows + 2)
        freedom.append((np.count_nonzero(count) - 1, rows - 1))
    of_sessions, of_rows = np.min(freedom, axis=0)
    number = len(np.unique(units[first | second]))
    error = np.sqrt((1 - 1 / number) * np.square(without - gap).sum())
    errors = [(error, of_sessions), (np.sqrt(variance), of_rows)]
    margin = metrics.margin_of(errors)
    bounds = np.clip([gap - margin, gap + margin], -1, 1).tolist()
    return {"gap": float(gap), "ci": bounds, "p": metrics.p_of(gap, errors)}


def correct(ps: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's procedure, in the same order."""
    order, adjusted, highest = np.argsort(ps, kind="stable"), [0.0] * len(ps), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[number]))
        adjusted[number] = highest
    return adjusted
