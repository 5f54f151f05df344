"""Score every method on the test rows: intervals, paired tests, classes, parts of the rows."""

from itertools import combinations

import numpy as np

from fusion import metrics
from fusion.predictions import MODELS, Predictions

FEW = 5  # sessions, up to which the caption warns
# Compared besides stacking and the best single model: what the fusion gains over a plain vote, what
# the voice adds to the words, what each network is worth beside its classic, what turns around add.
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


def evaluate(test: Predictions, pred: dict, probabilities: dict, rules: dict) -> dict:
    """Score every method, and the paper's rules, on all test rows and on parts of them.

    pred, rules: method or rule -> labels (N,); probabilities: method -> (N, C), some are missing.
    """
    every_row = np.ones(len(test.truth), bool)
    groups, resampled = groups_of(test, every_row)
    best = max(MODELS, key=lambda model: (pred[model] == test.truth).mean())
    scored = score_part(test, every_row, pred, probabilities)["scores"]
    return {
        "resampled": resampled,
        "rows": [{"method": method, **row} for method, row in scored.items()],
        "best": find_best(test.truth, pred, probabilities, groups),
        "best_single": best,
        "comparisons": [
            {
                "first": first,
                "second": second,
                **metrics.compare(test.truth, pred[first], pred[second], groups),
            }
            for first, second in dict.fromkeys([("stacking", best), *PAIRS])
            if first in pred and second in pred
        ],
        "support": np.bincount(test.truth, minlength=metrics.CLASSES).tolist(),
        "per_class": {
            method: metrics.measure_classes(test.truth, labels, groups)
            for method, labels in pred.items()
        },
        "scenarios": score_scenarios(test, pred),
        "untied": score_untied(test, pred, probabilities),
        "agreement": count_agreement(test.truth, pred),
        "paper": score_part(test, every_row, rules, {})["scores"],
    }


def choose_groups(sessions, speakers, rows: int) -> tuple[np.ndarray, str]:
    """Return the group 0..G-1 of each row, (N,), and what the groups are, for the captions.

    Groups are sessions; of one session its speakers, and of one speaker the rows.
    sessions, speakers (N,), or None if they are unknown; rows: N.
    """
    for names, kind, doubt in (
        (sessions, "sessions", ""),
        (speakers, "speakers", " (too narrow: one session)"),
    ):
        own, groups = np.unique([] if names is None else names, return_inverse=True)
        if len(own) > 1:
            if kind == "sessions" and len(own) <= FEW:
                doubt = " (few: others may differ by more than these show)"
            return groups, f"{len(own)} {kind}{doubt}"
    known = "speakers are unknown" if speakers is None else "one speaker"
    return np.arange(rows), f"{rows} rows (too narrow: {known})"


def groups_of(test: Predictions, part: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the groups of the rows where `part` (N,) is true, and what they are."""
    sessions, speakers = (test.groups(kind) for kind in ("session", "speaker"))
    if sessions is not None:
        sessions, speakers = sessions[part], speakers[part]
    return choose_groups(sessions, speakers, int(part.sum()))


def score_part(
    test: Predictions,
    part: np.ndarray,
    pred: dict,
    probabilities: dict,
    grouped: tuple[np.ndarray, str] | None = None,
) -> dict:
    """Score methods on the rows where `part` (N,) is true, with intervals over their sessions.

    grouped: other groups of these rows than sessions, and what they are.
    """
    groups, resampled = grouped or groups_of(test, part)
    scores = {}
    for method, labels in pred.items():
        values = probabilities.get(method)
        shown = None if values is None else values[part]
        scores[method] = metrics.measure(test.truth[part], labels[part], shown, groups)
    return {"rows": int(part.sum()), "resampled": resampled, "scores": scores}


def find_best(truth: np.ndarray, pred: dict, probabilities: dict, groups: np.ndarray) -> dict:
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
        others = [found for method, found in rivals.items() if method != first]
        clear = all((rivals[first] - other).p < 0.05 for other in others)
        best[score] = first if clear else None
    return best


def score_scenarios(test: Predictions, pred: dict) -> dict:
    """Score scripted and improvised dialogues apart, if the test rows have both."""
    scenarios = test.groups("scenario")
    if scenarios is None or len(np.unique(scenarios)) < 2:
        return {}
    return {name: score_part(test, scenarios == name, pred, {}) for name in ("script", "impro")}


def score_untied(test: Predictions, pred: dict, probabilities: dict) -> dict | None:
    """Score the rows on whose label the raters agreed; None if the ties are not known."""
    if test.tied is None or test.tied.all():
        return None
    return score_part(test, ~test.tied, pred, probabilities)


def count_agreement(truth: np.ndarray, pred: dict) -> list[dict]:
    """Count rows by which models are right, from none to all three, and stacking's right ones."""
    right = {method: labels == truth for method, labels in pred.items()}
    parts = []
    for number in range(len(MODELS) + 1):
        for models in combinations(MODELS, number):
            rows = np.all([right[model] == (model in models) for model in MODELS], axis=0)
            stacking = int((rows & right["stacking"]).sum())
            parts.append({"right": models, "rows": int(rows.sum()), "stacking": stacking})
    return parts
