"""Pretrain a text encoder on plain text, from nothing or from a checkpoint.

Reads   TEXT: plain lines or rating<TAB>text (ratings 1 to 10); .txt or .tsv, also .xz or .gz
Writes  OUTPUTS/encoder/: config.json, model.safetensors and tokenizer, a folder that can be BERT in
        text_train.py and run_classifier.py; history.json

    python text_pretrain.py --text reviews.tsv.xz
    python text_pretrain.py --text transcripts.txt --bert skt/kobert-base-v1 --seen-weight 0 \\
        --missing-weight 0 --learning-rate 5e-5 --warmup-steps 100 --steps 1000 --decay-steps 900

Learned at once: hidden pieces from their context (BERT), a line's rating, which emotional markers
(ㅠㅠ, ㅋㅋ, ^^, words like 무섭다) a line has, and which were taken out of it. Killed and started
again with the same settings, it goes on where it stopped.
"""

from common import settings  # first of all: it answers --help

# isort: split

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common.checkpoint import read_state, write_state
from common.data import cut_batches
from common.files import UserError, sha256, write_json
from common.losses import share
from common.stages import Stage
from common.training import autocast, leave_others, parameter_groups, start, to_device
from extras.pretraining.lines import Corpus, Masking, encode_corpus, read_lines, steps_from
from extras.pretraining.objective import Pretrainer, save_encoder
from extras.pretraining.tokenizer import train_tokenizer
from models import identify
from models.kobert import build_encoder, check_positions, load_encoder, load_tokenizer
from models.tokenizer import KoBERTTokenizer

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
BARE_SHARE = 0.5  # of the lines are read without their markers (extras/pretraining/markers.py)
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
    accelerator = start()
    texts, ratings = read_lines(TEXT)
    inputs = {"text": sha256(TEXT), **({"bert": identify(BERT)} if BERT else {})}
    block = settings.read(globals())
    with accelerator.main_process_first():
        stage = Stage("text_pretrain.py", Path(OUTPUTS) / "encoder", block, inputs, resumable=True)
        is_done = stage.is_done()
    if not is_done:
        pretrain(accelerator, texts, ratings, stage)
        leave_others(accelerator)
        (stage.unfinished / "state.pt").unlink()
        stage.publish()
        print(f"wrote {stage.folder}: config.json, model.safetensors, tokenizer, history.json")


def pretrain(accelerator, texts: list[str], ratings: np.ndarray, stage: Stage) -> None:
    """Train an encoder and write it, with its losses, to the stage's unfinished folder."""
    print(f"{TEXT}: {len(texts)} lines, {(ratings > 0).sum()} of them with a rating")
    train, held_out = split(len(texts))
    path = stage.unfinished / "state.pt"
    saved = read_state(path, stage.made_of) if path.is_file() else None
    torch.manual_seed(SEED)
    if BERT:
        tokenizer, encoder = load_tokenizer(BERT), load_encoder(BERT)
    else:
        tokenizer = learn_pieces([texts[line] for line in train])
        encoder = new_encoder(len(tokenizer), tokenizer.pad_id)
    check_positions(encoder, MAX_LENGTH, BERT or "the new encoder")
    corpus = encode_corpus(texts, ratings, tokenizer, MAX_LENGTH)
    network, step, history = Pretrainer(encoder), 0, []
    if saved:
        network.load_state_dict(saved["network"])
    elif not BERT:
        network.start_from_counts(corpus.whole.select(train), SEED)
    groups = parameter_groups(network, {"": LEARNING_RATE}, WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    model, optimizer = accelerator.prepare(network, optimizer)
    if saved:
        optimizer.load_state_dict(saved["optimizer"])
        step, history = saved["step"], saved["history"]
        print(f"{path}: going on after step {step}")
    held_out, make_batch = prepare_batches(accelerator, tokenizer, corpus, held_out)
    lengths = corpus.whole.lengths[train]
    model.train()
    plan = islice(steps_from(step, lengths, BATCH_TOKENS, SEED), STEPS - step)
    for rows in tqdm(plan, "steps", STEPS, initial=step, disable=None):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor(step)
        with autocast(accelerator, PRECISION):
            loss = weighted(model(**make_batch(train[rows], 1_000_000 * SEED + step)))
        accelerator.backward(loss)
        gradient = accelerator.clip_grad_norm_(model.parameters(), CLIP)
        if not torch.isfinite(loss + gradient):
            raise UserError(f"the loss of step {step + 1} is no number: lower LEARNING_RATE")
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % SAVE_STEPS == 0 or step == STEPS:
            with torch.inference_mode(), autocast(accelerator, PRECISION):
                losses = mean_losses([network(**make_batch(rows, SEED)) for rows in held_out])
            shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            accelerator.print(f"step {step}: {shown}")
            history.append({"step": step, **losses})
            if accelerator.is_main_process:
                save_encoder(network.encoder, tokenizer, stage.unfinished)
                write_json(stage.unfinished / "history.json", {**stage.made_of, "history": history})
                state = {"identity": stage.made_of, "step": step, "history": history}
                state |= {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                write_state(path, state)


def prepare_batches(accelerator, tokenizer, corpus: Corpus, held_out: np.ndarray) -> tuple:
    """Return the batches of held-out lines, and the function that makes a batch's tensors."""
    masking = Masking(tokenizer, HIDDEN_SHARE, BARE_SHARE if MISSING_WEIGHT else 0.0)
    lengths = corpus.whole.lengths
    held_out = held_out[np.argsort(-lengths[held_out], kind="stable")]  # little is padded
    batches = [held_out[rows] for rows in cut_batches(lengths[held_out], BATCH_TOKENS, HELD_OUT)]

    def make_batch(rows: np.ndarray, seed: int) -> dict:
        own = share(accelerator, np.arange(len(rows)))
        batch = {n: each[own] for n, each in masking.batch(corpus, rows, seed).items()}
        return to_device(batch, accelerator.device)

    return batches, make_batch


def mean_losses(found: list[dict]) -> dict[str, float]:
    """Return the means over batches; a batch may lack an accuracy."""
    names = dict.fromkeys(name for batch in found for name in batch)
    return {
        f"held_out_{name}": float(np.mean([float(each[name]) for each in found if name in each]))
        for name in names
    }


def factor(step: int) -> float:
    """Return the learning rate's part in a step: warm-up, constant, decay."""
    return min(1, (step + 1) / WARMUP_STEPS, (STEPS - step) / DECAY_STEPS)


def weighted(found: dict) -> torch.Tensor:
    """Return the weighted sum of the four losses."""
    loss = found["piece_loss"] + RATING_WEIGHT * found["rating_loss"]
    return loss + SEEN_WEIGHT * found["seen_loss"] + MISSING_WEIGHT * found["missing_loss"]


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


if __name__ == "__main__":
    settings.run(main)
