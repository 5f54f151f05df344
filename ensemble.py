"""Fuse the three models' predictions, and say how good each of them and each fusion is.

Reads   OUTPUTS/{text,audio,cmbert}_{truth,pred,output,index}.npy, _rows.tsv    test rows
        OUTPUTS/valid/ the same                                 rows held out of training
        OUTPUTS/baseline_{text,audio,both}_*.npy, if they are there: shown beside the others
Writes  OUTPUTS/ensemble_{soft,weighted_soft,hard,stacking}_pred.npy (and _output.npy)
        OUTPUTS/ensemble_dialogue_{past,whole}_*.npy            where the order of turns is known
        OUTPUTS/fusion.json                                     what was fitted, to predict with
        OUTPUTS/ensemble.json, ensemble_details.json, ensemble.md, plots/, report.html

    python ensemble.py

Whatever is fitted is fitted on the held-out rows and never sees a test label. With the test files
alone, the methods that learn are cross-validated on the test rows and do learn from test labels of
other sessions; the tables say so. Of several folds each has a fusion of its own. The dialogue rows
learn from the labels of the training sessions in DATA how emotions follow one another; else only
the report page looks at anything else (transcripts and counts in DATA, curves in OUTPUTS).
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from fusion import (
    changes,
    choice,
    conversation,
    fitting,
    folds,
    origin,
    page,
    parts,
    plots,
    predictions,
    published,
    scoring,
    tables,
    voting,
)
from fusion import curves as training
from fusion.fitting import Rows
from fusion.origin import Corpus
from fusion.predictions import MODELS, Predictions
from pipeline.figures import style
from pipeline.files import read_json, together, write_array, write_json, write_text
from pipeline.record import Work

# ----------------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote, for dialogues and the report; of folds "a,b"
OUTPUTS = "outputs"  # the models' predictions; of several folds: "outputs/fold1,outputs/fold2"
RESTART = False  # yes: also if an earlier run left all of this
RESULTS = ""  # where tables and fused predictions go; empty: to OUTPUTS, of several the first
CONTEXT = True  # also fuse by the turns around: Dialogue (past), Dialogue (whole)
TARGET = "accuracy+macro_f1"  # the fusion is chosen by their mean; accuracy, f1, macro_f1, uar
# ----------------------------------------------------------------------------------------------

FUSED = ("soft", "weighted_soft", "hard", "stacking", "dialogue_past", "dialogue_whole")


def main() -> None:
    folders = [Path(folder.strip()) for folder in OUTPUTS.split(",")]
    place = Path(RESULTS) if RESULTS else folders[0]
    inputs = origin.identify(folders, DATA)
    work = Work("ensemble.py", place, config.settings(globals()), inputs, place / "ensemble")
    if work.is_done():
        show(read_json(place / "ensemble_details.json", "ensemble.py"), place)
        return
    with threadpool_limits(limits=1):  # the same sums on every machine, and no threads to wait for
        compare_methods()
    work.finish()


def compare_methods() -> None:
    """Fuse, score and write: the whole stage."""
    choice.check_target(TARGET)
    fitting.load_lightgbm()  # before minutes of work: it may be what the machine lacks
    every = [folds.read(Path(folder.strip())) for folder in OUTPUTS.split(",")]
    runs = [part.test for part in every]
    test, learn, fitted_on, compared_by = folds.join(every)
    corpus = origin.read_corpus(DATA, runs)
    ablation = origin.read_ablation(test.folder, test) if len(runs) == 1 else []
    histories = training.read_histories(Path(RESULTS or runs[0].folder))
    classics = predictions.join_baselines(runs)
    is_held_out = all(part.is_held_out for part in every)
    with ThreadPoolExecutor(1) as beside:  # LightGBM leaves Python's lock to others
        followed = beside.submit(follow_paper, test, learn, is_held_out)
        pred, probabilities, weighted, choices = fuse(test.logits, classics, learn)
    readings = []
    if CONTEXT:
        plain = probabilities["stacking"]
        readings = conversation.read_folds(every, choices, corpus.told, plain)
        read = conversation.join(readings)
        probabilities |= read
        pred |= {method: values.argmax(axis=-1) for method, values in read.items()}
    known = {model: run.get("known") for model, run in test.runs.items()}
    synthetic = next(filter(None, (run.get("synthetic") for run in test.runs.values())), None)
    of_folds = zip(every, choices, readings or [None] * len(every), strict=True)
    stored = [
        choice.fit_fusion(part.rows, chosen, known, synthetic, part.fitted_on, reading)
        for part, chosen, reading in of_folds
    ]
    fusions = {
        part.test.folder / "fusion.json": fusion for part, fusion in zip(every, stored, strict=True)
    }
    learned = choice.summarise(weighted, choices, stored)
    learned["conversation"] = conversation.summarise(readings) if readings else None
    results = {
        "known": known,
        "synthetic": synthetic,
        "test": folds.describe(test),
        "spread": folds.describe_spread(every, pred["stacking"]),
        "is_held_out": is_held_out,
        "fitted_on": fitted_on,
        "compared_by": compared_by,
        "target": TARGET,
        "runs": test.runs,
        "learned": learned,
        **scoring.evaluate(test, pred, probabilities, followed.result()),
        "parts": parts.score_parts(test, pred, corpus.seen),
        "ablation": ablation,
        "origin": origin.describe(runs, corpus),
    }
    write_results(results, fusions, corpus, histories, test, pred, probabilities)


def fuse(logits: np.ndarray, classics: dict, learn) -> tuple[dict, dict, list, list]:
    """Return predictions (N,) and probabilities (N, C) by method, the weights, the choices.

    classics: logits (N, C) of the baselines, which are scored but never fused.
    """
    probabilities = {"majority": learn(fitting.fit_majority)[0]}
    probabilities |= {name: softmax(rows, axis=-1) for name, rows in classics.items()}
    probabilities |= dict(zip(MODELS, softmax(logits, axis=-1), strict=True))
    probabilities["soft"] = voting.vote_soft(logits)
    probabilities["weighted_soft"], weighted = learn(voting.fit_weighted_soft)
    probabilities["stacking"], choices = learn(partial(choice.choose, target=TARGET))
    pred = {method: values.argmax(axis=-1) for method, values in probabilities.items()}
    pred["hard"] = voting.vote_hard(logits)
    in_order = {method: pred[method] for method in tables.NAMES if method in pred}
    return in_order, probabilities, weighted, choices


def follow_paper(test: Predictions, learn, is_held_out: bool) -> dict:
    """Predict by the published rules; the first learns from the labels that it is scored on."""
    rows = Rows(test.logits, test.truth, folds.choose_groups(test)[0])
    cross_validated = fitting.cross_fit(published.fit_published_stacking, rows)
    in_sample = published.fit_published_stacking(rows).predict(test.logits)
    honest = {}
    if is_held_out:
        held_out = learn(published.fit_published_stacking)[0]
        honest["stacking_honest"] = held_out.argmax(axis=-1)
    return {
        "stacking_in_sample": in_sample.argmax(axis=-1),
        "stacking_cross_validated": cross_validated.argmax(axis=-1),
        **honest,
        "soft": published.published_soft(test.logits),
        "weighted_soft": published.published_weighted_soft(test.logits),
        "hard": published.published_hard(test.logits),
    }


def write_results(
    results: dict,
    fusions: dict,
    corpus: Corpus,
    histories: dict,
    test: Predictions,
    pred: dict,
    probabilities: dict,
) -> None:
    """Write predictions, tables, plots and the report page, and print the tables."""
    outputs = Path(RESULTS or OUTPUTS.split(",")[0].strip())
    made = tables.make_tables(results)
    if results["learned"]["conversation"]:
        made["conversation"] = changes.tabulate(results, test, pred, probabilities, corpus)
    every = [table for section in made.values() for table in section]
    figures = plots.draw_all(outputs / "plots", results, test, pred, probabilities)
    figures |= training.draw_all(outputs / "plots", histories)
    font = style.find_font()
    html = page.write_page(results, made, figures, test, pred, probabilities, corpus, font)
    with together():
        for path, fusion in fusions.items():
            fusion.write(path)
        write_numbers(outputs, results, pred, probabilities)
        write_text(outputs / "ensemble.md", tables.write_markdown(results["synthetic"], every))
        write_text(outputs / "report.html", html)
    if not results["learned"]["conversation"]:  # an earlier run may have read one
        for path in outputs.glob("ensemble_dialogue_*.npy"):
            path.unlink()
    show(results, outputs)


def show(results: dict, outputs: Path) -> None:
    """Print the tables of scores, where the others are, and what stacking came out as."""
    made = tables.make_tables(results)
    print(tables.write_markdown(results["synthetic"], [*made["scores"], *made["paper"]]))
    print(f"written: {outputs}/ensemble.json, ensemble_details.json, ensemble_*.npy, plots/")
    print(f"all tables: {outputs}/ensemble.md; with plots: {outputs}/report.html")
    score = next(row["accuracy"] for row in results["rows"] if row["method"] == "stacking")
    winner = results["learned"]["stacking"]["winner"]
    print(f"stacking: accuracy {score:.4f} by {winner}, chosen {results['compared_by']}")


def write_numbers(outputs: Path, results: dict, pred: dict, probabilities: dict) -> None:
    """Write the fused predictions and all scores."""
    for method in (method for method in FUSED if method in pred):
        write_array(outputs / f"ensemble_{method}_pred.npy", pred[method])
        if method in probabilities:
            write_array(outputs / f"ensemble_{method}_output.npy", probabilities[method])
    notice = {"synthetic": results["synthetic"], "known": results["known"]}
    untied = results["untied"]
    rows = [
        row | {"untied": untied and {"rows": untied["rows"], **untied["scores"][row["method"]]}}
        for row in results["rows"]
    ]
    write_json(outputs / "ensemble.json", [row | notice for row in rows])
    write_json(outputs / "ensemble_details.json", results)


if __name__ == "__main__":
    config.run(main)
