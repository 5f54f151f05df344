"""What pretraining gave the text encoder: emotions of Korean sentences, against words alone.

    python -m benchmarks.encoder --text goemotions_ko_train.tsv

Reads   TEXT: a header, then text<TAB>label with the seven labels; exact duplicates are removed and
        every tenth row is held out
Prints  macro F1 and accuracy on the held-out rows after training on the first FEW rows and on all:
        TF-IDF of characters with logistic regression (the floor), each of ENCODERS with random
        weights and as pretrained; mean and deviation over the seeds

Encoders are fine-tuned by the training loop and with the settings of text_train.py, but for those
below, which were chosen on training rows: nothing is chosen on the held-out rows.
"""

from common import settings  # first of all: it answers --help

# isort: split

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import text_train
from common.files import LABELS, UserError
from fusion import metrics
from models.kobert import build_encoder
from models.speaker import DEFAULT_REGIME
from pipeline.learning import text
from pipeline.learning.dataset import Training, Utterances
from pipeline.learning.recogniser import predict
from pipeline.learning.training import train

# --------------------------------------------------------------------------------------
TEXT = "data/goemotions_ko_train.tsv"  # a path
ENCODERS = ("models/kobert-mini",)  # hub names or folders
FEW = 1000  # training rows
SEEDS_FEW = (1, 2, 3)
SEEDS_ALL = (1, 2)  # a run takes minutes
EPOCHS_FEW = 10
# with all rows; with FEW these are those of text_train.py
EPOCHS = 5
LEARNING_RATE = 4e-4
HIDE_TOKENS = 0.3  # share of the tokens that are [MASK] in training
CLASS_WEIGHTS = 0.1  # more helps the recall of rare classes and costs precision and macro F1
# --------------------------------------------------------------------------------------

WITH_ALL = ("epochs", "learning_rate", "hide_tokens", "class_weights")


def main() -> None:
    fit, held_out = read_rows(TEXT)
    print(f"{TEXT}: {len(fit)} rows to learn from, {len(held_out)} held out")
    print(f"| | {FEW} rows: macro F1 | accuracy | {len(fit)} rows: macro F1 | accuracy |")
    print("|---|---|---|---|---|")
    plan = [("TF-IDF of characters, logistic regression", score_words)]
    for name in ENCODERS:
        plan.append((f"{name}, random weights", partial(score_encoder, name, False)))
        plan.append((name, partial(score_encoder, name, True)))
    for name, score in plan:
        cells = []
        for size, seeds in ((FEW, SEEDS_FEW), (len(fit), SEEDS_ALL)):
            part = fit.select(np.arange(len(fit)) < size)
            found = np.array([score(part, held_out, seed) for seed in seeds])
            pairs = zip(found.mean(0), found.std(0), strict=True)
            cells += [f"{mean:.3f} ({deviation:.3f})" for mean, deviation in pairs]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def read_rows(path: str) -> tuple[Utterances, Utterances]:
    """Return the rows to learn from and every tenth row, both in the file's order."""
    try:
        table = pd.read_csv(path, sep="\t", keep_default_na=False, quoting=3)
    except OSError as error:
        raise UserError(f"TEXT {path} cannot be read: {error}") from None
    if list(table.columns) != ["text", "label"]:
        raise UserError(f"{path}: expected the columns text and label, found {list(table.columns)}")
    unknown = table.index[~table["label"].isin(LABELS)]
    if len(unknown):
        label = table["label"][unknown[0]]
        raise UserError(f"{path}, line {unknown[0] + 2}: '{label}' is none of {', '.join(LABELS)}")
    table = table.drop_duplicates(ignore_index=True)
    table["id"] = [f"row{row}" for row in range(len(table))]
    rows = Utterances(table, audio={}, data_hash="", synthetic=None, soft=False)
    tenth = np.arange(len(table)) % 10 == 0
    return rows.select(~tenth), rows.select(tenth)


def score_words(fit: Utterances, held_out: Utterances, seed: int) -> tuple[float, float]:
    """Return the scores of a linear model of character n-grams, classes balanced."""
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(class_weight="balanced", max_iter=1000))
    model.fit(fit.table["text"], fit.labels)
    return scores(held_out, model.predict(held_out.table["text"]))


def score_encoder(
    name: str, pretrained: bool, fit: Utterances, held_out: Utterances, seed: int
) -> tuple[float, float]:
    """Return the scores of an encoder fine-tuned on `fit`."""
    block = {**settings.read(vars(text_train)), "bert": name, "seed": seed}
    if len(fit) <= FEW:
        settings["epochs"] = EPOCHS_FEW
    else:
        own = settings.read(globals())
        settings |= {name: own[name] for name in WITH_ALL}
    torch.manual_seed(seed)
    model = text.create(settings)
    if not pretrained:
        encoder = build_encoder(model.network.encoder.settings.to_dict())
        model = text.TextModel(encoder, model.tokenizer, settings)
    fit, held_out = model.prepare(fit), model.prepare(held_out)
    rates = {"classifier": settings["classifier_rate"], "": settings["learning_rate"]}
    with tempfile.TemporaryDirectory() as folder:
        train(model, Training(Path(folder), fit, held_out, chooses_epoch=False), rates)
    limits = settings["batch_tokens"], settings["batch_size"]
    logits = predict(model, held_out, DEFAULT_REGIME, limits, "held-out rows")
    return scores(held_out, logits.argmax(1).numpy())


def scores(held_out: Utterances, predicted: np.ndarray) -> tuple[float, float]:
    found = metrics.scores(held_out.labels, predicted)
    return found["macro_f1"], found["accuracy"]


if __name__ == "__main__":
    settings.run(main)
