"""How the emotion moves within an utterance: an answer for every window of so many seconds.

A window is normalised by the statistics of its whole utterance, as which it counts for its speaker;
by its own, a shout would be as loud as a whisper. When the words of a transcript were said is not
known, so the voice alone is judged, unless a recogniser writes down the words of each window.

Where the fusion has learned how emotions follow one another from turn to turn, all windows of an
utterance are read together by those transitions, each as a turn of the same speaker: the utterance
is over when it is answered, so later windows count for earlier ones. Other utterances do not.

Shapes: N windows, S samples (int16, 16 kHz), C labels, K statistics of a speaker.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import numpy as np

from common.files import SAMPLE_RATE, UserError
from corpora.transcripts import clean
from fusion.dialogue import Turns
from fusion.stored import Fusion
from predicting.answers import place
from predicting.cutting import CLAIMED, FRAME, find_speech, is_spoken
from predicting.predicting import (
    TOGETHER,
    Answer,
    History,
    collect_statistics,
    find_problem,
    fuse_dimensions,
    make_answer,
    read_all,
    run_models,
)
from predicting.recordings import Recording, Refuse, give_up, of_row
from predicting.run import Run
from predicting.utterances import ALONE, NOBODY, Transcribe, Utterance


def predict_windows(
    run: Run,
    files: Iterable[Recording],
    every: float,
    history: History | None = None,
    transcribe: Transcribe | None = None,
    refuse: Refuse = give_up,
) -> Iterator[Answer]:
    """Yield an answer for every window of the recordings, in order, each with its times.

    A recording in which nobody speaks has one answer, without a verdict, and so has a window.
    every: seconds of a window.  history: the voices in it are brought up to date; dialogues have no
    part.  transcribe: samples (S,) of a window -> words.  refuse: as of `predict`.
    """
    check_models(run, bool(transcribe))
    history = history or History()
    utterances = read_all(run, keep_voices(files, refuse), None, refuse)
    while group := list(islice(utterances, TOGETHER)):
        known, _ = collect_statistics(run, group, history)
        yield from answer_windows(run, group, known, every, transcribe, refuse)


def check_models(run: Run, has_words: bool) -> None:
    """Refuse a run that cannot judge windows, of whose words nothing is known without has_words."""
    if not has_words and not has_voice_model(run):
        raise UserError(
            f"{run.folder} has no model of the voice alone, by which windows are judged: run "
            "audio_train.py, or give a recogniser (--asr)"
        )


def has_voice_model(run: Run) -> bool:
    """Tell whether any model of a run judges the voice alone."""
    return any(run.needed(model) == "audio" for model in run.models)


def keep_voices(files: Iterable[Recording], refuse: Refuse) -> Iterator[Recording]:
    """Yield the recordings that have a voice, without their transcripts."""
    for recording in files:
        if recording.has_voice:
            yield replace(recording, text="")
        else:
            refuse(of_row(recording, UserError("words alone have no windows: leave them out")))


def answer_windows(
    run: Run,
    utterances: list[Utterance],
    known: dict[str, np.ndarray],
    every: float,
    transcribe: Transcribe | None = None,
    refuse: Refuse = give_up,
) -> Iterator[Answer]:
    """Yield the answers to the windows of utterances.

    known: features_key -> statistics that each utterance is normalised by, a row an utterance.
    """
    cut = [cut_utterance(u, every, run.config["text_style"], transcribe) for u in utterances]
    owner = np.repeat(np.arange(len(cut)), [*map(len, cut)])
    outputs = []
    for start in range(0, len(owner), TOGETHER):
        windows = list(islice(chain.from_iterable(cut), start, start + TOGETHER))
        stats = {key: rows[owner[start : start + TOGETHER]] for key, rows in known.items()}
        embeddings = collect_statistics(run, windows, History())[1] if run.embedder else ()
        outputs += zip(
            *run_models(run, windows, stats), embeddings or [None] * len(windows), strict=True
        )
    outputs = iter(outputs)
    for windows in cut:
        yield from answer_utterance(run, windows, list(islice(outputs, len(windows))), refuse)


def cut_utterance(
    utterance: Utterance, every: float, style: str, transcribe: Transcribe | None
) -> list[Utterance]:
    """Return the windows of an utterance; those in which nobody speaks have no samples.

    style: how words are cleaned (corpora/transcripts.py).
    """
    if utterance.samples is None:
        return [utterance]
    bounds = cut_windows(len(utterance.samples), round(every * SAMPLE_RATE))
    # In an utterance of one window somebody speaks, or it were none.
    speech = find_speech(utterance.samples) if len(bounds) > 1 else np.ones(1)
    offset = utterance.recording.start or 0.0
    remarks = tuple(remark for remark in utterance.remarks if remark != ALONE)
    windows = []
    for first, last in bounds:
        times = {"start": offset + first / SAMPLE_RATE, "end": offset + last / SAMPLE_RATE}
        recording = replace(utterance.recording, **times)
        if is_spoken(speech[first // FRAME : -(-last // FRAME)], CLAIMED):
            samples = utterance.samples[first:last]
            words = clean(transcribe(samples), style) if transcribe else ""
            windows.append(
                Utterance(recording, samples, words, remarks if words else (*remarks, ALONE))
            )
        else:
            windows.append(Utterance(recording, None, "", (*remarks, NOBODY)))
    return windows


def cut_windows(samples: int, size: int) -> list[tuple[int, int]]:
    """Return first sample and end of every window; the last one has .5 to 1.5 times the size.

    An utterance of less than half the size is one window.
    """
    count = max(1, (2 * samples + size) // (2 * size))
    starts = [number * size for number in range(count)]
    return list(zip(starts, [*starts[1:], samples], strict=True))


def answer_utterance(
    run: Run, windows: list[Utterance], outputs: list[tuple], refuse: Refuse
) -> Iterator[Answer]:
    """Yield the answers to the windows of one utterance.

    outputs: of each window {model: logits (C,)}, {model: valence and arousal (2,)}, embedding.
    """
    by_itself = {}
    for number, (window, (logits, dims, _)) in enumerate(zip(windows, outputs, strict=True)):
        if window.samples is None:
            continue
        if problem := find_problem(run, window, logits, dims):
            problem = UserError(f"{place(window.recording)}: {problem}")
            refuse(of_row(window.recording, problem))
            continue
        own = {model: values[None] for model, values in logits.items()}
        by_itself[number] = run.fusion.predict(own)[0]
    read = dict(zip(by_itself, smooth(run.fusion, list(by_itself.values())), strict=True))
    speakers = ["the same"] * len(read)
    for number, (window, (logits, dims, embedding)) in enumerate(
        zip(windows, outputs, strict=True)
    ):
        if number in read:
            answer = make_answer(run.fusion, window, logits, read[number], speakers)
            fused = fuse_dimensions(run, dims)
            yield replace(answer, embedding=embedding, dimensions=fused)
        elif window.samples is None:
            nothing = dict.fromkeys(run.dimensions)
            yield Answer(window.recording, remarks=window.remarks, dimensions=nothing)


def smooths(fitted: Fusion) -> bool:
    """Tell whether a fusion has transitions that did not harm held-out rows."""
    return fitted.dialogue is not None and (fitted.dialogue.past or fitted.dialogue.whole)


def smooth(fitted: Fusion, by_itself: list[np.ndarray]) -> list[np.ndarray] | np.ndarray:
    """Return P(label) of each window of an utterance by all of them, N of (C,).

    by_itself: P(label) of each window by itself.  A fusion that reads no later turns reads no
    later windows.
    """
    if len(by_itself) < 2 or not smooths(fitted):
        return by_itself
    turns = Turns.of(np.arange(len(by_itself)), np.zeros(len(by_itself)))
    kind = "whole" if fitted.dialogue.whole else "past"
    return fitted.dialogue.read(np.stack(by_itself), [turns], kind)
