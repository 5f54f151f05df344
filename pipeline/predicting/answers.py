"""Answers as people and programs read them."""

import numpy as np

from fusion.paper import PAPER_MODELS as MODELS
from pipeline.labels import LABELS, LABELS_KO
from pipeline.predicting.predicting import Answer

KOREAN = dict(zip(LABELS, LABELS_KO, strict=True))
COLUMNS = (
    *("path", "start", "end", "speaker", "dialogue", "text"),
    *("emotion", "emotion_ko", "confidence", "uncertain", "method", "remarks"),
    *LABELS,
    *(f"{model}_{label}" for model in MODELS for label in LABELS),
)

FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the start of one


def as_line(answer: Answer) -> str:
    """Return one readable line: where, verdict, what else it may be, each model's, remarks."""
    order = np.argsort(-answer.probabilities, kind="stable")
    likely = [show(LABELS[c], answer.probabilities[c]) for c in order[:3]]
    verdict = f"{likely[0]}  ({', '.join(likely[1:])})"
    if answer.uncertain:
        verdict = f"불확실 uncertain  ({', '.join(likely)})"
    each = [f"{model} {show(LABELS[p.argmax()], p.max())}" for model, p in answer.models.items()]
    remarks = "".join(f"  [{remark}]" for remark in answer.remarks)
    return f"{place(answer)}: {verdict}  {', '.join(each)}{remarks}"


def show(label: str, probability: float) -> str:
    return f"{KOREAN[label]} {label} {probability:.2f}"


def place(answer: Answer) -> str:
    """Return whose and which utterance it is: path, times and speaker, or the words."""
    recording = answer.recording
    words = [recording.path or f"'{recording.text}'"]
    if recording.end is not None:
        words.append(f"{clock(recording.start or 0.0)}-{clock(recording.end)}")
    return " ".join([*words, recording.speaker]).strip()


def clock(seconds: float) -> str:
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def as_dict(answer: Answer) -> dict:
    """Return the answer for JSON; probabilities and logits by label, None for no time."""
    recording = answer.recording
    names = ("path", "start", "end", "speaker", "dialogue")

    def by_label(values: np.ndarray) -> dict[str, float]:
        return dict(zip(LABELS, map(float, values), strict=True))

    return {
        **{name: getattr(recording, name) for name in names},
        "text": answer.text,
        "emotion": answer.emotion,
        "emotion_ko": KOREAN[answer.emotion],
        "confidence": answer.confidence,
        "uncertain": answer.uncertain,
        "method": answer.method,
        "remarks": list(answer.remarks),
        "probabilities": by_label(answer.probabilities),
        "models": {model: by_label(own) for model, own in answer.models.items()},
        "logits": {model: by_label(own) for model, own in answer.logits.items()},
    }


def as_row(answer: Answer) -> str:
    """Return the cells of COLUMNS with tabs between them; blank where a model had no part."""
    cells = as_dict(answer)
    cells["remarks"] = "; ".join(answer.remarks)
    cells |= cells["probabilities"]
    for model, own in cells["models"].items():
        cells |= {f"{model}_{label}": value for label, value in own.items()}
    return "\t".join(write_cell(cells.get(column)) for column in COLUMNS)


def write_cell(value: object) -> str:
    """Write a number in full, a word without tabs and line ends, None as nothing.

    What a spreadsheet would compute, be it a name or a transcript, has an apostrophe in front.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.7g}"
    words = " ".join(str(value).split())
    return f"'{words}" if words.startswith(FORMULA) else words
