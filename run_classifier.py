"""Train and test the text-audio model: CM-BERT, masked multimodal attention over BERT's last layer.

Reads   DATA/*.tsv, *_audio.npy, manifest.json (preprocess.py) and the checkpoint BERT
Writes  OUTPUTS/cmbert/: model.safetensors, config.json, history.json, tokenizer files;
        with FOLDS = K also OUTPUTS/cmbert/fold0 ... fold{K-1}/;
        OUTPUTS/cmbert_{truth,pred,output,index}.npy, _rows.tsv, _run.json and the same under
        OUTPUTS/heldout/; OUTPUTS/cmbert_ablation.json (test scores without the voice, without the
        words); with CONDITION only the predictions of the test rows, under OUTPUTS/conditions/

    python run_classifier.py
    python run_classifier.py --train no --attention Sess17_script01_F001
    python run_classifier.py --train no --condition noise:10
    python run_classifier.py --bert skt/kobert-base-v1 --epochs 5 --lr-encoder 2e-5
    python run_classifier.py --audio openai/whisper-base

Killed and started again with the same settings, it goes on where it stopped.
"""

from common import settings  # first of all: it answers --help

# isort: split

from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from common.checkpoint import (
    Checkpoint,
    load_frozen,
    load_weights,
    save_frozen,
    save_model,
    unfinished_trainings,
)
from common.conditions import TrainConditions, add_words, identify_recognisers, in_condition
from common.data import Batch, Dataset, Training, cut_batches, load_data, load_words
from common.encoding import EncoderFrames, describe_encoder, encode, encode_later
from common.features import Paper
from common.files import UserError, write_json
from common.losses import JointLoss, describe_dimensions
from common.speakers import SPEAKER_NORMS, VALID_NORM
from common.stages import Stage, read_config
from common.testing import begin_test, show_scores, write_predictions
from common.tokens import token_batches
from common.tracking import Trackers
from common.training import (
    autocast,
    evaluate,
    leave_others,
    parameter_groups,
    predict,
    seed_step,
    set_lr,
    start,
)
from common.voice import choose_voice, token_voice_batches
from corpora.transcripts import clean
from models import identify
from models.cmbert import CMBERT, LAYER_SCALE, PROJECTION, build_cmbert
from models.kobert import check_positions, check_unknown_share, load_encoder, load_tokenizer
from models.speech import SpeechEncoder, build_speech_encoder, load_speech_encoder

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: neither go on with an unfinished run nor leave alone what is done
SEED = 1
PRECISION = "auto"  # auto (bf16 where it is faster: GPU, AMX), bf16, float32
DETERMINISTIC = False  # yes: the same bits again on a GPU too, slower
FOLDS = 0  # 0: validation sessions; K: out-of-fold outputs for all training rows, K + 1 trainings
# model
BERT = "models/kobert-mini"  # hub name or folder: skt/kobert-base-v1, klue/bert-base ...
MAX_LENGTH = 128  # tokens, [CLS] and [SEP] included; paper 100
AUDIO = "aligned"  # log-mel over each token's share of the clip; "paper": MFCC, not aligned;
# or a frozen speech encoder's frames, a hub name or folder: openai/whisper-base ...
VOICE = "values"  # the voice is attended to; "weights": it only re-weights words, as published
POOLING = "mean"  # classify the mean over real tokens; "cls": position 0, as published
SCALE = "utterance"  # norm over an utterance's tokens; "batch": over the whole batch, as published
ATTENTION_DROPOUT = 0.3
DROPOUT = 0.3  # before the classifier and in the fusion; paper 0.1
AUGMENT = 1.0  # strength of the log-mel's augmentation in training; paper 0
TEXT_DROP_PROB = 0.5  # of an utterance whose words are masked in training; paper 0
FROZEN = ()  # name prefixes that are not trained; paper: encoder.embeddings, classifier
PAD_ID = -1  # token that pads; -1: the tokenizer's; paper 0, which is [UNK]
# optimisation
EPOCHS = 20
PATIENCE = 8  # epochs without a better validation macro F1
BATCH_TOKENS = 2048  # padded tokens of a batch
BATCH_SIZE = 24  # rows of a batch
SHUFFLE = True
LR_ENCODER = 1e-4  # 2e-5 for a BERT of 100 M parameters
LR_HEAD = 2e-3  # of everything above the encoder; paper .01
LR_LAYERS = 1e-2  # of the weights of a speech encoder's layers
WEIGHT_DECAY = 0.01  # not on biases and norms
BETA2 = 0.999  # of AdamW
SCHEDULE = "linear"  # or cosine
WARMUP = 0.1  # share of all steps
CLIP = 1.0  # norm of the gradient
CLASS_WEIGHTS = 0.5  # loss weight ~ (1 / class frequency) to this power; paper 0
CONDITIONS = ()  # that a share of the rows is heard through: "room,noise:10,words:.2,asr:NAME" ...
CONDITION_PROB = 0.3  # the share; each of the conditions as often
TARGETS = "label"  # that the loss aims at; votes: the raters' shares
DIMENSIONS = 0.3  # weight of 1 - CCC of valence and arousal in the loss; 0, the paper: off
LABEL_SMOOTHING = 0.05  # paper 0
SAVE_MINUTES = 10.0  # how often the resumable state is written within an epoch
LOG = ()  # of every epoch to OUTPUTS/logs as well: tensorboard, wandb
# after training
TRAIN = True  # no: test what was trained before
SPEAKER_NORM = "past"  # by the speaker's past turns and this utterance, this utterance, or all
CONDITION = ""  # of the test: noise:10, telephone, room, mp3:32, clipping, level:-20, tempo:1.1;
# words:.2: of the syllables misheard; asr:NAME: words of a recogniser (hub, folder)
ATTENTION = ""  # segment ID of a test utterance: plot its attention maps
# --------------------------------------------------------------------------------------

