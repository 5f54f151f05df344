"""Predict recordings with a trained run.

    from predicting import Recording, load_run, predict

    run = load_run("outputs")
    for answer in predict(run, [Recording("talk.wav", text="정말 기뻐요")]):
        print(answer.emotion, answer.confidence)

Shapes: N utterances, S samples (int16, 16 kHz), C labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from scipy.special import softmax

from common.files import DIMENSIONS, UserError
from common.speakers import SpeakerNorm
from common.voice import features_key
from fusion import stored as fusion
from predicting.batches import Talk, predict_outputs, update_stats
from predicting.recordings import Recording, Refuse, give_up, of_row, readable
from predicting.run import Run
from predicting.utterances import NEEDED, UNLIKE, Transcribe, Utterance, find_utterances

TOGETHER = 32  # utterances that go through the networks at once


@dataclass
class History:
    """What was said so far: by every speaker, and in every dialogue.

    voices: speaker -> common.voice.features_key -> statistics (K,).
    turns: dialogue -> each turn's speaker and its probabilities (C,) by itself.
    """

    voices: dict = field(default_factory=dict)
    turns: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answer:
    """What an utterance tells.

    recording: with its times, if it was cut out of a longer one.  text: the words as the models
    read them.  logits, models: model -> logits (C,) and its calibrated probabilities (C,).
    probabilities (C,): of the fusion, which `method` names, and of the dialogue's turns until then,
    if its speakers are named; None where nobody speaks, of which there is no verdict.  uncertain:
    whether they are below the threshold of these models.  embedding (2 W D,): mean and deviation of
    every layer of a speech encoder over the clip; None without an encoder or a voice.  dimensions:
    the fusion's valence and arousal in the raters' scale, None where no model that judges the
    utterance has learned them; nothing in a run without.
    """

    recording: Recording
    text: str = ""
    logits: dict[str, np.ndarray] = field(default_factory=dict)
    models: dict[str, np.ndarray] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    method: str = ""
    uncertain: bool = False
    remarks: tuple[str, ...] = ()
    embedding: np.ndarray | None = None
    dimensions: dict[str, float | None] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @property
    def emotion(self) -> str | None:
        """The likeliest label."""
        return None if self.probabilities is None else self.labels[self.probabilities.argmax()]

    @property
    def confidence(self) -> float | None:
        return None if self.probabilities is None else float(self.probabilities.max())


def predict(
    run: Run,
    files: Iterable[Recording],
    history: History | None = None,
    transcribe: Transcribe | None = None,
    refuse: Refuse = give_up,
) -> Iterator[Answer]:
    """Yield an answer for every utterance of the recordings, in order.

    A long recording without transcript is cut where nobody speaks. Nothing that comes later changes
    an answer.
    history: what was said before; it is brought up to date, so that the next call can go on.
    transcribe: samples (S,) -> words, for recordings without transcript.
    refuse: is told what is wrong with a recording, and the others are answered; without it the
    first such UserError ends all.
    """
    history = history or History()
    utterances = read_all(run, files, transcribe, refuse)
    while group := list(islice(utterances, TOGETHER)):
        yield from answer(run, group, history, refuse)


def read_all(
    run: Run, files: Iterable[Recording], transcribe: Transcribe | None, refuse: Refuse
) -> Iterator[Utterance]:
    """Yield the utterances of all recordings that can be used."""
    for recording in files:
        try:
            yield from find_utterances(recording, run.config, transcribe)
        except UserError as error:
            refuse(of_row(recording, error))


def answer(
    run: Run, utterances: list[Utterance], history: History, refuse: Refuse = give_up
) -> Iterator[Answer]:
    """Yield the answers to utterances, which go through each network together."""
    known, embeddings = collect_statistics(run, utterances, history)
    logits, dims = run_models(run, utterances, known)
    for utterance, own, affect, embedding in zip(utterances, logits, dims, embeddings, strict=True):
        recording = utterance.recording
        if recording.has_voice and utterance.samples is None and not utterance.text:
            nothing = dict.fromkeys(run.dimensions)
            yield Answer(recording, remarks=utterance.remarks, dimensions=nothing)  # nobody speaks
        elif problem := find_problem(run, utterance, own, affect):
            name = readable(recording.path) or f"'{recording.text}'"
            refuse(of_row(recording, UserError(f"{name}: {problem}")))
        else:
            fused = fuse_dimensions(run, affect)
            of_labels = fuse(run.fusion, utterance, own, history)
            remarks = (*of_labels.remarks, *find_distant(run, embedding))
            yield replace(of_labels, embedding=embedding, dimensions=fused, remarks=remarks)


def run_models(
    run: Run, utterances: list[Utterance], known: dict[str, np.ndarray]
) -> tuple[list[dict], list[dict]]:
    """Return {model: logits (C,)}, and {model: valence and arousal (2,)}, of each utterance.

    known: features_key -> statistics (N, K) that the utterances are normalised by.
    """
    logits, dims = ([{} for _ in utterances] for _ in range(2))
    for name in run.models:
        chosen = [place for place, u in enumerate(utterances) if u.suits(run.needed(name))]
        if chosen:
            model = run.load(name)
            stats = known.get(features_key(model.config))
            talk = Talk(
                [utterances[place] for place in chosen], None if stats is None else stats[chosen]
            )
            outputs = predict_outputs(model, talk)
            for place, of_labels, of_dimensions in zip(chosen, *outputs, strict=True):
                logits[place][name] = of_labels
                if len(of_dimensions):
                    dims[place][name] = of_dimensions
    return logits, dims


def collect_statistics(
    run: Run, utterances: list[Utterance], history: History
) -> tuple[dict[str, np.ndarray], list[np.ndarray | None]]:
    """Return what each utterance is normalised by, and what a speech encoder makes of it.

    That is features_key -> statistics (N, K), and pooled layers (2 W D,) or None.
    """
    known, embeddings = {}, [None] * len(utterances)
    embedding_key = features_key(run.configs[run.embedder]["network"]) if run.embedder else ""
    if any(utterance.samples is not None for utterance in utterances):
        for name in run.models:
            key = features_key(run.configs[name]["network"])
            if key and key not in known:
                model = run.load(name)
                known[key], own = update_stats(utterances, history.voices, model)
                if key == embedding_key:
                    pooled = np.split(own, [2, 2 + (own.shape[1] - 2) // 2], axis=1)[1]
                    pooled = pooled.astype(np.float32)
                    embeddings = [None if np.isnan(row).any() else row for row in pooled]
    return known, embeddings


def find_distant(run: Run, embedding: np.ndarray | None) -> tuple[str, ...]:
    """Say whether an utterance's embedding (2 W D,) is far from those of the training."""
    norm = run.configs[run.embedder]["network"]["speaker_norm"] if embedding is not None else {}
    usual = norm.get("usual_distance")  # none of an encoder that was trained, or of older models
    if usual is None:
        return ()
    distance = SpeakerNorm.from_json(norm).distance(embedding)
    said = f"{UNLIKE}: voice at a distance of {distance:.1f}, usual up to {usual:.1f}"
    return (said,) if distance > usual else ()


