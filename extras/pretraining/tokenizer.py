"""Train a SentencePiece tokenizer with KoBERT's special ids."""

import io
from collections.abc import Iterable

import sentencepiece

from models.tokenizer import SPECIAL_PIECES, KoBERTTokenizer


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> KoBERTTokenizer:
    """Train a SentencePiece unigram model of at most `vocabulary` pieces, deterministically."""
    unk, padding, cls, sep, mask = SPECIAL_PIECES
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=stream,
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        normalization_rule_name="nfkc",
        num_threads=1,
        minloglevel=2,
        unk_id=0,
        unk_piece=unk,
        pad_id=1,
        pad_piece=padding,
        bos_id=2,
        bos_piece=cls,
        eos_id=3,
        eos_piece=sep,
        control_symbols=[mask],
    )
    return KoBERTTokenizer(stream.getvalue())
