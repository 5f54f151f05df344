"""The limits of recognisers."""

from types import SimpleNamespace

import numpy as np
import pytest
import transformers
from small_speech import save_recogniser

from common.transcribing import load_recogniser

RATE = 16_000


def clip(seconds):
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return (1000 * noise).astype(np.int16)


@pytest.mark.parametrize("seconds", [1 / RATE, 0.017, 0.3, 31])
def test_a_recogniser_by_frames_takes_turns_of_any_length(tmp_path, seconds):
    assert isinstance(load_recogniser(save_recogniser(tmp_path))(clip(seconds)), str)


BOTH = {"lang_to_id": {"<|en|>": 1, "<|ko|>": 2}, "task_to_id": {"transcribe": 3}}


@pytest.mark.parametrize(
    ("tables", "is_told"),
    [
        (BOTH, True),
        ({}, False),
        (BOTH | {"lang_to_id": {"<|en|>": 1}}, False),
        (BOTH | {"task_to_id": None}, False),
    ],
)
def test_a_whisper_without_its_tables_is_not_told_the_language(
    monkeypatch, capsys, tables, is_told
):
    """transformers would refuse to be told."""
    generation = SimpleNamespace(is_multilingual=True, **tables)
    options = {}

    class Whisper:
        model = SimpleNamespace(generation_config=generation)

        def __call__(self, audio, **given):
            options.update(given)
            return {"text": "네"}

    monkeypatch.setattr(transformers, "pipeline", lambda *_, **given: Whisper())
    assert load_recogniser("of/many")(clip(0.1)) == "네"
    said = capsys.readouterr().err
    assert ("of/many chooses the language itself" in said) != is_told
    korean = {"language": "korean", "task": "transcribe"}
    assert options.get("generate_kwargs") == (korean if is_told else None)
