"""What was said, by a recogniser of the hub or of a folder.

Shapes: S samples (int16, 16 kHz).
"""

from collections.abc import Callable

import numpy as np
import torch
from transformers import pipeline
from transformers.utils import logging

from models.kobert import hide_bars_in_files, unreachable
from pipeline.files import FULL_SCALE, RATE, UserError

WINDOW = 30  # seconds that a recogniser hears at once; longer utterances are put together


def load_recogniser(name: str) -> Callable[[np.ndarray], str]:
    """Load a `transformers` recogniser: samples (S,) -> words.

    Its weights must be safetensors, and no code of its own is run. A recogniser of many languages
    is told that it hears Korean.
    """
    hide_bars_in_files()
    logging.set_verbosity_error()  # remarks on settings that a user cannot change here
    try:
        recogniser = pipeline(
            "automatic-speech-recognition",
            model=name,
            device=0 if torch.cuda.is_available() else -1,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(str(unreachable(name, "recogniser", error))) from None
    options = {"chunk_length_s": WINDOW}
    if getattr(recogniser.generation_config, "is_multilingual", False):
        options["generate_kwargs"] = {"language": "korean", "task": "transcribe"}

    def transcribe(samples: np.ndarray) -> str:
        voice = samples.astype(np.float32) / FULL_SCALE
        return recogniser({"raw": voice, "sampling_rate": RATE}, **options)["text"]

    return transcribe