# A trained model does not depend on them.
AFTER_TRAINING = ("train", "speaker_norm", "condition", "attention")


def main() -> None:
    block = settings.read(globals())
    if TRAIN:
        train_all({name: value for name, value in block.items() if name not in AFTER_TRAINING})
    stage = begin_test("run_classifier.py", "cmbert", "run_classifier.py", block)
    if not stage.is_done():
        change = partial(in_condition, condition=CONDITION, clean=clean)
        write_predictions(stage, "cmbert", "run_classifier.py", predict_rows, SPEAKER_NORM, change)
        if not CONDITION:
            ablate(stage)
        if ATTENTION:
            plot_attention(stage)
        stage.publish()


def train_all(block: dict) -> None:
    """Train what is not trained yet, in the processes that there are."""
    accelerator = start(DETERMINISTIC, LOG)
    if SCALE == "batch" and accelerator.num_processes > 1:
        raise UserError("SCALE = 'batch' takes a norm over a whole batch: start one process only")
    data = load_words(DATA, "train", "valid")
    inputs = {"data": data.data_hash, "bert": identify(BERT), **identify_recognisers(CONDITIONS)}
    if AUDIO not in ("aligned", "paper"):
        inputs["audio"] = identify(AUDIO)
    with accelerator.main_process_first():
        stage = Stage("run_classifier.py", Path(OUTPUTS) / "cmbert", block, inputs, resumable=True)
        is_done = stage.is_done()
    if not is_done:
        data = add_words(data, CONDITIONS, clean, SEED, accelerator.print)
        for training in unfinished_trainings(stage, data, FOLDS):
            train(accelerator, training, stage)
        leave_others(accelerator)
        stage.publish()


def choose_network(fit: Dataset, encoder, tokenizer, speech, contents: str) -> dict:
    """Return the network's configuration: all that its predictions depend on but the weights.

    contents: tells those of the speech encoder.
    """
    pad_id = tokenizer.pad_id if PAD_ID < 0 else PAD_ID
    if pad_id >= encoder.config.vocab_size:
        size = encoder.config.vocab_size
        raise UserError(f"PAD_ID = {pad_id}: give -1 or one of the encoder's {size} tokens")
    if AUDIO == "paper" and Paper().mfcc < MAX_LENGTH:
        raise UserError(
            f"MAX_LENGTH = {MAX_LENGTH}: AUDIO = 'paper' lays one of {Paper().mfcc} coefficients "
            f"against each token: give --max-length {Paper().mfcc} or less"
        )
    config = {
        "scale": SCALE,
        "voice": VOICE,
        "pooling": POOLING,
        "projection": PROJECTION,
        "max_length": MAX_LENGTH,
        "pad_id": pad_id,
        "mask_id": tokenizer.mask_id,
        "special_ids": [tokenizer.cls_id, tokenizer.sep_id],
        "encoder": encoder.config.to_dict(),
    }
    if speech is None:
        return config | choose_voice(AUDIO, fit)
    voice = {"audio": "encoder", "layer_scale": LAYER_SCALE}
    voice |= describe_encoder(speech, contents)
    frames = EncoderFrames(fit, voice, partial(encode, speech))
    return config | voice | {"speaker_norm": frames.fit_norm()}


