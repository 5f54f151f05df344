"""Fuse the models' predictions, and say how good each of them and each fusion is.

Reads   OUTPUTS/{name}_{truth,pred,output,index}.npy, _rows.tsv, _run.json    test rows of two or
        more models, whatever their names (text, audio and cmbert for the paper's procedure)
        OUTPUTS/heldout/ the same                               rows held out of training
        OUTPUTS/baseline_{text,audio,both}_*.npy, if they are there: shown beside the others
        {name}_dims.npy, _dims_truth.npy                        valence and arousal, of the models
        that have learned them
Writes  OUTPUTS/ensemble_{soft,weighted_soft,hard,stacking}_pred.npy (and _output.npy)
        OUTPUTS/ensemble_dialogue_{past,whole}_*.npy            where the order of turns is known
        OUTPUTS/ensemble_dims.npy                               valence and arousal, fused
        OUTPUTS/fusion.json                                     what was fitted, to predict with
        OUTPUTS/ensemble.json, ensemble_details.json, ensemble.md, .tex, .csv, plots/,
        report.html

    python ensemble.py

Everything that is fitted is fitted on the held-out rows and never sees a test label. With the test
files alone, the methods that learn are cross-validated on the test rows and do learn from test
labels of other sessions; the tables say so. Of several folds each has a fusion of its own. The
dialogue rows learn from the labels of the training sessions in DATA how emotions follow one
another; otherwise only the report page reads DATA (transcripts and counts).
"""

from common import settings  # first of all: it answers --help

# isort: split

import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from common.files import read_json, remove, write_array, write_bytes, write_json, write_text
from common.stages import RECORDS, Stage
from fusion import (
    affect,
    agreement,
    certainty,
    choice,
    concordance,
    dialogue,
    dimensions,
    exports,
    methods,
    page,
    paper,
    plots,
    predictions,
    scoring,
    tables,
)
from fusion.corpus import describe, identify, read_corpus
from fusion.fitting import Fold, average, read_fold
from fusion.fitting import describe as describe_rows
from fusion.outputs import INPUTS
from fusion.predictions import Predictions
from fusion.stored import Fusion, list_sets

# ----------------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote, for dialogues and the report; of folds "a,b"
OUTPUTS = "outputs"  # the models' predictions; of several folds: "outputs/fold1,outputs/fold2"
RESTART = False  # yes: also if an earlier run left all of this
RESULTS = ""  # where tables and fused predictions go; empty: to OUTPUTS, of several the first
CONTEXT = True  # also fuse by the turns around: Dialogue (past), Dialogue (whole)
TARGET = "accuracy+macro_f1"  # the fusion is chosen by their mean; accuracy, f1, macro_f1, uar
# ----------------------------------------------------------------------------------------------


def main() -> None:
    folders = [Path(folder.strip()) for folder in OUTPUTS.split(",")]
    place = Path(RESULTS) if RESULTS else folders[0]
    paper.load_lightgbm()  # before any work: the machine may lack its system library
    gc.freeze()  # the garbage collector need not look through what was imported: 0.5 s less
    stage = Stage("ensemble.py", place, settings.read(globals()), identify(folders, DATA))
    if not stage.is_done():
        with threadpool_limits(limits=1):  # the same sums on every machine
            fuse_and_score(folders, stage.unfinished)
        stage.publish()
    if len(folders) > 1 or folders[0] != place:  # each fold predicts by its own fusion
        for number, folder in enumerate(folders):
            fitted = place / name_fusion(folders, number)
            write_bytes(folder / "fusion.json", fitted.read_bytes())
            if folder != place:  # an earlier fusion of this fold alone is no longer whole
                remove(folder / RECORDS / "ensemble.json")
    results = read_json(place / "ensemble_details.json", "ensemble.py")
    missing = {"dimensions": None, "votes": None, "certainty": {}, "gaps": [], "thirds": {}}
    show(missing | results, place)  # older results lack some


