"""The paper's training, written from its description: the baseline of benchmarks/training.py.

Padded to the full length, float32, torch's AdamW, features clip by clip within the loop.
"""

import time
from collections.abc import Iterator
from itertools import cycle

import librosa
import numpy as np
import scipy.signal
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from common.data import Dataset, pad
from common.files import FULL_SCALE, LABELS, SAMPLE_RATE
from models.cmbert import CMBERT
from models.kobert import load_tokenizer

BATCH = 16
TEXT_LENGTH, CMBERT_LENGTH = 128, 100  # tokens
FRAMES, MFCC_FRAMES = 100, 465  # of a spectrogram at least; of CM-BERT's voice exactly
CMBERT_CONFIG = {
    "width": MFCC_FRAMES,
    "scale": "batch",
    "voice": "weights",
    "projection": 30,
    "pooling": "cls",
}

Batches = Iterator[tuple[float, Tensor, dict[str, Tensor]]]  # amount, labels, arguments


def rate(network: nn.Module, batches: Batches, lr: float, seconds: float) -> float:
    """Train for some seconds, a first step apart; return the amount learned in a second."""
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr)
    network.train()
    learned, start = -1.0, 0.0
    while learned < 0 or time.perf_counter() - start < seconds:
        amount, labels, arguments = next(batches)
        functional.cross_entropy(network(**arguments), labels).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if learned < 0:
            learned, start = 0.0, time.perf_counter()
        else:
            learned += amount
    return learned / (time.perf_counter() - start)


class Text(nn.Module):
    """KoBERT's pooler and a classifier."""

    def __init__(self, sizes: dict):
        super().__init__()
        self.encoder = BertModel(BertConfig(**sizes))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(self.encoder.config.hidden_size, len(LABELS))

    def forward(self, **tokens: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.encoder(**tokens).pooler_output))


def text_rate(data: Dataset, bert: str, sizes: dict, seconds: float) -> float:
    """Return the utterances a second of the published text training."""
    batches = ((BATCH, *tokens) for tokens in token_batches(data, bert, TEXT_LENGTH))
    return rate(Text(sizes), batches, 5e-5, seconds)


def cmbert_rate(data: Dataset, bert: str, sizes: dict, seconds: float) -> float:
    """Return the utterances a second of the published CM-BERT training."""
    network = CMBERT(BertModel(BertConfig(**sizes), add_pooling_layer=False), CMBERT_CONFIG)
    network.encoder.embeddings.requires_grad_(False)
    network.classifier.requires_grad_(False)
    voices = (
        torch.from_numpy(np.stack([mfcc(data.samples(row))[:CMBERT_LENGTH] for row in rows]))
        for rows in batch_rows(data)
    )
    tokens = token_batches(data, bert, CMBERT_LENGTH)
    batches = (
        (BATCH, labels, arguments | {"audio": voice})
        for voice, (labels, arguments) in zip(voices, tokens, strict=True)
    )
    return rate(network, batches, 2e-5, seconds)


def batch_rows(data: Dataset) -> Iterator[np.ndarray]:
    """Yield BATCH rows in the file's order, for ever."""
    return cycle(np.arange(len(data) // BATCH * BATCH).reshape(-1, BATCH))


def token_batches(data: Dataset, bert: str, length: int) -> Iterator[tuple[Tensor, dict]]:
    """Yield labels and tokens of BATCH rows, padded to the full length."""
    tokenizer = load_tokenizer(bert)
    for rows in batch_rows(data):
        ids = [tokenizer.encode(text, length) for text in data.table["text"].iloc[rows]]
        arrays = {
            "input_ids": pad(ids, tokenizer.pad_id, length),
            "attention_mask": pad([[1] * len(own) for own in ids], 0, length),
        }
        labels = torch.from_numpy(data.labels[rows])
        yield labels, {name: torch.from_numpy(array) for name, array in arrays.items()}


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Return 100 MFCC of MFCC_FRAMES frames, each with mean 0 and deviation 1."""
    samples = samples.astype(np.float32) / FULL_SCALE
    found = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=100, n_fft=400, hop_length=160)
    found = (found - found.mean(1, keepdims=True)) / found.std(1, keepdims=True)
    return librosa.util.fix_length(found, size=MFCC_FRAMES)


class PositionSum(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.sum((2, 3))


def audio_rate(data: Dataset, seconds: float) -> float:
    """Return the seconds of audio a second of the published audio training, a clip a step."""
    convolutions, channels = [], 3
    for width, kernel, stride, padding, has_pool in (
        (64, 11, 4, 2, True),
        (192, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):
        convolutions += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
        convolutions += [nn.MaxPool2d(3, 2)] if has_pool else []
        channels = width
    head = PositionSum(), nn.Dropout(), nn.Linear(channels, len(LABELS))
    network = nn.Sequential(*convolutions, *head)

    def batches() -> Batches:
        for row in cycle(range(len(data))):
            samples = data.samples(row)
            features = torch.from_numpy(spectrogram(samples))[None]
            labels = torch.from_numpy(data.labels[row : row + 1])
            yield len(samples) / SAMPLE_RATE, labels, {"input": features}

    return rate(network, batches(), 2e-4, seconds)


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Return log power and its two differences along frequency, (3, FRAMES or more, 321)."""
    samples = np.pad(samples.astype(np.float64), (0, max(0, 640 - len(samples))))
    hann = np.hanning(641)[:-1]
    options = {"window": hann, "noverlap": 320, "detrend": False}
    _, _, density = scipy.signal.spectrogram(samples, SAMPLE_RATE, **options)
    levels = np.log(density.T + 1e-10)
    first = np.diff(levels, axis=-1, prepend=levels[:, :1])
    second = np.diff(first, axis=-1, prepend=first[:, :1])
    channels = np.stack([levels, first, second]).astype(np.float32)
    return np.pad(channels, ((0, 0), (0, max(0, FRAMES - channels.shape[1])), (0, 0)))
