"""text_pretrain.py: lines, masks, losses, and going on after a stop."""

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoder import make_small_encoder
from transformers import BertConfig, BertModel

from common.data import pad
from common.files import UserError
from extras.pretraining import lines as reading
from extras.pretraining import markers, objective
from extras.pretraining.tokenizer import train_tokenizer
from models.kobert import load_encoder, load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
GOOD = (
    "정말 재미있는 영화예요",
    "배우들이 좋았어요 ㅋㅋ",
    "또 보고 싶은 작품!",
    "감동이 밀려오네요 ㅠㅠ",
)
POOR = (
    "너무 지루한 영화예요",
    "배우들이 아까웠어요 ㅡㅡ",
    "다시는 안 볼 작품;;",
    "돈이 아까운 시간이었네요",
)
ENDS = [f"{word} 봤습니다" for word in ("어제", "친구와", "집에서", "극장에서", "두 번")]
SIZES = {"vocabulary": 300, "width": 32, "layers": 1, "heads": 2, "feed_forward": 64}
SMALL = {
    **{"batch_tokens": 512, "held_out": 60, "learning_rate": 5e-3, "precision": "float32"},
    **{"warmup_steps": 5, "steps": 200, "decay_steps": 50, "save_steps": 50},
}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Reviews of two sentences; the words of the first tell the rating."""
    random = np.random.default_rng(1)
    lines = []
    for _ in range(600):
        rating = int(random.integers(1, 11))
        opinion = random.choice(GOOD if rating > 5 else POOR)
        lines.append(f"{rating}\t{opinion} {random.choice(ENDS)}\n")
    path = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer(reviews):
    return train_tokenizer(reading.read_lines(reviews)[0], 300)


@pytest.fixture(scope="module")
def pretrained(reviews, run_script, tmp_path_factory):
    """Folder of an unbroken run of 200 steps."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = run_script("text_pretrain.py", *options(reviews, folder))
    assert done.status == 0, done.stderr
    return folder / "encoder"


def options(text, folder, **changes):
    sizes = {} if "bert" in changes else SIZES
    settings = {"text": text, "outputs": folder, **SMALL, **sizes, **changes}
    return [f"--{name}={value}" for name, value in settings.items()]


def test_held_out_losses_fall(pretrained):
    history = json.loads((pretrained / "history.json").read_text(encoding="utf-8"))["history"]
    assert [row["step"] for row in history] == [50, 100, 150, 200]
    for loss in ("piece_loss", "rating_loss", "seen_loss", "missing_loss"):
        assert history[-1][f"held_out_{loss}"] < history[0][f"held_out_{loss}"]
    # The five ratings of a good (or poor) review are equally likely: nothing falls below ln 5.
    assert np.log(5) - 0.1 < history[-1]["held_out_rating_loss"] < np.log(10) - 0.4
    assert history[-1]["held_out_piece_accuracy"] > 0.35


def test_result_is_an_encoder_for_the_training_scripts(pretrained):
    assert not list(pretrained.glob("*.pt")), "the resumable state goes when the run ends"
    encoder, tokenizer = load_encoder(str(pretrained)), load_tokenizer(str(pretrained))
    assert encoder.config.vocab_size == len(tokenizer)
    assert encoder.config.hidden_size == 32 and encoder.config.pad_token_id == tokenizer.pad_id
    assert tokenizer.unk_id not in tokenizer.encode("감동이 밀려오네요")


