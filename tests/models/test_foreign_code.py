"""Checkpoints that bring code of their own: it is never run, and nobody is asked."""

import json

import pytest
from small_encoder import make_small_encoder
from small_speech import save_checkpoint
from transformers import BertConfig, BertTokenizerFast

from common.files import UserError
from models import ModelError
from models.kobert import load_encoder, load_tokenizer
from models.speech import load_speech_encoder
from predicting.transcribing import load_recogniser

NAMES = ("AutoConfig", "AutoModel", "AutoModelForCTC", "AutoFeatureExtractor", "AutoTokenizer")
LOADERS = (load_encoder, load_tokenizer, load_speech_encoder, load_recogniser)


def make(folder, load):
    """Write a tiny checkpoint of the kind that `load` takes."""
    if load in (load_speech_encoder, load_recogniser):
        save_checkpoint(folder)
    elif load is load_encoder:
        make_small_encoder(["가 나 다 라 마 바 사"] * 20, folder, seed=0, width=32, vocabulary=30)
    else:  # the hub's kind of tokenizer
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n집")
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        BertConfig(vocab_size=6).save_pretrained(folder)


def add_code(folder, **changes):
    """Let every configuration in a folder name code that leaves a trace; return the trace."""
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n")
    for path in folder.glob("*config.json"):
        code = dict.fromkeys(NAMES, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", None]}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": code} | changes))
    return folder / "ran"


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch):
    def ask(*_):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", ask)


@pytest.mark.parametrize("load", LOADERS)
def test_what_only_foreign_code_can_load_is_refused_in_one_line(tmp_path, load):
    make(tmp_path, load)
    for path in (tmp_path / "tokenizer.json", tmp_path / "vocab.txt"):
        path.unlink(missing_ok=True)
    ran = add_code(tmp_path, model_type="evil", tokenizer_class="Evil")
    with pytest.raises((ModelError, UserError), match="code of its own, which is never run") as e:
        load(str(tmp_path))
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)
    assert not ran.exists()


@pytest.mark.parametrize("load", LOADERS[:3])
def test_what_the_library_knows_is_loaded_by_it(tmp_path, load):
    make(tmp_path, load)
    ran = add_code(tmp_path)
    load(str(tmp_path))
    assert not ran.exists()
