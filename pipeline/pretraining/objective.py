"""Pretraining of a text encoder: what is learned of masked lines, in four losses.

Shapes: B lines in a batch, L tokens (padding included), D encoder width, V vocabulary,
M markers.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from torch import nn
from torch.nn import functional

from common.files import UserError, write_json
from models.kobert import mean_of_tokens
from models.processes import total
from pipeline.learning import processes
from pipeline.learning.batches import cut_batches
from pipeline.learning.checkpoint import State, save_encoder
from pipeline.learning.recogniser import to_device
from pipeline.learning.training import autocast, parameter_groups
from pipeline.pretraining.lines import RATINGS, Corpus, Lines, Masking, steps_from
from pipeline.pretraining.markers import MARKERS

EMBEDDING_SCALE = 0.05  # standard deviation of the first embeddings; BERT's layers begin with .02


def static_vectors(lines: Lines, vocabulary: int, width: int, seed: int) -> np.ndarray:
    """Return a vector for each piece from how often pieces stand within 5 places: (V, D), float32.

    Positive pointwise mutual information, counts weighted by 1 / distance, contexts smoothed by the
    power .75, reduced by a singular value decomposition (Levy, Goldberg & Dagan 2015).
    """
    from sklearn.utils.extmath import randomized_svd  # here: takes a second

    owner = np.repeat(np.arange(len(lines.lengths)), lines.lengths)
    shape = (vocabulary, vocabulary)
    counts = scipy.sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, 6):
        together = owner[distance:] == owner[:-distance]
        pair = (lines.ids[:-distance][together], lines.ids[distance:][together])
        weight = np.full(len(pair[0]), 1 / distance, np.float32)
        counts += scipy.sparse.csr_matrix((weight, pair), shape=shape)
    counts = (counts + counts.T).tocoo()
    piece = np.asarray(counts.sum(1)).ravel()
    context = np.asarray(counts.sum(0)).ravel() ** 0.75
    expected = piece[counts.row] * context[counts.col] / context.sum()
    information = np.maximum(np.log(counts.data / expected), 0).astype(np.float32)
    table = scipy.sparse.csr_matrix((information, (counts.row, counts.col)), shape=shape)
    left, values, _ = randomized_svd(table, width, n_iter=3, random_state=seed)
    return (left * np.sqrt(values)).astype(np.float32)


class Pretrainer(nn.Module):
    """An encoder with four heads.

    One sees a token: which piece is hidden here. Three see the mean of a line's tokens, as the
    classifier of emotions will: the rating, the markers that stand in the line ("seen"), the
    markers that were taken out of it ("missing").
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.piece_bias = nn.Parameter(torch.zeros(encoder.config.vocab_size))
        self.rating = nn.Linear(width, RATINGS)
        self.seen = nn.Linear(width, len(MARKERS))
        self.missing = nn.Linear(width, len(MARKERS))

    def train(self, mode: bool = True) -> "Pretrainer":
        """Stay as for testing: every line is seen a few times only, so dropout prevents nothing."""
        return super().train(False)

    def start_from_counts(self, lines: Lines, seed: int) -> None:
        """Set the embeddings to static vectors and the pieces' bias to their log frequency.

        A masked-language model spends its first thousands of steps finding just these.
        """
        table = self.encoder.get_input_embeddings().weight
        vectors = torch.from_numpy(static_vectors(lines, *table.shape, seed))
        counts = np.bincount(lines.ids, minlength=len(table)) + 1.0
        with torch.no_grad():
            table.copy_(vectors * (EMBEDDING_SCALE / vectors.std()))
            self.piece_bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        hidden: torch.Tensor,
        pieces: torch.Tensor,
        ratings: torch.Tensor,
        bare: torch.Tensor,
        markers: torch.Tensor,
    ) -> dict:
        """Return the mean losses and accuracies of a batch.

        Of the pieces over the hidden places, of the ratings over the lines that have one, of the
        markers, summed over them, over the whole and the bare lines; a loss with nothing to average
        is 0, its accuracy is absent. Where several processes have a batch in parts, each returns
        what it adds to the means over all.
        """
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        token = output.last_hidden_state
        line = mean_of_tokens(token.float(), attention_mask)
        rated = ratings > 0
        chosen = hidden, rated, ~bare, bare
        counts = total(torch.stack([places.sum() for places in chosen])).tolist()
        table = self.encoder.get_input_embeddings().weight
        answers = {
            "piece": functional.linear(self.transform(token[hidden]), table, self.piece_bias),
            "rating": self.rating(line[rated]),
            "seen": self.seen(line[~bare]),
            "missing": self.missing(line[bare]),
        }
        truths = pieces[hidden], ratings[rated] - 1, markers[~bare], markers[bare]
        found = {}
        for (name, logits), truth, count in zip(answers.items(), truths, counts, strict=True):
            logits = logits.float()
            if truth.dtype == torch.int64:  # one of several; of the markers any number is there
                loss = functional.cross_entropy(logits, truth, reduction="sum")
                if count:
                    found[f"{name}_accuracy"] = (logits.argmax(1) == truth).sum() / count
            else:
                loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
            found[f"{name}_loss"] = loss / max(count, 1)
        return found


