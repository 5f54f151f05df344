"""Recognise emotions with classic tools, so that it is seen whether the networks pay.

Reads   DATA/{train,valid,test}.tsv, *_audio.npy, manifest.json (preprocess.py)
Writes  OUTPUTS/baseline_{text,audio,both}_{truth,pred,output,index}.npy, _rows.tsv, _run.json of
        the test rows, and the same under OUTPUTS/heldout/ of the validation rows

    python baseline.py

baseline_text: TF-IDF of characters and logistic regression.  baseline_audio: statistics of the
spectrum, the level and the pitch, normalised by speaker, and a support vector machine.
baseline_both: the mean of their probabilities. All are fitted on the training rows alone, their
hyperparameters included (cross-validation by session); `_output` is the logarithm of probabilities.
Shapes: N rows, C classes, F statistics of a clip.
"""

from common import settings  # first of all: it answers --help

# isort: split

import warnings
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
from joblib import parallel_config
from scipy.special import softmax
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from common.cache import cached
from common.data import Dataset, load_data
from common.features import Mel, deltas, log_mel
from common.files import ENOUGH_RATED, FULL_SCALE, SAMPLE_RATE, UserError
from common.speakers import SpeakerNorm, SpeakerStats, clip_stats
from common.stages import Stage, describe_machine, read_data_hash
from common.testing import write_rows_of
from fusion.fitting import fit_temperature
from fusion.outputs import HELD_OUT

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: also if an earlier run left all of this
SEED = 1  # of the dealing of sessions in the cross-validation
SPEAKER_NORM = "past"  # statistics of: past (earlier turns), utterance, all (transductive)
# --------------------------------------------------------------------------------------

MEL = Mel(bins=32)
LOWEST, HIGHEST = 65.0, 500.0  # Hz of a voice's pitch
PITCH_WINDOW = 1024  # samples, 64 ms: several periods of the lowest pitch
PERCENTILES = (10, 50, 90)
STATISTICS = (MEL.bins + 2) * (len(PERCENTILES) + 1) + 1
FOLDS = 5  # of the cross-validation
STRENGTHS = (1, 3, 10)  # C of both classifiers, of which the best is taken
GAMMAS = (0.3 / STATISTICS, 1 / STATISTICS)  # of the kernel; the statistics have variance 1
STD_FLOOR = 0.01  # of a statistic that hardly moves
ENOUGH = 2_000  # rows to choose by: a support vector machine's time grows with their square
RIDGES = (1, 10, 100, 1000)  # strengths of the ridge regression, of which the best is taken
LEAST = 1e-6  # probability, so that the logarithm is finite

Splits = list[tuple[np.ndarray, np.ndarray]]  # rows to learn from, rows to score


def main() -> None:
    inputs = {"data": read_data_hash(DATA)}
    stage = Stage("baseline.py", Path(OUTPUTS), settings.read(globals()), inputs)
    if stage.is_done():
        return
    fit, held_out, test = (load_data(DATA, split) for split in ("train", "valid", "test"))
    print(f"baseline: {fit} to learn from")
    splits = split_sessions(fit)
    models = {"text": TextClassifier(fit, splits)} if fit.has_words else {}
    models["audio"] = AudioClassifier(fit, SPEAKER_NORM, splits)
    chosen = {name: one.model.best_params_ for name, one in models.items()}
    print(f"chosen on them: {', '.join(f'{name} {best}' for name, best in chosen.items())}")
    write_predictions(stage.unfinished, "test", test, models, chosen)
    if len(held_out):
        write_predictions(stage.unfinished / HELD_OUT, "held-out", held_out, models, chosen)
    stage.publish()


def split_sessions(fit: Dataset) -> Splits:
    """Return FOLDS splits by session, fewer if there are fewer sessions."""
    count = len(np.unique(fit.sessions))
    if count < 2:
        raise UserError(f"{fit} to learn from: the cross-validation needs two sessions or more")
    folds = GroupKFold(min(FOLDS, count), shuffle=True, random_state=SEED)
    return list(folds.split(fit.sessions, groups=fit.sessions))


