"""The published rules of fusion, and nothing else: of the models text, audio and cmbert.

Shapes: M = 3 models (PAPER_MODELS), N rows, C labels.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.special import softmax

from common.files import LABELS, UserError
from fusion.fitting import Fitted, Fold, LogitSet, cross_fit, to_logit_set
from fusion.methods import fit_majority
from fusion.predictions import Predictions

PAPER_MODELS = ("text", "audio", "cmbert")
PUBLISHED_WEIGHTS = {"text": 0.67, "audio": 0.10, "cmbert": 0.23}
PUBLISHED_VOTES = {"audio": 0.2, "text": 0.5, "cmbert": 0.3}  # in the order in which they vote
# The same bits on every run and for every number of cores.
LIGHTGBM = {"random_state": 0, "deterministic": True, "force_row_wise": True, "n_jobs": 1}


def load_lightgbm():
    """Return the module lightgbm; UserError where the system lacks the OpenMP library it needs."""
    try:
        import lightgbm
    except OSError as error:
        raise UserError(
            f"LightGBM cannot be loaded ({error}): apt-get install libgomp1, "
            "or on macOS brew install libomp"
        ) from None
    return lightgbm


def vote_soft(logits: np.ndarray, weights: Sequence[float] = (1, 1, 1)) -> np.ndarray:
    """Return the label with the largest (weighted) sum of the published softmax, (N,).

    As published, it is taken over all entries of a model's matrix (N, C), not over each row.
    """
    return np.tensordot(weights, softmax(logits, axis=(-2, -1)), axes=1).argmax(axis=-1)


def vote_hard(logits: np.ndarray) -> np.ndarray:
    """Return the label with the best score = votes x the weight of its first voter, (N,).

    The models vote in the order audio, text, CM-BERT; a later label must score strictly more. With
    these weights the text model's label always wins: it scores .5 alone (against at most .4), .4
    with audio (against .3), 1.0 with CM-BERT and .6 with both.
    """
    weights, pred = list(PUBLISHED_VOTES.values()), logits.argmax(axis=-1)
    ordered = pred[[PAPER_MODELS.index(model) for model in PUBLISHED_VOTES]]
    return np.array(
        [
            max(votes, key=lambda label: votes.count(label) * weights[votes.index(label)])
            for votes in ordered.T.tolist()
        ]
    )


def fit_stacking(rows: LogitSet, places: Sequence[int] = (0, 1, 2)) -> Fitted:
    """LightGBM's defaults on the three predicted label numbers: the stacker of the paper.

    places: of PAPER_MODELS among the models.
    """
    if len(np.unique(rows.truth)) < 2:
        return fit_majority(rows)
    model = load_lightgbm().LGBMClassifier(verbose=-1, **LIGHTGBM)
    model.fit(rows.logits[list(places)].argmax(axis=-1).T, rows.truth)

    def predict(logits: np.ndarray) -> np.ndarray:
        features = logits[list(places)].argmax(axis=-1).T
        probabilities = np.zeros(logits.shape[1:])  # 0 for labels not seen
        probabilities[:, model.classes_] = model.predict_proba(features)
        return probabilities

    return Fitted(predict)


def apply_rules(test: Predictions, folds: list[Fold]) -> dict[str, np.ndarray]:
    """Return labels (N,) by the published rules; the first learns from the labels it is scored on.

    test: the test rows of all folds.  {} where one of the
    paper's models is missing or the labels are others, which is said.
    """
    if missing := [model for model in PAPER_MODELS if model not in test.models]:
        print(f"the paper's procedure is left out: no outputs of {', '.join(missing)}")
        return {}
    if test.labels != LABELS:
        print("the paper's procedure is left out: it is of KEMDy's seven emotions")
        return {}
    places, rows = [test.models.index(model) for model in PAPER_MODELS], to_logit_set(test)
    fit, logits = partial(fit_stacking, places=places), test.logits[places]
    rules = {
        "stacking_in_sample": fit(rows).predict(test.logits).argmax(-1),
        "stacking_cross_validated": cross_fit(fit, rows).argmax(-1),
    }
    if all(fold.is_held_out for fold in folds):
        honest = [fold.learn(fit)[0].argmax(-1) for fold in folds]
        rules["stacking_honest"] = np.concatenate(honest)
    weights = [PUBLISHED_WEIGHTS[model] for model in PAPER_MODELS]
    rules["soft"], rules["hard"] = vote_soft(logits), vote_hard(logits)
    return rules | {"weighted_soft": vote_soft(logits, weights)}