def test_killed_run_goes_on_and_ends_the_same(reviews, pretrained, run_script, tmp_path):
    command = [sys.executable, ROOT / "text_pretrain.py", *options(reviews, tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in running.stdout:
        if line.startswith("step 100"):
            break
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    state = tmp_path / "encoder" / "unfinished-text_pretrain" / "state.pt"
    assert torch.load(state, weights_only=True)["step"] in (50, 100)
    left = {path: path.read_bytes() for path in state.parent.rglob("*") if path.is_file()}
    other = tmp_path / "other.tsv"
    other.write_text(reviews.read_text(encoding="utf-8").replace("정말", "참"), encoding="utf-8")
    others = {"width": {"width": 64}, "bert": {"bert": other_encoder(tmp_path)}}
    others |= {"learning_rate": {"learning_rate": 1e-3}, "text": {"text": other}}
    for name, changes in others.items():  # refused, and nothing of the run is touched
        asked = options(**{"text": reviews, "folder": tmp_path} | changes)
        done = run_script("text_pretrain.py", *asked)
        assert (done.status, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "unfinished run with other settings" in done.stderr
        assert name in done.stderr.lower()
        assert {path: path.read_bytes() for path in left} == left
    done = run_script("text_pretrain.py", *options(reviews, tmp_path))
    assert "going on after step" in done.stdout
    for name in ("config.json", "history.json", "model.safetensors", "spiece.model"):
        assert (tmp_path / "encoder" / name).read_bytes() == (pretrained / name).read_bytes(), name


def other_encoder(tmp_path):
    """A checkpoint with a tokenizer of another size."""
    folder = tmp_path / "bert"
    make_small_encoder([*GOOD, *POOR, *ENDS] * 9, folder, seed=3, width=32, vocabulary=120)
    return folder


def test_continuing_a_checkpoint_keeps_its_vocabulary(reviews, pretrained, run_script, tmp_path):
    plain = tmp_path / "plain.txt"
    texts, _ = reading.read_lines(reviews)
    plain.write_text("\n".join(texts), encoding="utf-8")
    changes = {"bert": pretrained, "steps": 3, "missing_weight": 0, "learning_rate": 1e-4}
    done = run_script("text_pretrain.py", *options(plain, tmp_path, **changes))
    assert done.status == 0, done.stderr
    folder = tmp_path / "encoder"
    assert (folder / "spiece.model").read_bytes() == (pretrained / "spiece.model").read_bytes()
    before, after = load_encoder(str(pretrained)), load_encoder(str(folder))
    table = "embeddings.word_embeddings.weight"
    moved = (after.get_parameter(table) - before.get_parameter(table)).abs().max()
    assert 0 < moved < 0.01, "three small steps from where the checkpoint was"
    last = json.loads((folder / "history.json").read_text(encoding="utf-8"))["history"][-1]
    assert last["held_out_rating_loss"] == last["held_out_missing_loss"] == 0
    assert last["held_out_seen_loss"] > 0, "it was not switched off"


@pytest.mark.parametrize("ending, opener", [("", open), (".xz", lzma.open), (".gz", gzip.open)])
def test_lines_with_and_without_ratings(tmp_path, ending, opener):
    rated, plain = tmp_path / f"rated.tsv{ending}", tmp_path / f"plain.txt{ending}"
    with opener(rated, "wt", encoding="utf-8") as stream:
        stream.write("10\t좋다\n1\t 싫다 \n7\t \n")
    with opener(plain, "wt", encoding="utf-8") as stream:
        stream.write("좋다\n\n싫다")
    texts, ratings = reading.read_lines(rated)
    assert texts == ["좋다", "싫다"] and ratings.tolist() == [10, 1]
    texts, ratings = reading.read_lines(plain)
    assert texts == ["좋다", "싫다"] and ratings.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("10\t좋다\n11\t좋다\n".encode(), "line 2.*rating of 1 to 10"),
        ("10\t좋다\n좋다\n".encode(), "line 2"),
        ("좋다".encode("cp949"), "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_wrong_text_files_are_refused(tmp_path, content, words):
    if content:
        (tmp_path / "reviews.tsv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        reading.read_lines(tmp_path / "reviews.tsv")


def test_markers_are_taken_out_and_named():
    expected = {
        "너무 길어ㅠㅠ 흑..": (["너무", "길어", "흑"], ["tears", "left open"]),
        "잘 봤다ㅋㅋㅋ ^^": (["잘", "봤다"], ["laughter", "smile"]),
        "내 배우♥": (["내", "배우"], ["heart"]),
        "뭐? ㅡㅡ;;": (["뭐"], ["displeasure", "sweat", "question"]),
        "역시~~!": (["역시"], ["exclamation", "drawn out"]),
        "밤에 무서워서 혼났다": (["밤에", "혼났다"], ["fear", "fear: fright"]),
        "재미없다.": (["."], ["boredom", "boredom: boredom"]),
        "재미있다": ([], ["happiness", "happiness: joy"]),
        "끔찍하네": ([], ["fear", "disgust", "fear: fright", "disgust: disgust"]),
        "서울에서 봤다.": (["서울에서", "봤다."], []),  # 울 (cry) inside a word
    }
    bare, found = markers.take_out_markers(list(expected))
    for text, row, (kept, names) in zip(bare, found, expected.values(), strict=True):
        assert text.split() == kept
        assert [markers.MARKERS[column] for column in np.flatnonzero(row)] == names


def test_heads_ask_whole_lines_and_bare_lines_apart():
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    sizes = BertConfig(vocab_size=9, intermediate_size=8, **small)
    model = objective.Pretrainer(BertModel(sizes, add_pooling_layer=False)).eval()
    kinds = len(markers.MARKERS)
    for head, bias in ((model.seen, 2.0), (model.missing, -1.0)):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, bias)
    batch = {
        "input_ids": torch.full((3, 4), 5),
        "attention_mask": torch.ones(3, 4, dtype=torch.long),
        "hidden": torch.zeros(3, 4, dtype=torch.bool),
        "pieces": torch.full((3, 4), 5),
        "ratings": torch.zeros(3, dtype=torch.long),
        "bare": torch.tensor([True, False, False]),
        "markers": torch.zeros(3, kinds),
    }
    batch["markers"][1, 4] = 1
    found = model(**batch)
    # A logit x costs ln(1 + e^x) where the label is 0, x less where it is 1; a mean over lines.
    assert found["seen_loss"].item() == pytest.approx(kinds * np.log1p(np.exp(2)) - 2 / 2, rel=1e-5)
    assert found["missing_loss"].item() == pytest.approx(kinds * np.log1p(np.exp(-1)), rel=1e-5)
    assert found["piece_loss"] == found["rating_loss"] == 0


def masking(tokenizer, share=0.3):
    return reading.Masking(tokenizer, hidden_share=share, bare_share=0.5)


def test_words_are_hidden_whole_and_specials_never(tokenizer):
    draw = masking(tokenizer)
    rows = [tokenizer.encode(text) for text in (*GOOD, *POOR)] * 50
    ids = torch.from_numpy(pad(rows, tokenizer.pad_id))
    shown, hidden = draw.hide(ids, torch.Generator().manual_seed(1))
    assert not hidden[ids < 5].any()
    assert torch.equal(shown[~hidden], ids[~hidden])
    content = ids >= 5
    assert 0.27 < hidden[content].float().mean() < 0.33
    seen = shown[hidden]
    assert 0.75 < (seen == tokenizer.mask_id).float().mean() < 0.85
    assert 0.05 < (seen == ids[hidden]).float().mean() < 0.2
    assert (seen != tokenizer.pad_id).all()
    halves = 0
    for row, flags in zip(rows, hidden.tolist(), strict=True):
        place, before = 0, False
        for piece, flag in zip(tokenizer.pieces(row), flags, strict=False):
            place = 0 if piece.startswith(("▁", "[")) else place + 1
            if place % reading.SPAN:
                assert flag == before, (piece, row)
                halves += 1
            before = flag
    assert halves > 100, "words of several pieces must occur"


def test_a_batch_of_special_tokens_only_is_shown_as_it_is_and_learned(tokenizer):
    """Lines of which no piece is known, such as another script's."""
    corpus = reading.encode_corpus(["ab", "cde"], np.zeros(2, np.int64), tokenizer, 64)
    ids = np.where(corpus.whole.ids >= 5, tokenizer.unk_id, corpus.whole.ids)
    special = reading.Lines(ids, corpus.whole.start)
    corpus = reading.Corpus(special, special, corpus.ratings, corpus.markers)
    batch = masking(tokenizer).batch(corpus, np.array([0, 1]), seed=1)
    assert not batch["hidden"].any()
    assert torch.equal(
        batch["input_ids"], torch.from_numpy(pad([special[0], special[1]], tokenizer.pad_id))
    )
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    small = BertConfig(vocab_size=len(tokenizer), intermediate_size=8, **sizes)
    found = objective.Pretrainer(BertModel(small, add_pooling_layer=False))(**batch)
    loss = sum(found.values())
    loss.backward()
    assert loss.isfinite()


def test_masks_depend_on_the_seed_alone(tokenizer):
    texts = [*GOOD, *POOR]
    corpus = reading.encode_corpus(texts, np.arange(1, 9), tokenizer, 64)
    lines = np.array([5, 0, 3])
    one, same, other = (masking(tokenizer, 0.5).batch(corpus, lines, seed) for seed in (7, 7, 8))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["hidden"], other["hidden"])
    assert one["ratings"].tolist() == [6, 1, 4]
    for row, line in enumerate(lines):
        form = corpus.bare if one["bare"][row] else corpus.whole
        kept = one["attention_mask"][row].bool() & ~one["hidden"][row]
        assert torch.equal(
            one["input_ids"][row][kept], torch.tensor(form[line])[kept[: len(form[line])]]
        )


def test_static_vectors_are_the_factors_of_pointwise_mutual_information():
    sentences = [[5, 6, 7, 8], [5, 6, 5], [7, 8, 9, 9, 7, 8, 6], [9]]
    ids = np.array([i for sentence in sentences for i in sentence])
    lines = reading.Lines(ids, np.cumsum([0, *map(len, sentences)]))
    counts = np.zeros((10, 10))
    for sentence in sentences:
        for i, left in enumerate(sentence):
            for j, right in enumerate(sentence):
                if i != j and abs(i - j) <= 5:
                    counts[left, right] += 1 / abs(i - j)
    smoothed = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    expected = np.outer(counts.sum(1), smoothed)
    table = np.log(np.where(counts > 0, counts, 1) / np.where(counts > 0, expected, 1)).clip(0)
    left, values, _ = np.linalg.svd(table)
    found = objective.static_vectors(lines, 10, 4, seed=1)
    np.testing.assert_allclose(found @ found.T, left[:, :4] * values[:4] @ left[:, :4].T, atol=1e-4)


def test_steps_go_on_where_they_stopped():
    lengths = np.random.default_rng(1).integers(3, 40, 500)
    steps = list(islice(reading.steps_from(0, lengths, 200, seed=3), 200))
    for start in (1, 63, 130):
        resumed = reading.steps_from(start, lengths, 200, seed=3)
        for lines, same in zip(steps[start:], resumed, strict=False):
            assert np.array_equal(lines, same)
