"""Predictions of the test rows, and of rows held out of training, as the files for the ensemble.

For each model `{name}_truth.npy` (int64, N), `{name}_pred.npy` (int64, N), `{name}_output.npy`
(float32 logits, N x C), `{name}_index.npy` (segment IDs, N), `{name}_rows.tsv` (what else is known
of each row) and `{name}_run.json` (how they came about); of a model that has learned valence and
arousal also `{name}_dims.npy` and `{name}_dims_truth.npy` (float32, N x 2; truth: nan where blank).
Those of the test rows lie in OUTPUTS, those of held-out rows in OUTPUTS/heldout; those of the test
rows in a condition (common/conditions.py) in OUTPUTS/conditions/{condition}. A held-out row is
predicted by the training that did not see it: the validation sessions by the one model, or every
training session by its fold's model.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.conditions import identify_recognisers, name_folder
from common.data import Dataset, load_data
from common.files import DIMENSIONS, SAMPLE_RATE, UserError, write_array, write_json, write_text
from common.speakers import FIXED
from common.stages import Stage, check_whole, read_config, read_data_hash
from fusion import concordance
from fusion.metrics import choose_groups, measure, with_interval
from fusion.outputs import (
    CONDITIONS,
    FACTS,
    HELD_OUT,
    INPUTS,
    MEASURES,
    OPTIONAL,
    check_arrays,
    command,
    name_votes,
)

# rows, folder of the model that predicts them, title -> outputs (N, C) or (N, C + 2)
PredictRows = Callable[[Dataset, Path, str], np.ndarray]


def begin_test(script: str, name: str, train_script: str, settings: dict) -> Stage:
    """Return the stage that tests the model in OUTPUTS/{name}, which train_script trained."""
    outputs, trained_by = Path(settings["outputs"]), command(train_script, name)
    read_config(outputs / name, trained_by)
    inputs = {
        "data": read_data_hash(settings["data"]),
        "model": check_whole(outputs / name, trained_by),
    }
    if condition := settings["condition"]:
        outputs = outputs / CONDITIONS / name_folder(condition)
        inputs |= identify_recognisers([condition])
    # Of several models that one script tests, each has a record of its own.
    record = f"{name}_test" if script.endswith("_test.py") else ""
    return Stage(script, outputs, settings, inputs, name=record)


def write_predictions(
    stage: Stage,
    name: str,
    train_script: str,
    predict_rows: PredictRows,
    speaker_norm: str | None,
    change: Callable[[Dataset], Dataset],
) -> None:
    """Predict all rows that the stage's models may be judged by; write them and print scores.

    speaker_norm: that the predictions are made with, where the model takes statistics of the
    speaker; None for a model of text.  change: puts the test rows into the stage's condition. In a
    condition the held-out rows are left out: what was fitted to the clean ones is applied.
    """
    folder, data = Path(stage.settings["outputs"]) / name, stage.settings["data"]
    train_script = command(train_script, name)
    config = read_config(folder, train_script)
    test, others = load_data(data, "test"), load_data(data, "train", "valid")
    if config["data_hash"] != test.data_hash:
        raise UserError(
            f"{folder} was trained on other preprocessed data: run {train_script} again"
        )
    run = {key: config[key] for key in ("data_hash", "settings", "environment")}
    run |= {"script": stage.script, "synthetic": test.notice}
    run["speakers"] = test.manifest.get("speakers", "known")
    run["input"] = INPUTS.get(stage.script.removesuffix("_test.py"), "text+audio")
    norm = config["network"].get("speaker_norm")
    has_norm = norm is not None and norm["prior_clips"] < FIXED
    run["speaker_norm"] = speaker_norm and (speaker_norm if has_norm else "utterance")
    condition = stage.settings["condition"]
    if condition:
        run["condition"] = condition
    outputs = predict_rows(change(test), folder, f"test {name}")
    kind = f"test in condition {condition}" if condition else "test"
    write_rows_of(stage.unfinished, name, kind, test, outputs, run)
    if condition:
        return

    parts = sorted(path.parent for path in folder.glob("fold*/config.json")) or [folder]
    held_out = [read_config(part, train_script)["held_out"] for part in parts]
    others = others.select(np.isin(others.sessions, sum(held_out, [])))
    if not len(others):
        print("held-out: no rows: the model was trained on all sessions but the test's")
        return
    outputs = np.empty((len(others), outputs.shape[1]), np.float32)
    for part, sessions in zip(parts, held_out, strict=True):
        rows = np.isin(others.sessions, sessions)
        outputs[rows] = predict_rows(others.select(rows), part, f"test {part.name}")
    chose = "" if config["settings"]["folds"] else " (they chose the epoch)"
    write_rows_of(stage.unfinished / HELD_OUT, name, f"held-out{chose}", others, outputs, run)


def write_rows_of(
    folder: Path, name: str, kind: str, data: Dataset, outputs: np.ndarray, run: dict
) -> None:
    """Write one set of predictions and print its scores.

    outputs: logits (N, C), or (N, C + 2) with valence and arousal behind them.
    """
    logits, dims = np.split(outputs.astype(np.float32), [len(data.label_names)], axis=1)
    pred = logits.argmax(1)
    facts = [*FACTS, *name_votes(data.label_names)]
    table = data.table.assign(
        seconds=data.sample_counts / SAMPLE_RATE, words=data.table["text"].str.split().str.len()
    )
    facts += [fact for fact in (*OPTIONAL, *MEASURES) if fact in table]
    arrays = {"truth": data.labels, "pred": pred, "output": logits, "index": data.ids}
    if dims.shape[1]:
        run = run | {"dimension_scale": data.dimension_scale}
        arrays |= {"dims": dims.clip(*data.dimension_scale), "dims_truth": data.dimensions}
    run = run | {"labels": list(data.label_names)}
    write_json(folder / f"{name}_run.json", run)  # first: refusals name the script that it says
    checked = {kind: arrays[kind] for kind in ("truth", "pred", "output", "index")}
    check_arrays(folder, name, checked, len(data.label_names))
    for kind_of_file, array in arrays.items():
        write_array(folder / f"{name}_{kind_of_file}.npy", array)
    style = {"sep": "\t", "lineterminator": "\n", "quoting": 3, "float_format": "%.10g"}
    rows = table[facts].to_csv(index=False, **style)
    write_text(folder / f"{name}_rows.tsv", rows)
    norm = f", SPEAKER_NORM {run['speaker_norm']}" if run["speaker_norm"] else ""
    show_scores(f"{kind}: {data}{norm}", data, outputs)


def show_scores(title: str, data: Dataset, outputs: np.ndarray) -> dict:
    """Print and return the scores of logits (N, C) of all rows, with their intervals.

    outputs: logits, and valence and arousal behind them, whose CCC is printed.
    """
    logits, dims = np.split(outputs, [len(data.label_names)], axis=1)
    groups, resampled = choose_groups(data.sessions, data.speakers, len(data))
    scores = measure(data.labels, logits.argmax(1), None, groups)
    names = {"accuracy": "accuracy", "weighted F1": "f1", "macro F1": "macro_f1", "UAR": "uar"}
    shown = ", ".join(f"{name} {with_interval(scores, key)}" for name, key in names.items())
    if dims.size:
        rated = concordance.measure(data.dimensions, dims.clip(*data.dimension_scale), groups)
        each = [f"{name} CCC {with_interval(rated, f'ccc_{name}')}" for name in DIMENSIONS]
        shown = ", ".join([shown, *each])
    label = f" [{data.notice}]" if data.notice else ""
    print(f"{title}: {shown}; 95 % intervals over {resampled}{label}")
    return scores
