"""Answers as people and programs read them."""

import csv
import io
import re
from collections.abc import Iterable

import numpy as np

from common.files import DIMENSIONS
from common.labels import both_names, korean
from fusion.outputs import INPUTS, in_order
from predicting.predicting import Answer
from predicting.recordings import Recording, readable
from predicting.run import Run

OF_DIMENSIONS = dict(zip(DIMENSIONS, ("정서가", "각성도"), strict=True))
COLUMNS = (
    *("path", "start", "end", "speaker", "dialogue", "text"),
    *("emotion", "emotion_ko", "confidence", "uncertain", "method", "remarks"),
)

NO_VERDICT = "말소리 없음 no verdict"
FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the start of one
BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # blanks, line ends, and what moves a terminal


def one_line(words: object) -> str:
    """Return words for people on one line, whatever is in a file's name or a cell."""
    return BREAKS.sub(" ", readable(str(words))).strip()


def as_line(answer: Answer) -> str:
    """Return one readable line: where, verdict, what else it may be, each model's, remarks.

    Before the remarks valence and arousal, where they are known.
    """
    remarks = "".join(f"  [{remark}]" for remark in answer.remarks)
    if answer.probabilities is None:
        return f"{place(answer.recording)}: {NO_VERDICT}{remarks}"

    def show(c: int, probabilities: np.ndarray) -> str:
        return f"{both_names(answer.labels[c])} {probabilities[c]:.2f}"

    order = np.argsort(-answer.probabilities, kind="stable")[:3]
    first, *others = (show(c, answer.probabilities) for c in order)
    if answer.uncertain:
        first, others = "불확실 uncertain", (first, *others)
    each = [f"{model} {show(p.argmax(), p)}" for model, p in answer.models.items()]
    parts = [first, f"({', '.join(others)})", ", ".join(each), write_dimensions(answer)]
    return f"{place(answer.recording)}: {'  '.join(filter(None, parts))}{remarks}"


def write_dimensions(answer: Answer) -> str:
    """Return valence and arousal as words; "" where they are not known."""
    known = {name: value for name, value in answer.dimensions.items() if value is not None}
    return ", ".join(f"{OF_DIMENSIONS[name]} {name} {value:.1f}" for name, value in known.items())


def place(recording: Recording) -> str:
    """Return whose and which utterance it is: path, times and speaker, or the words."""
    words = [recording.path or f"'{recording.text}'", recording.speaker]
    if recording.end is not None:
        words.insert(1, f"{clock(recording.start or 0.0)}-{clock(recording.end)}")
    return one_line(" ".join(map(readable, words)))


def clock(seconds: float) -> str:
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def as_dict(answer: Answer) -> dict:
    """Return the answer for JSON; probabilities and logits by label, None for no time or verdict.

    Where nobody speaks there are no probabilities.  valence, arousal: of a run that has them, None
    where no model of the utterance has.
    """
    recording = answer.recording
    silent = answer.probabilities is None

    def by_label(values: np.ndarray) -> dict[str, float]:
        return dict(zip(answer.labels, map(float, values), strict=True))

    return {
        "path": readable(recording.path),
        "start": recording.start,
        "end": recording.end,
        "speaker": readable(recording.speaker),
        "dialogue": readable(recording.dialogue),
        "text": answer.text,
        "emotion": answer.emotion,
        "emotion_ko": answer.emotion and korean(answer.emotion),
        "confidence": answer.confidence,
        "uncertain": None if silent else answer.uncertain,
        "method": answer.method or None,
        **answer.dimensions,
        "remarks": list(answer.remarks),
        "probabilities": {} if silent else by_label(answer.probabilities),
        "models": {model: by_label(own) for model, own in answer.models.items()},
        "logits": {model: by_label(own) for model, own in answer.logits.items()},
    }


def list_columns(run: Run) -> tuple[str, ...]:
    """Return a table's columns; text, audio and cmbert have theirs in every table."""
    every, labels = in_order([*INPUTS, *run.models]), run.fusion.labels
    of_models = [f"{model}_{label}" for model in every for label in labels]
    return (*COLUMNS, *labels, *run.dimensions, *of_models)


def as_row(answer: Answer, columns: Iterable[str]) -> str:
    """Return the cells of the columns with tabs between them; blank where a model had no part."""
    cells = as_dict(answer)
    cells |= cells["probabilities"] | {"remarks": "; ".join(answer.remarks)}
    for model, own in cells["models"].items():
        cells |= {f"{model}_{label}": value for label, value in own.items()}
    row = io.StringIO()
    csv.writer(row, "excel-tab", lineterminator="").writerow(
        write_cell(cells.get(column)) for column in columns
    )
    return row.getvalue()


def write_cell(value: object) -> str:
    """Write a number in full, a word without tabs and line ends, None as nothing.

    What a spreadsheet would compute, be it a name or a transcript, has an apostrophe in front.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.7g}"
    words = one_line(value)
    return f"'{words}" if words.startswith(FORMULA) else words