class TextClassifier:
    """TF-IDF of the characters within words -> logistic regression, classes balanced."""

    def __init__(self, fit: Dataset, splits: Splits):
        words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(class_weight="balanced", max_iter=1000))
        grid = {"logisticregression__C": STRENGTHS}
        self.model = search(model, grid, fit.table["text"], fit.labels, splits)
        self.ridge = fit_ridge(words, fit.table["text"], fit, splits)

    def predict(self, rows: Dataset) -> np.ndarray:
        """Return the probabilities, (N, C), and valence and arousal behind them, (N, C + 2)."""
        texts = rows.table["text"]
        probabilities = spread(self.model, self.model.predict_proba(texts), rows)
        return np.hstack([probabilities, *[one.predict(texts)[:, None] for one in self.ridge]])


class AudioClassifier:
    """Statistics of a clip, normalised by speaker -> support vector machine, classes balanced.

    Decision values become probabilities by one temperature, which is fitted where each row's
    machine has not seen the row's session.
    """

    def __init__(self, fit: Dataset, speaker_norm: str, splits: Splits):
        self.speaker_norm = speaker_norm
        self.norm = replace(SpeakerNorm.fit(collect_stats(fit)), std_floor=STD_FLOOR)
        features, labels = self.features(fit), fit.labels
        grid = {"C": STRENGTHS, "gamma": GAMMAS}
        self.model = search(SVC(class_weight="balanced"), grid, features, labels, splits)
        with warnings.catch_warnings():
            # A class that a split lacks has the lowest of all numbers there; cut off below.
            warnings.filterwarnings("ignore", message="Number of classes in training fold")
            decisions = cross_val_predict(
                self.model.best_estimator_, features, labels, cv=splits, method="decision_function"
            )
        decisions = by_class(decisions).clip(-1)  # the lowest decision value of a machine
        places = np.searchsorted(self.model.classes_, labels)
        self.temperature = fit_temperature(decisions, places)
        self.ridge = fit_ridge("passthrough", features, fit, splits)

    def features(self, rows: Dataset) -> np.ndarray:
        """Return each row's statistics less the speaker's mean, over the speaker's deviation."""
        stats = collect_stats(rows)
        heard = SpeakerStats(rows, lambda chosen: stats[chosen], self.speaker_norm)
        mean, std = self.norm.mean_and_std(np.stack([heard.of(row) for row in range(len(rows))]))
        return (stats[:, 2 : 2 + STATISTICS] - mean) / std

    def predict(self, rows: Dataset) -> np.ndarray:
        """Return the probabilities, (N, C), and valence and arousal behind them, (N, C + 2)."""
        features = self.features(rows)
        decisions = by_class(self.model.decision_function(features)) / self.temperature
        probabilities = spread(self.model, softmax(decisions, axis=1), rows)
        return np.hstack([probabilities, *[one.predict(features)[:, None] for one in self.ridge]])


