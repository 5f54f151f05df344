"""The settings of a training script's block, with a test's changes."""

from importlib import import_module

from common import settings

SCRIPTS = {"text": "text_train", "audio": "audio_train", "cmbert": "run_classifier"}
PAPER = {
    "audio": {"features": "paper", "tempos": (1.0,)},
    "cmbert": {
        "audio": "paper",
        "max_length": 100,
        "voice": "weights",
        "pooling": "cls",
        "scale": "batch",
        "pad_id": 0,
        "frozen": ("encoder.embeddings", "classifier"),
    },
}


def stage_settings(stage: str, **changes) -> dict:
    """Return a stage's default settings, in float32, with these changes."""
    block = settings.read(vars(import_module(SCRIPTS[stage])))
    unknown = changes.keys() - block.keys()
    assert not unknown, unknown
    return {**block, "precision": "float32", **changes}
