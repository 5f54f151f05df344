"""Checkpoints that bring code of their own: it is never run, and nobody is asked."""

import json

import pytest
from small_encoder import make_small_encoder
from small_speech import save_checkpoint
from transformers import BertConfig, BertTokenizerFast

from common.files import UserError
from common.transcribing import load_recogniser
from models import ModelError
from models.kobert import load_encoder, load_tokenizer
from models.speech import load_speech_encoder

NAMES = ("AutoConfig", "AutoModel", "AutoModelForCTC", "AutoFeatureExtractor", "AutoTokenizer")
LOADERS = (load_encoder, load_tokenizer, load_speech_encoder, load_recogniser)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("load", LOADERS)
def test_foreign_code_is_never_run(tmp_path, monkeypatch, load, known):
    """What the library knows is loaded by it, what only such code can load is refused."""
    if load is load_encoder:
        make_small_encoder(["가 나 다 라 마 바 사"] * 20, tmp_path, seed=0, width=32, vocabulary=30)
    elif load is load_tokenizer:  # the hub's kind
        (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n집")
        BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
        BertConfig(vocab_size=6).save_pretrained(tmp_path)
    else:
        save_checkpoint(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    code = dict.fromkeys(NAMES, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", None]}
    changes = {} if known else {"model_type": "evil", "tokenizer_class": "Evil"}
    for path in tmp_path.glob("*config.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": code} | changes))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    if known and load is not load_recogniser:  # whose tokenizer is missing here
        load(str(tmp_path))
    else:
        for name in ("tokenizer.json", "vocab.txt"):
            (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises((ModelError, UserError)) as error:
            load(str(tmp_path))
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
        assert known or "code of its own, which is never run" in str(error.value)
    assert not (tmp_path / "ran").exists()