def freeze(network: CMBERT, prefixes: tuple[str, ...]) -> None:
    """Take the parameters whose names begin so out of the training; each prefix must fit one."""
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = ", ".join(name for name, _ in network.named_children())
            raise UserError(f"FROZEN = {prefix!r}: no weight's name begins so; there are {parts}")
    for name, parameter in network.named_parameters():
        parameter.requires_grad &= not name.startswith(tuple(prefixes))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"FROZEN = {prefixes!r}: nothing is left to train")


def train(accelerator: Accelerator, training: Training, stage: Stage) -> None:
    """Train a model on training.fit and write it to training.folder."""
    fit, held_out = training.fit, training.held_out
    tokenizer = load_tokenizer(BERT)
    unknown = check_unknown_share(fit.table["text"], tokenizer, BERT)
    accelerator.print(f"cmbert: {training}; {unknown:.2%} of tokens unknown")

    torch.manual_seed(SEED)
    encoder = load_encoder(BERT)
    check_positions(encoder, MAX_LENGTH, BERT)
    inputs = stage.made_of["inputs"]
    speech = load_speech_encoder(AUDIO).to(accelerator.device) if "audio" in inputs else None
    config = choose_network(fit, encoder, tokenizer, speech, inputs.get("audio", ""))
    config["classes"] = len(fit.label_names)
    config["dimensions"] = describe_dimensions(accelerator, training, DIMENSIONS, BATCH_SIZE)
    network = CMBERT(encoder, config, ATTENTION_DROPOUT, DROPOUT)
    freeze(network, FROZEN)
    rates = {"": LR_HEAD, "encoder": LR_ENCODER, "layer_weights": LR_LAYERS}
    groups = parameter_groups(network, rates, WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, BETA2), fused=True)
    model, optimizer = accelerator.prepare(network, optimizer)
    loss_function = JointLoss(accelerator, fit, TARGETS, CLASS_WEIGHTS, LABEL_SMOOTHING, DIMENSIONS)
    train_conditions = TrainConditions(CONDITIONS, CONDITION_PROB)
    tokens = token_batches(fit, tokenizer, config, train_conditions, SEED)
    valid_tokens = token_batches(held_out, tokenizer, config)
    frozen = partial(encode, speech)
    make_batch = token_voice_batches(
        fit, tokens, config, SPEAKER_NORMS, AUGMENT, TEXT_DROP_PROB, SEED, frozen, train_conditions
    )
    make_valid_batch = token_voice_batches(
        held_out, valid_tokens, config, [VALID_NORM], encode=frozen
    )
    plan = [
        cut_batches(tokens[0], BATCH_TOKENS, BATCH_SIZE, 1000 * SEED + epoch if SHUFFLE else None)
        for epoch in range(EPOCHS)
    ]
    steps = sum(map(len, plan))
    valid_plan = cut_batches(valid_tokens[0], BATCH_TOKENS, BATCH_SIZE, 0)

    trackers = Trackers(LOG, stage, training)
    run = Checkpoint(
        training, stage.made_of, accelerator, network, optimizer, SAVE_MINUTES, trackers
    )
    for epoch in run.epochs(len(plan), PATIENCE):
        model.train()
        for step, rows, batch in run.batches(plan[epoch], make_batch):
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
    if speech:
        save_frozen(speech, run, stage.unfinished)
    save_model(run, stage, config, tokenizer.files())