def name_fusion(folders: list[Path], number: int) -> str:
    """Return the name of a fold's fusion among the results."""
    return f"fusion_fold{number}.json" if len(folders) > 1 else "fusion.json"


def fuse_and_score(folders: list[Path], place: Path) -> None:
    """Fuse, score and write to a place: the whole stage."""
    folds = [read_fold(folder) for folder in folders]
    test = predictions.join([fold.test for fold in folds])
    corpus = read_corpus(DATA, [fold.test for fold in folds])
    histories = plots.read_histories(folders[0], test.models)
    has_order = all(fold.facts is not None and fold.test.facts is not None for fold in folds)
    if CONTEXT and not has_order:
        print("no dialogue rows: *_rows.tsv with the order of the turns is missing")
    turns = corpus.turns or [None] * len(folds)
    notes = {
        "labels": test.labels,
        "speaker_norm": {model: run.get("speaker_norm") for model, run in test.runs.items()},
        "synthetic": next(filter(None, (r.get("synthetic") for r in test.runs.values())), None),
    }
    fused = []
    with ThreadPoolExecutor(1) as pool:  # LightGBM holds no lock of Python's
        rules = pool.submit(paper.apply_rules, test, folds)
        for number, fold in enumerate(folds):
            *of_fold, fusion, learned = fuse(fold, CONTEXT and has_order, turns[number], notes)
            fusion.write(place / name_fusion(folders, number))
            confidence = certainty.find_confidence(fold.test, of_fold[0]["stacking"], fusion)
            fused.append((*of_fold, confidence, learned))
    values, rated, confidence = (
        {method: np.concatenate([of[method] for of in every]) for method in every[0]}
        for every in [*zip(*fused, strict=True)][:3]
    )
    rated = (test.ratings.predicted if test.ratings else {}) | rated
    pred = {method: rows.argmax(-1) for method, rows in values.items()}
    probabilities = {method: rows for method, rows in values.items() if method != "hard"}

    note = "; ".join(dict.fromkeys(fold.fitted_on for fold in folds))
    ablation = folders[0] / "cmbert_ablation.json"  # of several folds, the first one's
    berts = [run.get("settings", {}).get("bert") for run in test.runs.values()]
    results = {
        **notes,
        "encoder": " and ".join(dict.fromkeys(filter(None, berts))) or "not on record",
        "test": {"rows": describe_rows(test), "models": test.models},
        "is_held_out": all(fold.is_held_out for fold in folds),
        "fitted_on": note if len(folds) == 1 else f"rows of the same fold, of {len(folds)}: {note}",
        "target": TARGET,
        "runs": test.runs,
        "learned": {"dialogue": None} | average([learned for *_, learned in fused]),
        **scoring.evaluate(test, pred, probabilities, rules.result(), corpus),
        "certainty": certainty.evaluate(test, pred, confidence),
        "dimensions": affect.evaluate(test, rated),
        "votes": agreement.evaluate(test, pred, probabilities),
        "ablation": read_json(ablation, "run_classifier.py") if ablation.is_file() else [],
        "origin": describe([fold.test for fold in folds], corpus),
    }
    write_predictions(place, results, test, pred, probabilities)
    if "stacking" in rated:
        write_array(place / "ensemble_dims.npy", rated["stacking"].astype(np.float32))
    made = tables.make_tables(results)
    write_text(place / "ensemble.md", page.write_markdown(notes["synthetic"], made.values()))
    write_text(place / "ensemble.tex", exports.write_latex(results, made))
    write_text(place / "ensemble.csv", exports.write_csv(results))
    made["mistakes"] = tables.tabulate_mistakes(test, pred, confidence["stacking"][:, 0], corpus)
    drawn = results, test, pred, rated, confidence, histories
    figures = plots.draw_all(place / "plots", *drawn)
    write_text(place / "report.html", page.write_page(results, made, figures))


