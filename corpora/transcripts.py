"""Transcripts: bytes -> what was said."""

import codecs
import re
import unicodedata

STYLES = ("hangul", "spoken")
DEFAULT_STYLE = "spoken"  # punctuation and digits help (runs/LOG.md)

# A letter and a slash, alone between blanks, parentheses or a plus: `b/`, `(N/+N/)`; not `3/4`. The
# known letters also next to Hangul, punctuation or one another, `네b/o/.`; not `and/or`, `n/a`.
TAG = re.compile(
    r"(?<![^\s(+])[A-Za-z]/(?![^\s)+])|(?<![A-Za-z0-9/])(?:[bonluNcs]/)+(?![A-Za-z0-9/])"
)
# A self-repair without another one inside: `(A+B)`, of which B is what was meant.
REPAIR = re.compile(r"\(([^()]*)\)")
# The paper's alphabet: syllables, the jamo that stand alone in writing, and blanks.
NOT_HANGUL = re.compile(r"[^가-힣ㄱ-ㅎㅏ-ㅣ\s]")
# Marks of the transcription, and a quotation mark, which would also upset readers of the table.
MARKS = re.compile(r'[()+*"]')


def decode(content: bytes) -> str:
    """Decode a file that people made: UTF-8 (a BOM is dropped), else cp949; UTF-16 by its BOM.

    The order matters: cp949 accepts most UTF-8 and makes garbage of it.
    Raises UnicodeDecodeError for bytes that are none of them.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # neither code begins so
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp949")


def clean(text: str, style: str = DEFAULT_STYLE) -> str:
    """Return a transcript as the models read it, "" if nothing was said.

    `hangul`: the paper's rule, Hangul and blanks only; of `(A+B)` it keeps both parts.
    `spoken`: tags out, B for `(A+B)`, everything else as written: digits, Latin, punctuation.
    Both compose decomposed Hangul and leave single blanks.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    text = NOT_HANGUL.sub("", text) if style == "hangul" else keep_spoken(text)
    return " ".join(text.split())


def keep_spoken(text: str) -> str:
    """Remove tags and resolve self-repairs; "" if neither letter nor digit is left."""
    text = TAG.sub(" ", text)
    while REPAIR.search(text):
        text = REPAIR.sub(lambda match: match[1].rpartition("+")[2], text)
    text = MARKS.sub(" ", text)
    # Controls, zero-width marks and the like (category C) are invisible to whoever reads the table.
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    return text if any(c.isalnum() for c in text) else ""
