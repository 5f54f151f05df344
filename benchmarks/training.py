"""How fast the three models learn: the scripts' own loops, against the paper's and the peak.

Recordings and transcripts of KEMDy19's lengths, default settings; BERT has KoBERT's size and random
weights. The peak is the matrix product's in the same process, the faster of MKL's and oneDNN's.

    python -m benchmarks.training     prints where the time of a step goes, operator by operator
"""

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import paper_loop
from benchmarks.loop import KOBERT, run_loop, write_bert, write_data
from benchmarks.measure import row
from common.checkpoint import Checkpoint
from common.data import load_data
from common.files import SAMPLE_RATE

THREADS = (0, 1)  # 0: all cores
UTTERANCES = 400
SECONDS = 10.0  # of training that is measured, ours and the paper's
WARM, PROFILED = 3, 6  # steps before, steps under the profiler
SIZE = 2048  # of the matrices whose product is the peak
PRODUCTS = ("convolution", "::mm", "addmm", "bmm", "linear_pointwise", "scaled_dot_product")
SCRIPTS = {"audio": "audio_train", "text": "text_train", "CM-BERT": "run_classifier"}
LEAST = {"audio": 8, "text": None, "CM-BERT": None}  # times the paper's loop
MOST = {"audio": 0.35, "text": 0.2, "CM-BERT": 0.2}  # neither convolution nor matrix product


def rows() -> list[dict]:
    found = []
    peak = measure_peak()
    with tempfile.TemporaryDirectory() as folder:
        places = write_data(Path(folder), UTTERANCES)
        bert = write_bert(Path(folder) / "bert", KOBERT)
        data = load_data(places["DATA"], "train")
        for name in SCRIPTS:
            watched = Watcher(name)
            learning = places if name == "audio" else places | {"BERT": bert, "LR_ENCODER": 2e-5}
            run_loop(SCRIPTS[name], learning, watched)
            if name == "audio":
                theirs = paper_loop.audio_rate(data, SECONDS)
            else:
                measure = paper_loop.text_rate if name == "text" else paper_loop.cmbert_rate
                theirs = measure(data, bert, KOBERT, SECONDS)
            found += compare(name, watched, theirs, peak)
    return found


def compare(name: str, watched: "Watcher", theirs: float, peak: float) -> list[dict]:
    """Return the rows of one model."""
    unit = "s of audio / s" if name == "audio" else "utterances / s"
    title = f"{name} training"
    speed = watched.operations / watched.seconds / 1e9
    least = None if name == "audio" else 0.8
    parts = watched.parts()
    input_share, operators = parts["input"], parts["operators"]
    return [
        row(f"{title}, against the paper's loop", unit, watched.rate, theirs, least=LEAST[name]),
        row(f"{title}, against the matrix product's peak", "Gflop / s", speed, peak, least=least),
        row(
            f"{title}, neither convolution nor matrix product",
            "share",
            1 - parts["products"],
            most=MOST[name],
        ),
        row(f"{title}, making batches", "share", input_share),
        row(f"{title}, other operators", "share", operators),
        row(f"{title}, Python", "share", 1 - parts["products"] - input_share - operators),
    ]


class Watcher:
    """Measures steps of a training: their rate, where their time goes, their operations.

    rate: utterances, of audio seconds of audio, in a second.  operations: of the steps in
    `seconds`, multiplications and additions.
    """

    def __init__(self, name: str):
        self.name = name

    def __call__(self, run: Checkpoint, batches: Iterator) -> Iterator:
        for _ in range(WARM):
            yield next(batches)
        done, start = [], time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            done.append(next(batches))
            yield done[-1]
        self.seconds = time.perf_counter() - start
        counts = run.training.fit.sample_counts if self.name == "audio" else None
        amounts = (len(r) if counts is None else counts[r].sum() / SAMPLE_RATE for _, r, _ in done)
        self.rate = float(sum(amounts)) / self.seconds
        with profile(activities=[ProfilerActivity.CPU]) as self.profile:
            start = time.perf_counter()
            for _ in range(PROFILED):
                with record_function("input"):
                    item = next(batches)
                yield item
            self.profiled = time.perf_counter() - start
        with FlopCounterMode(display=False, custom_mapping=ONEDNN) as counter:
            yield from done
        self.operations = counter.get_total_flops()

    def parts(self) -> dict[str, float]:
        """Return the shares of a step: products, input, other operators; the rest is Python."""
        parts = {"products": 0.0, "input": 0.0, "operators": 0.0}
        for event in self.profile.key_averages():
            name, own = event.key, event.self_cpu_time_total
            if name == "input":
                parts["input"] += event.cpu_time_total
            elif any(product in name for product in PRODUCTS):
                parts["products"] += own
            elif "::" in name and "autograd" not in name:
                parts["operators"] += own
        return {name: spent / 1e6 / self.profiled for name, spent in parts.items()}


def measure_peak() -> float:
    """Return the Gflop/s of the product of two large matrices, the best of some."""
    factor = torch.ones(SIZE, SIZE)
    ways = [lambda: factor @ factor]
    if ONEDNN:
        ways.append(lambda: next(iter(ONEDNN))(factor, factor, None, "none", [], ""))
    best = math.inf
    for way in ways * 10:
        start = time.perf_counter()
        way()
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best / 1e9


def count_product(inputs: tuple, weights: tuple, *rest: object, **named: object) -> int:
    """Count the operations of oneDNN's linear layer by the shapes of its arguments."""
    return 2 * math.prod(inputs) * weights[0]


# oneDNN's product of float32 matrices, where this torch has it.
ONEDNN = {}
if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    ONEDNN[torch.ops.mkldnn._linear_pointwise] = count_product


def report() -> None:
    """Print where a step's time goes, by operators."""
    with tempfile.TemporaryDirectory() as folder:
        places = write_data(Path(folder), UTTERANCES)
        bert = write_bert(Path(folder) / "bert", KOBERT)
        for name, script in SCRIPTS.items():
            watched = Watcher(name)
            run_loop(script, places if name == "audio" else places | {"BERT": bert}, watched)
            print(name, {part: round(share, 3) for part, share in watched.parts().items()})
            table = watched.profile.key_averages()
            print(table.table(sort_by="self_cpu_time_total", row_limit=20))


if __name__ == "__main__":
    report()
