"""Train the audio model: ModifiedAlexNet on log-mel spectrograms, or a pretrained speech encoder.

Reads   DATA/{train,valid}.tsv, *_audio.npy, manifest.json (preprocess.py)
Writes  OUTPUTS/NAME/: model.safetensors, config.json, history.json, of a frozen encoder
        encoder.safetensors;
        with FOLDS = K also OUTPUTS/NAME/fold0 ... fold{K-1}/

    python audio_train.py
    python audio_train.py --encoder openai/whisper-base --name speech
    python audio_train.py --encoder facebook/wav2vec2-xls-r-300m --name xlsr --lora-rank 8 \\
        --lr-encoder 1e-4

Killed and started again with the same settings, it goes on where it stopped.
"""

from common import settings  # first of all: it answers --help

# isort: split

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator

from common.checkpoint import Checkpoint, save_frozen, save_model, unfinished_trainings
from common.conditions import TrainConditions
from common.data import Dataset, Training, cut_batches, load_data
from common.encoding import EncoderFrames, describe_encoder, encode
from common.features import Mel, Paper
from common.files import SAMPLE_RATE, UserError
from common.losses import JointLoss, describe_dimensions
from common.speakers import FIXED, PRIOR_CLIPS, SPEAKER_NORMS, VALID_NORM, SpeakerNorm
from common.stages import Stage
from common.tracking import Trackers
from common.training import (
    autocast,
    evaluate,
    leave_others,
    load_batches,
    parameter_groups,
    seed_step,
    set_lr,
    start,
    to_device,
)
from common.voice import audio_batches, cache_log_mel, collect_stats
from models import identify
from models.alexnet import LAYERS, PAPER_LAYERS, build_audio_network, recompute_batch_norm

if TYPE_CHECKING:  # AlexNet starts without it
    from models.speech import SpeechClassifier, SpeechEncoder

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
NAME = "audio"  # of the model: its folder in OUTPUTS; another beside AlexNet: speech ...
RESTART = False  # yes: neither go on with an unfinished run nor leave alone what is done
SEED = 1
PRECISION = "auto"  # auto (bf16 where it is faster: GPU, AMX), bf16, float32
DETERMINISTIC = False  # yes: the same bits again on a GPU too, slower
FOLDS = 0  # 0: validation sessions; K: out-of-fold outputs for all training rows, K + 1 trainings
# model
ENCODER = "alexnet"  # or a speech encoder of the hub or a folder: openai/whisper-base ...
# for a speech encoder only
LR_ENCODER = 0.0  # learning rate of its weights; 0: frozen (1e-5 trains all, 1e-4 with LORA_RANK)
LORA_RANK = 0  # train low-rank adapters of its layers in place of all weights; 0: none
LR_HEAD = 1e-4  # of the classifier over it
LR_LAYERS = 1e-2  # of the weights of its layers
# for alexnet only
FEATURES = "mel"  # log-mel normalised by speaker, deltas over time; "paper": linear, over frequency
TEMPOS = (1.0, 0.85, 1.15)  # of each clip in testing; the logits are averaged; paper 1
AUGMENT = 1.0  # strength of tempo, level and mask augmentation in training; paper 0
# optimisation
DROPOUT = 0.2  # before the classifier; paper 0.5
EPOCHS = 40  # at most; paper 16
CLIPS = 140_000  # heard in all at most: 17 epochs with the 8,200 of KEMDy19's sessions 1-16
PATIENCE = 20  # epochs without a better validation macro F1
BATCH_SECONDS = 120  # seconds of audio in a batch, padding included
BATCH_SIZE = 16  # clips in a batch; paper 1
SHUFFLE = True  # paper: file order
LR = 1e-3  # learning rate of alexnet; paper 2e-4
WEIGHT_DECAY = 0.01  # not on biases and norms
BETA2 = 0.99  # of AdamW; paper .999
SCHEDULE = "cosine"  # or linear, the paper's
WARMUP = 0.1  # share of all steps; paper 0
CLIP = 1.0  # norm of the gradient
CLASS_WEIGHTS = 0.5  # loss weight ~ (1 / class frequency) to this power; paper 0
CONDITIONS = ("noise:10", "room", "telephone")  # that a share of the clips is heard through
CONDITION_PROB = 0.3  # the share, each of the conditions as often; paper 0
TARGETS = "label"  # that the loss aims at; votes: the raters' shares
DIMENSIONS = 0.3  # weight of 1 - CCC of valence and arousal in the loss; 0, the paper: off
LABEL_SMOOTHING = 0.1  # paper 0
NORM_BATCHES = 10  # by which batch normalisation's averages are measured before each evaluation
SAVE_MINUTES = 10.0  # how often the resumable state is written within an epoch
LOG = ()  # of every epoch to OUTPUTS/logs as well: tensorboard, wandb
# --------------------------------------------------------------------------------------


