"""models/kobert.py: tokenizer, checkpoint loading, classifier."""

import unicodedata

import pytest
import sentencepiece
import torch
import transformers
from conftest import ROOT
from dropout import share_dropped
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertTokenizerFast

from common.data import pad
from models import ModelError, kobert
from models.tokenizer import KoBERTTokenizer


@pytest.fixture(scope="module")
def tokenizer(bert):
    return kobert.load_tokenizer(str(bert))


def test_ids_are_sentencepieces_and_spell_the_sentence(bert, tokenizer, rows):
    """Hangul stays in syllables: the tokenizers of transformers take it apart into jamo."""
    reference = sentencepiece.SentencePieceProcessor(model_file=str(bert / "spiece.model"))
    odd = ["", " 이런　냄새는 싫어 ", unicodedata.normalize("NFD", "마음이 아파")]
    for sentence in [*(row["text"] for row in rows), *odd]:
        ids = tokenizer.encode(sentence)
        assert ids == [2, *reference.encode(sentence), 3]
        spelt = "".join(tokenizer.pieces(ids[1:-1])).replace("▁", " ").strip()
        assert spelt == " ".join(unicodedata.normalize("NFKC", sentence).split())
    assert tokenizer.pieces(range(5)) == ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.encode("[MASK]")[1:-1] != [tokenizer.mask_id], "typed, not meant"


def test_what_is_too_long_is_cut_from_the_end_of_the_longer_text(tokenizer):
    long, short = "그냥 집에 있었어 갑자기 비가 와서 깜짝 놀랐어", "너무 싫어"
    one, two = (tokenizer.encode(text)[1:-1] for text in (long, short))
    for length, expected in ((5, [2, *one[:3], 3]), (2, [2, 3]), (128, [2, *one, 3])):
        assert tokenizer.encode(long, length) == expected
    assert tokenizer.encode(long, pair=short) == [2, *one, 3, *two, 3]
    length, cut = 3 + 2 * len(two), one[: len(two)]
    assert tokenizer.encode(long, length, pair=short) == [2, *cut, 3, *two, 3]
    assert tokenizer.encode(short, length, pair=long) == [2, *two, 3, *cut, 3]


@pytest.mark.parametrize("name", ["spiece.model", "kobert.spiece", "tokenizer_78b3253a26.model"])
def test_saved_tokenizer_is_the_same_under_each_name(tokenizer, tmp_path, name):
    with pytest.raises(ModelError, match="no SentencePiece model"):
        KoBERTTokenizer.from_folder(tmp_path)
    for load in (kobert.load_encoder, kobert.load_tokenizer):
        with pytest.raises(ModelError, match="^.*no folder here.*give a folder.*$"):  # one line
            load(str(tmp_path / "none"))
    (tmp_path / name).write_bytes(*tokenizer.files().values())
    again, text = KoBERTTokenizer.from_folder(tmp_path), "친구가 떠나서 마음이 아파"
    assert again.encode(text) == tokenizer.encode(text) and len(again) == len(tokenizer)


@pytest.mark.parametrize("load", [kobert.load_tokenizer, KoBERTTokenizer.from_folder])
def test_known_answers_are_checked_by_what_the_file_is_and_by_its_name(bert, tmp_path, load):
    """A model of KoBERT's size and special ids with a known piece in its place claims to be it."""
    path = tmp_path / "spiece.model"
    content = (ROOT / "models/kobert-mini/spiece.model").read_bytes()
    path.write_bytes(content)
    assert len(load(str(tmp_path))) == 8002
    damaged = sentencepiece_model_pb2.ModelProto.FromString(content)
    damaged.pieces[2046].piece = "▁모델"
    path.write_bytes(damaged.SerializeToString())
    (tmp_path / "kobert-base-v1").symlink_to(bert)
    for place in (tmp_path, tmp_path / "kobert-base-v1")[: 1 + (load is kobert.load_tokenizer)]:
        with pytest.raises(ModelError, match="is not skt/kobert-base-v1's"):
            load(str(place))


