"""The published rules of fusion: all of them, and nothing else.

Shapes: M = 3 models (predictions.MODELS), N rows, C = 7 labels.
"""

import numpy as np
from scipy.special import softmax

from fusion.fitting import LIGHTGBM, Fitted, Rows, fit_classifier, load_lightgbm
from fusion.predictions import MODELS
from pipeline.labels import LABELS

PUBLISHED_WEIGHTS = {"audio": 0.10, "text": 0.67, "cmbert": 0.23}
PUBLISHED_VOTES = {"audio": 0.2, "text": 0.5, "cmbert": 0.3}  # in the order in which they vote


def published_softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over all entries of a model's matrix (..., N, C), not over each row."""
    return softmax(logits, axis=(-2, -1))


def published_soft(logits: np.ndarray) -> np.ndarray:
    """Return the label with the largest sum of the published softmax, (N,)."""
    return published_softmax(logits).sum(axis=0).argmax(axis=-1)


def published_weighted_soft(logits: np.ndarray) -> np.ndarray:
    """The same with the weights that the paper wrote by hand, (N,)."""
    weights = [PUBLISHED_WEIGHTS[model] for model in MODELS]
    return np.tensordot(weights, published_softmax(logits), axes=1).argmax(axis=-1)


def published_hard(logits: np.ndarray) -> np.ndarray:
    """Return the label with the best score = votes x the weight of its first voter, (N,).

    The models vote in the order audio, text, CM-BERT; a later label must score strictly more. With
    these weights the text model's label always wins: it scores .5 alone (against at most .4), .4
    with audio (against .3), 1.0 with CM-BERT and .6 with both.
    """
    pred = dict(zip(MODELS, logits.argmax(axis=-1), strict=True))
    chosen, best = np.zeros(logits.shape[1], np.int64), np.zeros(logits.shape[1])
    voted = np.zeros((logits.shape[1], len(LABELS)), bool)
    every_row = np.arange(logits.shape[1])
    for model, weight in PUBLISHED_VOTES.items():
        votes = sum(pred[other] == pred[model] for other in MODELS)
        first = ~voted[every_row, pred[model]]
        better = first & (votes * weight > best)
        chosen[better], best[better] = pred[model][better], (votes * weight)[better]
        voted[every_row, pred[model]] = True
    return chosen


def fit_published_stacking(rows: Rows) -> Fitted:
    """LightGBM's defaults on the three predicted label numbers: the stacker of the paper."""
    model = load_lightgbm().LGBMClassifier(verbose=-1, **LIGHTGBM)
    return fit_classifier(model, lambda logits: logits.argmax(axis=-1).T, rows)
