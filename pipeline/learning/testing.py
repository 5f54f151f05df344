"""What the test stages share: predictions of the test rows and of rows held out of training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.evaluation import metrics, predictions
from pipeline.files import UserError
from pipeline.labels import LABELS
from pipeline.learning.checkpoint import load_checkpoint
from pipeline.learning.dataset import Utterances, load_utterances

# (folder of a training, its config.json, its weights, rows) -> logits (N, C)
Predictor = Callable[[Path, dict, dict, Utterances], Tensor]


def dump(model: str, stage: str, data: str, outputs: str, predict: Predictor) -> None:
    """Write {model}_*.npy of the test rows to `outputs`, of the held-out rows to `outputs`/valid.

    A held-out row is predicted by the training that did not see it: the validation sessions by the
    one model, or every training session by its fold's model. `stage` is the script that trained.
    """
    outputs = Path(outputs)
    folder = outputs / model
    test, others = load_utterances(data, "test"), load_utterances(data, "train", "valid")
    config, weights = read_training(folder, stage, test)
    write(outputs, model, "test", test, predict(folder, config, weights, test), config)

    parts = sorted(path.parent for path in folder.glob("fold*/config.json")) or [folder]
    logits = np.full((len(others), len(LABELS)), np.nan, np.float32)
    for part in parts:
        part_config, weights = read_training(part, stage, test)
        rows = others.table["session"].isin(part_config["held_out"]).to_numpy()
        if rows.any():
            logits[rows] = predict(part, part_config, weights, others.select(rows))
    predicted = ~np.isnan(logits[:, 0])
    if predicted.any():
        rows = others.select(predicted)
        write(outputs / "valid", model, "held-out", rows, logits[predicted], config)
    else:
        for path in (outputs / "valid").glob(f"{model}_*"):
            path.unlink()  # of an earlier run
        print("held-out: no rows: the model was trained on all sessions but the test's")


def read_training(folder: Path, stage: str, data: Utterances) -> tuple[dict, dict]:
    """Return config.json and weights of a training that was made from this very data."""
    config, weights = load_checkpoint(folder, stage)
    if config["data_hash"] != data.data_hash:
        raise UserError(f"{folder} was trained on other preprocessed data: run {stage} again")
    return config, weights


def write(
    folder: Path, model: str, kind: str, rows: Utterances, logits: np.ndarray, config: dict
) -> None:
    """Write one set of predictions and print its scores."""
    run = {key: config[key] for key in ("data_hash", "synthetic", "settings", "versions")}
    logits = np.asarray(logits)
    predictions.write(folder, model, rows.ids, rows.labels, logits, run)
    scores = metrics.scores(rows.labels, logits.argmax(1))
    label = f" [{rows.synthetic}]" if rows.synthetic else ""
    print(
        f"{kind}: {rows}: accuracy {scores['accuracy']:.4f}, weighted F1 {scores['f1']:.4f}, "
        f"macro F1 {scores['macro_f1']:.4f}, UAR {scores['uar']:.4f}{label}"
    )
    print(f"wrote {folder}/{model}_truth.npy, _pred.npy, _output.npy, _index.npy")