def test_wordpiece_keeps_its_own_tokenizer_and_a_flood_of_unknowns_is_refused(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "정말", "기뻤", "##습니다", "!"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path)
    BertConfig(vocab_size=len(words)).save_pretrained(tmp_path)
    tokenizer = kobert.load_tokenizer(str(tmp_path))
    for name, content in tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    for loaded in (tokenizer, kobert.load_tokenizer(str(tmp_path))):
        assert loaded.encode("정말 기뻤습니다!") == [2, 5, 6, 7, 8, 3]
        assert loaded.encode("정말 기뻤습니다!", 4) == [2, 5, 6, 3]
        assert loaded.pieces([6, 7]) == ["기뻤", "##습니다"]
        assert (loaded.unk_id, loaded.pad_id, loaded.mask_id, len(loaded)) == (1, 0, 4, 9)
    # 1 of 20 is a typo, 2 of 20 are a wrong tokenizer; [CLS] and [SEP] do not count.
    one, two = ["정말 " * 10, "정말 " * 9 + "щ"], ["정말 " * 18 + "щ щ"]
    assert kobert.check_unknown_share(one, tokenizer, "x") == 0.05
    assert kobert.check_unknown_share([], tokenizer, "x") == 0
    with pytest.raises(ModelError, match="10% of the training.*of some/bert.*not made for Korean"):
        kobert.check_unknown_share(two, tokenizer, "some/bert")


def test_checkpoint_is_loaded_whole_and_as_float32_or_refused(bert, tmp_path, capsys):
    stored = load_file(bert / "model.safetensors")
    loaded = kobert.load_encoder(str(bert), pooler=True).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in stored.items())

    def load(pooler=False, **changes):  # None: without it
        kept = {k: v for k, v in (stored | changes).items() if v is not None}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return kobert.load_encoder(str(tmp_path), pooler)

    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    name = "encoder.layer.1.output.dense.weight"
    weight, bias = "pooler.dense.weight", "pooler.dense.bias"
    for wrong in (None, torch.zeros(3, 4)):
        with pytest.raises(ModelError, match=f"^1 weights .*{name}"):
            load(**{name: wrong})
    encoder = load(**{weight: None})
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    with pytest.raises(ModelError, match="needs an encoder with a pooler"):
        kobert.KoBERTClassifier(encoder, "pooler")
    with pytest.raises(ModelError, match=weight):
        load(True, **{weight: None})
    assert load(True, **{weight: None, bias: None}).pooler.dense.weight.std() > 0
    assert "no pooler: a new one is trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "longest"), [("Bert", 20), ("Electra", 20), ("Roberta", 18), ("XLMRoberta", 18)]
)
def test_more_tokens_than_positions_are_refused_before_they_raise(kind, longest):
    model = getattr(transformers, f"{kind}Model")
    sizes = {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 20, "pad_token_id": 1}
    encoder, ids = model(model.config_class(**sizes)).eval(), torch.full((1, longest + 1), 5)
    encoder(ids[:, :-1])
    kobert.check_positions(encoder, longest, "tiny")
    with pytest.raises(ModelError, match=f"tiny has positions for {longest} tokens: give --max-l"):
        kobert.check_positions(encoder, longest + 1, "tiny")
    with pytest.raises((IndexError, RuntimeError)):
        encoder(ids)


def classifier(bert, pooling, dropout=0.0):
    torch.manual_seed(1)
    return kobert.KoBERTClassifier(kobert.load_encoder(str(bert), True), pooling, dropout)


def batch_of(tokenizer, texts):
    ids = torch.from_numpy(pad([tokenizer.encode(text) for text in texts], tokenizer.pad_id))
    return ids, (ids != tokenizer.pad_id).long()


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_logits_are_the_same_in_any_batch_and_train_all(bert, tokenizer, rows, pooling):
    sentences = [row["text"] for row in rows]
    model = classifier(bert, pooling).eval()
    for parameter in model.parameters():
        parameter.data *= 1 + 3 * (parameter.ndim > 1)  # as random as it is, it hears all alike
    texts = ["싫어", sentences[0], "왜 그렇게", " ".join(sentences[:4])]
    alone = torch.cat([model(*batch_of(tokenizer, [text])) for text in texts])
    together, backwards = (model(*batch_of(tokenizer, texts[::step])) for step in (1, -1))
    assert alone.shape == (4, 7) and alone.std(0).max() > 1e-2
    for found in (together, backwards.flip(0)):
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
    cross_entropy(together, torch.tensor([0, 1, 2, 3])).backward()
    for name, parameter in model.named_parameters():
        # A key's bias shifts all scores of a query alike, which softmax takes out again.
        assert name.endswith("key.bias") or parameter.grad.abs().max() > 0, name
    model = classifier(bert, pooling, 0.5)
    dropped = share_dropped(model, model.classifier, lambda: model(*batch_of(tokenizer, sentences)))
    assert dropped == pytest.approx(0.5, abs=0.06)  # before the classifier, for learning alone
