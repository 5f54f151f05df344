"""The text model: any BERT-type encoder with its tokenizer, and a classifier of emotions.

Shapes: B utterances, L tokens (padding included), D encoder width.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from transformers.utils import logging

from models import ModelError, hide_bars_in_files, read_sizes, unreachable
from models.head import Head
from models.product import speed_up
from models.tokenizer import (
    SENTENCEPIECE_FILES,
    KoBERTTokenizer,
    check_known_answers,
    find_sentencepiece,
)

# On a CPU scaled_dot_product_attention is slower for short texts; None: the library's choice.
ATTENTION = None if torch.cuda.is_available() else "eager"
UNKNOWN_LIMIT = 0.05  # share of [UNK] among the tokens; Korean text of any topic stays under .01


class HubTokenizer:
    """The checkpoint's own Hugging Face tokenizer, with KoBERTTokenizer's small interface."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.unk_id, self.pad_id = tokenizer.unk_token_id, tokenizer.pad_token_id
        self.cls_id, self.sep_id = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.mask_id = tokenizer.mask_token_id

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(
        self, text: str, max_length: int | None = None, pair: str | None = None
    ) -> list[int]:
        encoded = self.tokenizer(
            text, pair, truncation=max_length is not None, max_length=max_length
        )
        return encoded["input_ids"]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens([int(i) for i in ids])

    def files(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            paths = filter(Path.exists, map(Path, self.tokenizer.save_pretrained(scratch)))
            return {path.name: path.read_bytes() for path in paths}


def load_tokenizer(name: str) -> KoBERTTokenizer | HubTokenizer:
    """Load the tokenizer of a checkpoint, given by hub name or local folder.

    KoBERTTokenizer where the checkpoint has a SentencePiece model with KoBERT's special ids, else
    whatever transformers picks. Both have `encode(text, max_length, pair) -> ids`, `pieces(ids)`,
    `files()`, `len()`, and the ids `unk_id pad_id cls_id sep_id mask_id`.
    """
    from huggingface_hub import snapshot_download  # here: they take nearly half a second
    from transformers import AutoTokenizer

    try:
        folder = name
        if not Path(name).is_dir():
            folder = snapshot_download(str(name), allow_patterns=list(SENTENCEPIECE_FILES))
        path = find_sentencepiece(folder)
        if path is not None:
            tokenizer = KoBERTTokenizer(path.read_bytes())
            if tokenizer.has_kobert_ids():
                if Path(name).name == "kobert-base-v1" or tokenizer.looks_like_kobert():
                    check_known_answers(tokenizer)
                return tokenizer
        return HubTokenizer(AutoTokenizer.from_pretrained(name, trust_remote_code=False))
    except Exception as error:  # of a damaged file each library has its own
        raise unreachable(name, "tokenizer", error) from None


def check_unknown_share(texts: Iterable[str], tokenizer, name: str) -> float:
    """Return the share of [UNK] among the tokens of texts, [CLS] and [SEP] apart.

    Above UNKNOWN_LIMIT it is a ModelError: the model would learn from text that it cannot see.
    """
    tokens = [token for text in texts for token in tokenizer.encode(text)[1:-1]]
    share = sum(token == tokenizer.unk_id for token in tokens) / max(len(tokens), 1)
    if share > UNKNOWN_LIMIT:
        raise ModelError(
            f"{share:.0%} of the training tokens are [UNK] with the tokenizer of {name}: most "
            "likely it was not made for Korean, or its files are not the encoder's"
        )
    return share


def load_encoder(name: str, pooler: bool = False) -> nn.Module:
    """Load a pretrained BERT-type encoder by hub name or local folder, in float32.

    Every weight must come from the checkpoint: one that is missing or misfits is a ModelError.
    Without `pooler` the layer behind [CLS] is removed. With it, a checkpoint that never had one
    (its pretraining did not need it) gets a new one, and this is printed.
    """
    from transformers import AutoModel  # here: it takes a third of a second

    hide_bars_in_files()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is judged below
    try:
        encoder, report = AutoModel.from_pretrained(
            name,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
        )
    except Exception as error:  # of a damaged file each library has its own
        raise unreachable(name, "encoder", error) from None
    finally:
        logging.set_verbosity(verbosity)
    wrong = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    of_pooler = {key for key in wrong if key.startswith("pooler.")}
    if not pooler:
        remove_pooler(encoder)
        wrong -= of_pooler
    elif len(of_pooler) == len(encoder.pooler.state_dict()):
        print(f"{name} has no pooler: a new one is trained")
        wrong -= of_pooler
    if wrong:
        first = ", ".join(sorted(wrong)[:3])
        raise ModelError(
            f"{len(wrong)} weights of the encoder are missing from {name} or do not fit its "
            f"config.json, the first: {first}; choose a checkpoint of a whole encoder"
        )
    return speed_up(encoder)


def check_positions(encoder: nn.Module, max_length: int, name: str) -> None:
    """Refuse a MAX_LENGTH of more tokens than the encoder has positions for."""
    longest = getattr(encoder.config, "max_position_embeddings", 0)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if getattr(table, "padding_idx", None) is not None:  # RoBERTa's begin behind that of padding
        longest -= table.padding_idx + 1
    if 0 < longest < max_length:
        raise ModelError(
            f"MAX_LENGTH = {max_length}: {name} has positions for {longest} tokens: "
            f"give --max-length {longest} or less"
        )


def build_encoder(config: dict, pooler: bool = False) -> nn.Module:
    """Build an encoder with random weights from `encoder.config.to_dict()` of another."""
    from transformers import AutoModel  # here: it takes a third of a second

    encoder = AutoModel.from_config(read_sizes(config), attn_implementation=ATTENTION)
    if not pooler:
        remove_pooler(encoder)
    return speed_up(encoder)


def remove_pooler(encoder: nn.Module) -> None:
    """Drop the pooler, so that no parameter is left that training would never change."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None


class KoBERTClassifier(nn.Module):
    """Logits of the emotions from an encoder's output.

    pooling "mean": the last layer averaged over the real tokens -> dropout -> linear.
    pooling "pooler": tanh layer behind [CLS] -> dropout -> linear, as published.
    """

    def __init__(
        self,
        encoder: nn.Module,
        pooling: str = "mean",
        dropout: float = 0.5,
        classes: int = 7,
        dimensions: dict | None = None,
    ):
        super().__init__()
        if pooling == "pooler" and getattr(encoder, "pooler", None) is None:
            raise ModelError("POOLING = 'pooler' needs an encoder with a pooler; choose mean")
        if pooling == "mean":
            remove_pooler(encoder)
        self.encoder, self.pooling = encoder, pooling
        self.dropout = nn.Dropout(dropout)
        self.classifier = Head(encoder.config.hidden_size, classes, dimensions)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(B, L) ids, (B, L) mask -> (B, classes) logits."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "pooler":
            utterance = output.pooler_output
        else:
            utterance = mean_of_tokens(output.last_hidden_state, attention_mask)
        return self.classifier(self.dropout(utterance))


def mean_of_tokens(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average (B, L, D) over the tokens whose mask (B, L) is 1 -> (B, D)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def build_text_network(config: dict) -> KoBERTClassifier:
    """Build the network of a trained model's configuration, with random weights."""
    pooling = config["pooling"]
    encoder = build_encoder(config["encoder"], pooling == "pooler")
    head = {"classes": config.get("classes", 7), "dimensions": config.get("dimensions")}
    return KoBERTClassifier(encoder, pooling, **head)