def predict_rows(
    data: Dataset, folder: Path, title: str, speaker_norm: str = "", change=None
) -> np.ndarray:
    """Return the outputs (N, C) or (N, C + 2) of rows by the model in a folder.

    change: (batch, config) -> another batch, for an ablation.
    """
    config = read_config(folder, "run_classifier.py")["network"]
    network = load_weights(build_cmbert(config), folder, "run_classifier.py")
    tokens = token_batches(data, load_tokenizer(folder), config)
    accelerator = start()
    encode = encode_later(partial(load_speech, config, folder, accelerator.device))
    norm = speaker_norm or SPEAKER_NORM
    make = token_voice_batches(data, tokens, config, [norm], encode=encode)
    batches = cut_batches(tokens[0], BATCH_TOKENS, BATCH_SIZE, 0)
    network.to(accelerator.device)

    def make_batch(rows: np.ndarray) -> Batch:
        return change(make(rows), config) if change else make(rows)

    return predict(accelerator, network, batches, make_batch, data, title)


def load_speech(config: dict, folder: Path, device: torch.device | str) -> SpeechEncoder:
    """Load the speech encoder that a trained network goes with."""
    encoder = build_speech_encoder(config["speech"])
    return load_frozen(encoder, folder, "run_classifier.py").to(device)


def ablate(stage: Stage) -> None:
    """Print and write the test scores in all normalisations, and without the voice or the words."""
    test, folder = load_data(DATA, "test"), Path(OUTPUTS) / "cmbert"

    def zero_voice(batch: Batch, config: dict) -> Batch:
        return batch | {"audio": np.zeros_like(batch["audio"])}

    def mask_words(batch: Batch, config: dict) -> Batch:
        ids = batch["input_ids"]
        kept = np.isin(ids, [*config["special_ids"], config["pad_id"]])
        return batch | {"input_ids": np.where(kept, ids, config["mask_id"])}

    variants = [
        *[("words and voice", test, norm, None) for norm in SPEAKER_NORMS],
        ("voice zeroed", test, "", zero_voice),
        ("voice of another utterance", test.shuffle_voices(SEED), "", None),
        ("words masked", test, "", mask_words),
    ]
    results = []
    for name, rows, norm, change in variants:
        logits = predict_rows(rows, folder, name, norm, change)
        scores = show_scores(name, test, logits)
        results.append({"input": name, "speaker_norm": norm or SPEAKER_NORM, **scores})
    write_json(stage.unfinished / "cmbert_ablation.json", results)


def plot_attention(stage: Stage) -> None:
    """Plot the attention maps of the test utterance ATTENTION."""
    from common.plots import draw_attention, save  # here: takes half a second, seldom asked for

    test, folder = in_condition(load_data(DATA, "test"), CONDITION, clean), Path(OUTPUTS) / "cmbert"
    if ATTENTION not in test.ids:
        raise UserError(f"ATTENTION = '{ATTENTION}' is no test utterance: see {DATA}/test.tsv")
    row = np.flatnonzero(test.ids == ATTENTION)
    config = read_config(folder, "run_classifier.py")["network"]
    network = load_weights(build_cmbert(config), folder, "run_classifier.py").eval()
    tokenizer = load_tokenizer(folder)
    tokens = token_batches(test, tokenizer, config)
    encode = encode_later(partial(load_speech, config, folder, "cpu"))
    make_batch = token_voice_batches(test, tokens, config, [SPEAKER_NORM], encode=encode)
    batch = make_batch(row)
    with torch.inference_mode():
        logits, maps = network.explain(**{n: torch.from_numpy(array) for n, array in batch.items()})
    count = tokens[0][row[0]]
    maps = {name: values[0, :count, :count].numpy() for name, values in maps.items()}
    names = test.label_names
    truth, pred = names[test.labels[row[0]]], names[logits[0, : len(names)].argmax()]
    pieces = tokenizer.pieces(batch["input_ids"][0, :count])
    path = stage.unfinished / "cmbert" / f"attention_{ATTENTION.replace('/', '_')}.png"
    title = f"{ATTENTION}: {truth}, predicted {pred}"
    save(path, draw_attention, pieces, maps, title, pdf=True)


if __name__ == "__main__":
    settings.run(main)
