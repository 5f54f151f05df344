"""Train and test the text-audio model: CM-BERT, masked multimodal attention over BERT's last layer.

Reads   DATA/*.tsv, *_audio.npy, manifest.json (preprocess.py) and the checkpoint BERT
Writes  OUTPUTS/cmbert/: model.safetensors, config.json, history.json, tokenizer files,
        ablation.json (test scores without the voice, without the words);
        with FOLDS = K also OUTPUTS/cmbert/fold0 ... fold{K-1}/;
        OUTPUTS/cmbert_{truth,pred,output,index}.npy and the same under OUTPUTS/valid/

    python run_classifier.py
    python run_classifier.py --train no --attention Sess17_script01_F001
    python run_classifier.py --bert skt/kobert-base-v1 --epochs 5 --learning-rate 2e-5

Killed and started again with the same settings, it goes on where it stopped.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from models.cmbert import CMBERT
from models.kobert import build_encoder, check_unknown_share, load_encoder, load_tokenizer
from pipeline import config
from pipeline.evaluation import metrics
from pipeline.features.mel import Mel
from pipeline.features.tokens import (
    aligned_inputs,
    audio_width,
    compute_voice,
    paper_token_inputs,
)
from pipeline.figures import ensemble as plots
from pipeline.figures.attention import draw_attention
from pipeline.files import UserError, check_choice, write_json
from pipeline.labels import LABELS
from pipeline.learning import testing, training
from pipeline.learning.checkpoint import Run, load_checkpoint
from pipeline.learning.dataset import Utterances, load_utterances, plan_trainings, text_batches

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
SEED = 1
PRECISION = "auto"  # auto (bf16 where the processor has it), bf16, float32
FOLDS = 0  # 0: validation sessions; K: out-of-fold outputs for all training rows, K + 1 trainings
# model
BERT = "models/kobert-mini"  # hub name or folder: skt/kobert-base-v1, klue/bert-base ...
MAX_LENGTH = 128  # tokens, [CLS] and [SEP] included; paper 100
AUDIO = "aligned"  # log-mel over each token's share of the clip; "paper": MFCC, not aligned
VOICE = "values"  # the voice is attended to; "weights": it only re-weights words, as published
POOLING = "mean"  # classify the mean over real tokens; "cls": position 0, as published
SCALE = "utterance"  # norm over an utterance's tokens; "batch": over the whole batch, as published
ATTENTION_DROPOUT = 0.3
DROPOUT = 0.3  # before the classifier and in the fusion; paper 0.1
AUGMENT = 1.0  # strength of the audio augmentation in training; paper 0
HIDE_WORDS = 0.5  # share of utterances whose words are masked in training; paper 0
FROZEN = ()  # name prefixes that are not trained; paper: encoder.embeddings, classifier
PAD_ID = -1  # token that pads; -1: the tokenizer's; paper 0, which is [UNK]
# optimisation
EPOCHS = 20
PATIENCE = 8  # epochs without a better validation macro F1
BATCH_TOKENS = 2048  # padded tokens of a batch
BATCH_SIZE = 24  # rows of a batch
SHUFFLE = True
LEARNING_RATE = 1e-4  # the encoder's: 2e-5 for a BERT of 100 M parameters
FUSION_RATE = 2e-3  # of everything above the encoder; paper .01
WEIGHT_DECAY = 0.01  # not on biases and norms
BETA2 = 0.999  # of AdamW
SCHEDULE = "linear"  # or cosine
WARMUP = 0.1  # share of all steps
CLIP = 1.0  # norm of the gradient
CLASS_WEIGHTS = 0.5  # loss weight ~ (1 / class frequency) to this power; paper 0
LABEL_SMOOTHING = 0.05  # paper 0
SAVE_MINUTES = 10.0  # how often the resumable state is written within an epoch
# after training
TRAIN = True  # no: test what was trained before
ATTENTION = ""  # segment ID of a test utterance: plot its attention maps
# --------------------------------------------------------------------------------------


def main() -> None:
    if TRAIN:
        train()
    testing.dump("cmbert", "run_classifier.py", DATA, OUTPUTS, predict)
    folder = Path(OUTPUTS) / "cmbert"
    trained, weights = load_checkpoint(folder, "run_classifier.py")
    test, tokenizer = load_utterances(DATA, "test"), load_tokenizer(folder)
    model, inputs = load_model(trained, weights, test)
    ablate(model, inputs, trained["pad_id"], tokenizer, test)
    if ATTENTION:
        plot_attention(model, inputs, tokenizer, test)


def training_settings() -> dict:
    """Return the settings that the trained model depends on."""
    settings = config.settings(globals())
    return {name: settings[name] for name in settings if name not in ("train", "attention")}


def train() -> None:
    check_choice("AUDIO", AUDIO, ("aligned", "paper"))
    mel = Mel() if AUDIO == "aligned" else None
    accelerator = Accelerator()
    plan = plan_trainings(DATA, FOLDS)
    tokenizer = load_tokenizer(BERT)
    run = Run(Path(OUTPUTS) / "cmbert", training_settings(), plan[-1].fit, accelerator)
    for part in plan:
        if run.is_finished(part.name):
            print(f"{run.folder / part.name}: already trained in this run")
            continue
        prepare(part.fit, tokenizer, MAX_LENGTH, mel)
        prepare(part.held_out, tokenizer, MAX_LENGTH, mel)
        share = check_unknown_share(part.fit.token_ids, tokenizer.unk_id, BERT)
        print(f"cmbert {part}; {share:.2%} of tokens unknown")
        torch.manual_seed(SEED)
        model = CMBERT(
            load_encoder(BERT), audio_width(mel), SCALE, VOICE, POOLING, ATTENTION_DROPOUT, DROPOUT
        )
        for name, parameter in model.named_parameters():
            parameter.requires_grad &= not name.startswith(FROZEN)
        pad_id = tokenizer.pad_id if PAD_ID < 0 else PAD_ID
        training.train(
            model,
            run.folder / part.name,
            training.Optimisation.of(globals()),
            {"encoder": LEARNING_RATE, "": FUSION_RATE},
            fit=part.fit,
            held_out=part.held_out if part.chooses_epoch else None,
            batches=partial(text_batches, budget=BATCH_TOKENS, size=BATCH_SIZE),
            inputs=make_inputs(mel, pad_id, MAX_LENGTH, AUGMENT, tokenizer.mask_id, HIDE_WORDS),
            accelerator=accelerator,
        )
        run.save(
            part.name,
            model,
            part.held_out,
            encoder=model.encoder.config.to_dict(),
            pad_id=pad_id,
            mel=mel and asdict(mel),
        )
    tokenizer.save(run.folder)
    run.finish()


def prepare(rows: Utterances, tokenizer, max_length: int, mel: Mel | None) -> None:
    """Set the token ids and, for aligned audio, the voice of every row."""
    rows.token_ids = [tokenizer.encode(text, max_length) for text in rows.table["text"]]
    if mel:
        compute_voice(rows, mel)


def make_inputs(
    mel: Mel | None,
    pad_id: int,
    max_length: int,
    augment: float = 0.0,
    mask_id: int = 0,
    hide_words: float = 0.0,
) -> training.Inputs:
    """Return what turns rows into the network's input: aligned with `mel`, else the paper's.

    The last three arguments matter in training only.
    """
    if mel:
        return partial(
            aligned_inputs, pad_id=pad_id, augment=augment, mask_id=mask_id, hide_words=hide_words
        )
    return partial(paper_token_inputs, pad_id=pad_id, length=max_length)


def load_model(trained: dict, weights: dict, rows: Utterances) -> tuple[CMBERT, training.Inputs]:
    """Rebuild a trained model, prepare the rows for it, and return it with its inputs."""
    settings = trained["settings"]
    mel = Mel(**trained["mel"]) if trained["mel"] else None
    encoder = build_encoder(trained["encoder"])
    model = CMBERT(
        encoder, audio_width(mel), settings["scale"], settings["voice"], settings["pooling"]
    )
    model.load_state_dict(weights)
    prepare(rows, load_tokenizer(Path(OUTPUTS) / "cmbert"), settings["max_length"], mel)
    inputs = make_inputs(mel, trained["pad_id"], settings["max_length"])
    return model.to(Accelerator().device), inputs


def predict(folder: Path, trained: dict, weights: dict, rows: Utterances) -> Tensor:
    """Return the logits (N, 7) of rows under one training."""
    model, inputs = load_model(trained, weights, rows)
    batches = partial(text_batches, budget=BATCH_TOKENS, size=BATCH_SIZE)
    return training.predict(model, rows, batches, inputs, folder.name)


def ablate(
    model: CMBERT, inputs: training.Inputs, pad_id: int, tokenizer, test: Utterances
) -> None:
    """Print and write the test scores with the voice zeroed or shuffled, or the words masked."""

    def without_voice(utterances: Utterances, rows: np.ndarray, training: bool) -> dict:
        batch = inputs(utterances, rows, training)
        return {**batch, "audio": torch.zeros_like(batch["audio"])}

    def without_words(utterances: Utterances, rows: np.ndarray, training: bool) -> dict:
        batch = inputs(utterances, rows, training)
        ids = batch["input_ids"]
        kept = (ids == tokenizer.cls_id) | (ids == tokenizer.sep_id) | (ids == pad_id)
        return {**batch, "input_ids": torch.where(kept, ids, tokenizer.mask_id)}

    variants = {
        "words and voice": (test, inputs),
        "voice zeroed": (test, without_voice),
        "voice of another utterance": (test.shuffle_audio(SEED), inputs),
        "words masked": (test, without_words),
    }
    batches = partial(text_batches, budget=BATCH_TOKENS, size=BATCH_SIZE)
    results = []
    for name, (rows, variant) in variants.items():
        pred = training.predict(model, rows, batches, variant, name).argmax(1).numpy()
        scores = metrics.scores(rows.labels, pred)
        results.append({"input": name, **scores})
        print(f"{name:>26}: accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f}")
    path = Path(OUTPUTS) / "cmbert" / "ablation.json"
    write_json(path, results)
    print(f"wrote {path}")


def plot_attention(model: CMBERT, inputs: training.Inputs, tokenizer, test: Utterances) -> None:
    """Plot the attention maps of the test utterance ATTENTION."""
    if ATTENTION not in test.ids:
        raise UserError(f"ATTENTION = '{ATTENTION}' is no test utterance: see {DATA}/test.tsv")
    row = np.flatnonzero(test.ids == ATTENTION)
    batch = training.to_device(inputs(test, row, False), next(model.parameters()).device)
    with torch.inference_mode():
        logits, maps = model.eval().explain(**batch)
    tokens = test.token_ids[row[0]]
    maps = {name: maps[name][0, : len(tokens), : len(tokens)].cpu().numpy() for name in maps}
    truth, pred = LABELS[test.labels[row[0]]], LABELS[logits.argmax()]
    title = f"{ATTENTION}: {truth}, predicted {pred}"
    path = Path(OUTPUTS) / "cmbert" / f"attention_{ATTENTION}.png"
    plots.save(path, draw_attention, tokenizer.pieces(tokens), maps, title)
    print(f"wrote {path}")


if __name__ == "__main__":
    config.run(main)
