"""models/kobert.py: tokenizer, checkpoint loading, classifier."""

import itertools
import os
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
import torch
from dropout import share_dropped
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2
from small_encoder import make_small_encoder
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    ElectraModel,
    RobertaModel,
    XLMRobertaModel,
)

from common.data import pad
from extras.pretraining.objective import save_encoder
from models import ModelError, kobert

TIMES = ("오늘은", "어젯밤에", "지난 주말에", "방금", "요즘", "아침부터", "3년 만에")
WHO = ("동생이", "엄마가", "우리 팀장님이", "옆집 아저씨가", "제가", "그 친구가", "할머니께서")
WHAT = ("선물을 잃어버려서", "시험에 붙어서", "문을 쾅 닫아서", "말없이 떠나서", "거짓말을 해서")
HOW = ("너무 슬펐어요.", "정말 기뻤습니다!", "깜짝 놀랐잖아?", "화가 났어 ㅡㅡ", "무서웠다 ㅠㅠ")
SENTENCES = [" ".join(words) for words in itertools.product(TIMES, WHO, WHAT, HOW)][::3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    make_small_encoder(SENTENCES, folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return kobert.load_tokenizer(str(folder))


def write_files(folder, tokenizer):
    folder.mkdir(exist_ok=True)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)


def padded(rows):
    """Return ids padded on the right with KoBERT's [PAD], and their mask."""
    ids = torch.from_numpy(pad(rows, 1))
    return ids, (ids != 1).long()


def remove(folder, copy, name):
    """Copy an encoder without one of its weights."""
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    copy.mkdir()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    for file in ("config.json", "spiece.model"):
        (copy / file).write_bytes((folder / file).read_bytes())


def test_ids_are_those_of_sentencepiece(folder, tokenizer):
    assert len(SENTENCES) > 300
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    for sentence in SENTENCES:
        assert tokenizer.encode(sentence) == [2, *reference.encode(sentence), 3]


def test_pieces_spell_the_normalised_sentence(tokenizer):
    """Hangul stays in syllables: the tokenizers of transformers take it apart into jamo."""
    for sentence in [
        *SENTENCES,
        "  정말　기뻤습니다！ ",
        unicodedata.normalize("NFD", SENTENCES[0]),
    ]:
        first, *pieces, last = tokenizer.pieces(tokenizer.encode(sentence))
        assert (first, last) == ("[CLS]", "[SEP]")
        spelt = "".join(pieces).replace("▁", " ").strip()
        assert spelt == " ".join(unicodedata.normalize("NFKC", sentence).split())


def test_special_ids_are_kobert_s(tokenizer):
    assert tokenizer.pieces(range(5)) == ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.encode("") == [2, 3]
    assert tokenizer.encode("[MASK]")[1:-1] != [tokenizer.mask_id], "typed, not meant"


def test_truncation_keeps_the_special_ids(tokenizer):
    whole = tokenizer.encode(SENTENCES[0])
    assert tokenizer.encode(SENTENCES[0], 5) == [*whole[:4], 3]
    assert tokenizer.encode(SENTENCES[0], 128) == whole
    assert tokenizer.encode(SENTENCES[0], 2) == [2, 3]


def test_pair(tokenizer):
    one, two = tokenizer.encode(SENTENCES[0])[1:-1], tokenizer.encode("너무 슬펐어요.")[1:-1]
    assert tokenizer.encode(SENTENCES[0], pair="너무 슬펐어요.") == [2, *one, 3, *two, 3]
    assert len(one) > len(two)
    cut = tokenizer.encode(SENTENCES[0], 3 + len(two) + 2, pair="너무 슬펐어요.")
    assert len(cut) == 3 + len(two) + 2 and cut[0] == 2 and cut[-1] == 3 and cut.count(3) == 2
    assert cut[1:3] == one[:2], "the longer text is cut from its end"


def test_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    write_files(tmp_path, tokenizer)
    again = kobert.KoBERTTokenizer.from_folder(tmp_path)
    assert [again.encode(s) for s in SENTENCES] == [tokenizer.encode(s) for s in SENTENCES]


def test_older_file_names_are_found(folder, tmp_path):
    for name in ("kobert.spiece", "tokenizer_78b3253a26.model"):
        place = tmp_path / name.split(".")[0]
        place.mkdir()
        (place / name).write_bytes((folder / "spiece.model").read_bytes())
        assert kobert.KoBERTTokenizer.from_folder(place).encode("방금")[0] == 2
    with pytest.raises(ModelError, match="no SentencePiece model"):
        kobert.KoBERTTokenizer.from_folder(tmp_path)


def test_sentencepiece_model_of_another_kind_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(ModelError, match="not KoBERT's"):
        kobert.KoBERTTokenizer.from_folder(tmp_path)


def test_flood_of_unknown_pieces_is_refused(tokenizer):
    foreign = ["ずっと前から", "прекрасный день", "καλημέρα κόσμε"]
    with pytest.raises(ModelError, match="not made for Korean"):
        kobert.check_unknown_share(foreign, tokenizer, "some/encoder")
    assert kobert.check_unknown_share(SENTENCES, tokenizer, "x") == 0
    # 1 of 25 is a typo, 2 of 25 are a wrong tokenizer; [CLS] and [SEP] do not count.
    words = Words()
    assert kobert.check_unknown_share(["?" + 24 * "."], words, "x") == 1 / 25
    with pytest.raises(ModelError, match="8%"):
        kobert.check_unknown_share(["??" + 23 * "."], words, "x")


class Words:
    """A tokenizer of characters, of which it does not know the question mark."""

    unk_id = 0

    def encode(self, text):
        return [2, *(0 if letter == "?" else 9 for letter in text), 3]


def test_wordpiece_checkpoint_keeps_its_own_tokenizer(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "정말", "기뻤", "##습니다", "!"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path)
    BertConfig(vocab_size=len(words)).save_pretrained(tmp_path)
    tokenizer = kobert.load_tokenizer(str(tmp_path))
    write_files(tmp_path / "saved", tokenizer)
    for loaded in (tokenizer, kobert.load_tokenizer(str(tmp_path / "saved"))):
        assert loaded.encode("정말 기뻤습니다!") == [2, 5, 6, 7, 8, 3]
        assert loaded.encode("정말 기뻤습니다!", 4) == [2, 5, 6, 3]
        assert loaded.pieces([6, 7]) == ["기뻤", "##습니다"]
        assert (loaded.unk_id, loaded.pad_id, loaded.mask_id, len(loaded)) == (1, 0, 4, 9)


@pytest.mark.skipif("KOBERT" not in os.environ, reason="KOBERT: no folder of skt/kobert-base-v1")
def test_known_answers_of_the_real_kobert():
    kobert.check_known_answers(kobert.load_tokenizer(os.environ["KOBERT"]))
    encoder = kobert.load_encoder(os.environ["KOBERT"], pooler=True)
    assert sum(p.numel() for p in encoder.parameters()) == 92_186_880


def test_other_model_under_kobert_s_name_is_refused(folder, tmp_path):
    (tmp_path / "kobert-base-v1").symlink_to(folder)
    with pytest.raises(ModelError, match="is not skt/kobert-base-v1's"):
        kobert.load_tokenizer(str(tmp_path / "kobert-base-v1"))


@pytest.mark.parametrize("damaged", [False, True])
def test_known_answers_are_checked_by_what_the_file_is_not_by_its_name(tmp_path, damaged):
    """A model of KoBERT's size and special ids with a known piece in its place claims to be it."""
    folder = Path(kobert.__file__).parent / "kobert-mini"
    content = sentencepiece_model_pb2.ModelProto.FromString((folder / "spiece.model").read_bytes())
    assert len(content.pieces) == 8002
    if damaged:
        content.pieces[2046].piece = "▁모델"
    (tmp_path / "spiece.model").write_bytes(content.SerializeToString())
    for load in (kobert.load_tokenizer, kobert.KoBERTTokenizer.from_folder):
        if damaged:
            with pytest.raises(ModelError, match="is not skt/kobert-base-v1's"):
                load(str(tmp_path))
        else:
            assert len(load(str(tmp_path))) == 8002


def test_small_encoder_is_deterministic_and_loads_whole(folder, tmp_path):
    make_small_encoder(SENTENCES, tmp_path, seed=1)
    for name in ("config.json", "model.safetensors", "spiece.model"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    stored = load_file(folder / "model.safetensors")
    loaded = kobert.load_encoder(str(folder), pooler=True).state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)


def test_half_precision_checkpoint_is_loaded_as_float32(folder, tokenizer, tmp_path):
    encoder = kobert.load_encoder(str(folder), pooler=True)
    save_encoder(encoder, tokenizer, tmp_path)
    again = kobert.load_encoder(str(tmp_path), pooler=True).state_dict()
    for name, tensor in encoder.state_dict().items():
        assert again[name].dtype == torch.float32
        assert torch.equal(again[name], tensor.half().float())


def test_missing_weight_is_an_error(folder, tmp_path):
    name = "encoder.layer.1.output.dense.weight"
    remove(folder, tmp_path / "copy", name)
    with pytest.raises(ModelError, match=name):
        kobert.load_encoder(str(tmp_path / "copy"))


def test_weight_of_another_shape_is_an_error(folder, tmp_path):
    name = "encoder.layer.0.output.dense.weight"
    remove(folder, tmp_path / "copy", name)
    weights = load_file(tmp_path / "copy" / "model.safetensors") | {name: torch.zeros(3, 4)}
    save_file(weights, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=name):
        kobert.load_encoder(str(tmp_path / "copy"))


def test_pooler_may_be_missing_only_where_it_is_not_used(folder, tmp_path):
    remove(folder, tmp_path / "copy", "pooler.dense.weight")
    encoder = kobert.load_encoder(str(tmp_path / "copy"))
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    with pytest.raises(ModelError, match="pooler.dense.weight"):
        kobert.load_encoder(str(tmp_path / "copy"), pooler=True)
    with pytest.raises(ModelError, match="needs an encoder with a pooler"):
        kobert.KoBERTClassifier(encoder, pooling="pooler")


def test_a_checkpoint_without_pooler_gets_a_new_one_and_says_so(folder, tmp_path, capsys):
    remove(folder, tmp_path / "half", "pooler.dense.weight")
    remove(tmp_path / "half", tmp_path / "none", "pooler.dense.bias")
    encoder = kobert.load_encoder(str(tmp_path / "none"), pooler=True)
    assert "no pooler: a new one is trained" in capsys.readouterr().out
    assert encoder.pooler.dense.weight.std() > 0


def test_missing_folder_is_the_user_s_error(tmp_path):
    for load in (kobert.load_encoder, kobert.load_tokenizer):
        with pytest.raises(ModelError, match="no folder here.*give a folder") as caught:
            load(str(tmp_path / "none"))
        assert "\n" not in str(caught.value)


SIZES = {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
OTHERS = {"intermediate_size": 32, "max_position_embeddings": 20, "pad_token_id": 1}


@pytest.mark.parametrize(
    ("model", "longest"),
    [(BertModel, 20), (ElectraModel, 20), (RobertaModel, 18), (XLMRobertaModel, 18)],
)
def test_more_tokens_than_positions_are_refused_before_they_raise(model, longest):
    encoder = model(model.config_class(**SIZES, **OTHERS)).eval()
    ids = torch.full((1, longest + 1), 5)
    encoder(ids[:, :-1])
    kobert.check_positions(encoder, longest, "tiny")
    with pytest.raises(ModelError, match=f"tiny has positions for {longest} tokens: give --max-l"):
        kobert.check_positions(encoder, longest + 1, "tiny")
    with pytest.raises((IndexError, RuntimeError)):
        encoder(ids)


def test_encoder_of_kobert_s_configuration_has_its_size():
    config = BertConfig(vocab_size=8002, pad_token_id=1).to_dict()
    with torch.device("meta"):
        encoder = kobert.build_encoder(config, pooler=True)
        model = kobert.KoBERTClassifier(encoder, pooling="pooler")
    assert sum(p.numel() for p in model.encoder.parameters()) == 92_186_880
    assert sum(p.numel() for p in model.parameters()) == 92_186_880 + 7 * 768 + 7


@pytest.mark.parametrize("head", ["mean", "pooler"])
def test_logits_do_not_depend_on_padding_order_and_neighbours(folder, tokenizer, head):
    torch.manual_seed(1)
    model = kobert.KoBERTClassifier(kobert.load_encoder(str(folder), True), head).eval()
    texts = ["방금", SENTENCES[0], "화가 났어", " ".join(SENTENCES[:4])]
    rows = [tokenizer.encode(text) for text in texts]
    with torch.inference_mode():
        alone = torch.cat([model(*padded([row])) for row in rows])
        together = model(*padded(rows))
        backwards = model(*padded(rows[::-1])).flip(0)
    assert alone.shape == (4, 7)
    assert (alone - alone.mean(0)).abs().max() > 1e-3, "the outputs must differ from each other"
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(backwards, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", ["mean", "pooler"])
def test_every_parameter_is_trained(folder, tokenizer, head):
    model = kobert.KoBERTClassifier(kobert.load_encoder(str(folder), True), head, dropout=0.0)
    ids, mask = padded([tokenizer.encode(s) for s in SENTENCES[:4]])
    nn.functional.cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 3])).backward()
    for name, parameter in model.named_parameters():
        # A key's bias shifts all scores of a query alike, which softmax takes out again.
        if not name.endswith("key.bias"):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("head", ["mean", "pooler"])
def test_dropout_is_before_the_classifier_and_for_learning_alone(folder, tokenizer, head):
    ids, mask = padded([tokenizer.encode(sentence) for sentence in SENTENCES[:32]])
    for share in (0.0, 0.5):
        model = kobert.KoBERTClassifier(kobert.load_encoder(str(folder), True), head, share)
        dropped = share_dropped(model, model.classifier, lambda m=model: m(ids, mask))
        assert dropped == pytest.approx(share, abs=0.06)