def search(
    model: BaseEstimator,
    grid: dict,
    features,
    labels: np.ndarray,
    splits: Splits,
    score: str = "f1_macro",
) -> GridSearchCV:
    """Return the search, fitted on all rows with the parameters of the best score.

    Of many rows every second, third ... is enough to choose by.
    """
    step = max(1, len(labels) // ENOUGH)
    thin = [(learned[::step], scored[::step]) for learned, scored in splits]
    found = GridSearchCV(model, grid, scoring=score, cv=thin)
    with parallel_config("threading", n_jobs=-1):
        return found.fit(features, labels)


def by_class(decisions: np.ndarray) -> np.ndarray:
    """Return decision values of each class, (N, C); of two classes scikit-learn gives one, (N,)."""
    return np.column_stack([-decisions, decisions]) if decisions.ndim == 1 else decisions


def fit_ridge(steps, features, fit: Dataset, splits: Splits) -> list[GridSearchCV]:
    """Fit valence and arousal by ridge regression; none if the corpus has not both.

    steps: before the regression, a scikit-learn transformer.
    """
    found, rated = [], np.isfinite(fit.dimensions)
    if rated.sum(0).min() < ENOUGH_RATED:
        return []
    for rows, values in zip(rated.T, fit.dimensions.T, strict=True):
        place = np.cumsum(rows) - 1  # of each rated row among them
        own = [tuple(place[part[rows[part]]] for part in parts) for parts in splits]
        own = [parts for parts in own if all(map(len, parts))]
        model = make_pipeline(clone(steps, safe=False), Ridge(solver="lsqr"))
        grid, score = {"ridge__alpha": RIDGES}, "neg_mean_squared_error"
        found.append(search(model, grid, features[rows], values[rows], own, score))
    return found


def spread(model: GridSearchCV, probabilities: np.ndarray, rows: Dataset) -> np.ndarray:
    """Return probabilities of all classes, (N, C): 0 of a class that was not learned."""
    every = np.zeros((len(probabilities), len(rows.label_names)))
    every[:, model.classes_] = probabilities
    return every


def collect_stats(rows: Dataset) -> np.ndarray:
    """Return each row's sufficient statistics, (N, K); describe_clip makes its one frame."""
    described = cached(
        rows, "statistics", {}, lambda clips: [describe_clip(c)[None] for c in clips]
    )
    return np.stack([clip_stats(frame[None]) for frame in described.read_all()])


def describe_clip(samples: np.ndarray) -> np.ndarray:
    """Return what is typical of a clip, (STATISTICS,) float64.

    Percentiles and mean movement of every mel bin, of the level, and of the pitch in the louder
    half of the frames (the others are hardly voiced); the logarithm of the length.
    """
    spectrogram = log_mel(samples, MEL)
    level = np.log(np.exp(spectrogram).mean(1))
    pitch = log_pitch(samples)[level >= np.median(level)]
    curves = summarise(np.column_stack([spectrogram, level])), summarise(pitch[:, None])
    return np.concatenate([*curves, [np.log(len(level))]], dtype=np.float64)


def log_pitch(samples: np.ndarray) -> np.ndarray:
    """Return the pitch at each frame of `log_mel`, (T,), in octaves above 1 Hz.

    YIN (de Cheveigné and Kawahara 2002); what it says of an unvoiced frame means nothing.
    """
    missing = max(0, MEL.window - len(samples))
    around = (PITCH_WINDOW - MEL.window) // 2  # the longer windows have the same centres
    pitch = librosa.yin(
        np.pad(samples.astype(np.float32) / FULL_SCALE, (around, around + missing)),
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=SAMPLE_RATE,
        frame_length=PITCH_WINDOW,
        hop_length=MEL.hop,
        center=False,
    )
    return np.log2(pitch)


def summarise(curves: np.ndarray) -> np.ndarray:
    """Return each curve's percentiles and mean movement: (T, K) -> (4 K,)."""
    movement = np.abs(deltas(curves)).mean(0)
    return np.concatenate([*np.percentile(curves, PERCENTILES, axis=0), movement])


def write_predictions(folder: Path, kind: str, rows: Dataset, models: dict, chosen: dict) -> None:
    """Write the predictions of the classifiers and of their mean; print the scores.

    models: "text", unless the corpus has no words, and "audio"; chosen: their parameters.
    """
    run = {
        "data_hash": rows.data_hash,
        "synthetic": rows.notice,
        "settings": {"seed": SEED, **chosen},
        **describe_machine(),
    }
    every = {name: model.predict(rows) for name, model in models.items()}
    if len(every) > 1:
        every["both"] = sum(every.values()) / 2
    for kind_of_model, predicted in every.items():
        name = f"baseline_{kind_of_model}"
        norm = None if kind_of_model == "text" else SPEAKER_NORM
        logits, dims = np.split(predicted, [len(rows.label_names)], axis=1)
        outputs = np.hstack([np.log(logits.clip(LEAST)), dims])
        write_rows_of(folder, name, kind, rows, outputs, run | {"speaker_norm": norm})


if __name__ == "__main__":
    settings.run(main)
