"""benchmarks/encoder.py: which rows are learned from, which are held out, what is scored."""

from pathlib import Path

import pytest

import text_train
from benchmarks import encoder
from common.files import UserError

ROOT = Path(__file__).resolve().parents[2]
ANGRY = "너무 화가 난다"
HAPPY = "정말 행복하다"


def write(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{t}\t{e}\n" for t, e in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def rows(tmp_path):
    """Forty rows, two of which stand twice, of two emotions that a word tells apart."""
    texts = [(f"{HAPPY} {i}", "happy") if i % 3 else (f"{ANGRY} {i}", "angry") for i in range(40)]
    return write(tmp_path / "rows.tsv", [*texts[:3], texts[0], *texts[3:], texts[11]])


def test_every_tenth_row_is_held_out_after_duplicates_are_gone(rows):
    fit, held_out = encoder.read_rows(rows)
    assert list(held_out.table["text"].str.split().str[-1]) == ["0", "10", "20", "30"]
    assert len(fit) == 36 and not set(fit.table["text"]) & set(held_out.table["text"])


def test_same_text_with_another_label_is_no_duplicate(tmp_path):
    fit, held_out = encoder.read_rows(
        write(tmp_path / "a.tsv", [("응", "happy"), ("응", "angry"), ("응", "happy")])
    )
    assert held_out.table["label"].tolist() == ["happy"]
    assert fit.table["label"].tolist() == ["angry"]


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="line 3: 'joy'"):
        encoder.read_rows(write(tmp_path / "a.tsv", [("응", "happy"), ("아니", "joy")]))
    (tmp_path / "b.tsv").write_text("sentence\temotion\n응\thappy\n", encoding="utf-8")
    with pytest.raises(UserError, match="columns text and label"):
        encoder.read_rows(str(tmp_path / "b.tsv"))
    with pytest.raises(UserError, match="cannot be read"):
        encoder.read_rows(str(tmp_path / "none.tsv"))


@pytest.mark.parametrize("few", [1000, 10])  # each has settings of its own
def test_both_kinds_of_model_learn_what_a_word_tells(rows, monkeypatch, few):
    monkeypatch.setattr(text_train, "PRECISION", "float32")
    monkeypatch.setattr(encoder, "FEW", few)
    monkeypatch.setattr(encoder, "EPOCHS", 20)  # for what lies in thousands of rows
    fit, held_out = encoder.read_rows(rows)
    assert encoder.score_words(fit, held_out, 1) == (1, 1)
    for pretrained in (True, False):
        found = encoder.score_encoder(
            str(ROOT / "models/kobert-mini"), pretrained, fit, held_out, 1
        )
        assert found == (1, 1)
