"""Pretrain a text encoder on plain text, from nothing or from a checkpoint.

Reads   TEXT: plain lines or rating<TAB>text (ratings 1 to 10); .txt or .tsv, also .xz or .gz
Writes  OUTPUTS/encoder/: config.json, model.safetensors and tokenizer, a folder that can be BERT in
        text_train.py and run_classifier.py; history.json

    python text_pretrain.py --text reviews.tsv.xz
    python text_pretrain.py --text transcripts.txt --bert skt/kobert-base-v1 --seen-weight 0 \\
        --missing-weight 0 --learning-rate 5e-5 --warmup-steps 100 --steps 1000 --decay-steps 900

Learned at once: hidden pieces from their context (BERT), a line's rating, which emotional markers
(ㅠㅠ, ㅋㅋ, ^^, words like 무섭다) a line has, and which were taken out of it. Killed and started
again with the same settings, it goes on where it stopped; STEPS may change while the decay has not
begun.
"""

from common import settings  # first of all: it answers --help

# isort: split

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.files import UserError, sha256
from models.kobert import (
    KoBERTTokenizer,
    build_encoder,
    check_positions,
    identify,
    load_encoder,
    load_tokenizer,
    train_tokenizer,
)
from pipeline.learning import processes
from pipeline.learning.checkpoint import State, write_files
from pipeline.learning.training import learn
from pipeline.pretraining.lines import encode_corpus, read_lines
from pipeline.pretraining.objective import Pretrainer, Pretraining, check_unfinished
from pipeline.record import Work

# --------------------------------------------------------------------------------------
TEXT = "data/reviews.tsv.xz"  # a path
OUTPUTS = "outputs"
RESTART = False  # yes: neither go on with an unfinished run nor leave alone what is done
SEED = 1
PRECISION = "auto"  # auto (bf16 where it is faster: GPU, AMX), bf16, float32
BERT = ""  # "": a new encoder; hub name or folder: its pretraining is continued
# the new encoder
VOCABULARY = 8002  # pieces, as KoBERT
WIDTH = 256
LAYERS = 2
HEADS = 4
FEED_FORWARD = 768
# what is learned
HIDDEN_SHARE = 0.2  # of the words
BARE_SHARE = 0.5  # of the lines are read without their markers (pipeline/pretraining/markers.py)
RATING_WEIGHT = 1.0  # of the loss, where the hidden pieces have 1
SEEN_WEIGHT = 1.0  # of the markers in a line; 0: not asked for
MISSING_WEIGHT = 0.3  # of those taken out; 0: markers stay in all lines
# optimisation
STEPS = 22000
BATCH_TOKENS = 2048  # padded tokens of a batch
MAX_LENGTH = 64  # tokens, [CLS] and [SEP] included; longer lines are cut
LEARNING_RATE = 1e-3
WARMUP_STEPS = 200
DECAY_STEPS = 5000  # in these last steps the rate falls from LEARNING_RATE to 0
WEIGHT_DECAY = 0.01  # not on biases and norms
CLIP = 1.0  # norm of the gradient
HELD_OUT = 2000  # lines that are never learned
SAVE_STEPS = 250  # between two measurements on these lines, each saved
# --------------------------------------------------------------------------------------


def main() -> None:
    if not BERT and WIDTH % HEADS:
        raise UserError(f"WIDTH = {WIDTH}: give a multiple of HEADS = {HEADS}")
    processes.join()
    texts, ratings = read_lines(TEXT)
    folder = Path(OUTPUTS) / "encoder"
    made = folder / "unfinished"  # an earlier encoder stands until this one is finished
    block = settings.read(globals())
    inputs = {"text": sha256(TEXT), **({"bert": identify(BERT)} if BERT else {})}
    work = Work("text_pretrain.py", folder, block, inputs, folder)
    if processes.is_first():
        work.take_up(made)
    processes.wait()
    if work.is_done():
        return
    print(f"{TEXT}: {len(texts)} lines, {(ratings > 0).sum()} of them with a rating")
    lines = split(len(texts))
    torch.manual_seed(SEED)
    unfinished = (made / "state.pt").is_file()
    if BERT:
        tokenizer, encoder = load_tokenizer(BERT), load_encoder(BERT)
    else:
        known = [] if unfinished else [texts[line] for line in lines[0]]
        tokenizer = load_tokenizer(made) if unfinished else learn_pieces(known)
        encoder = new_encoder(len(tokenizer), tokenizer.pad_id)
    check_positions(encoder, MAX_LENGTH, BERT or "the new encoder")
    corpus = encode_corpus(texts, ratings, tokenizer, MAX_LENGTH)
    network = Pretrainer(encoder)
    if not BERT and not unfinished:
        network.start_from_counts(corpus.whole.select(lines[0]), SEED)
    task = Pretraining(network, tokenizer, corpus, lines, block, identity(block, inputs))
    state = State(made / "state.pt", network, task.optimizer, task.identity)
    if state.load(partial(check_unfinished, state.path, task.identity)):
        print(f"{state.path}: going on after step {state.step}")
    elif processes.is_first():
        write_files(made, tokenizer.files())  # the state goes on with this one
    learn(task, state, seed=SEED, precision=PRECISION, clip=CLIP)
    processes.leave()
    state.path.unlink()
    work.complete(made)
    print(f"wrote {folder}: config.json, model.safetensors, tokenizer, history.json")


def split(lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the line numbers to learn from and the HELD_OUT others, drawn by SEED."""
    if lines < 2 * HELD_OUT:
        raise UserError(f"{TEXT} has {lines} lines, HELD_OUT is {HELD_OUT}: at most half of them")
    order = np.random.default_rng(SEED).permutation(lines)
    return np.sort(order[HELD_OUT:]), order[:HELD_OUT]


def learn_pieces(texts: list[str]) -> KoBERTTokenizer:
    """Train a tokenizer of VOCABULARY pieces; UserError if the text cannot have so few."""
    try:
        return train_tokenizer(texts, VOCABULARY)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise UserError(f"VOCABULARY = {VOCABULARY}: {reason}") from None


def new_encoder(vocabulary: int, pad_id: int) -> nn.Module:
    if vocabulary < WIDTH:  # the embeddings start from counts of pieces
        raise UserError(f"WIDTH = {WIDTH}: give no more than the {vocabulary} pieces")
    sizes = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FEED_FORWARD,
        "pad_token_id": pad_id,
    }
    return build_encoder(sizes)


def identity(settings: dict, inputs: dict) -> dict:
    """Return what a run must share with an unfinished one to go on with it; STEPS may differ."""
    places = ("text", "outputs", "save_steps", "restart")
    kept = {name: value for name, value in settings.items() if name not in places}
    return {"settings": {**kept, "bert": inputs.get("bert", "")}, "text_sha256": inputs["text"]}


if __name__ == "__main__":
    settings.run(main)
