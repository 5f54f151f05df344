"""Memory of a long training: the process' size in the last 500 of 2,000 steps against early ones.

    python benchmarks/run.py memory

A small text model learns made-up rows, with every step's loss, gradient and record, and the state
saved each round, as any training does. The figures are medians of the resident memory, which goes
up and down by 2 % with what the allocator keeps.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from pipeline.learning.checkpoint import State
from pipeline.learning.training import learn
from torch import nn
from torch.nn import functional

from benchmarks.measure import row

STEPS, EARLY, SPAN = 2000, 200, 500  # of the training; the first ones fill caches
ROUND = 50  # steps of a round
TARGET = 1.02
ROWS, LENGTH, WIDTH, VOCABULARY = 4096, 40, 128, 8002


class Words(nn.Module):
    """Embeddings, one layer of attention, seven classes."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True)
        self.classifier = nn.Linear(WIDTH, 7)

    def forward(self, ids):
        return self.classifier(self.layer(self.embedding(ids)).mean(1))


class Task:
    """Made-up rows of different lengths, so that every batch has another shape."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.network = Words()
        self.ids = torch.from_numpy(random.integers(0, VOCABULARY, (ROWS, LENGTH)))
        self.labels = torch.from_numpy(random.integers(0, 7, ROWS))
        self.sizes = {}  # step -> MB

    def is_over(self, state):
        return state.step >= STEPS

    def title(self, state):
        return f"step {state.step}/{STEPS}"

    def batches(self, state):
        random = np.random.default_rng(state.round)
        return [random.permutation(ROWS)[: random.integers(8, 33)] for _ in range(ROUND)]

    def factor(self, step):
        return 1.0

    def inputs(self, rows, step):
        return {"ids": self.ids[rows, : LENGTH - step % 20]}

    def losses(self, batch, rows):
        return {"loss": functional.cross_entropy(self.network(**batch), self.labels[rows])}

    def names(self, rows):
        return list(map(str, rows))

    def measure(self, state):
        self.sizes[state.step] = resident_megabytes()
        state.end_round({"step": state.step, **state.means}, score=-state.means["loss"])


def resident_megabytes() -> float:
    """Return the memory of this process that is in use, of Linux."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) / 1024


def rows() -> list[dict]:
    """Return the one row: memory after all steps, after the first ones, and their ratio."""
    torch.manual_seed(0)
    task = Task()
    optimizer = torch.optim.AdamW(task.network.parameters(), 1e-3)
    optimizer.param_groups[0]["initial_lr"] = 1e-3
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder) / "state.pt", task.network, optimizer)
        learn(task, state, seed=0, precision="float32", clip=1.0)
    early, late = (
        float(np.median([size for step, size in task.sizes.items() if 0 <= step - first <= SPAN]))
        for first in (EARLY, STEPS - SPAN)
    )
    name = f"memory of a training, last {SPAN} of {STEPS} steps against {SPAN} early ones"
    return [row(name, "MB", late, early, most=TARGET)]