def fuse(
    fold: Fold, has_context: bool, train_turns: pd.DataFrame | None, notes: dict
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Fusion, dict]:
    """Return what is said of the test rows, the fusion, and what was learned, for the tables.

    First by method the probabilities (N, C) (hard: votes), then by fused method valence and arousal
    (N, 2). train_turns: see `dialogue.read_fold`; notes: fields of the Fusion. The baselines are
    scored and never fused.
    """
    test, rows, reading = fold.test, fold.rows, None
    values = {"majority": fold.learn(methods.fit_majority)[0]}
    values |= {name: softmax(logits, axis=-1) for name, logits in test.baselines.items()}
    values |= dict(zip(test.models, softmax(test.logits, axis=-1), strict=True))
    values["soft"] = methods.vote_soft(test.logits)
    values["weighted_soft"], vote = fold.learn(methods.fit_weighted_soft)
    values["hard"] = methods.vote_hard(test.logits)
    values["stacking"], chosen = fold.learn(partial(choice.choose, target=TARGET))
    if has_context:
        reading = dialogue.read_fold(fold, chosen.cross_validated, values["stacking"], train_turns)
        values |= {f"dialogue_{kind}": read for kind, read in reading.probabilities.items()}
    said = {model: run.get("input", "text+audio") for model, run in test.runs.items()}
    inputs = {model: INPUTS.get(model, said[model]) for model in test.models}
    notes = notes | {"fitted_on": fold.fitted_on}
    rated, ratings_learned = dimensions.fuse(fold)
    sets = list_sets({model: inputs[model] for model in dimensions.list_models(fold)})
    notes["dimensions"] = dimensions.fit_sets(fold, sets)
    fusion = choice.fit_fusion(rows, chosen, inputs, reading, **notes)
    learned = {
        "weights": dict(zip(test.models, vote.weights.tolist(), strict=True)),
        "temperatures": fusion.temperatures,
        "stacking": {
            "default": choice.DEFAULT,
            "winner": chosen.winner,
            "candidates": chosen.candidates,
        },
        "certain": fusion.certain[test.models]._asdict(),
        "dimensions": ratings_learned,
    }
    return values, rated, fusion, learned | ({"dialogue": reading.learned} if reading else {})


def write_predictions(
    place: Path, results: dict, test: Predictions, pred: dict, probabilities: dict
) -> None:
    """Write the fused predictions and their scores."""
    notice = {name: results[name] for name in ("synthetic", "speaker_norm", "encoder")}
    scored = (results["dimensions"] or {}).get("scores", {})
    areas = results["certainty"]
    rows = [
        {"untied": None}
        | row
        | {name: areas.get(row["method"], {}).get(name) for name in ("aurc", "aurc_ci")}
        | scored.get(row["method"], concordance.no_scores())
        | notice
        for row in results["rows"]
    ]
    for row in rows if results["untied"] else ():
        scores = results["untied"]["scores"][row["method"]]
        row["untied"] = {"rows": results["untied"]["rows"], **scores}
    for method in pred:
        if method not in (*test.models, *test.baselines, "majority"):
            write_array(place / f"ensemble_{method}_pred.npy", pred[method])
            if method in probabilities:
                write_array(place / f"ensemble_{method}_output.npy", probabilities[method])
    write_json(place / "ensemble.json", rows)
    write_json(place / "ensemble_details.json", results)


def show(results: dict, place: Path) -> None:
    """Print the tables of scores, where the others are, and the choice of the stacker."""
    made = tables.make_tables(results)
    shown = [
        made[name] for name in ("scores", "comparisons", "dimensions", "paper") if name in made
    ]
    print(page.write_markdown(results["synthetic"], shown))
    print(f"written: {place}/ensemble.json, ensemble_details.json, ensemble_*.npy, plots/")
    print(f"all tables: {place}/ensemble.md, .tex, .csv; with plots: {place}/report.html")
    score = next(row["accuracy"] for row in results["rows"] if row["method"] == "stacking")
    winner = results["learned"]["stacking"]["winner"]
    print(f"stacking: accuracy {score:.4f} by {winner}, chosen on {results['fitted_on']}")


if __name__ == "__main__":
    settings.run(main)
