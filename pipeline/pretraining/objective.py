"""Pretraining of a text encoder: lines of text -> masked batches -> four losses.

Shapes: B lines in a batch, L tokens (padding included), D encoder width, V vocabulary,
M markers.
"""

import gzip
import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from sklearn.utils.extmath import randomized_svd
from torch import nn
from torch.nn import functional

from models.kobert import mean_of_tokens
from pipeline.files import UserError, write_atomically
from pipeline.learning.dataset import cut_batches, pad
from pipeline.pretraining.markers import MARKERS, take_out_markers

RATINGS = 10  # ratings are whole numbers from 1 to 10
EMBEDDING_SCALE = 0.05  # standard deviation of the first embeddings; BERT's layers begin with .02
SPAN = 3  # pieces masked together at most: reviews are often written without blanks
OPENERS = {".xz": lzma.open, ".gz": gzip.open}


@dataclass
class Lines:
    """Encoded lines, one after another: line i is `ids[start[i] : start[i + 1]]`."""

    ids: np.ndarray
    start: np.ndarray

    def __getitem__(self, line: int) -> np.ndarray:
        return self.ids[self.start[line] : self.start[line + 1]]

    def select(self, lines: np.ndarray) -> "Lines":
        start = np.cumsum([0, *self.lengths[lines]])
        return Lines(np.concatenate([self[line] for line in lines]), start)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.start)


def read_lines(path: Path | str) -> tuple[list[str], np.ndarray]:
    """Read plain lines or `rating<TAB>text` from .txt or .tsv, also .xz and .gz; drop empty lines.

    Returns the texts and their ratings from 1 to 10, all 0 where the file has none.
    """
    path = Path(path)
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as stream:
            lines = [line.rstrip("\r\n") for line in stream]
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"TEXT {path} cannot be read ({error}): give a UTF-8 text file") from None
    rated = bool(lines) and re.match(r"\d+\t", lines[0]) is not None
    texts, ratings = [], []
    for row, line in enumerate(lines, start=1):
        rating, text = line.split("\t", 1) if rated and "\t" in line else ("0", line)
        if rated and (not rating.isdecimal() or not 1 <= int(rating) <= RATINGS):
            raise UserError(
                f"{path}, line {row}: expected rating<TAB>text with a rating of 1 to 10"
            )
        if text.strip():
            texts.append(text.strip())
            ratings.append(int(rating))
    return texts, np.array(ratings, dtype=np.int64)


def encode_lines(texts: Sequence[str], tokenizer, max_length: int) -> Lines:
    encoded = [tokenizer.encode(text, max_length) for text in texts]
    start = np.cumsum([0, *map(len, encoded)])
    return Lines(np.fromiter((i for ids in encoded for i in ids), np.int64, start[-1]), start)


@dataclass
class Corpus:
    """N lines: encoded whole, encoded without their markers, and what is known of each."""

    whole: Lines
    bare: Lines
    ratings: torch.Tensor  # (N,) 1 to 10, or 0
    markers: torch.Tensor  # (N, M) 0 or 1


def encode_corpus(texts: Sequence[str], ratings: np.ndarray, tokenizer, max_length: int) -> Corpus:
    bare, markers = take_out_markers(texts)
    return Corpus(
        encode_lines(texts, tokenizer, max_length),
        encode_lines(bare, tokenizer, max_length),
        torch.from_numpy(ratings),
        torch.from_numpy(markers),
    )


