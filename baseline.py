"""Recognise emotions with classic tools, so that it is seen whether the networks pay.

Reads   DATA/{train,valid,test}.tsv, *_audio.npy, manifest.json (preprocess.py)
Writes  OUTPUTS/baseline_{text,audio,both}_{truth,pred,output,index}.npy, _rows.tsv, _run.json of
        the test rows, and the same under OUTPUTS/heldout/ of the validation rows

    python baseline.py

baseline_text: TF-IDF of characters and logistic regression.  baseline_audio: statistics of the
spectrum, the level and the pitch, normalised by speaker, and a support vector machine.
baseline_both: the mean of their probabilities. All are fitted on the training rows alone, their
hyperparameters included (cross-validation by session); `_output` is the logarithm of probabilities.
Shapes: N rows, C = 7 classes, F statistics of a clip.
"""

from common import settings  # first of all: it answers --help

# isort: split

import platform
import warnings
from pathlib import Path

import numpy as np
import sklearn
from joblib import parallel_config
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from tqdm import tqdm

from common.files import LABELS, UserError, read_data_hash, together
from fusion.fitting import fit_temperatures
from fusion.predictions import HELD_OUT
from pipeline.features.statistics import STATISTICS, describe_clip
from pipeline.learning.dataset import Utterances, load_utterances
from pipeline.learning.testing import write
from pipeline.learning.voices import Average, known_sums, sums_of, units_of
from pipeline.record import Work

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: also if an earlier run left all of this
SEED = 1  # of the dealing of sessions in the cross-validation
SPEAKER_NORM = "past"  # statistics of: past (earlier turns), utterance, all (transductive)
# --------------------------------------------------------------------------------------

SPEAKER_NORMS = ("utterance", "past", "all")
FOLDS = 5  # of the cross-validation
STRENGTHS = (1, 3, 10)  # C of both classifiers, of which the best is taken
GAMMAS = (0.3 / STATISTICS, 1 / STATISTICS)  # of the kernel; the statistics have variance 1
STD_FLOOR = 0.01  # of a statistic that hardly moves
ENOUGH = 2_000  # rows to choose by: a support vector machine's time grows with their square
LEAST = 1e-6  # probability, so that the logarithm is finite

Splits = list[tuple[np.ndarray, np.ndarray]]  # rows to learn from, rows to score


def main() -> None:
    inputs = {"data_hash": read_data_hash(DATA)}
    block = settings.read(globals())
    work = Work("baseline.py", Path(OUTPUTS), block, inputs, Path(OUTPUTS) / "baseline")
    if work.is_done():
        return
    fit, held_out, test = (load_utterances(DATA, split) for split in ("train", "valid", "test"))
    print(f"baseline: {fit} to learn from")
    splits = split_sessions(fit)
    text, audio = TextClassifier(fit, splits), AudioClassifier(fit, SPEAKER_NORM, splits)
    print(f"chosen on them: text {text.chosen}, audio {audio.chosen}")
    with together():
        write_predictions(Path(OUTPUTS), "test", test, text, audio)
        if len(held_out):
            write_predictions(Path(OUTPUTS) / HELD_OUT, "held-out", held_out, text, audio)
    if not len(held_out):
        for path in (Path(OUTPUTS) / HELD_OUT).glob("baseline_*"):
            path.unlink()  # of an earlier run
    work.finish()


def split_sessions(fit: Utterances) -> Splits:
    """Return FOLDS splits by session, fewer if there are fewer sessions."""
    sessions = fit.table["session"].to_numpy()
    count = len(np.unique(sessions))
    if count < 2:
        raise UserError(f"{fit} to learn from: the cross-validation needs two sessions or more")
    folds = GroupKFold(min(FOLDS, count), shuffle=True, random_state=SEED)
    return list(folds.split(sessions, groups=sessions))