def main() -> None:
    accelerator = start(DETERMINISTIC, LOG)
    data = load_data(DATA, "train", "valid")
    inputs = {"data": data.data_hash}
    if ENCODER != "alexnet":
        inputs["encoder"] = identify(ENCODER)
    if LORA_RANK and not LR_ENCODER:
        raise UserError("LORA_RANK: give LR_ENCODER as well, such as --lr-encoder 1e-4")
    block = settings.read(globals())
    with accelerator.main_process_first():
        stage = Stage("audio_train.py", Path(OUTPUTS) / NAME, block, inputs, resumable=True)
        is_done = stage.is_done()
    if not is_done:
        for training in unfinished_trainings(stage, data, FOLDS):
            accelerator.print(f"{NAME}: {training}")
            train(accelerator, training, stage)
        leave_others(accelerator)
        stage.publish()


def choose_network(fit: Dataset) -> dict:
    """Return AlexNet's configuration: all that its predictions depend on but the weights."""
    if FEATURES == "paper":
        return {"kind": "PaperAlexNet", "layers": PAPER_LAYERS, "paper": asdict(Paper())}
    mel = Mel()
    stats = collect_stats(cache_log_mel(fit, mel))
    return {
        "kind": "ModifiedAlexNet",
        "layers": LAYERS,
        "mel": asdict(mel),
        "speaker_norm": SpeakerNorm.fit(stats).to_json(),
        "tempos": list(TEMPOS),
    }


def choose_head(fit: Dataset, encoder: "SpeechEncoder", contents: str) -> dict:
    """Return the configuration of a classifier over a speech encoder."""
    config = {"kind": "SpeechClassifier", **describe_encoder(encoder, contents)}
    frames = EncoderFrames(fit, config, partial(encode, encoder))
    return config | {"speaker_norm": frames.fit_norm(FIXED if LR_ENCODER else PRIOR_CLIPS)}


def build_head(encoder: "SpeechEncoder", config: dict) -> "SpeechClassifier":
    """Build the classifier, with the encoder if that is trained as well."""
    from models.speech import SpeechClassifier

    torch.manual_seed(SEED)  # whatever computing the frames has drawn
    if not LR_ENCODER:
        encoder.requires_grad_(False)
        return build_audio_network(config, DROPOUT)
    encoder.begin_training(LORA_RANK)
    units = np.stack(SpeakerNorm.from_json(config["speaker_norm"]).of_corpus())
    units = torch.from_numpy(units)
    sizes = encoder.layers, encoder.width, DROPOUT, encoder, units
    return SpeechClassifier(*sizes, config["classes"], config["dimensions"])


def save_encoder(
    encoder: "SpeechEncoder", network: "SpeechClassifier", run: Checkpoint, stage: Stage
) -> str:
    """Write a speech encoder beside the classifier; return what tells its contents.

    A frozen one is written once for all folds. One that was trained is as good as frozen now.
    """
    if not LR_ENCODER:
        save_frozen(encoder, run, stage.unfinished)
        return stage.made_of["inputs"]["encoder"]
    if LORA_RANK:
        encoder.merge_adapters()
    network.encoder = None
    return save_frozen(encoder, run, run.training.folder)


def train(accelerator: Accelerator, training: Training, stage: Stage) -> None:
    """Train a model on training.fit and write it to training.folder."""
    fit = training.fit
    head = {
        "classes": len(fit.label_names),
        "dimensions": describe_dimensions(accelerator, training, DIMENSIONS, BATCH_SIZE),
    }
    torch.manual_seed(SEED)
    if ENCODER == "alexnet":
        config, encoder, rates = choose_network(fit) | head, None, {"": LR}
        network = build_audio_network(config, DROPOUT)
    else:
        from models.speech import load_speech_encoder

        encoder = load_speech_encoder(ENCODER).to(accelerator.device)
        config = choose_head(fit, encoder, stage.made_of["inputs"]["encoder"])
        config |= head
        network = build_head(encoder, config)
        rates = {"": LR_HEAD, "layer_weights": LR_LAYERS, "encoder": LR_ENCODER}
    groups = parameter_groups(network, rates, WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, BETA2), fused=True)
    model, optimizer = accelerator.prepare(network, optimizer)
    loss_function = JointLoss(accelerator, fit, TARGETS, CLASS_WEIGHTS, LABEL_SMOOTHING, DIMENSIONS)
    frozen = None if LR_ENCODER else partial(encode, encoder)
    train_conditions = TrainConditions(CONDITIONS, CONDITION_PROB)
    make_batch = audio_batches(fit, config, SPEAKER_NORMS, AUGMENT, SEED, frozen, train_conditions)
    seconds = BATCH_SECONDS * SAMPLE_RATE
    plan = [
        cut_batches(
            fit.sample_counts, seconds, BATCH_SIZE, 1000 * SEED + epoch if SHUFFLE else None
        )
        for epoch in range(max(1, min(EPOCHS, CLIPS // len(fit))))
    ]
    steps = sum(map(len, plan))
    make_valid_batch = audio_batches(training.held_out, config, [VALID_NORM], encode=frozen)
    valid_plan = cut_batches(training.held_out.sample_counts, seconds, BATCH_SIZE, 0)

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
        some = load_batches([(rows, steps) for rows in plan[0][:NORM_BATCHES]], make_batch)
        recompute_batch_norm(network, (to_device(batch, accelerator.device) for batch in some))
        run.end_epoch(evaluate(accelerator, network, training, valid_plan, make_valid_batch))
    run.take_best()
    if encoder:
        config["contents"] = save_encoder(encoder, network, run, stage)
    save_model(run, stage, config, {})


if __name__ == "__main__":
    settings.run(main)