@dataclass
class Masking:
    """How a batch is made of lines: what is hidden, what is left bare."""

    starts_word: torch.Tensor  # (V,) bool: the piece begins a word
    special: torch.Tensor  # (V,) bool: never hidden
    mask_id: int
    pad_id: int
    hidden_share: float  # of the words
    bare_share: float  # of the lines

    @classmethod
    def of(cls, tokenizer, hidden_share: float, bare_share: float) -> "Masking":
        if tokenizer.mask_id is None:
            raise UserError("the tokenizer of this BERT has no [MASK]: choose another")
        names = tokenizer.pieces(range(len(tokenizer)))
        wordpiece = any(name.startswith("##") for name in names)
        starts = [not n.startswith("##") if wordpiece else n.startswith("▁") for n in names]
        special = torch.zeros(len(names), dtype=torch.bool)
        ids = (tokenizer.unk_id, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
        special[[*ids, tokenizer.mask_id]] = True
        return cls(
            torch.tensor(starts) | special,
            special,
            tokenizer.mask_id,
            tokenizer.pad_id,
            hidden_share,
            bare_share,
        )

    def hide(self, ids: torch.Tensor, generator: torch.Generator) -> tuple:
        """Hide a share of the words of (B, L) ids -> (ids to read, bool mask of hidden places).

        The pieces of a word are hidden together, SPAN at a time. 80 % of the hidden places show
        [MASK], 10 % a piece from elsewhere in the batch, 10 % their own piece (BERT's recipe).
        """
        index = torch.arange(ids.shape[1]).expand_as(ids)
        word = torch.where(self.starts_word[ids], index, 0).cummax(1).values
        span = word + (index - word) // SPAN * SPAN
        chance = torch.rand(ids.shape, generator=generator).gather(1, span)
        content = ~self.special[ids]
        hidden = (chance < self.hidden_share) & content
        action = torch.rand(ids.shape, generator=generator)
        choices = ids[content]
        other = choices[torch.randint(len(choices), ids.shape, generator=generator)]
        shown = torch.where(hidden & (action < 0.8), self.mask_id, ids)
        shown = torch.where(hidden & (action >= 0.8) & (action < 0.9), other, shown)
        return shown, hidden

    def batch(self, corpus: Corpus, lines: np.ndarray, seed: int) -> dict:
        """Return Pretrainer's arguments for these lines; the same seed hides the same places."""
        generator = torch.Generator().manual_seed(seed)
        is_bare = torch.rand(len(lines), generator=generator) < self.bare_share
        forms = [corpus.bare if bare else corpus.whole for bare in is_bare.tolist()]
        ids = pad([form[line] for form, line in zip(forms, lines, strict=True)], self.pad_id)
        shown, hidden = self.hide(ids, generator)
        return {
            "input_ids": shown,
            "attention_mask": (ids != self.pad_id).long(),
            "hidden": hidden,
            "pieces": ids[hidden],
            "ratings": corpus.ratings[lines],
            "bare": is_bare,
            "markers": corpus.markers[lines],
        }


def static_vectors(lines: Lines, vocabulary: int, width: int, seed: int) -> np.ndarray:
    """Return a vector for each piece from how often pieces stand within 5 places: (V, D), float32.

    Positive pointwise mutual information, counts weighted by 1 / distance, contexts smoothed by the
    power .75, reduced by a singular value decomposition (Levy, Goldberg & Dagan 2015).
    """
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
        none = line.new_zeros(())
        found = dict.fromkeys(("piece_loss", "rating_loss", "seen_loss", "missing_loss"), none)
        if hidden.any():
            table = self.encoder.get_input_embeddings().weight
            logits = functional.linear(
                self.transform(token[hidden]), table, self.piece_bias
            ).float()
            found["piece_loss"] = functional.cross_entropy(logits, pieces)
            found["piece_accuracy"] = (logits.argmax(1) == pieces).float().mean()
        rated = ratings > 0
        if rated.any():
            logits = self.rating(line[rated]).float()
            found["rating_loss"] = functional.cross_entropy(logits, ratings[rated] - 1)
            found["rating_accuracy"] = (logits.argmax(1) == ratings[rated] - 1).float().mean()
        for name, head, lines in (("seen", self.seen, ~bare), ("missing", self.missing, bare)):
            if lines.any():
                loss = functional.binary_cross_entropy_with_logits(
                    head(line[lines]).float(), markers[lines], reduction="sum"
                )
                found[f"{name}_loss"] = loss / lines.sum()
        return found


def steps_from(step: int, lengths: np.ndarray, tokens: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the lines of step `step`, `step + 1`, ... without end, as an unbroken run would."""
    epoch = 0
    while True:
        batches = cut_batches(lengths, tokens, len(lengths), 1000 * seed + epoch)
        yield from batches[step:]
        step = max(step - len(batches), 0)
        epoch += 1


class State:
    """All that the next step depends on, in one file that loads without pickle.

    Masks and order of the lines depend on the seed and the step's number alone.
    """

    def __init__(self, path: Path, model: nn.Module, optimizer, identity: dict):
        self.path, self.model, self.optimizer = Path(path), model, optimizer
        self.identity = identity
        self.step = 0
        self.sums = {}
        self.history = []

    def load(self, decay_steps: int) -> None:
        """Go on from the file if there is one; UserError if it is of a run with other settings."""
        if not self.path.is_file():
            return
        try:
            saved = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise UserError(f"{self.path} is damaged ({error}): remove it to begin anew") from None
        old, new = saved["identity"]["settings"], self.identity["settings"]
        changed = [name for name in new if old.get(name) != new[name]]
        first = min(old["steps"], new["steps"]) - decay_steps
        if changed == ["steps"] and saved["step"] <= first:
            changed = []
        if saved["identity"]["text_sha256"] != self.identity["text_sha256"]:
            changed.append("text")
        if changed:
            raise UserError(
                f"{self.path} is of an unfinished run with another {', '.join(changed).upper()}: "
                "give that, or another OUTPUTS, or remove the file to begin anew"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.history = saved["step"], saved["history"]
        print(f"{self.path}: going on after step {self.step}")

    def add(self, found: dict) -> None:
        """Count a step and its losses."""
        self.step += 1
        for name, value in found.items():
            self.sums.setdefault(name, []).append(value.detach())

    def measure(self, held_out: list[dict]) -> None:
        """Note and print the mean losses since the last time, and those on held-out lines."""
        row = {"step": self.step, **means("", self.sums)}
        names = {name for found in held_out for name in found}
        lists = {n: [found[n] for found in held_out if n in found] for n in sorted(names)}
        row.update(means("held_out_", lists))
        self.history.append(row)
        self.sums = {}
        shown = {name: round(value, 3) for name, value in row.items() if "held_out" in name}
        print(f"step {self.step}: " + ", ".join(f"{n} {v}" for n, v in shown.items()), flush=True)

    def save(self) -> None:
        with write_atomically(self.path) as temporary:
            torch.save(
                {
                    "identity": self.identity,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "step": self.step,
                    "history": self.history,
                },
                temporary,
            )


def means(prefix: str, values: dict[str, list[torch.Tensor]]) -> dict[str, float]:
    return {prefix + name: float(torch.stack(v).mean()) for name, v in values.items()}
