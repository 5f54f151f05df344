"""Train and test the text-audio model: CM-BERT, masked multimodal attention over BERT's last layer.

Reads   DATA/*.tsv, *_audio.npy, manifest.json (preprocess.py) and the checkpoint BERT
Writes  OUTPUTS/cmbert/: model.safetensors, config.json, history.json, tokenizer files,
        ablation.json (test scores without the voice, without the words);
        with FOLDS = K also OUTPUTS/cmbert/fold0 ... fold{K-1}/;
        OUTPUTS/cmbert_{truth,pred,output,index}.npy and the same under OUTPUTS/heldout/

    python run_classifier.py
    python run_classifier.py --train no --attention Sess17_script01_F001
    python run_classifier.py --bert skt/kobert-base-v1 --epochs 5 --learning-rate 2e-5
    python run_classifier.py --audio facebook/wav2vec2-xls-r-300m

Killed and started again with the same settings, it goes on where it stopped.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion import metrics
from fusion.metrics import choose_groups, with_interval
from models.speaker import REGIMES
from pipeline.files import UserError, write_json
from pipeline.labels import LABELS
from pipeline.learning import cmbert
from pipeline.learning.dataset import Utterances, load_utterances
from pipeline.learning.recogniser import predict, to_device
from pipeline.learning.run import Run
from pipeline.learning.testing import begin, dump, load_trained
from pipeline.learning.training import train

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
# or a frozen speech encoder's frames, a hub name or folder: facebook/wav2vec2-xls-r-300m ...
VOICE = "values"  # the voice is attended to; "weights": it only re-weights words, as published
POOLING = "mean"  # classify the mean over real tokens; "cls": position 0, as published
SCALE = "utterance"  # norm over an utterance's tokens; "batch": over the whole batch, as published
ATTENTION_DROPOUT = 0.3
DROPOUT = 0.3  # before the classifier and in the fusion; paper 0.1
AUGMENT = 1.0  # strength of the log-mel's augmentation in training; paper 0
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
SPEAKER_NORM = (
    "past"  # past: of the speaker's earlier turns and this one; utterance; all (transductive)
)
ATTENTION = ""  # segment ID of a test utterance: plot its attention maps
# --------------------------------------------------------------------------------------

AFTERWARDS = (
    "train",
    "speaker_norm",
    "attention",
)  # settings that a trained model does not depend on
# Settings that a test depends on.
TESTED = (
    "data",
    "outputs",
    "restart",
    "seed",
    "batch_tokens",
    "batch_size",
    "speaker_norm",
    "attention",
)


def main() -> None:
    settings = config.settings(globals())
    if TRAIN:
        run = Run(cmbert, {n: value for n, value in settings.items() if n not in AFTERWARDS})
        for part, model in run.trainings():
            train(model, part, {"encoder": LEARNING_RATE, "": FUSION_RATE})
            run.save(part, model)
        run.finish()
    work = begin(cmbert, {name: settings[name] for name in TESTED})
    if work.is_done():
        return
    dump(cmbert, DATA, OUTPUTS, SPEAKER_NORM, (BATCH_TOKENS, BATCH_SIZE))
    test = load_utterances(DATA, "test")
    _, model = load_trained(cmbert, Path(OUTPUTS) / "cmbert", test)
    test = model.prepare(test)
    ablate(model, test)
    if ATTENTION:
        plot_attention(model, test)
    work.finish()


def ablate(model: cmbert.CMBERTModel, test: Utterances) -> None:
    """Print and write the test scores in all regimes, and without the voice or the words."""

    def whole(batch: dict) -> dict:
        return batch

    regimes = dict.fromkeys((SPEAKER_NORM, *REGIMES)) if model.LEARNED else (SPEAKER_NORM,)
    variants = [
        *[("words and voice", regime, test, whole) for regime in regimes],
        ("voice zeroed", SPEAKER_NORM, test, zero_voice),
        ("voice of another utterance", SPEAKER_NORM, test.shuffle_voices(SEED), whole),
        ("words masked", SPEAKER_NORM, test, model.mask_words),
    ]
    results = []
    groups, resampled = choose_groups(test.table["session"], test.speakers, len(test))
    print(f"ablation, in brackets 95 % intervals over {resampled}:")
    for name, regime, rows, change in variants:
        logits = predict(model, rows, regime, (BATCH_TOKENS, BATCH_SIZE), name, change)
        scores = metrics.measure(rows.labels, logits.argmax(1).numpy(), None, groups)
        known = model.known(regime)
        results.append({"input": name, "speaker_norm": known, **scores})
        print(
            f"{name:>26}, speakers known: {model.known(regime):5}: accuracy "
            f"{with_interval(scores, 'accuracy')}, macro F1 {with_interval(scores, 'macro_f1')}"
        )
    path = Path(OUTPUTS) / "cmbert" / "ablation.json"
    write_json(path, results)
    print(f"wrote {path}")


def zero_voice(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "audio": torch.zeros_like(batch["audio"])}


def plot_attention(model: cmbert.CMBERTModel, test: Utterances) -> None:
    """Plot the attention maps of the test utterance ATTENTION."""
    from pipeline.figures import style  # here: takes half a second, for a plot that few ask for
    from pipeline.figures.attention import draw_attention

    if ATTENTION not in test.ids:
        raise UserError(f"ATTENTION = '{ATTENTION}' is no test utterance: see {DATA}/test.tsv")
    row = np.flatnonzero(test.ids == ATTENTION)
    batch = to_device(model.inputs(model.meet(test, SPEAKER_NORM), row), model.device)
    with torch.inference_mode():
        logits, maps = model.network.eval().explain(**batch)
    tokens = test.features["token_ids"][row[0]]
    maps = {name: maps[name][0, : len(tokens), : len(tokens)].cpu().numpy() for name in maps}
    truth, pred = LABELS[test.labels[row[0]]], LABELS[logits.argmax()]
    title = f"{ATTENTION}: {truth}, predicted {pred}"
    path = Path(OUTPUTS) / "cmbert" / f"attention_{ATTENTION}.png"
    style.save(path, draw_attention, model.tokenizer.pieces(tokens), maps, title)
    print(f"wrote {path}")


if __name__ == "__main__":
    config.run(main)