class TextClassifier:
    """TF-IDF of the characters within words -> logistic regression, classes balanced."""

    def __init__(self, fit: Utterances, splits: Splits):
        words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(class_weight="balanced", max_iter=1000))
        grid = {"logisticregression__C": STRENGTHS}
        self.model = search(model, grid, fit.table["text"], fit.labels, splits)
        self.chosen = {"C": self.model.best_params_["logisticregression__C"]}

    def predict(self, rows: Utterances) -> np.ndarray:
        """Return the probabilities, (N, C)."""
        return to_all_classes(self.model.predict_proba(rows.table["text"]), self.model.classes_)


class AudioClassifier:
    """Statistics of a clip, normalised by speaker -> support vector machine, classes balanced.

    Decision values become probabilities by one temperature, which is fitted where each row's
    machine has not seen the row's session.
    """

    def __init__(self, fit: Utterances, speaker_norm: str, splits: Splits):
        stats = clip_stats(fit)
        self.speaker_norm, self.average = speaker_norm, Average.of(stats)
        features, labels = self.features(fit, stats), fit.labels
        grid = {"C": STRENGTHS, "gamma": GAMMAS}
        self.model = search(SVC(class_weight="balanced"), grid, features, labels, splits)
        self.chosen = self.model.best_params_
        with warnings.catch_warnings():
            # A class that a split lacks has the lowest of all numbers there; cut off below.
            warnings.filterwarnings("ignore", message="Number of classes in training fold")
            decisions = cross_val_predict(
                self.model.best_estimator_, features, labels, cv=splits, method="decision_function"
            )
        decisions = decisions.clip(-1)  # the lowest decision value of a machine
        places = np.searchsorted(self.model.classes_, labels)
        (self.temperature,) = fit_temperatures(decisions[None], places)

    def features(self, rows: Utterances, stats) -> np.ndarray:
        """Return each row's statistics less the speaker's mean, over the speaker's deviation."""
        regime = self.speaker_norm
        mean, std = units_of(known_sums(rows, stats, regime), self.average, STD_FLOOR)
        return (stats[:, 2 : 2 + STATISTICS].numpy() - mean) / std

    def predict(self, rows: Utterances) -> np.ndarray:
        """Return the probabilities, (N, C)."""
        decisions = self.model.decision_function(self.features(rows, clip_stats(rows)))
        return to_all_classes(softmax(decisions / self.temperature, axis=1), self.model.classes_)


def search(model: BaseEstimator, grid: dict, features, labels: np.ndarray, splits: Splits):
    """Return the search, fitted on all rows with the parameters of the best macro F1.

    Of many rows every second, third ... is enough to choose by.
    """
    step = max(1, len(labels) // ENOUGH)
    thin = [(learned[::step], scored[::step]) for learned, scored in splits]
    found = GridSearchCV(model, grid, scoring="f1_macro", cv=thin)
    with parallel_config("threading", n_jobs=-1):
        return found.fit(features, labels)


def to_all_classes(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return probabilities of all classes, (N, C): 0 of a class that was not learned."""
    every = np.zeros((len(probabilities), len(LABELS)))
    every[:, classes] = probabilities
    return every


def clip_stats(rows: Utterances):
    """Return each row's sufficient statistics, (N, 2 + 2 F); describe_clip makes its one frame."""
    import torch

    bar = tqdm(range(len(rows)), desc="statistics", unit=" utt", disable=None, leave=False)
    return torch.stack([sums_of(describe_clip(rows.samples(row))[None]) for row in bar])


def write_predictions(
    folder: Path, kind: str, rows: Utterances, text: TextClassifier, audio: AudioClassifier
) -> None:
    """Write the predictions of both classifiers and of their mean; print the scores."""
    by_text, by_audio = text.predict(rows), audio.predict(rows)
    run = {
        "data_hash": rows.data_hash,
        "synthetic": rows.synthetic,
        "settings": {"seed": SEED, "text": text.chosen, "audio": audio.chosen},
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    for name, probabilities, norm in (
        ("baseline_text", by_text, None),
        ("baseline_audio", by_audio, SPEAKER_NORM),
        ("baseline_both", (by_text + by_audio) / 2, SPEAKER_NORM),
    ):
        logits = np.log(probabilities.clip(LEAST))
        write(folder, name, kind, rows, logits, run | {"speaker_norm": norm})


if __name__ == "__main__":
    settings.run(main)
