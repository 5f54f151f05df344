"""How fast the three models learn, against the paper's loop and Hugging Face's Trainer.

Texts and recordings of KEMDy19's lengths; BERT has 92 M random weights. The paper's loop is written
from its description: padded to the full length, float32, features clip by clip; for text and
CM-BERT it trains the networks of this project in their published setting.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import torch
from pipeline.features.mel import Mel
from pipeline.features.paper import Paper
from pipeline.learning import audio, cmbert, text, training
from pipeline.learning.batches import pad
from pipeline.learning.checkpoint import State
from pipeline.learning.dataset import Training, Utterances
from pipeline.learning.recogniser import Recogniser
from pipeline.learning.training import Classification, has_bf16, learn
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import audio_train
import run_classifier
import text_train
from benchmarks.features import mfcc_librosa, paper_scipy
from benchmarks.measure import ROOT, alternate, draw_clips, draw_texts, row
from common import settings
from common.files import LABELS, SAMPLE_RATE
from models.alexnet import AlexNetConfig
from models.cmbert import CMBERT
from models.kobert import KoBERTClassifier, build_encoder, load_tokenizer

UTTERANCES, SPEAKERS = 128, 2
ROUNDS = 3
TEXT_LENGTH, TEXT_BATCH = 128, 16  # the paper's
CMBERT_LENGTH, CMBERT_BATCH = 100, 24
PAPER_CLIPS = 16  # which the paper's loop hears in a turn
SIZE, PRODUCTS = 2048, 20  # of the matrices whose product is the peak, one after another
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BERT = {"vocab_size": 8002, "type_vocab_size": 2}  # else as BertConfig has it: 92 M weights
TOKENIZER = str(ROOT / "models/kobert-mini")


def rows() -> list[dict]:
    data = make_rows()
    models = make_models()
    papers = make_papers(data)
    least = {"text": 12, "CM-BERT": 8, "audio": 40 if DEVICE.type == "cuda" else 8}
    found = []
    for name, model in models.items():
        task = Round(model, model.prepare(data))
        paper = papers[name]
        ours, theirs = alternate(task.run, paper.run, rounds=ROUNDS)
        unit = "s of audio / s" if name == "audio" else "utterances / s"
        rates = task.amount / ours, paper.amount / theirs
        found.append(row(f"{name} training, against the paper's loop", unit, *rates, least[name]))
        if name == "text":
            ours, theirs = alternate(task.run, hugging_face(task), rounds=ROUNDS)
            rates = task.amount / ours, task.amount / theirs
            found.append(row("text training, against Trainer", unit, *rates, least=1.1))
        ours, theirs = alternate(task.run, matrix_product, rounds=ROUNDS)
        rates = task.operations() / ours / 1e9, 2 * PRODUCTS * SIZE**3 / theirs / 1e9
        title = f"{name} training, against the matrix product"
        found.append(row(title, "Gflop / s", *rates, least=0.55))
        found.append(row(f"{name} training, waiting for inputs", "share", waiting(task), most=0.05))
    return found


def make_rows() -> Utterances:
    """Return utterances of KEMDy19's lengths; all classes, two speakers."""
    clips = draw_clips(UTTERANCES)
    number, ends = np.arange(UTTERANCES), np.cumsum(list(map(len, clips)))
    table = pd.DataFrame(
        {
            "id": [f"row{row:04d}" for row in number],
            "label": [LABELS[row % len(LABELS)] for row in number],
            "text": draw_texts(UTTERANCES),
            "split": "train",
            "first_sample": ends - list(map(len, clips)),
            "sample_count": list(map(len, clips)),
            "speaker": [f"speaker{row % SPEAKERS}" for row in number],
            "session": 1,
            "scenario": "script01",
            "dialogue_number": 1,
            "turn": number,
        }
    )
    return Utterances(table, {"train": np.concatenate(clips)}, "", None, soft=False)


def new_encoder(pooler: bool = False) -> nn.Module:
    return build_encoder(BertConfig(**BERT).to_dict(), pooler)


def make_models() -> dict[str, Recogniser]:
    """Return the three models with the default settings of their scripts, for one epoch."""
    scripts = {"text": text_train, "CM-BERT": run_classifier, "audio": audio_train}
    settings = {n: {**settings.read(vars(s)), "epochs": 1} for n, s in scripts.items()}
    tokenizer = load_tokenizer(TOKENIZER)
    mel = Mel()
    return {
        "text": text.TextModel(new_encoder(), tokenizer, settings["text"]),
        "CM-BERT": cmbert.AlignedModel(
            new_encoder(), tokenizer, tokenizer.pad_id, mel, settings["CM-BERT"]
        ),
        "audio": audio.SpectrogramModel(mel, settings["audio"], AlexNetConfig(), audio.TEMPOS),
    }


class Round(Classification):
    """An epoch of the project's own loop, without a validation and without files."""

    def __init__(self, model: Recogniser, data: Utterances):
        part = Training(Path(), data, data.select(np.zeros(len(data), bool)), chooses_epoch=False)
        super().__init__(model, part, {"": 1e-5})
        chosen = np.concatenate(self.cut(0))
        heard = float(data.sample_counts[chosen].sum()) / SAMPLE_RATE
        self.amount = heard if model.BUDGET == "batch_seconds" else len(chosen)

    def measure(self, state: State) -> None:
        state.end_round({})

    def run(self) -> None:
        state = Unsaved(Path(), self.network, self.optimizer)
        learn(self, state, seed=1, precision="auto", clip=1.0)
        wait()

    def operations(self) -> float:
        """Count the additions and multiplications in an epoch's matrix products."""
        with FlopCounterMode(display=False) as counter:
            self.run()
        return counter.get_total_flops()


