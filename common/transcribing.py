"""What was said, by a recogniser of the hub or of a folder.

Shapes: S samples (int16, 16 kHz).
"""

import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import transformers

from common.cache import cached
from common.data import Dataset
from common.files import FULL_SCALE, SAMPLE_RATE, UserError
from models import first_line, hide_bars_in_files, identify, unreachable

WINDOW = 30  # seconds that a recogniser hears at once; longer utterances are put together
SHORTEST = 0.5  # seconds that it hears at least: its convolutions need some samples
KOREAN = {"lang_to_id": "<|ko|>", "task_to_id": "transcribe"}  # what Whisper's tables must have


def load_recogniser(name: str) -> Callable[[np.ndarray], str]:
    """Load a `transformers` recogniser: samples (S,) -> words.

    Its weights must be safetensors, and no code of its own is run. A recogniser of many languages
    is told that it hears Korean; one that cannot be told decides itself, and this is printed.
    """
    hide_bars_in_files()
    try:
        recogniser = transformers.pipeline(
            "automatic-speech-recognition",
            model=name,
            device=0 if torch.cuda.is_available() else -1,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(str(unreachable(name, "recogniser", error))) from None
    options, generation = {}, getattr(recogniser.model, "generation_config", None)
    if getattr(generation, "is_multilingual", False):
        if all(word in (getattr(generation, table, 0) or ()) for table, word in KOREAN.items()):
            options["generate_kwargs"] = {"language": "korean", "task": "transcribe"}
        else:
            lacks = f"its generation_config.json lacks {' and '.join(KOREAN)}"
            print(f"{name} chooses the language itself: {lacks}", file=sys.stderr)

    def transcribe(samples: np.ndarray) -> str:
        voice = samples.astype(np.float32) / FULL_SCALE
        voice = np.pad(voice, (0, max(0, round(SHORTEST * SAMPLE_RATE) - len(voice))))
        window = WINDOW if len(voice) > WINDOW * SAMPLE_RATE else 0
        audio = {"raw": voice, "sampling_rate": SAMPLE_RATE}
        try:
            heard = recogniser(audio, chunk_length_s=window, ignore_warning=True, **options)
        except Exception as error:  # each kind has its own limits
            seconds = f"{len(samples) / SAMPLE_RATE:.2f} s"
            raise UserError(f"{name} cannot transcribe {seconds}: {first_line(error)}") from None
        return heard["text"]

    return transcribe


def transcribe_rows(data: Dataset, name: str) -> list[str]:
    """Return what a recogniser hears in each row's recording; kept in the data's cache."""
    contents = identify(name)
    if not contents:  # else another recogniser's words would be taken from the cache
        raise UserError(f"{name}: no folder here, and the hub has not given it")
    find_recogniser = cache(load_recogniser)

    def compute(clips: list[np.ndarray]) -> list[np.ndarray]:
        texts = [find_recogniser(name)(clip).encode() for clip in clips]
        return [np.frombuffer(text, np.uint8)[:, None] for text in texts]

    words = cached(data, "words", {"recogniser": contents}, compute)
    return [words.read(row).tobytes().decode() for row in range(len(data))]
