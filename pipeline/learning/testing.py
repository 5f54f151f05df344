"""What the test stages share: predictions of the test rows and of rows held out of training."""

from pathlib import Path
from types import ModuleType

import numpy as np

from common.files import (
    LABELS,
    UserError,
    naming,
    read_data_hash,
    together,
    write_array,
    write_json,
    write_text,
)
from fusion import metrics
from fusion.metrics import choose_groups, with_interval
from fusion.predictions import FACTS, HELD_OUT, SCRIPTS, check_arrays
from pipeline.learning import processes
from pipeline.learning.checkpoint import read_config
from pipeline.learning.dataset import Utterances, load_utterances
from pipeline.learning.recogniser import Recogniser, predict
from pipeline.record import Work, hash_outputs


def begin(stage: ModuleType, settings: dict) -> Work:
    """Return the work of a test stage: of a trained model and the preprocessed data.

    One process is enough: others end here.
    """
    processes.leave()
    outputs = Path(settings["outputs"])
    place = outputs / stage.NAME
    inputs = {
        "data_hash": read_data_hash(settings["data"]),
        "model": hash_outputs(place, stage.MADE_BY),
    }
    return Work(SCRIPTS[stage.NAME], outputs, settings, inputs, place)


def dump(stage: ModuleType, data: str, outputs: str, regime: str, limits: tuple[int, int]) -> None:
    """Write {stage.NAME}_*.npy of the test rows to `outputs`, of the held-out rows to its heldout/.

    A held-out row is predicted by the training that did not see it: the validation sessions by the
    one model, or every training session by its fold's model.
    regime: what is known of the speakers (models/speaker.py).  limits: of a batch, see predict.
    """
    with together():
        dump_all(stage, data, Path(outputs), regime, limits)


def dump_all(
    stage: ModuleType, data: str, outputs: Path, regime: str, limits: tuple[int, int]
) -> None:
    folder = outputs / stage.NAME
    test, others = load_utterances(data, "test"), load_utterances(data, "train", "valid")
    config, model = load_trained(stage, folder, test)
    logits = predict(model, model.prepare(test), regime, limits, f"test {folder.name}").numpy()
    with naming(folder / "config.json", stage.MADE_BY):
        run = {key: config[key] for key in ("data_hash", "synthetic", "settings", "versions")}
        chose = " (they chose the epoch)" * (config["settings"]["folds"] == 0)
    known = model.known(regime)
    run["speaker_norm"] = known
    write(outputs, stage.NAME, "test", test, logits, run)

    parts = sorted(path.parent for path in folder.glob("fold*/config.json")) or [folder]
    held_out = [read_held_out(part, stage.MADE_BY) for part in parts]
    unseen = others.table["session"].isin(sum(held_out, [])).to_numpy()
    if not unseen.any():
        for path in (outputs / HELD_OUT).glob(f"{stage.NAME}_*"):
            path.unlink()  # of an earlier run
        print("held-out: no rows: the model was trained on all sessions but the test's")
        return
    others = model.prepare(others.select(unseen))
    logits = np.empty((len(others), len(LABELS)), np.float32)
    for part, sessions in zip(parts, held_out, strict=True):
        rows = others.table["session"].isin(sessions).to_numpy()
        _, model = load_trained(stage, part, test)
        logits[rows] = predict(model, others.select(rows), regime, limits, f"test {part.name}")
    write(outputs / HELD_OUT, stage.NAME, f"held-out{chose}", others, logits, run)


def read_held_out(folder: Path, made_by: str) -> list[int]:
    """Return the sessions that a training did not see."""
    config = read_config(folder, made_by)
    with naming(folder / "config.json", made_by):
        return list(map(int, config["held_out"]))


def load_trained(stage: ModuleType, folder: Path, rows: Utterances) -> tuple[dict, Recogniser]:
    """Return config.json and the model of a training that was made from these rows' data."""
    config = read_config(folder, stage.MADE_BY)
    with naming(folder / "config.json", stage.MADE_BY):
        data_hash = config["data_hash"]
    if data_hash != rows.data_hash:
        raise UserError(
            f"{folder} was trained on other preprocessed data: run {stage.MADE_BY} again"
        )
    model = stage.load(folder)
    model.network.to(processes.join())
    return config, model


def write(
    folder: Path, model: str, kind: str, rows: Utterances, logits: np.ndarray, run: dict
) -> None:
    """Write one set of predictions and print its scores."""
    arrays = {
        "truth": np.asarray(rows.labels, np.int64),
        "pred": np.asarray(logits).argmax(axis=1),
        "output": np.asarray(logits, np.float32),
        "index": np.asarray(rows.ids, np.str_),
    }
    check_arrays(folder, model, arrays)
    for name, array in arrays.items():
        write_array(folder / f"{model}_{name}.npy", array)
    facts = rows.table[[*FACTS, *({"corpus"} & set(rows.table))]]
    write_text(
        folder / f"{model}_rows.tsv", facts.to_csv(sep="\t", index=False, lineterminator="\n")
    )
    write_json(folder / f"{model}_run.json", run)
    groups, resampled = choose_groups(rows.table["session"], rows.speakers, len(rows))
    scores = metrics.measure(rows.labels, logits.argmax(1), None, groups)
    label = f" [{rows.synthetic}]" if rows.synthetic else ""
    known = f", SPEAKER_NORM {run['speaker_norm']}" if run["speaker_norm"] else ""
    print(
        f"{kind}: {rows}{known}: accuracy {with_interval(scores, 'accuracy')}, "
        f"weighted F1 {with_interval(scores, 'f1')}, macro F1 {with_interval(scores, 'macro_f1')}, "
        f"UAR {with_interval(scores, 'uar')}; 95 % intervals over {resampled}{label}"
    )
    print(f"wrote {folder}/{model}_truth.npy, _pred.npy, _output.npy, _index.npy, _rows.tsv")