def waiting(task: Round) -> float:
    """Return the share of an epoch in which the loop waits for the inputs of its next step."""
    made_ahead, waits = training.made_ahead, []

    def clocked(*arguments: object) -> Iterator:
        made = made_ahead(*arguments)
        while True:
            start = time.perf_counter()
            each = next(made, None)
            waits.append(time.perf_counter() - start)
            if each is None:
                return
            yield each

    training.made_ahead = clocked
    start = time.perf_counter()
    task.run()
    training.made_ahead = made_ahead
    return sum(waits) / (time.perf_counter() - start)


class Unsaved(State):
    def save(self) -> None:
        pass


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@dataclass
class PaperLoop:
    """The paper's steps over batches of arguments and labels.

    amount: what a run learns, in utterances or in seconds of audio.
    """

    network: nn.Module
    rate: float
    batches: Callable[[], Iterator[tuple[dict, Tensor]]]
    utterances: int
    amount: float

    def __post_init__(self):
        self.network.to(DEVICE).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), self.rate)

    def losses(self) -> Iterator[Tensor]:
        for arguments, labels in self.batches():
            arguments = {name: each.to(DEVICE) for name, each in arguments.items()}
            yield functional.cross_entropy(self.network(**arguments), labels.to(DEVICE))

    def forward(self) -> None:
        for _ in self.losses():
            wait()

    def run(self) -> None:
        for loss in self.losses():
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        wait()


def make_papers(data: Utterances) -> dict[str, PaperLoop]:
    return {"text": paper_text(data), "CM-BERT": paper_cmbert(data), "audio": paper_audio(data)}


def paper_tokens(data: Utterances, count: int, length: int) -> dict[str, Tensor]:
    """Return the first rows' tokens, padded to the full length."""
    tokenizer = load_tokenizer(TOKENIZER)
    ids = [tokenizer.encode(words, length) for words in data.table["text"][:count]]
    mask = pad([[1] * len(own) for own in ids], 0, length)
    return {"input_ids": pad(ids, tokenizer.pad_id, length), "attention_mask": mask}


def paper_text(data: Utterances) -> PaperLoop:
    """Return the published text training of one batch."""
    network = KoBERTClassifier(new_encoder(pooler=True), "pooler")
    batch = paper_tokens(data, TEXT_BATCH, TEXT_LENGTH)
    labels = torch.from_numpy(data.labels[:TEXT_BATCH])
    return PaperLoop(network, 5e-5, lambda: iter([(batch, labels)]), TEXT_BATCH, TEXT_BATCH)


def paper_cmbert(data: Utterances) -> PaperLoop:
    network = CMBERT(new_encoder(), Paper.mfcc_frames, "batch", "weights", "cls")
    batch = paper_tokens(data, CMBERT_BATCH, CMBERT_LENGTH)
    labels = torch.from_numpy(data.labels[:CMBERT_BATCH])

    def batches() -> Iterator[tuple[dict, Tensor]]:
        voices = [mfcc_librosa(data.samples(number)) for number in range(CMBERT_BATCH)]
        voices = [librosa.util.fix_length(voice, size=Paper.mfcc_frames) for voice in voices]
        yield {**batch, "audio": torch.from_numpy(np.stack(voices))}, labels

    return PaperLoop(network, 2e-5, batches, CMBERT_BATCH, CMBERT_BATCH)


class PositionSum(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.sum((2, 3))


def paper_audio(data: Utterances) -> PaperLoop:
    """Return the published audio training, a clip a step."""
    pool = nn.MaxPool2d(3, 2)
    network = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        pool,
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        pool,
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        pool,
        PositionSum(),
        nn.Dropout(),
        nn.Linear(256, len(LABELS)),
    )

    def batches() -> Iterator[tuple[dict, Tensor]]:
        for number in range(PAPER_CLIPS):
            features = paper_scipy(data.samples(number)).astype(np.float32)
            missing = max(0, Paper.frames - features.shape[1])
            features = torch.from_numpy(np.pad(features, ((0, 0), (0, missing), (0, 0))))[None]
            yield {"input": features}, torch.from_numpy(data.labels[number : number + 1])

    seconds = float(data.sample_counts[:PAPER_CLIPS].sum()) / SAMPLE_RATE
    return PaperLoop(network, 2e-4, batches, PAPER_CLIPS, seconds)


def hugging_face(task: Round) -> Callable[[], None]:
    """Return an epoch of Trainer: dynamic padding, rows of like length together, bf16."""
    model, data = task.model, task.fit
    ids, labels = data.features["token_ids"], data.labels
    rows = [
        {"input_ids": own, "length": len(own), "labels": label}
        for own, label in zip(ids, labels, strict=True)
    ]

    def collate(batch: list[dict]) -> dict[str, Tensor]:
        chosen = [row["input_ids"] for row in batch]
        return {
            "input_ids": pad(chosen, model.pad_id),
            "attention_mask": pad([[1] * len(own) for own in chosen], 0),
            "labels": torch.tensor([row["labels"] for row in batch]),
        }

    network = BertForSequenceClassification(BertConfig(**BERT, num_labels=len(LABELS)))
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=1,
        per_device_train_batch_size=task.settings["batch_size"],
        train_sampling_strategy="group_by_length",
        bf16=has_bf16(),
        use_cpu=DEVICE.type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(network, arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    return trainer.train


def matrix_product() -> None:
    """Multiply two matrices in the precision of a training."""
    precision = torch.bfloat16 if has_bf16() else torch.float32
    factor = torch.ones(SIZE, SIZE, dtype=precision, device=DEVICE)
    for _ in range(PRODUCTS):
        factor @ factor
    wait()
