"""A conversation as it goes on: every turn predicted, its speaker known better by it.

Shapes: S samples (int16, 16 kHz), L tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.files import SAMPLE_RATE, UserError
from corpora.annotation import read_annotation
from corpora.transcripts import decode
from predicting import Answer, History, Recording, Run
from predicting.predicting import answer, collect_statistics
from predicting.recordings import measure
from predicting.utterances import Utterance, find_utterances
from predicting.windows import answer_windows, has_voice_model

LETTERS = 500  # of a transcript; no model reads more than 128 tokens
EVERY = 2.0  # seconds of the windows in which the voice is followed through an utterance


@dataclass(frozen=True, eq=False)
class Turn:
    """An utterance of the conversation, and what was made of it.

    samples: (S,), or None of words alone.  known: utterances of the speaker that were heard until
    then, this one among them; 0 without a name.  pieces, maps: CM-BERT's tokens (L) and attention
    maps (L, L) by name; nothing where it had no part.  windows: answers to the voice in every
    EVERY seconds; none without a voice, or without a model of the voice alone.
    """

    answer: Answer
    samples: np.ndarray | None
    known: int
    pieces: list[str]
    maps: dict[str, np.ndarray]
    windows: tuple[Answer, ...] = ()


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
    for utterance in find_utterances(recording, run.config, transcribe):
        with watch_attention(run) as seen:
            (own,) = answer(run, [utterance], talk.history)
        pieces, maps = [], {}
        if "cmbert" in own.logits:
            model = run.load("cmbert")
            ids = model.tokenizer.encode(own.text, model.config["max_length"])
            pieces = model.tokenizer.pieces(ids)
            maps = {name: whole[: len(ids), : len(ids)] for name, whole in seen.items()}
        voice = talk.history.voices.get(recording.speaker, {})
        known = int(next(iter(voice.values()), [0])[0])
        windows = follow_voice(run, utterance, voice)
        talk.turns.append(Turn(own, utterance.samples, known, pieces, maps, windows))


def follow_voice(
    run: Run, utterance: Utterance, voice: dict[str, np.ndarray]
) -> tuple[Answer, ...]:
    """Return the answers to an utterance's windows, by the voice alone.

    voice: features_key -> statistics (K,) of a named speaker, the utterance among them.
    """
    if utterance.samples is None or not has_voice_model(run):
        return ()
    known = {key: stats[None] for key, stats in voice.items()}
    known = known or collect_statistics(run, [utterance], History())[0]
    return tuple(answer_windows(run, [utterance], known, EVERY))


def check(recording: Recording, longest: float) -> None:
    """Refuse what is too long, and nothing at all."""
    if len(recording.text) > LETTERS:
        raise UserError(f"{len(recording.text)} letters: give at most {LETTERS}")
    if not recording.path and not recording.text:
        raise UserError("nothing to judge: speak, drop a recording, or type some words")
    if not recording.path:
        return
    name = Path(recording.path).name
    try:
        seconds = measure(recording.path) / SAMPLE_RATE
    except UserError as error:  # it names Gradio's folder
        raise UserError(str(error).replace(recording.path, name)) from None
    if seconds > longest:
        raise UserError(
            f"{name} is {seconds:.0f} s long: give at most {longest:g} s, or use predict.py"
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
    """Return path, transcript and speaker of the first turns of the last session's first dialogue.

    corpus: in KEMDy19's layout; the last session is a test session unless told otherwise.
    """
    last = max((p.name[:9] for p in corpus.glob("annotation/Session*_F_res.csv")), default="")
    if not last:
        return []
    tables = [corpus / "annotation" / f"{last}_{letter}_res.csv" for letter in "FM"]
    turns = zip(*(read_annotation(table, "KEMDy19")[0] for table in tables), strict=False)
    # A wrong ID of one file is right in the other.
    ids = dict.fromkeys(name for rows in turns for name in sorted({row.id for row in rows}))
    examples: dict[str, list] = {}
    for name in ids:
        dialogue, _, turn = name.rpartition("_")
        path = corpus / "wav" / last / dialogue / f"{name}.wav"
        if path.is_file() and path.with_suffix(".txt").is_file():
            words = decode(path.with_suffix(".txt").read_bytes()).strip()
            examples.setdefault(dialogue, []).append([str(path), words, turn[0]])
    return next(iter(examples.values()), [])[:count]
