"""Recordings -> utterances that the networks can take: read, cut, cleaned, looked at.

Shapes: S samples (int16, 16 kHz).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from common.files import SAMPLE_RATE
from common.sound import find_unusual
from corpora.transcripts import clean
from predicting import recordings
from predicting.cutting import CLAIMED, FRAME, SPEECH, cut, find_speech, is_spoken
from predicting.recordings import Recording
from predicting.streaming import OnDisk

# The scripts whose models predict.py can run, and what those need of an utterance.
NEEDED = {"text_train.py": "text", "audio_train.py": "audio", "run_classifier.py": "text+audio"}
LONG = 20.0  # seconds from which a recording without transcript is cut where nobody speaks
LEAD = 32  # frames before a turn, one second, that the detector of speech hears as well
NOBODY, UNLIKE = "nobody speaks", "unlike the training"
ALONE = "voice alone, no transcript"

Transcribe = Callable[[np.ndarray], str]  # samples (S,) -> words


@dataclass(frozen=True, eq=False)
class Utterance:
    """A recording of one utterance: its samples (S,) or None, its words as the models read them."""

    recording: Recording
    samples: np.ndarray | None
    text: str
    remarks: tuple[str, ...]

    def suits(self, needed: str) -> bool:
        """Tell whether the utterance has what a model needs, one of NEEDED."""
        has_voice, has_words = self.samples is not None, bool(self.text)
        return (has_voice or "audio" not in needed) and (has_words or "text" not in needed)


def find_utterances(
    recording: Recording, config: dict, transcribe: Transcribe | None = None
) -> Iterator[Utterance]:
    """Yield the utterances of a recording, in order.

    Of a recording in which nobody speaks the words alone are left, if there are any. Where words
    or a turn's times are given, somebody has heard speech, and less has to be found.
    config: a model's: how words are cleaned (corpora/transcripts.py) and how the recordings sound
    that it was trained on (common/sound.py).  transcribe: for recordings without transcript.
    """
    style, reference_range = config["text_style"], config["reference_range"]
    text = clean(recording.text, style)
    remarks = ["nothing left of the transcript"] if recording.text and not text else []
    if not recording.has_voice:
        yield Utterance(recording, None, text, tuple(remarks))
        return
    samples, found = recordings.read(recording)
    remarks += found
    speech = find_speech_of(recording, samples)
    claimed = text or recording.start is not None or recording.end is not None
    if not is_spoken(speech, CLAIMED if claimed else SPEECH):
        remarks.append(f"{NOBODY}: the words alone are judged" if text else NOBODY)
        yield Utterance(recording, None, text, tuple(remarks))
        return
    is_long = len(samples) > LONG * SAMPLE_RATE and recording.end is None
    if is_long and not text:
        pieces = cut_long(recording, samples, speech)
    else:
        pieces = [(recording, samples[:])]
        remarks += [f"one verdict for {len(samples) / SAMPLE_RATE:.0f} s"] if is_long else []
    for piece, voice in pieces:
        words = text or (clean(transcribe(voice), style) if transcribe else "")
        strange = [f"{UNLIKE}: {how}" for how in find_unusual(voice, reference_range)]
        silent = [] if words else [ALONE]
        yield Utterance(piece, voice, words, (*remarks, *strange, *silent))


def find_speech_of(recording: Recording, samples: np.ndarray | OnDisk) -> np.ndarray:
    """Return how probable speech is in every frame (T,), a turn heard in its surroundings."""
    lead = min(LEAD, int((recording.start or 0.0) * SAMPLE_RATE) // FRAME)
    if lead:
        earlier = replace(recording, start=recording.start - lead * FRAME / SAMPLE_RATE)
        samples, _ = recordings.read(earlier)
    return find_speech(samples)[lead:]


def cut_long(
    recording: Recording, samples: np.ndarray | OnDisk, speech: np.ndarray
) -> Iterator[tuple[Recording, np.ndarray]]:
    """Yield the utterances of a long recording, each with its times and samples."""
    offset = recording.start or 0.0
    for first, last in cut(samples, speech):
        times = {"start": offset + first / SAMPLE_RATE, "end": offset + last / SAMPLE_RATE}
        yield replace(recording, **times), samples[first:last]
