"""The limits of recognisers, on tiny ones with random weights."""

import json

import numpy as np
import pytest
import torch
from small_speech import save_recogniser
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from predicting.transcribing import load_recogniser

RATE = 16_000
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|ko|>", "<|translate|>")
SPECIAL += ("<|transcribe|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def clip(seconds):
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return (1000 * noise).astype(np.int16)


def make_whisper(folder, tables):
    """Write a Whisper whose generation_config.json has these tables."""
    (folder / "vocab.json").write_text(json.dumps({c: n for n, c in enumerate("abcdefgh")}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    tokenizer = WhisperTokenizer(*files, unk_token=SPECIAL[0])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    end = ids["<|endoftext|>"]
    tiny = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    sizes = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in tiny.items()}
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        max_target_positions=20,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        begin_suppress_tokens=None,
        suppress_tokens=None,
        **sizes,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    generation = {"max_length": 8, "eos_token_id": end, "pad_token_id": end, "bos_token_id": end}
    generation["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    generation["no_timestamps_token_id"] = ids["<|notimestamps|>"]
    known = {"lang_to_id": {w: ids[w] for w in ("<|en|>", "<|ko|>")}}
    known["task_to_id"] = {w: ids[f"<|{w}|>"] for w in ("translate", "transcribe")}
    known["no_korean"] = {"<|en|>": ids["<|en|>"]}
    for name, table in tables.items():
        generation[name] = known[table] if isinstance(table, str) else table
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return str(folder)


@pytest.mark.parametrize("seconds", [1 / RATE, 0.005, 0.017, 0.3, 31])
def test_a_recogniser_by_frames_takes_turns_of_any_length(tmp_path, seconds):
    assert isinstance(load_recogniser(save_recogniser(tmp_path))(clip(seconds)), str)


BOTH = {"lang_to_id": "lang_to_id", "task_to_id": "task_to_id"}
MANY = {"is_multilingual": True}


@pytest.mark.parametrize(
    ("tables", "is_told"),
    [
        (MANY | BOTH, True),
        (MANY, False),
        (MANY | BOTH | {"lang_to_id": "no_korean"}, False),
        (MANY | {"lang_to_id": "lang_to_id"}, False),
        (MANY | {"task_to_id": "task_to_id"}, False),
    ],
)
def test_a_whisper_without_its_tables_is_not_told_the_language(tmp_path, capsys, tables, is_told):
    name = make_whisper(tmp_path, tables)
    transcribe = load_recogniser(name)
    assert isinstance(transcribe(clip(0.017)), str)
    assert (f"{name} chooses the language itself" in capsys.readouterr().err) != is_told
