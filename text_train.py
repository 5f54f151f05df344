"""Train the text model: a pretrained Korean BERT and a classifier of emotions.

Reads   DATA/{train,valid}.tsv, manifest.json (preprocess.py) and the checkpoint BERT
Writes  OUTPUTS/NAME/: model.safetensors, config.json, history.json, tokenizer files;
        with FOLDS = K also OUTPUTS/NAME/fold0 ... fold{K-1}/

    python text_train.py
    python text_train.py --bert skt/kobert-base-v1 --epochs 5 --lr-encoder 5e-5

Killed and started again with the same settings, it goes on where it stopped.
"""

from common import settings  # first of all: it answers --help

# isort: split

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from common.checkpoint import Checkpoint, save_model, unfinished_trainings
from common.conditions import TrainConditions, add_words, identify_recognisers
from common.data import Batch, Training, cut_batches, load_words, random_of
from common.losses import JointLoss, describe_dimensions
from common.stages import Stage
from common.tokens import token_batches
from common.tracking import Trackers
from common.training import (
    autocast,
    evaluate,
    leave_others,
    parameter_groups,
    seed_step,
    set_lr,
    start,
)
from corpora.transcripts import clean
from models import identify
from models.kobert import (
    KoBERTClassifier,
    check_positions,
    check_unknown_share,
    load_encoder,
    load_tokenizer,
)

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
NAME = "text"  # of the model: its folder in OUTPUTS; another for a second encoder
RESTART = False  # yes: neither go on with an unfinished run nor leave alone what is done
SEED = 1
PRECISION = "auto"  # auto (bf16 where it is faster: GPU, AMX), bf16, float32
DETERMINISTIC = False  # yes: the same bits again on a GPU too, slower
FOLDS = 0  # 0: validation sessions; K: out-of-fold outputs for all training rows, K + 1 trainings
# model
BERT = "models/kobert-mini"  # hub name or folder: skt/kobert-base-v1, klue/bert-base ...
POOLING = "mean"  # mean of the last layer over real tokens; "pooler": the paper's
MAX_LENGTH = 128  # tokens, [CLS] and [SEP] included; longer utterances are cut
DROPOUT = 0.3  # before the classifier; paper 0.5
TOKEN_MASK_PROB = 0.0  # of a token to be [MASK] in training; 0.3 helps with 30,000 rows, not 8,000
# optimisation
EPOCHS = 12  # paper 16
PATIENCE = 8  # epochs without a better validation macro F1
BATCH_TOKENS = 2048  # padded tokens of a batch
BATCH_SIZE = 32  # rows of a batch; paper 16
SHUFFLE = True  # paper: file order
LR_ENCODER = 2e-4  # 2e-5 to 5e-5 for a BERT of 100 M parameters
LR_HEAD = 3e-3  # of the classifier; paper: the same as the encoder's
WEIGHT_DECAY = 0.01  # not on biases and norms
BETA2 = 0.999  # of AdamW
SCHEDULE = "cosine"  # or linear
WARMUP = 0.1  # share of all steps
CLIP = 1.0  # norm of the gradient
CLASS_WEIGHTS = 0.5  # loss weight ~ (1 / class frequency) to this power; paper 0
CONDITIONS = ()  # that a share of the rows is read in: "words:.2", "asr:NAME" of a recogniser ...
CONDITION_PROB = 0.3  # the share; each of the conditions as often
TARGETS = "label"  # that the loss aims at; votes: the raters' shares
DIMENSIONS = 0.3  # weight of 1 - CCC of valence and arousal in the loss; 0, the paper: off
LABEL_SMOOTHING = 0.05  # paper 0
SAVE_MINUTES = 10.0  # how often the resumable state is written within an epoch
LOG = ()  # of every epoch to OUTPUTS/logs as well: tensorboard, wandb
# --------------------------------------------------------------------------------------


