"""What was said, by a recogniser of the hub or of a folder.

Shapes: S samples (int16, 16 kHz).
"""

from collections.abc import Callable

import numpy as np
import torch
import transformers

from models.kobert import hide_bars_in_files, unreachable
from pipeline.files import FULL_SCALE, RATE, UserError

WINDOW = 30  # seconds that a recogniser hears at once; longer utterances are put together


def load_recogniser(name: str) -> Callable[[np.ndarray], str]:
    """Load a `transformers` recogniser: samples (S,) -> words.

    Its weights must be safetensors, and no code of its own is run. A recogniser of many languages
    is told that it hears Korean.
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
        options["generate_kwargs"] = {"language": "korean", "task": "transcribe"}

    def transcribe(samples: np.ndarray) -> str:
        voice = samples.astype(np.float32) / FULL_SCALE
        window = WINDOW if len(voice) > WINDOW * RATE else 0
        audio = {"raw": voice, "sampling_rate": RATE}
        heard = recogniser(audio, chunk_length_s=window, ignore_warning=True, **options)
        return heard["text"]

    return transcribe