def find_problem(
    run: Run, utterance: Utterance, logits: dict[str, np.ndarray], dims: dict[str, np.ndarray]
) -> str:
    """Say why there is no answer: no model can judge the utterance, or one is broken; "" if none.

    logits, dims: model -> logits (C,); valence and arousal (2,).
    """
    if not logits:
        missing = [script for script, needed in NEEDED.items() if utterance.suits(needed)]
        if not missing:
            return "nothing was said in it: give its words, or leave it out"
        return f"no model for it in {run.folder}, run {' or '.join(missing)}"
    outputs = [*logits.items(), *dims.items()]
    broken = [model for model, own in outputs if not np.isfinite(own).all()]
    return f"the output of {broken[0]} is no number: train it again" if broken else ""


def fuse_dimensions(run: Run, dims: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Return the fusion's valence and arousal by {model: (2,)}; {} of a run without."""
    rows = {model: own[None] for model, own in dims.items()}
    fused = run.fusion.predict_dimensions(rows) if run.dimensions else None
    if fused is None:
        return dict.fromkeys(run.dimensions)
    return dict(zip(DIMENSIONS, fused[0].tolist(), strict=True))


def fuse(
    fitted: fusion.Fusion, utterance: Utterance, logits: dict[str, np.ndarray], history: History
) -> Answer:
    """Return the answer by {model: logits (C,)} and the turns until then of its dialogue."""
    recording = utterance.recording
    turns = history.turns.setdefault(recording.dialogue, []) if recording.dialogue else []
    by_itself = fitted.predict({model: own[None] for model, own in logits.items()})[0]
    turns.append((recording.speaker, by_itself))
    speakers, each = zip(*turns, strict=True)
    probabilities = fitted.read_turn(speakers, np.stack(each))
    return make_answer(fitted, utterance, logits, probabilities, speakers)


def make_answer(
    fitted: fusion.Fusion,
    utterance: Utterance,
    logits: dict[str, np.ndarray],
    probabilities: np.ndarray,
    speakers: Sequence[str],
) -> Answer:
    """Return the answer by {model: logits (C,)} and the fused probabilities (C,).

    speakers: of the turns that these were read with, the utterance's last.
    """
    return Answer(
        utterance.recording,
        utterance.text,
        logits,
        {model: softmax(own / fitted.temperatures[model]) for model, own in logits.items()},
        probabilities,
        fitted.method(logits),
        bool(probabilities.max() < fitted.threshold(logits, speakers)),
        utterance.remarks,
        labels=fitted.labels,
    )
