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

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import text_train
from models.kobert import KoBERTClassifier, build_encoder, load_encoder, load_tokenizer
from pipeline import config
from pipeline.evaluation import metrics
from pipeline.files import UserError
from pipeline.labels import LABELS
from pipeline.learning import training
from pipeline.learning.dataset import Utterances, text_batches, text_inputs

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
    few = len(fit) <= FEW
    # with all rows, the block above goes before that of text_train.py
    settings = vars(text_train) | ({} if few else globals())
    tokenizer = load_tokenizer(name)
    for rows in (fit, held_out):
        rows.token_ids = [
            tokenizer.encode(text, text_train.MAX_LENGTH) for text in rows.table["text"]
        ]
    torch.manual_seed(seed)
    encoder = load_encoder(name)
    if not pretrained:
        encoder = build_encoder(encoder.config.to_dict())
    model = KoBERTClassifier(encoder, "mean", text_train.DROPOUT)
    accelerator = Accelerator()
    optimisation = replace(
        training.Optimisation.of(settings), seed=seed, epochs=EPOCHS_FEW if few else EPOCHS
    )
    batches = partial(text_batches, budget=text_train.BATCH_TOKENS, size=text_train.BATCH_SIZE)
    inputs = partial(
        text_inputs,
        pad_id=tokenizer.pad_id,
        mask_id=tokenizer.mask_id,
        hide_tokens=settings["HIDE_TOKENS"],
    )
    with tempfile.TemporaryDirectory() as folder:
        training.train(
            model,
            Path(folder),
            optimisation,
            {"classifier": text_train.CLASSIFIER_RATE, "": settings["LEARNING_RATE"]},
            fit=fit,
            held_out=None,
            batches=batches,
            inputs=inputs,
            accelerator=accelerator,
        )
    logits = training.predict(model, held_out, batches, inputs, "held-out rows")
    return scores(held_out, logits.argmax(1).numpy())


def scores(held_out: Utterances, predicted: np.ndarray) -> tuple[float, float]:
    found = metrics.scores(held_out.labels, predicted)
    return found["macro_f1"], found["accuracy"]


if __name__ == "__main__":
    config.run(main)
