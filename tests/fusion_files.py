"""Simulated models for the ensemble's tests: files as the test stages write them, and logits."""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from common.files import LABELS
from fusion import choice
from fusion.fitting import LogitSet, cross_fit
from fusion.outputs import BASELINES, HELD_OUT

SHARES = np.array([0.4, 0.19, 0.15, 0.1, 0.08, 0.04, 0.04])
STRENGTHS = {"text": 1.6, "audio": 1.1, "cmbert": 1.3}
MODELS = tuple(STRENGTHS)
NOTICE = "SYNTHETIC: drawn at random"


def name_segments(sessions, count):
    """Return `count` KEMDy19 segment IDs spread over sessions, scenarios and speakers, sorted."""
    every = [
        f"Sess{session:02d}_{scenario}01_{gender}{number:03d}"
        for session in sessions
        for scenario in ("impro", "script")
        for gender in "FM"
        for number in range(1, 1 + -(-count // (4 * len(sessions))))
    ]
    return sorted(every)[:count]


def make_facts(ids, labels, tied=()) -> pd.DataFrame:
    """Return what preprocess.py's table says of segments; `tied` are the rows with two labels."""
    parts = [segment.split("_") for segment in ids]
    both = {True: "neutral;sad", False: None}
    return pd.DataFrame(
        {
            "id": ids,
            "session": [int(session.removeprefix("Sess")) for session, _, _ in parts],
            "speaker": [f"{session}{last[0]}" for session, _, last in parts],
            "gender": [last[0] for _, _, last in parts],
            "scenario": [scenario for _, scenario, _ in parts],
            "dialogue_number": [1 + scenario.startswith("impro") for _, scenario, _ in parts],
            "turn": range(1, len(ids) + 1),
            "labels": [both[row in tied] or LABELS[label] for row, label in enumerate(labels)],
            **{f"votes_{name}": 1 for name in LABELS},
        }
    )


def write_outputs(folder, model, ids, truth, logits, run, facts=None) -> None:
    """Write one model's outputs for N utterances as common/testing.py does."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "truth": np.asarray(truth, np.int64),
        "pred": np.asarray(logits).argmax(axis=1),
        "output": np.asarray(logits, np.float32),
        "index": np.asarray(ids, np.str_),
    }
    for name, array in arrays.items():
        np.save(folder / f"{model}_{name}.npy", array)
    if facts is not None:
        facts.to_csv(folder / f"{model}_rows.tsv", sep="\t", index=False)
    (folder / f"{model}_run.json").write_text(json.dumps(run), encoding="utf-8")


def write_models(folder: Path, sessions, count, seed, truth=None, notice=NOTICE, models=STRENGTHS):
    """Write the models' files for `count` rows; return the labels that the logits fit."""
    random = np.random.default_rng(seed)
    fitting = random.choice(7, count, p=SHARES)
    run = {"data_hash": "d" * 64, "synthetic": notice, "settings": {"seed": 1, "epochs": 2}}
    for model, strength in models.items():
        logits = 2 * strength * (random.normal(size=(count, 7)) + strength * np.eye(7)[fitting])
        ids, labels = name_segments(sessions, count), fitting if truth is None else truth
        facts = make_facts(ids, labels, tied=range(0, count, 16))
        write_outputs(folder, model, ids, labels, logits, run, facts)
    return fitting


NOISES = {"text": (0.3, 0.9), "audio": (0.9, 0.3), "cmbert": (0.5, 0.5)}  # valence, arousal


def write_dimensions(folder: Path, seed: int, truth=None, blank=(), noises=NOISES) -> np.ndarray:
    """Write valence and arousal beside the models' outputs; return those that they follow, (N, 2).

    truth: other numbers for the raters; blank: rows without a rating.
    """
    random = np.random.default_rng(seed)
    count = len(np.load(folder / "text_truth.npy"))
    followed = np.clip(3 + 0.7 * random.normal(size=(count, 2)), 1, 5)
    rated = np.array(followed if truth is None else truth, np.float32)
    rated[list(blank)] = np.nan
    for model, noise in noises.items():
        said = followed + noise * random.normal(size=(count, 2))
        np.save(folder / f"{model}_dims.npy", np.clip(said, 1, 5).astype(np.float32))
        np.save(folder / f"{model}_dims_truth.npy", rated)
    return followed


def write_measures(folder: Path, seed: int) -> pd.DataFrame:
    """Add length, words, level and noise to the tables of the models' rows; return them."""
    paths = sorted(folder.glob("*_rows.tsv"))
    random, count = np.random.default_rng(seed), len(pd.read_csv(paths[0], sep="\t"))
    measures = pd.DataFrame(
        {
            "seconds": random.uniform(0.3, 12, count),
            "words": random.integers(1, 15, count),
            "level": random.uniform(-45, -15, count),
            "noise": np.where(np.arange(count) % 40, random.uniform(-40, -10, count), np.nan),
        }
    )
    for path in paths:
        facts = pd.read_csv(path, sep="\t", keep_default_na=False)
        facts.assign(**measures).to_csv(path, sep="\t", index=False)
    return measures


def write_baselines(folder: Path, sessions, count, seed, right) -> None:
    """Write the three classics' files beside the models'; `right` (N,): the labels they lean to."""
    random = np.random.default_rng(seed)
    run = {"data_hash": "d" * 64, "synthetic": NOTICE, "speaker_norm": None}
    truth = np.load(folder / "text_truth.npy")
    for name in BASELINES:
        logits = random.normal(size=(count, 7)) + np.eye(7)[right]
        write_outputs(folder, name, name_segments(sessions, count), truth, logits, run)


def write_data(data: Path, outputs: Path, fingerprint: str = "f", train: int = 0, valid: int = 0):
    """Write what preprocess.py would have left of the test rows in `outputs`, which get its hash.

    train, valid: of so many test rows the transcripts are in those splits as well.
    """
    data.mkdir(parents=True, exist_ok=True)
    ids = np.load(outputs / "text_index.npy")
    texts = {segment: f'<b>그럼 "{row}" & 슬픔</b>' for row, segment in enumerate(ids)}
    splits = {"train": {"train": "안녕"}, "valid": {"valid": "그래"}, "test": texts}
    for split, count in (("train", train), ("valid", valid)):
        splits[split] |= {f"{split}{row}": texts[ids[row]] for row in range(count)}
    files = {}
    for number, (split, rows) in enumerate(splits.items(), 91):  # sessions of the other rows
        turns = f"{number}\t1\t1\tSess{number}F\tsad"
        lines = ["id\ttext\tsession\tdialogue_number\tturn\tspeaker\tlabel\tlevel\tnoise"]
        # The first recording is silent.
        levels = ["-100\t", *[f"{-20 - row}\t{-30 - row / 2}" for row in range(1, len(rows))]]
        pairs = zip(rows.items(), levels, strict=True)
        lines += [f"{segment}\t{text}\t{turns}\t{level}" for (segment, text), level in pairs]
        content = "\n".join(lines) + "\n"
        (data / f"{split}.tsv").write_text(content, encoding="utf-8")
        files[f"{split}.tsv"] = hashlib.sha256(content.encode()).hexdigest()
    corpus = {"kind": "KEMDy19", "name": "KEMDy19_v1_3", "fingerprint": fingerprint}
    manifest = {"corpus": corpus, "files": files}
    (data / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    every = "".join(files[name] for name in sorted(files)).encode()
    for path in (*outputs.glob("*_run.json"), *outputs.glob(f"{HELD_OUT}/*_run.json")):
        change_run(path, data_hash=hashlib.sha256(every).hexdigest())


def change_run(path: Path, **fields) -> None:
    """Change fields of a {name}_run.json."""
    run = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(run | fields), encoding="utf-8")


def simulate(count, strengths, seed=0, scale=1.0, shares=SHARES) -> LogitSet:
    """Draw models that err independently given the label, with calibrated logits times `scale`."""
    random = np.random.default_rng(seed)
    truth = random.choice(7, count, p=shares)
    logits = [
        strength * (random.normal(size=(count, 7)) + strength * np.eye(7)[truth]) + np.log(shares)
        for strength in strengths
    ]
    groups = np.array([f"speaker{number}" for number in random.integers(0, 12, count)])
    return LogitSet(scale * np.stack(logits), truth, groups)


def accuracy(rows: LogitSet, probabilities: np.ndarray) -> float:
    return (probabilities.argmax(axis=-1) == rows.truth).mean()


def pick(name: str, rows: LogitSet) -> choice.Choice:
    """Return the choice of a candidate, compared with no other."""
    fit = partial(choice.fit_candidate, name)
    return choice.Choice(name, fit(rows), {}, cross_fit(fit, rows))


EASE = np.array([1.4, 0.9, 0.8, 0.4, 0.6, -0.2, 0.0])  # logit of being right, by label
GAINS = (0.0, 0.0, 0.3)  # logits: a classifier, one as good, a better one


def draw_sessions(random, sessions: int, deviations: tuple) -> tuple:
    """Return truth (N,), session (N,) and the labels of three correlated classifiers, (3, N).

    Sessions of two speakers with about 50 rows each; deviations: of the logit of being right,
    between sessions and between speakers.
    """
    rows = random.integers(35, 66, 2 * sessions)
    speaker = np.repeat(np.arange(2 * sessions), rows)
    truth = random.choice(len(SHARES), len(speaker), p=SHARES)

    def vary(number: int) -> np.ndarray:
        common, single = random.normal(size=number), random.normal(size=(len(GAINS), number))
        return np.sqrt(0.5) * common + np.sqrt(0.5) * single

    by_session, by_speaker = vary(sessions)[:, speaker // 2], vary(2 * sessions)[:, speaker]
    logit = EASE[truth] + np.array(GAINS)[:, None]
    logit = logit + deviations[0] * by_session + deviations[1] * by_speaker
    right = norm.cdf(vary(len(truth))) < expit(logit)
    chances = np.tile(np.log(SHARES), (len(truth), 1))
    chances[np.arange(len(truth)), truth] = -np.inf
    wrong = (chances + random.gumbel(size=(len(GAINS), *chances.shape))).argmax(axis=-1)
    return truth, speaker // 2, np.where(right, truth, wrong)


def put(row: int, value):
    """Return a change that puts a value in a row of an array."""

    def change(array):
        array[row] = value
        return array

    return change


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def write_everything(folder):
    """Write what ensemble.py reads: models with dimensions, measures of the rows, and the data."""
    write_models(folder, range(17, 21), 140, seed=1)
    write_models(folder / "heldout", range(11, 17), 120, seed=2)
    write_dimensions(folder, seed=1)
    write_dimensions(folder / "heldout", seed=2)
    write_measures(folder, seed=3)
    write_data(folder / "data", folder, train=40)
