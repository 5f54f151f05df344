"""A conversation as it goes on: every turn predicted, its speaker known better by it.

Shapes: S samples (int16, 16 kHz), L tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.files import SAMPLE_RATE, UserError
from corpora import recordings
from corpora.annotation import read_annotation
from corpora.recordings import RecordingError
from corpora.transcripts import decode
from predicting import Answer, History, Recording, Run
from predicting.predicting import answer
from predicting.recordings import explain
from predicting.utterances import find_utterances

LETTERS = 500  # of a transcript; no model reads more than 128 tokens


@dataclass(frozen=True, eq=False)
class Turn:
    """An utterance of the conversation, and what was made of it.

    samples: (S,), or None of words alone.  known: utterances of the speaker that were heard until
    then, this one among them; 0 of a stranger.  pieces, maps: CM-BERT's tokens (L) and attention
    maps (L, L) by name; nothing where it had no part.
    """

    answer: Answer
    samples: np.ndarray | None
    known: int
    pieces: list[str]
    maps: dict[str, np.ndarray]


@dataclass
class Conversation:
    """What was said and heard so far; it lives in memory only."""

    turns: list[Turn] = field(default_factory=list)
    history: History = field(default_factory=History)


def listen(
    run: Run,
    talk: Conversation,
    recording: Recording,
    longest: float,
    transcribe: Callable[[np.ndarray], str] | None = None,
) -> None:
    """Add a recording's utterances to a conversation, each as a turn.

    longest: seconds that the recording may have.  transcribe: samples (S,) -> words, for one
    without transcript.
    """
    check(recording, longest)
    recording = replace(recording, dialogue="conversation")
    for utterance in find_utterances([recording], run.text_style, run.reference_range, transcribe):
        with watch_attention(run) as seen:
            (own,) = answer(run, [utterance], talk.history)
        pieces, maps = [], {}
        if "cmbert" in own.logits:
            model = run.load("cmbert")
            ids = model.tokenizer.encode(own.text, model.config["max_length"])
            pieces = model.tokenizer.pieces(ids)
            maps = {name: whole[: len(ids), : len(ids)] for name, whole in seen.items()}
        known = int(talk.history.voices.get(recording.speaker, [0])[0])
        talk.turns.append(Turn(own, utterance.samples, known, pieces, maps))


def check(recording: Recording, longest: float) -> None:
    """Refuse what is too long, and nothing at all."""
    if len(recording.text) > LETTERS:
        raise UserError(f"{len(recording.text)} letters: give at most {LETTERS}")
    if not recording.path:
        if not recording.text:
            raise UserError("nothing to judge: speak, drop a recording, or type some words")
        return
    path = Path(recording.path)
    try:
        seconds = recordings.measure(str(path)) / SAMPLE_RATE
    except RecordingError as error:
        raise UserError(f"{path.name}{explain(str(path), error)}") from None
    if seconds > longest:
        raise UserError(
            f"{path.name} is {seconds:.0f} s long: give at most {longest:g} s, or use predict.py"
        )


@contextmanager
def watch_attention(run: Run) -> Iterator[dict[str, np.ndarray]]:
    """Yield a dictionary that gets CM-BERT's maps of the utterance that passes it in the block."""
    seen = {}

    def keep(module, inputs, output) -> None:
        seen.update({name: maps[0].float().cpu().numpy() for name, maps in output[1].items()})

    attention = [run.load("cmbert").network.attention] if "cmbert" in run.models else []
    hooks = [module.register_forward_hook(keep) for module in attention]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def find_examples(corpus: Path, count: int = 6) -> list[list[str]]:
    """Return path, transcript and speaker of the last session's first utterances, turn by turn.

    corpus: in KEMDy19's layout; the last session is a test session unless told otherwise. The order
    of time is that of the annotation's rows; without annotation it is taken from the names.
    """
    paths = list(corpus.glob("wav/*/*/*.wav"))
    last = max((path.parts[-3] for path in paths), default="")
    place: dict[str, int] = {}
    for table in sorted(corpus.glob(f"annotation/{last}_[FM]_res.csv")):
        for number, row in enumerate(read_annotation(table, "KEMDy19")[0]):
            place.setdefault(row.id, number)  # a wrong ID of one file is right in the other
    # Sess20_script01_F001: who speaks, and the how manieth utterance it is
    turns = sorted(
        (place.get(path.stem, len(place)), path.parts[-2], path.stem[-3:], path.stem[-4], path)
        for path in paths
        if path.parts[-3] == last and path.with_suffix(".txt").is_file()
    )
    return [
        [str(path), decode(path.with_suffix(".txt").read_bytes()).strip(), who]
        for _, dialogue, _, who, path in turns
        if dialogue == turns[0][1]
    ][:count]
