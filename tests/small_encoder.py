"""A small text encoder in the hub's format, for where there is no pretrained one."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from extras.pretraining.objective import save_encoder
from extras.pretraining.tokenizer import train_tokenizer


def make_small_encoder(
    texts: Iterable[str], folder: Path | str, seed: int, width: int = 64, vocabulary: int = 2000
) -> None:
    """Write a small encoder with random weights and a vocabulary of `texts`, in the hub's format.

    For places without a pretrained one: it knows no word before it is trained.
    """
    tokenizer = train_tokenizer(texts, vocabulary)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=max(width // 32, 1),
        intermediate_size=2 * width,
        pad_token_id=tokenizer.pad_id,
        architectures=["BertModel"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_encoder(BertModel(config), tokenizer, Path(folder))
