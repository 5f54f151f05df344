"""Pretraining of a text encoder: what is learned of masked lines, in four losses.

Shapes: B lines in a batch, L tokens (padding included), D encoder width, V vocabulary,
M markers.
"""

from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from common.checkpoint import write_tensors
from common.files import write_bytes, write_json
from extras.pretraining.lines import RATINGS, Lines
from extras.pretraining.markers import MARKERS
from models.kobert import mean_of_tokens

EMBEDDING_SCALE = 0.05  # standard deviation of the first embeddings; BERT's layers begin with .02


def static_vectors(lines: Lines, vocabulary: int, width: int, seed: int) -> np.ndarray:
    """Return a vector for each piece from how often pieces stand within 5 places: (V, D), float32.

    Positive pointwise mutual information, counts weighted by 1 / distance, contexts smoothed by the
    power .75, reduced by a singular value decomposition (Levy, Goldberg & Dagan 2015).
    """
    from sklearn.utils.extmath import randomized_svd  # here: takes a second

    owner = np.repeat(np.arange(len(lines.lengths)), lines.lengths)
    shape = (vocabulary, vocabulary)
    counts = scipy.sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, 6):
        together = owner[distance:] == owner[:-distance]
        pair = (lines.ids[:-distance][together], lines.ids[distance:][together])
        weight = np.full(len(pair[0]), 1 / distance, np.float32)
        counts += scipy.sparse.csr_matrix((weight, pair), shape=shape)
    counts = (counts + counts.T).tocoo()
    piece = np.asarray(counts.sum(1)).ravel()
    context = np.asarray(counts.sum(0)).ravel() ** 0.75
    expected = piece[counts.row] * context[counts.col] / context.sum()
    information = np.maximum(np.log(counts.data / expected), 0).astype(np.float32)
    table = scipy.sparse.csr_matrix((information, (counts.row, counts.col)), shape=shape)
    left, values, _ = randomized_svd(table, width, n_iter=3, random_state=seed)
    return (left * np.sqrt(values)).astype(np.float32)


class Pretrainer(nn.Module):
    """An encoder with four heads.

    One sees a token: which piece is hidden here. Three see the mean of a line's tokens, as the
    classifier of emotions will: the rating, the markers that stand in the line ("seen"), the
    markers that were taken out of it ("missing").
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.piece_bias = nn.Parameter(torch.zeros(encoder.config.vocab_size))
        self.rating = nn.Linear(width, RATINGS)
        self.seen = nn.Linear(width, len(MARKERS))
        self.missing = nn.Linear(width, len(MARKERS))

    def train(self, mode: bool = True) -> "Pretrainer":
        """Stay as for testing: every line is seen a few times only, so dropout prevents nothing."""
        return super().train(False)

    def start_from_counts(self, lines: Lines, seed: int) -> None:
        """Set the embeddings to static vectors and the pieces' bias to their log frequency.

        A masked-language model spends its first thousands of steps finding just these.
        """
        table = self.encoder.get_input_embeddings().weight
        vectors = torch.from_numpy(static_vectors(lines, *table.shape, seed))
        counts = np.bincount(lines.ids, minlength=len(table)) + 1.0
        with torch.no_grad():
            table.copy_(vectors * (EMBEDDING_SCALE / vectors.std()))
            self.piece_bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        hidden: torch.Tensor,
        pieces: torch.Tensor,
        ratings: torch.Tensor,
        bare: torch.Tensor,
        markers: torch.Tensor,
    ) -> dict:
        """Return the mean losses and accuracies of a batch.

        Of the pieces over the hidden places, of the ratings over the lines that have one, of the
        markers, summed over them, over the whole and the bare lines; a loss with nothing to average
        is 0, its accuracy is absent.
        """
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        token = output.last_hidden_state
        line = mean_of_tokens(token.float(), attention_mask)
        rated = ratings > 0
        chosen = hidden, rated, ~bare, bare
        counts = [int(places.sum()) for places in chosen]
        table = self.encoder.get_input_embeddings().weight
        answers = {
            "piece": functional.linear(self.transform(token[hidden]), table, self.piece_bias),
            "rating": self.rating(line[rated]),
            "seen": self.seen(line[~bare]),
            "missing": self.missing(line[bare]),
        }
        truths = pieces[hidden], ratings[rated] - 1, markers[~bare], markers[bare]
        found = {}
        for (name, logits), truth, count in zip(answers.items(), truths, counts, strict=True):
            logits = logits.float()
            if truth.dtype == torch.int64:  # one of several; of the markers any number is there
                loss = functional.cross_entropy(logits, truth, reduction="sum")
                if count:
                    found[f"{name}_accuracy"] = (logits.argmax(1) == truth).sum() / count
            else:
                loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
            found[f"{name}_loss"] = loss / max(count, 1)
        return found


def save_encoder(encoder: nn.Module, tokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors (float16) and the tokenizer: what load_encoder reads."""
    weights = encoder.state_dict().items()
    tensors = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in weights}
    with write_tensors(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    for name, content in tokenizer.files().items():
        write_bytes(folder / name, content)
    write_json(folder / "config.json", encoder.config.to_diff_dict())
