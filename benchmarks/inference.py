"""How fast the three models predict, against the training forward of the paper's loop.

The utterances and the models are those of benchmarks/training.py. The fusion of their outputs takes
microseconds an utterance (benchmarks/fusion.py) and is not counted.
"""

from models.speaker import DEFAULT_REGIME
from pipeline.learning.recogniser import predict

import audio_test
import run_classifier
import text_test
from benchmarks.measure import alternate, row
from benchmarks.training import DEVICE, ROUNDS, make_models, make_papers, make_rows, wait

LIMITS = {
    "text": (text_test.BATCH_TOKENS, text_test.BATCH_SIZE),
    "CM-BERT": (run_classifier.BATCH_TOKENS, run_classifier.BATCH_SIZE),
    "audio": (audio_test.BATCH_SECONDS, audio_test.BATCH_SIZE),
}


def rows() -> list[dict]:
    data = make_rows()
    papers = make_papers(data)
    found, sums = [], [0.0, 0.0]
    for name, model in make_models().items():
        rows, paper = model.prepare(data), papers[name]
        model.network.to(DEVICE)
        model.calibrate(rows)

        def ours(name=name, model=model, rows=rows) -> None:
            predict(model, rows, DEFAULT_REGIME, LIMITS[name], name)
            wait()

        seconds = alternate(ours, paper.forward, rounds=ROUNDS)
        each = [seconds[0] / len(rows), seconds[1] / paper.utterances]
        sums = [total + own for total, own in zip(sums, each, strict=True)]
        found.append(row(f"{name}, predicting", "utterances / s", 1 / each[0], 1 / each[1], 20))
    rates = [1 / total for total in sums]
    return [*found, row("all three models, predicting", "utterances / s", *rates, least=20)]
