"""KoBERT's tokenizer; nothing here needs torch."""

from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from models import ModelError

SPECIAL_PIECES = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")  # KoBERT's ids 0 to 4
SENTENCEPIECE_FILES = ("spiece.model", "*.spiece", "tokenizer_78b3253a26.model")

# What the authors' tokenizer returns for skt/kobert-base-v1: (text, second text, ids), and the
# pieces behind the first of these answers.
KNOWN_ANSWERS = (
    ("한국어 모델을 공유합니다.", None, [2, 4958, 6855, 2046, 7088, 1050, 7843, 54, 3]),
    (
        "나 보기가 역겨워",
        "김소월",
        [2, 1370, 2362, 5330, 3322, 5411, 7018, 3, 1316, 6607, 7028, 3],
    ),
)
KNOWN_PIECES = ("▁한국", "어", "▁모델", "을", "▁공유", "합니다", ".")
KOBERT_SIZE = 8002


class KoBERTTokenizer:
    """SentencePiece with KoBERT's special ids: `[CLS] pieces [SEP]`, token types 0.

    The text is normalised by the SentencePiece model itself (NFKC). The tokenizers that
    transformers would pick decompose Hangul first and return [UNK] for every Korean word.
    """

    unk_id, pad_id, cls_id, sep_id, mask_id = range(5)

    def __init__(self, model: bytes):
        if not model:  # which SentencePiece takes, to complain of every call
            raise ModelError("the SentencePiece model is empty")
        self.model = model
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def from_folder(cls, folder: Path | str) -> "KoBERTTokenizer":
        """Load a folder's SentencePiece model; ModelError if there is none with KoBERT's ids."""
        path = find_sentencepiece(folder)
        if path is None:
            names = ", ".join(SENTENCEPIECE_FILES)
            raise ModelError(f"{folder} has no SentencePiece model (none of {names})")
        tokenizer = cls(path.read_bytes())
        if not tokenizer.has_kobert_ids():
            raise ModelError(
                f"{path} is not KoBERT's: its first pieces are {tokenizer.pieces(range(5))}, "
                f"expected {list(SPECIAL_PIECES)}"
            )
        if tokenizer.looks_like_kobert():
            check_known_answers(tokenizer)
        return tokenizer

    def has_kobert_ids(self) -> bool:
        return len(self) > 5 and tuple(self.pieces(range(5))) == SPECIAL_PIECES

    def looks_like_kobert(self) -> bool:
        """Tell whether this is skt/kobert-base-v1's model, whole or damaged.

        By its size and any known piece in its place; one trained here may have the same size.
        """
        if len(self) != KOBERT_SIZE or not self.has_kobert_ids():
            return False
        found = self.pieces(KNOWN_ANSWERS[0][2][1:-1])
        return any(map(str.__eq__, found, KNOWN_PIECES))

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    def encode(
        self, text: str, max_length: int | None = None, pair: str | None = None
    ) -> list[int]:
        """Return `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]` as ids.

        Of what exceeds `max_length` ids, pieces are cut from the end of the longer text; the
        special ids stay.
        """
        first = self.processor.encode(text)
        second = self.processor.encode(pair) if pair is not None else []
        specials = 2 if pair is None else 3
        while max_length and first + second and len(first) + len(second) + specials > max_length:
            (first if len(first) >= len(second) else second).pop()
        ids = [self.cls_id, *first, self.sep_id]
        return ids if pair is None else [*ids, *second, self.sep_id]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces behind the ids; a leading `▁` stands for the blank before a word."""
        return [self.processor.id_to_piece(int(i)) for i in ids]

    def files(self) -> dict[str, bytes]:
        """Return the SentencePiece model under the hub's name: what load_tokenizer reads."""
        return {"spiece.model": self.model}


def check_known_answers(tokenizer: KoBERTTokenizer) -> None:
    """Refuse what does not encode as skt/kobert-base-v1 does."""
    for text, pair, expected in KNOWN_ANSWERS:
        ids = tokenizer.encode(text, pair=pair)
        if ids != expected:
            raise ModelError(
                f"the SentencePiece model is not skt/kobert-base-v1's: '{text}' becomes {ids}, "
                f"expected {expected}; download spiece.model again"
            )


def find_sentencepiece(folder: Path | str) -> Path | None:
    """Return the SentencePiece model in a checkpoint's folder, None if there is none."""
    found = (path for name in SENTENCEPIECE_FILES for path in sorted(Path(folder).glob(name)))
    return next(found, None)
