"""What reads a conversation best? The chain of the ensemble beside two that could stand in for it.

    python -m benchmarks.dialogue FOLDER...

Each FOLDER is an outputs folder with held-out rows (valid/) of several sessions, as --folds leaves
them. All start from the stacking's cross-validated probabilities of each turn by itself, learn from
other sessions' held-out rows and are scored on these rows; no test row is read.
Shapes: N rows, n turns of a dialogue, C = 7 labels, K numbers that describe a turn.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from fusion import choice, conversation, folds, metrics
from fusion.conversation import KINDS
from fusion.dialogue import C, Turns, cut_table
from fusion.tables import align

# ----------------------------------------------------------------------------------------------
TARGET = "accuracy+macro_f1"
FOLDS = 5  # of sessions
BACK = 2  # turns of each speaker that the regression sees, before a turn and after it
HIDDEN = 16  # of the recurrent network
EPOCHS = 40  # at most; how many are best is found on INNER of the sessions to learn from
INNER = 1 / 3
RATE = 0.003
DECAY = 0.1
# ----------------------------------------------------------------------------------------------


class Neighbours(nn.Module):
    """A logistic regression: what the neighbouring turns' log P adds to each turn's own.

    kind: `past` looks back, `whole` ahead as well. Of a turn that is not there nothing is known.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.sides = 2 if kind == "whole" else 1
        self.out = nn.Linear(self.sides * 2 * BACK * C, C)

    def forward(self, log_p: torch.Tensor, dialogues: list[Turns]) -> torch.Tensor:
        """Return logits (n, C) of all dialogues' turns, in their order."""
        said = torch.cat([log_p + np.log(C), torch.zeros(1, C)])  # the last: not there
        places = np.concatenate([self.neighbours(turns) for turns in dialogues])
        own = np.concatenate([turns.rows for turns in dialogues])
        return log_p[own] + self.out(said[places].flatten(1))

    def neighbours(self, turns: Turns) -> np.ndarray:
        """Return the rows beside each turn (n, K): of its speaker and of others; -1: none."""
        found = np.full((len(turns.rows), self.sides, 2, BACK), -1)
        for place, speaker in enumerate(turns.speaker):
            sides = np.arange(place)[::-1], np.arange(place + 1, len(found))
            for side, places in enumerate(sides[: self.sides]):
                is_own = turns.speaker[places] == speaker
                for who, seen in enumerate((places[is_own][:BACK], places[~is_own][:BACK])):
                    found[place, side, who, : len(seen)] = turns.rows[seen]
        return found.reshape(len(found), -1)


class Recurrent(nn.Module):
    """A GRU over the turns, told who speaks: what it adds to each turn's log P."""

    def __init__(self, kind: str):
        super().__init__()
        both = kind == "whole"
        self.turns = nn.GRU(C + 1, HIDDEN, batch_first=True, bidirectional=both)
        self.out = nn.Linear(HIDDEN * (2 if both else 1), C)

    def forward(self, log_p: torch.Tensor, dialogues: list[Turns]) -> torch.Tensor:
        """Return logits (n, C) of all dialogues' turns, in their order."""
        speakers = [torch.from_numpy(turns.speaker)[:, None] for turns in dialogues]
        own = [log_p[turns.rows] for turns in dialogues]
        said = [torch.cat(pair, dim=1) for pair in zip(own, speakers, strict=True)]
        read = self.turns(pack_sequence(said, enforce_sorted=False))[0]
        states, counts = pad_packed_sequence(read, batch_first=True)
        states = torch.cat([state[:count] for state, count in zip(states, counts, strict=True)])
        return torch.cat(own) + self.out(states)


def train(
    network: nn.Module,
    heard: torch.Tensor,
    labels: torch.Tensor,
    dialogues: list[Turns],
    epochs: int,
    held_out: list[Turns],
) -> int:
    """Train for so many epochs, nothing added at first; return after how many (0: none) the log
    loss of the held-out dialogues was least.
    """
    nn.init.zeros_(network.out.weight)
    nn.init.zeros_(network.out.bias)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    losses = []
    for epoch in range(epochs + 1):
        if held_out:
            with torch.inference_mode():
                losses.append(loss(network, heard, labels, held_out).item())
        for places in torch.randperm(len(dialogues)).split(16) if epoch < epochs else ():
            loss(network, heard, labels, [dialogues[place] for place in places]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return int(np.argmin(losses)) if held_out else epochs


def loss(
    network: nn.Module, heard: torch.Tensor, labels: torch.Tensor, dialogues: list[Turns]
) -> torch.Tensor:
    rows = np.concatenate([turns.rows for turns in dialogues])
    return functional.cross_entropy(network(heard, dialogues), labels[rows])


def cross_read(
    make: type[nn.Module], plain: np.ndarray, truth: np.ndarray, facts: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Return P(label) of the rows (N, C) by kind; each session is read by what others taught."""
    dialogues, sessions = cut_table(facts)
    labels, names = torch.from_numpy(truth), np.unique(sessions)
    heard = torch.from_numpy(np.log(np.maximum(plain, conversation.SMALLEST))).float()

    def of(chosen: np.ndarray) -> list[Turns]:
        return [turns for turns, name in zip(dialogues, sessions, strict=True) if name in chosen]

    found = {kind: plain.copy() for kind in KINDS}
    for part in np.array_split(names, min(FOLDS, len(names))):
        rest = np.setdiff1d(names, part)
        inner = rest[: max(1, round(INNER * len(rest)))]
        for kind, values in found.items():
            torch.manual_seed(1)
            learned = of(np.setdiff1d(rest, inner))
            epochs = train(make(kind), heard, labels, learned, EPOCHS, of(inner))
            network = make(kind)
            train(network, heard, labels, of(rest), epochs, [])
            own = of(part)
            with torch.inference_mode():
                read = network(heard, own).softmax(1).numpy()
            values[np.concatenate([turns.rows for turns in own])] = read
    return found


def compare(folder: Path) -> dict[str, np.ndarray]:
    """Return accuracy, macro F1 and log loss by reader on one folder's held-out rows."""
    fold = folds.read(folder)
    truth, plain = fold.rows.truth, choice.choose(fold.rows, TARGET).cross_validated
    apart = conversation.learn_apart(fold.facts, fold.facts.assign(label=truth))
    readers = {
        "chain": conversation.cross_read(plain, plain.mean(0), apart),
        "neighbours": cross_read(Neighbours, plain, truth, fold.facts),
        "recurrent": cross_read(Recurrent, plain, truth, fold.facts),
    }
    every = {"each turn by itself": plain}
    every |= {f"{name} ({kind})": readers[name][kind] for kind in KINDS for name in readers}
    found = {}
    for name, values in every.items():
        scores = metrics.scores(truth, values.argmax(axis=-1))
        likely = np.maximum(values[np.arange(len(truth)), truth], conversation.SMALLEST)
        found[name] = np.array([scores["accuracy"], scores["macro_f1"], -np.log(likely).mean()])
    return found


def main() -> None:
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        every = [compare(Path(folder)) for folder in sys.argv[1:]]
    means = {name: np.mean([found[name] for found in every], axis=0) for name in every[0]}
    rows = [[name, *[f"{value:.4f}" for value in values]] for name, values in means.items()]
    print(f"mean of {len(every)} folders\n")
    print(align(["", "Accuracy", "Macro F1", "Log loss"], rows))


if __name__ == "__main__":
    main()
