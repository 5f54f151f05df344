"""A long recording -> utterances, cut where it is silent.

Shapes: S samples (int16, 16 kHz).
"""

import numpy as np

from pipeline.files import FULL_SCALE, RATE

QUIET = 30.0  # dB under the recording's loud parts: silence
PAUSE = 0.5  # seconds of silence that end an utterance
SHORTEST = 0.25  # seconds; shorter sounds are no utterance (KEMDy19's shortest is 0.26 s)
LONGEST = 15.0  # seconds; what goes on longer is cut at its quietest place
MARGIN = 0.1  # seconds of silence that stay around an utterance
WINDOW, HOP = 1024, 256  # samples


def cut(samples: np.ndarray) -> list[tuple[int, int]]:
    """Return first sample and end of every utterance in (S,); all of it if nothing stands out."""
    from librosa.effects import split  # here, as it takes two seconds that short recordings save
    from librosa.feature import rms

    voice = samples.astype(np.float32) / FULL_SCALE
    power = rms(y=voice, frame_length=WINDOW, hop_length=HOP)[0]

    def loud(levels: np.ndarray) -> float:
        return float(np.percentile(levels, 95))  # one bang must not silence all speech

    sounds = split(voice, top_db=QUIET, ref=loud, frame_length=WINDOW, hop_length=HOP)
    shortest = SHORTEST * RATE
    spoken = [(start, end) for start, end in join(sounds.tolist()) if end - start >= shortest]
    utterances = [
        piece for sound in spoken or [(0, len(samples))] for piece in halve(*sound, power)
    ]
    margin = round(MARGIN * RATE)
    ends = [0, *(end for _, end in utterances)]
    starts = [*(start for start, _ in utterances), len(samples)]
    return [
        (max(start - margin, before), min(end + margin, after))
        for (start, end), before, after in zip(utterances, ends[:-1], starts[1:], strict=True)
    ]


def join(sounds: list[list[int]]) -> list[list[int]]:
    """Join sounds that less than PAUSE parts."""
    joined = []
    for start, end in sounds:
        if joined and start - joined[-1][1] < PAUSE * RATE:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return joined


def halve(start: int, end: int, power: np.ndarray) -> list[tuple[int, int]]:
    """Cut what is longer than LONGEST at the quietest place of its middle half, and so on."""
    if end - start <= LONGEST * RATE:
        return [(start, end)]
    first, last = (start + (end - start) * part // 4 for part in (1, 3))
    quietest = int(power[first // HOP : last // HOP].argmin()) * HOP + first // HOP * HOP
    return halve(start, quietest, power) + halve(quietest, end, power)
