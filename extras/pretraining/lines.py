"""Lines of text for pretraining: read, encoded, and cut into batches with hidden pieces.

Shapes: B lines in a batch, L tokens (padding included), N lines, V vocabulary, M markers.
"""

import gzip
import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.data import cut_batches, pad
from common.files import UserError
from extras.pretraining.markers import take_out_markers

RATINGS = 10  # ratings are whole numbers from 1 to 10
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


class Masking:
    """How a batch is made of lines: what is hidden, what is left bare.

    hidden_share: of the words.  bare_share: of the lines.
    starts_word, special: (V,) bool: the piece begins a word, and is never hidden.
    """

    def __init__(self, tokenizer, hidden_share: float, bare_share: float):
        if tokenizer.mask_id is None:
            raise UserError("the tokenizer of this BERT has no [MASK]: choose another")
        self.hidden_share, self.bare_share = hidden_share, bare_share
        self.mask_id, self.pad_id = tokenizer.mask_id, tokenizer.pad_id
        names = tokenizer.pieces(range(len(tokenizer)))
        wordpiece = any(name.startswith("##") for name in names)
        starts = [not n.startswith("##") if wordpiece else n.startswith("▁") for n in names]
        ids = [tokenizer.unk_id, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id]
        self.special = torch.zeros(len(names), dtype=torch.bool)
        self.special[[*ids, tokenizer.mask_id]] = True
        self.starts_word = torch.tensor(starts) | self.special

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
        choices = ids[content] if content.any() else ids.flatten()  # then nothing is hidden
        other = choices[torch.randint(len(choices), ids.shape, generator=generator)]
        shown = torch.where(hidden & (action < 0.8), self.mask_id, ids)
        shown = torch.where(hidden & (action >= 0.8) & (action < 0.9), other, shown)
        return shown, hidden

    def batch(self, corpus: Corpus, lines: np.ndarray, seed: int) -> dict:
        """Return Pretrainer's arguments for these lines; the same seed hides the same places."""
        generator = torch.Generator().manual_seed(seed)
        is_bare = torch.rand(len(lines), generator=generator) < self.bare_share
        forms = [corpus.bare if bare else corpus.whole for bare in is_bare.tolist()]
        ids = [form[line] for form, line in zip(forms, lines, strict=True)]
        ids = torch.from_numpy(pad(ids, self.pad_id))
        shown, hidden = self.hide(ids, generator)
        return {
            "input_ids": shown,
            "attention_mask": (ids != self.pad_id).long(),
            "hidden": hidden,
            "pieces": ids,
            "ratings": corpus.ratings[lines],
            "bare": is_bare,
            "markers": corpus.markers[lines],
        }


def steps_from(step: int, lengths: np.ndarray, tokens: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the lines of step `step`, `step + 1`, ... without end, as an unbroken run would."""
    epoch = 0
    while True:
        batches = cut_batches(lengths, tokens, len(lengths), 1000 * seed + epoch)
        yield from batches[step:]
        step = max(step - len(batches), 0)
        epoch += 1
