"""Score every method on the test rows and on parts of them, with intervals and paired tests.

Shapes: M models, N rows, C = 7 labels.
"""

import numpy as np
from scipy.special import bdtr

from common.files import LABELS
from fusion import metrics
from fusion.predictions import Predictions

# Compared besides stacking and the best single model: the gain of the fusion over a plain vote, of
# the voice over the words, of each network over its classic, of dialogue context.
PAIRS = (
    ("stacking", "soft"),
    ("stacking", "text"),
    ("cmbert", "text"),
    ("text", "baseline_text"),
    ("audio", "baseline_audio"),
    ("stacking", "baseline_both"),
    ("dialogue_past", "stacking"),
    ("dialogue_whole", "stacking"),
)
VOTE_SHARES = {"a half or less": 0.5, "up to .7": 0.7, "up to .9": 0.9, "more than .9": np.inf}
MOST_COMBINATIONS = 16  # of models that are right, shown apart

ByMethod = dict[str, np.ndarray]  # method -> labels (N,) or probabilities (N, C)


def evaluate(
    test: Predictions,
    pred: ByMethod,
    probabilities: ByMethod,
    rules: ByMethod,
    seen: np.ndarray | None,
) -> dict:
    """Score every method, and the paper's rules, on all test rows and on parts of them.

    rules: rule -> labels (N,); probabilities: some methods have none; seen (N,): whether the
    transcript is in the training rows, None if unknown.
    """
    every_row = np.ones(len(test.truth), bool)
    groups, resampled = groups_of(test, every_row)
    best = max(test.models, key=lambda model: (pred[model] == test.truth).mean())
    pairs = dict.fromkeys([("stacking", best), *PAIRS])
    scored = score_part(test, every_row, pred, probabilities)["scores"]
    untied = None
    if test.tied is not None and not test.tied.all():
        untied = score_part(test, ~test.tied, pred, probabilities)
    return {
        "resampled": resampled,
        "rows": [{"method": method, **row} for method, row in scored.items()],
        "best": find_best(test.truth, pred, probabilities, groups),
        "best_single": best,
        "comparisons": [
            {"first": a, "second": b, **compare(test.truth, pred[a], pred[b], groups)}
            for a, b in pairs
            if a in pred and b in pred
        ],
        "support": np.bincount(test.truth, minlength=metrics.CLASSES).tolist(),
        "per_class": {
            method: measure_classes(test.truth, labels, groups) for method, labels in pred.items()
        },
        "untied": untied,
        "agreement": count_agreement(test, pred),
        "paper": score_part(test, every_row, rules, {})["scores"],
        "parts": score_parts(test, pred, seen),
    }