class Pretraining:
    """The task of text_pretrain.py, in rounds of SAVE_STEPS steps.

    settings: the script's; identity: what an unfinished run must share to be gone on with.
    Masks and order of the lines depend on the seed and the step's number alone.
    """

    def __init__(
        self,
        network: Pretrainer,
        tokenizer,
        corpus: Corpus,
        lines: tuple[np.ndarray, np.ndarray],
        settings: dict,
        identity: dict,
    ):
        self.network, self.tokenizer, self.corpus = network, tokenizer, corpus
        self.settings, self.identity = settings, identity
        self.train, held_out = lines
        self.folder = Path(settings["outputs"]) / "encoder" / "unfinished"
        self.device = processes.join()
        network.to(self.device)
        bare_share = settings["bare_share"] if settings["missing_weight"] else 0.0
        self.masking = Masking.of(tokenizer, settings["hidden_share"], bare_share)
        lengths = corpus.whole.lengths
        held_out = held_out[np.argsort(-lengths[held_out], kind="stable")]  # little is padded
        cut = cut_batches(lengths[held_out], settings["batch_tokens"], len(held_out))
        self.held_out = [held_out[rows] for rows in cut]
        rates = {"": settings["learning_rate"]}
        groups = parameter_groups(network, rates, settings["weight_decay"])
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)

    def is_over(self, state: State) -> bool:
        return state.step >= self.settings["steps"]

    def title(self, state: State) -> str:
        return f"step {state.step}/{self.settings['steps']}"

    def batches(self, state: State) -> list[np.ndarray]:
        settings = self.settings
        start = state.step - state.position
        end = min((start // settings["save_steps"] + 1) * settings["save_steps"], settings["steps"])
        lengths = self.corpus.whole.lengths[self.train]
        batches = steps_from(start, lengths, settings["batch_tokens"], settings["seed"])
        return [self.train[rows] for rows in islice(batches, end - start)]

    def factor(self, step: int) -> float:
        """Warm-up, constant, decay: the constant part's length may be decided while it runs."""
        settings = self.settings
        left = (settings["steps"] - step) / settings["decay_steps"]
        return min(1, (step + 1) / settings["warmup_steps"], left)

    def inputs(self, rows: np.ndarray, step: int) -> dict:
        return self.masked(rows, 1_000_000 * self.settings["seed"] + step)

    def masked(self, rows: np.ndarray, seed: int) -> dict:
        """Return this process's share of a batch, whose masks are drawn by the seed."""
        own, _ = processes.share(np.arange(len(rows)))
        batch = self.masking.batch(self.corpus, rows, seed)
        return {name: tensor[own] for name, tensor in batch.items()}

    def losses(self, batch: dict, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the weighted sum of the four losses and each of them."""
        settings, found = self.settings, self.network(**batch)
        loss = found["piece_loss"] + settings["rating_weight"] * found["rating_loss"]
        loss = loss + settings["seen_weight"] * found["seen_loss"]
        loss = loss + settings["missing_weight"] * found["missing_loss"]
        return {"loss": loss, **found}

    def names(self, rows: np.ndarray) -> list[str]:
        return [f"line {row + 1}" for row in rows]

    def measure(self, state: State) -> None:
        """Write the encoder and its losses in this round and on the held-out lines."""
        measured = {}
        with torch.inference_mode(), autocast(self.device, self.settings["precision"]):
            for rows in self.held_out:
                batch = to_device(self.masked(rows, self.settings["seed"]), self.device)
                for name, value in self.losses(batch, rows).items():
                    measured.setdefault(f"held_out_{name}", []).append(total(value))
        measured = {name: float(torch.stack(measured[name]).mean()) for name in sorted(measured)}
        state.end_round({"step": state.step, **state.means, **measured})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
        print(f"step {state.step}: {shown}", flush=True)
        if processes.is_first():
            save_encoder(self.network.encoder, self.tokenizer, self.folder, torch.float16)
            history = {**self.identity, "history": state.history}
            write_json(self.folder / "history.json", history)


def check_unfinished(path: Path, identity: dict, saved: dict, step: int) -> None:
    """Refuse to go on with an unfinished run of other settings or another text.

    identity, saved: this run's and the unfinished one's; STEPS may differ while the decay has not
    begun in that one's `step`.
    """
    old, new = saved["settings"], identity["settings"]
    changed = [name for name in new if old.get(name) != new[name]]
    first = min(old["steps"], new["steps"]) - new["decay_steps"]
    if changed == ["steps"] and step <= first:
        changed = []
    if saved["text_sha256"] != identity["text_sha256"]:
        changed.append("text")
    if changed:
        raise UserError(
            f"{path} is of an unfinished run with another {', '.join(changed).upper()}: "
            "give that, or another OUTPUTS, or --restart to start over"
        )
