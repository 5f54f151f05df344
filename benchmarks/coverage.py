"""How often the 95 % intervals hold the true score, and how often a p below .05 is a false alarm.

    python -m benchmarks.coverage

Draws test sets as sessions of two speakers with about 50 rows each, in which two correlated
classifiers are right more or less often from session to session and from speaker to speaker. The
true score is that of all sessions there could be. Prints, in per cent of the test sets: intervals
that hold it, for one classifier and for the difference to a better one; and differences to an
equally good one with p < .05, which should be 5.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import time
from itertools import product

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from fusion import metrics

# ----------------------------------------------------------------------------------------------
SESSIONS = (2, 3, 4, 8, 20)
DEVIATIONS = (0.0, 0.2, 0.4)  # of the logit of being right, between sessions and between speakers
SETS = 2000  # test sets for each
SEED = 1
# ----------------------------------------------------------------------------------------------

SHARES = np.array([0.4, 0.19, 0.15, 0.1, 0.08, 0.04, 0.04])  # of the labels, about KEMDy19's
EASE = np.array([1.4, 0.9, 0.8, 0.4, 0.6, -0.2, 0.0])  # logit of being right, by label
GAINS = (0.0, 0.0, 0.3)  # logits: the classifier, one as good, a better one
COMMON = 0.5  # share of every variance that the classifiers have in common
SHOWN = ("accuracy", "macro_f1", "uar")
COLUMNS = (
    *("accuracy", "macro F1", "UAR", "rare recall"),  # of one classifier
    *("+accuracy", "+macro F1", "+UAR"),  # the better one's less the classifier's
    *("false: accuracy", "false: macro F1", "false: UAR"),
)
RARE = len(SHARES) - 1  # a label with 4 % of the rows


def find_truth(deviation: float, gain: float) -> dict:
    """Return the scores over all sessions there could be, by name (of classes: (C,))."""
    luck = deviation * norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    right = expit(EASE[:, None] + gain + luck).mean(axis=1)
    wrong = np.tile(SHARES, (len(SHARES), 1))
    np.fill_diagonal(wrong, 0)
    wrong *= ((1 - right) / wrong.sum(axis=1))[:, None]
    matrix = SHARES[:, None] * (wrong + np.diag(right)) * 1e9  # as counts
    return metrics.score_matrices(matrix) | {"rare": metrics.class_scores(matrix)["recall"][RARE]}


def draw(random: np.random.Generator, sessions: int, deviations: tuple) -> tuple:
    """Return truth (N,), session (N,) and the labels of each classifier, (3, N)."""
    rows = random.integers(35, 66, 2 * sessions)
    speaker = np.repeat(np.arange(2 * sessions), rows)
    truth = random.choice(len(SHARES), len(speaker), p=SHARES)

    def vary(number: int) -> np.ndarray:
        common, own = random.normal(size=number), random.normal(size=(len(GAINS), number))
        return np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * own

    by_session, by_speaker = vary(sessions)[:, speaker // 2], vary(2 * sessions)[:, speaker]
    logit = EASE[truth] + np.array(GAINS)[:, None]
    logit = logit + deviations[0] * by_session + deviations[1] * by_speaker
    right = norm.cdf(vary(len(truth))) < expit(logit)
    chances = np.tile(np.log(SHARES), (len(truth), 1))
    chances[np.arange(len(truth)), truth] = -np.inf
    wrong = (chances + random.gumbel(size=(len(GAINS), *chances.shape))).argmax(axis=-1)
    return truth, speaker // 2, np.where(right, truth, wrong)


def check(random: np.random.Generator, sessions: int, deviations: tuple, sets: int) -> np.ndarray:
    """Return shares of `sets` test sets in the order of COLUMNS."""
    deviation = float(np.hypot(*deviations))
    true, better = (find_truth(deviation, gain) for gain in (GAINS[0], GAINS[2]))
    counts = np.zeros(len(COLUMNS))
    for _ in range(sets):
        truth, groups, pred = draw(random, sessions, deviations)
        ours, equal, other = (
            metrics.estimate(metrics.score_matrices, truth, labels, groups) for labels in pred
        )
        recall = metrics.measure_classes(truth, pred[0], groups)["recall_ci"][RARE]
        alone = [metrics.share_interval(ours[name], len(truth)) for name in SHOWN]
        apart = [metrics.plain_interval(other[name] - ours[name], -1) for name in SHOWN]
        counts += [
            *[low <= true[name] <= high for name, (low, high) in zip(SHOWN, alone, strict=True)],
            recall[0] <= true["rare"] <= recall[1],
            *[
                low <= better[name] - true[name] <= high
                for name, (low, high) in zip(SHOWN, apart, strict=True)
            ],
            *[(equal[name] - ours[name]).p < 0.05 for name in SHOWN],
        ]
    return counts / sets


def main() -> None:
    start, random = time.perf_counter(), np.random.default_rng(SEED)
    print(f"| sessions | deviations | {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * (2 + len(COLUMNS))}")
    found = []
    for sessions, *deviations in product(SESSIONS, DEVIATIONS, DEVIATIONS):
        found.append(check(random, sessions, deviations, SETS))
        cells = " | ".join(f"{100 * share:.1f}" for share in found[-1])
        print(f"| {sessions} | {deviations[0]}, {deviations[1]} | {cells} |", flush=True)
    held, false = np.split(100 * np.array(found), [-len(SHOWN)], axis=1)
    print(f"least coverage {held.min():.1f} %, most false alarms {false.max():.1f} %")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    config.run(main)