def groups_of(test: Predictions, part: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the groups of the rows where `part` (N,) is true, and what they are."""
    names = [test.groups(kind) for kind in ("session", "speaker")]
    return metrics.choose_groups(*(n if n is None else n[part] for n in names), int(part.sum()))


def score_part(
    test: Predictions,
    part: np.ndarray,
    pred: ByMethod,
    probabilities: ByMethod,
    grouped: tuple[np.ndarray, str] | None = None,
) -> dict:
    """Score methods on the rows where `part` (N,) is true, with intervals over their sessions.

    grouped: other groups of these rows than sessions, and what they are.
    """
    groups, resampled = grouped or groups_of(test, part)
    scores = {}
    for method, labels in pred.items():
        values = probabilities[method][part] if method in probabilities else None
        scores[method] = metrics.measure(test.truth[part], labels[part], values, groups)
    return {"rows": int(part.sum()), "resampled": resampled, "scores": scores}


def measure_classes(truth: np.ndarray, pred: np.ndarray, groups: np.ndarray) -> dict:
    """Return precision, recall and f1 of each class with intervals: {name: C, name_ci: C x 2}."""
    result, matrix = {}, metrics.confusion(truth, pred)
    for name, score in metrics.estimate(metrics.class_scores, truth, pred, groups).items():
        rows = matrix.sum(axis=0 if name == "precision" else 1)
        result[name] = score.value.tolist()
        result[f"{name}_ci"] = metrics.share_interval(score, rows).tolist()
    return result


def compare(truth: np.ndarray, pred: np.ndarray, other: np.ndarray, groups: np.ndarray) -> dict:
    """Compare two predictions of the same rows: by groups, and row by row (McNemar's test).

    Returns, for accuracy, macro_f1 and uar, the difference (first less second), its interval and p,
    which are one paired t test with one degree of freedom less than groups (Cameron and Miller,
    2015: A practitioner's guide to cluster-robust inference); and McNemar's exact two-sided p with
    the numbers of rows that only one of the two has right.
    """
    first, second = (
        metrics.estimate(metrics.score_matrices, truth, labels, groups) for labels in (pred, other)
    )
    result = {}
    for name in ("accuracy", "macro_f1", "uar"):
        difference = first[name] - second[name]
        result |= {name: float(difference.value), f"{name}_p": difference.p}
        result[f"{name}_ci"] = metrics.plain_interval(difference, -1)
    only = [int(((a == truth) & (b != truth)).sum()) for a, b in ((pred, other), (other, pred))]
    p = min(1.0, 2 * float(bdtr(min(only), sum(only), 0.5)))
    return {**result, "first_only": only[0], "second_only": only[1], "mcnemar_p": p}


def find_best(
    truth: np.ndarray, pred: ByMethod, probabilities: ByMethod, groups: np.ndarray
) -> dict:
    """Return for each score the method that beats every other, p < .05 in each test, or None.

    All tests must agree, so their number makes no false winner likelier.
    """
    estimates = {
        method: metrics.estimate_all(truth, labels, probabilities.get(method), groups)
        for method, labels in pred.items()
    }
    best = {}
    for score in metrics.SCORES:
        sign = -1 if score == "ece" else 1
        rivals = {method: found[score] for method, found in estimates.items() if score in found}
        first = max(rivals, key=lambda method: sign * rivals[method].value)
        clear = all((rivals[first] - rivals[m]).p < 0.05 for m in rivals if m != first)
        best[score] = first if clear else None
    return best


def count_agreement(test: Predictions, pred: ByMethod) -> list[dict]:
    """Count rows by which models are right, and how many of them stacking has right.

    Combinations that occur, by the number of models; of many the rarest are counted as one, whose
    `right` is None.
    """
    right = np.stack([pred[model] == test.truth for model in test.models], axis=1)
    combinations, place, counts = np.unique(right, axis=0, return_inverse=True, return_counts=True)
    place, stacked = place.ravel(), pred["stacking"] == test.truth
    shown = np.argsort(-counts, kind="stable")[:MOST_COMBINATIONS]
    shown = sorted(shown, key=lambda k: (combinations[k].sum(), (~combinations[k]).tolist()))
    parts = [(np.array(test.models)[combinations[k]].tolist(), place == k) for k in shown]
    if len(counts) > len(shown):
        parts.append((None, ~np.isin(place, shown)))
    return [
        {"right": models, "rows": int(rows.sum()), "stacking": int((rows & stacked).sum())}
        for models, rows in parts
    ]


def score_parts(test: Predictions, pred: ByMethod, seen: np.ndarray | None) -> list[dict]:
    """Score every method on every part of the test rows, with intervals.

    Returns for each partition title, note and {name: scores}; a part without rows is left out. Of a
    part within one session the intervals are over its rows: they show what chance may do within
    that session, and nothing of others.
    """
    over = "In brackets 95 % intervals over the sessions of each part."
    within = "In brackets 95 % intervals as if the rows of a part were independent."
    partitions = []
    for kind, note in (
        ("corpus", over),
        ("session", within),
        ("speaker", within),
        ("scenario", f"Scripted and improvised dialogues. {over}"),
    ):
        if (groups := test.groups(kind)) is not None:
            names = sorted(set(groups.tolist()), key=lambda name: (len(name), name))
            if kind in ("session", "speaker") or len(names) > 1:
                masks = {name: groups == name for name in names}
                partitions.append((f"By {kind}", note, masks))
    if (share := share_of_votes(test)) is not None:
        place = np.digitize(share, list(VOTE_SHARES.values())[:-1], right=True)
        masks = {name: (place == k) & ~np.isnan(share) for k, name in enumerate(VOTE_SHARES)}
        masks["no votes on record"] = np.isnan(share)
        note = f"By the share of the raters' votes that the label has. {over}"
        partitions.append(("By agreement of the raters", note, masks))
    if seen is not None:
        note = f"Whether the same transcript is in the training rows. {over}"
        masks = {"seen": seen, "unseen": ~seen}
        partitions.append(("Transcripts seen and unseen in training", note, masks))
    scored = []
    for title, note, masks in partitions:
        parts = {}
        for name, mask in masks.items():
            rows = np.arange(mask.sum()), f"the {mask.sum()} rows of each alone"
            if len(rows[0]):
                grouped = rows if note == within else None
                parts[name] = score_part(test, mask, pred, {}, grouped)
        scored.append({"title": title, "note": note, "parts": parts})
    return scored


def share_of_votes(test: Predictions) -> np.ndarray | None:
    """Return the share of the raters' votes that each row's label has, (N,), nan without votes."""
    if test.facts is None:
        return None
    votes = test.facts[[f"votes_{label}" for label in LABELS]].to_numpy(np.float64)
    total = votes.sum(axis=1)
    share = votes[np.arange(len(votes)), test.truth] / np.maximum(total, 1)
    return np.where(total > 0, share, np.nan)