def main() -> None:
    accelerator = start(DETERMINISTIC, LOG)
    data = load_words(DATA, "train", "valid")
    inputs = {"data": data.data_hash, "bert": identify(BERT), **identify_recognisers(CONDITIONS)}
    block = settings.read(globals())
    with accelerator.main_process_first():
        stage = Stage("text_train.py", Path(OUTPUTS) / NAME, block, inputs, resumable=True)
        is_done = stage.is_done()
    if not is_done:
        tokenizer = load_tokenizer(BERT)
        data = add_words(data, CONDITIONS, clean, SEED, accelerator.print)
        for training in unfinished_trainings(stage, data, FOLDS):
            train(accelerator, training, tokenizer, stage)
        leave_others(accelerator)
        stage.publish()


def train(accelerator: Accelerator, training: Training, tokenizer, stage: Stage) -> None:
    """Train a model on training.fit and write it to training.folder."""
    fit = training.fit
    config = {"pooling": POOLING, "max_length": MAX_LENGTH, "pad_id": tokenizer.pad_id}
    train_conditions = TrainConditions(CONDITIONS, CONDITION_PROB)
    lengths, make_tokens = token_batches(fit, tokenizer, config, train_conditions, SEED)
    valid_lengths, make_valid_batch = token_batches(training.held_out, tokenizer, config)
    unknown = check_unknown_share(fit.table["text"], tokenizer, BERT)
    accelerator.print(f"{NAME}: {training}; {unknown:.2%} of tokens unknown")

    torch.manual_seed(SEED)
    encoder = load_encoder(BERT, POOLING == "pooler")
    check_positions(encoder, MAX_LENGTH, BERT)
    dimensions = describe_dimensions(accelerator, training, DIMENSIONS, BATCH_SIZE)
    config |= {"classes": len(fit.label_names), "dimensions": dimensions}
    network = KoBERTClassifier(encoder, POOLING, DROPOUT, config["classes"], dimensions)
    config["encoder"] = network.encoder.config.to_dict()
    groups = parameter_groups(network, {"": LR_ENCODER, "classifier": LR_HEAD}, WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, BETA2), fused=True)
    model, optimizer = accelerator.prepare(network, optimizer)
    loss_function = JointLoss(accelerator, fit, TARGETS, CLASS_WEIGHTS, LABEL_SMOOTHING, DIMENSIONS)
    plan = [
        cut_batches(lengths, BATCH_TOKENS, BATCH_SIZE, 1000 * SEED + epoch if SHUFFLE else None)
        for epoch in range(EPOCHS)
    ]
    steps = sum(map(len, plan))
    valid_plan = cut_batches(valid_lengths, BATCH_TOKENS, BATCH_SIZE, 0)

    def make_batch(rows: np.ndarray, step: int) -> Batch:
        batch = make_tokens(rows, step)
        if TOKEN_MASK_PROB:
            counts = batch["attention_mask"].sum(1)
            for row, ids, count in zip(rows, batch["input_ids"], counts, strict=True):
                random, inner = random_of(SEED, step, row), ids[1 : count - 1]
                train_conditions.draw(random)  # first, as for the words
                masked = random.random(len(inner)) < TOKEN_MASK_PROB
                inner[masked] = tokenizer.mask_id
        return batch

    trackers = Trackers(LOG, stage, training)
    run = Checkpoint(
        training, stage.made_of, accelerator, network, optimizer, SAVE_MINUTES, trackers
    )
    for epoch in run.epochs(len(plan), PATIENCE):
        model.train()
        for step, rows, batch in run.batches(plan[epoch], make_batch, workers=0):
            set_lr(optimizer, step, steps, WARMUP, SCHEDULE)
            seed_step(accelerator, SEED, step)
            with autocast(accelerator, PRECISION):
                loss = loss_function(model(**batch), rows)
            accelerator.backward(loss)
            gradient = accelerator.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            run.end_step(loss, gradient, rows)
        run.end_epoch(evaluate(accelerator, network, training, valid_plan, make_valid_batch))
    run.take_best()
    save_model(run, stage, config, tokenizer.files())


if __name__ == "__main__":
    settings.run(main)
