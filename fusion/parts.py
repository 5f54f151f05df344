"""Parts of the test rows that a researcher asks about, every method scored on each.

Shapes: N test rows.
"""

from typing import NamedTuple

import numpy as np

from fusion.predictions import Predictions
from fusion.scoring import score_part
from pipeline.labels import LABELS

SHARES = {"a half or less": 0.5, "up to .7": 0.7, "up to .9": 0.9, "more than .9": np.inf}


class Partition(NamedTuple):
    """One way to part the rows: for people its title and what the parts are; name -> (N,) bool."""

    title: str
    note: str
    masks: dict[str, np.ndarray]
    is_one_group: bool  # each part lies in one session


def score_parts(test: Predictions, pred: dict, seen: np.ndarray | None) -> list[dict]:
    """Score every method on every part, with intervals; a part without rows is left out.

    pred: method -> labels (N,); seen (N,): whether the transcript was trained on, None if unknown.
    Of a single session's part the intervals are over its rows, which says what chance may do within
    that session, and nothing of others.
    """
    scored = []
    for title, note, masks, is_one_group in find_partitions(test, seen):
        parts = {}
        for name, mask in masks.items():
            if not mask.any():
                continue
            rows = np.arange(mask.sum()), f"the {mask.sum()} rows of each alone"
            parts[name] = score_part(test, mask, pred, {}, rows if is_one_group else None)
        scored.append({"title": title, "note": note, "parts": parts})
    return scored


def find_partitions(test: Predictions, seen: np.ndarray | None) -> list[Partition]:
    """Return every partition that is known of the rows."""
    found = []
    alone = "95 % intervals as if the rows of one were independent: what chance may do within it."
    for kind in ("session", "speaker"):
        if (groups := test.groups(kind)) is not None:
            names = sorted(set(groups.tolist()), key=lambda name: (len(name), name))
            masks = {name: groups == name for name in names}
            found.append(Partition(f"By {kind}", f"In brackets {alone}", masks, True))
    over = "In brackets 95 % intervals over the sessions of each part."
    if (corpora := test.groups("corpus")) is not None:
        masks = {name: corpora == name for name in np.unique(corpora).tolist()}
        found.insert(0, Partition("By corpus", over, masks, False))
    if (share := share_of_votes(test)) is not None:
        place = np.digitize(share, list(SHARES.values())[:-1], right=True)
        masks = {name: (place == k) & ~np.isnan(share) for k, name in enumerate(SHARES)}
        masks["no votes on record"] = np.isnan(share)
        note = f"By the share of the raters' votes that the label has. {over}"
        found.append(Partition("By agreement of the raters", note, masks, False))
    if seen is not None:
        masks = {"seen": seen, "unseen": ~seen}
        note = f"Whether the very transcript is that of a training row, too. {over}"
        found.append(Partition("Transcripts seen and unseen in training", note, masks, False))
    return found


def share_of_votes(test: Predictions) -> np.ndarray | None:
    """Return the share of the raters' votes that each row's label has, (N,), nan without votes."""
    if test.facts is None:
        return None
    votes = test.facts[[f"votes_{label}" for label in LABELS]].to_numpy(np.float64)
    total = votes.sum(axis=1)
    share = votes[np.arange(len(votes)), test.truth] / np.maximum(total, 1)
    return np.where(total > 0, share, np.nan)
