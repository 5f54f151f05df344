"""Words: TF-IDF and logistic regression. Voice: statistics and a support vector machine.

What is to be set is chosen by cross-validation on the rows to learn from, whole sessions left out.
Shapes: N rows, C = 7 classes, F statistics of a clip.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from joblib import parallel_config
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from tqdm import tqdm

from fusion.fitting import Rows, fit_temperatures
from pipeline.features.statistics import STATISTICS, describe_clip
from pipeline.files import UserError
from pipeline.labels import LABELS
from pipeline.learning.dataset import Utterances
from pipeline.learning.voices import Average, known_sums, sums_of, units_of

FOLDS = 5
STRENGTHS = (1, 3, 10)  # C of both
GAMMAS = (0.3 / STATISTICS, 1 / STATISTICS)  # of the kernel; the statistics have variance 1
DEVIATION_FLOOR = 0.01  # of a statistic that hardly moves
ENOUGH = 2_000  # rows to choose by: a support vector machine's time grows with their square

Splits = list[tuple[np.ndarray, np.ndarray]]


def deal_sessions(fit: Utterances, seed: int) -> Splits:
    """Return FOLDS pairs (rows to learn from, rows to score), fewer if there are fewer sessions."""
    sessions = fit.table["session"].to_numpy()
    count = len(np.unique(sessions))
    if count < 2:
        raise UserError(f"{fit} to learn from: the cross-validation needs two sessions or more")
    folds = GroupKFold(min(FOLDS, count), shuffle=True, random_state=seed)
    return list(folds.split(sessions, groups=sessions))


def choose(model: BaseEstimator, grid: dict, features, labels: np.ndarray, splits: Splits):
    """Return the search, fitted on all rows with what had the best macro F1 over the splits.

    Of many rows every second, third ... is enough to choose by.
    """
    step = max(1, len(labels) // ENOUGH)
    thin = [(learned[::step], scored[::step]) for learned, scored in splits]
    search = GridSearchCV(model, grid, scoring="f1_macro", cv=thin)
    with parallel_config("threading", n_jobs=-1):
        return search.fit(features, labels)


def spread(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return probabilities of all classes, (N, C); one that was not learned has none."""
    every = np.zeros((len(probabilities), len(LABELS)))
    every[:, classes] = probabilities
    return every


class WordClassifier:
    """TF-IDF of the characters within words -> logistic regression, classes balanced."""

    def __init__(self, fit: Utterances, splits: Splits):
        words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(class_weight="balanced", max_iter=1000))
        grid = {"logisticregression__C": STRENGTHS}
        self.model = choose(model, grid, fit.table["text"], fit.labels, splits)
        self.chosen = {"C": self.model.best_params_["logisticregression__C"]}

    def recognise(self, rows: Utterances) -> np.ndarray:
        """Return the probabilities, (N, C)."""
        return spread(self.model.predict_proba(rows.table["text"]), self.model.classes_)


class VoiceClassifier:
    """Statistics in units of what is known of the speaker -> support vector machine, balanced.

    Learned in the regime in which it is used. Its decision values become probabilities by one
    temperature, which is fitted where each row's machine has not seen the row's session.
    """

    def __init__(self, fit: Utterances, regime: str, splits: Splits):
        sums = clip_sums(fit)
        self.regime, self.average = regime, Average.of(sums)
        features, labels = self.features(fit, sums), fit.labels
        grid = {"C": STRENGTHS, "gamma": GAMMAS}
        self.model = choose(SVC(class_weight="balanced"), grid, features, labels, splits)
        self.chosen = self.model.best_params_
        with warnings.catch_warnings():
            # A class that a split lacks has the lowest of all numbers there; cut off below.
            warnings.filterwarnings("ignore", message="Number of classes in training fold")
            decisions = cross_val_predict(
                self.model.best_estimator_, features, labels, cv=splits, method="decision_function"
            )
        decisions = decisions.clip(-1)  # the least that a machine can say
        places = np.searchsorted(self.model.classes_, labels)
        (self.temperature,) = fit_temperatures(Rows(decisions[None], places, None))

    def features(self, rows: Utterances, sums: torch.Tensor) -> np.ndarray:
        """Return each row's statistics in units of what is known there, (N, F)."""
        mean, deviation = units_of(
            known_sums(rows, sums, self.regime), self.average, DEVIATION_FLOOR
        )
        return (sums[:, 2 : 2 + STATISTICS].numpy() - mean) / deviation

    def recognise(self, rows: Utterances) -> np.ndarray:
        """Return the probabilities, (N, C)."""
        decisions = self.model.decision_function(self.features(rows, clip_sums(rows)))
        return spread(softmax(decisions / self.temperature, axis=1), self.model.classes_)


def clip_sums(rows: Utterances) -> torch.Tensor:
    """Return what each row adds to what is known of its speaker, (N, 2 + 2 F).

    As in models/speaker.py, a clip's statistics being its only frame.
    """
    bar = tqdm(range(len(rows)), desc="statistics", unit=" utt", disable=None, leave=False)
    return torch.stack([sums_of(describe_clip(rows.samples(row))[None]) for row in bar])
