"""What the graphs are fed without torch: the same tokens as the networks."""

import pytest
from transformers import BertConfig, BertTokenizerFast

from common.files import UserError
from models.kobert import load_tokenizer
from predicting import runtime

TEXTS = ("나는 집에 갔다", "집", "", "나는 모르는 말 " * 20)


@pytest.fixture
def of_the_hub(tmp_path):
    """Folder of a tokenizer of the hub's kind, without a SentencePiece model."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "나", "##는", "집", "##에", "말"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["bert", "of_the_hub"])
def test_tokens_are_those_of_the_networks(request, kind, tmp_path):
    folder = request.getfixturevalue(kind)
    (tmp_path / "handed on").mkdir()
    for name, content in load_tokenizer(folder).files().items():  # as an export has it
        (tmp_path / "handed on" / name).write_bytes(content)
    plain, tokenizer = runtime.load_tokenizer(tmp_path / "handed on"), load_tokenizer(folder)
    found = [plain.encode(text, 7) for text in TEXTS]
    assert found == [tokenizer.encode(text, 7) for text in TEXTS]
    assert max(map(len, found)) == 7


def test_no_tokenizer_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has no tokenizer that can be read"):
        runtime.load_tokenizer(tmp_path)
