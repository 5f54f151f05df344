"""Where somebody speaks, by Silero VAD; a long recording -> utterances.

Shapes: S samples (int16, 16 kHz), T frames of 32 ms.
"""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import onnxruntime

from common.files import FULL_SCALE, SAMPLE_RATE, UserError
from predicting.streaming import OnDisk

MODEL = "silero_vad/data/silero_vad_16k_sequence.onnx"  # in the package silero-vad
FRAME, CONTEXT = 512, 64  # samples of a frame, and before it, that the detector hears
BLOCK = 512 * FRAME  # samples that pass it at once
LOUDEST, LOUD = 0.001, 0.3  # the loudest thousandth is brought to so much of full scale
SPEECH = 0.3  # probability from which a frame is speech; Silero's own 0.5 misses more cries
# What somebody has written down, or a diariser has found, is likelier to be speech.
CLAIMED = 0.2
# A hum or a chord that sets in sounds like speech to the detector: so many frames at the start of
# more than a second count for nothing.
START, SECOND = 6, 31
FEWEST = 3  # frames of speech, 0.1 s, without which nobody speaks
PAUSE = 0.5  # seconds without speech that end an utterance
LONGEST = 15.0  # seconds; what goes on longer is cut where speech is least likely
MARGIN = 0.2  # seconds that stay around an utterance, START at the least


@lru_cache(maxsize=1)
def load_detector() -> onnxruntime.InferenceSession:
    """Load the graph out of its package, whose own code would import torch."""
    try:
        path = distribution("silero-vad").locate_file(MODEL)
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise UserError("silero-vad is missing: pip install -r requirements.txt")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # it is small
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def find_speech(samples: np.ndarray | OnDisk) -> np.ndarray:
    """Return how probable speech is in every frame of (S,), (T,) with T = ceil(S / FRAME)."""
    scale = np.float32(LOUD / (find_loudest(samples) or 1.0))
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    found = [np.zeros(0, np.float32)]
    for first in range(0, len(samples), BLOCK):
        before = min(first, CONTEXT)
        voice = np.clip(samples[first - before : first + BLOCK] * scale, -1, 1)
        count = -(-(len(voice) - before) // FRAME)
        missing = count * FRAME - (len(voice) - before)
        padded = np.pad(voice, (CONTEXT - before, missing))
        frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
        given = {"input": frames.copy(), "h": hidden, "c": cell}
        speech, hidden, cell = load_detector().run(["speech_probs", "hn", "cn"], given)
        found.append(speech.reshape(-1))
    found = np.concatenate(found)
    found[: START if len(found) > SECOND else 0] = 0
    return found


def find_loudest(samples: np.ndarray | OnDisk) -> float:
    """Return the size above which the loudest thousandth of (S,) is, linear as np.percentile's."""
    counts = np.zeros(FULL_SCALE + 1, np.int64)
    for first in range(0, len(samples), BLOCK):
        sizes = np.abs(samples[first : first + BLOCK].astype(np.int32))
        counts += np.bincount(sizes, minlength=len(counts))
    place = (len(samples) - 1) * (1 - LOUDEST)
    ranks = int(place) + 1, min(int(place) + 2, len(samples))
    below, above = np.searchsorted(counts.cumsum(), ranks)
    return float(np.float32(below + (above - below) * (place % 1)))


def is_spoken(speech: np.ndarray, least: float = SPEECH) -> bool:
    """Tell from (T,) whether somebody speaks: in frames of at least 0.1 s together."""
    return bool(np.count_nonzero(speech >= least) >= min(FEWEST, max(len(speech), 1)))


def cut(samples: np.ndarray | OnDisk, speech: np.ndarray) -> list[tuple[int, int]]:
    """Return first sample and end of every utterance in (S,), by `find_speech`'s (T,).

    What stands beside speech and may be some, belongs to it.
    """
    likely = np.flatnonzero(speech >= CLAIMED)
    breaks = np.flatnonzero(np.diff(likely) * FRAME > PAUSE * SAMPLE_RATE)
    parts = zip(likely[[0, *(breaks + 1)]], likely[[*breaks, -1]] + 1, strict=True)
    spoken = [(start, end) for start, end in parts if is_spoken(speech[start:end])]
    pieces = [piece for part in spoken for piece in halve(*part, speech)]
    utterances = [(int(start) * FRAME, int(end) * FRAME) for start, end in pieces]
    margin = round(MARGIN * SAMPLE_RATE)
    before = [0, *(end for _, end in utterances)]
    after = [*(start for start, _ in utterances), len(samples)][1:]
    return [
        (max(start - margin, first), min(end + margin, last))
        for (start, end), first, last in zip(utterances, before[:-1], after, strict=True)
    ]


def halve(start: int, end: int, speech: np.ndarray) -> list[tuple[int, int]]:
    """Cut frames of more than LONGEST where speech is least likely, in the middle half, and on."""
    if (end - start) * FRAME <= LONGEST * SAMPLE_RATE:
        return [(start, end)]
    first, last = (start + (end - start) * part // 4 for part in (1, 3))
    least = first + int(speech[first:last].argmin())
    return halve(start, least, speech) + halve(least, end, speech)
