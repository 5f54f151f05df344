"""Fuse the models' predictions, and say how good each of them and each fusion is.

Reads   OUTPUTS/{name}_{truth,pred,output,index}.npy, _rows.tsv, _run.json    test rows of two to
        ten models, whatever their names (text, audio and cmbert for the paper's procedure)
        OUTPUTS/heldout/ the same                               rows held out of training
        OUTPUTS/baseline_{text,audio,both}_*.npy, if they are there: shown beside the others
Writes  OUTPUTS/ensemble_{soft,weighted_soft,hard,stacking}_pred.npy (and _output.npy)
        OUTPUTS/ensemble_dialogue_{past,whole}_*.npy            where the order of turns is known
        OUTPUTS/fusion.json                                     what was fitted, to predict with
        OUTPUTS/ensemble.json, ensemble_details.json, ensemble.md, plots/, report.html

    python ensemble.py

Everything that is fitted is fitted on the held-out rows and never sees a test label. With the test
files alone, the methods that learn are cross-validated on the test rows and do learn from test
labels of other sessions; the tables say so. Of several folds each has a fusion of its own. The
dialogue rows learn from the labels of the training sessions in DATA how emotions follow one
another; otherwise only the report page reads DATA (transcripts and counts).
"""

from common import settings  # first of all: it answers --help

# isort: split

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from common.files import Stage, read_json, write_array, write_json, write_text
from common.plots import find_font
from fusion import choice, conversation, folds, methods, origin, page, paper, plots, scoring, tables
from fusion.fitting import cross_fit
from fusion.paper import PAPER_MODELS
from fusion.predictions import INPUTS, Predictions

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
    inputs = origin.identify(folders, DATA)
    stage = Stage("ensemble.py", place, settings.read(globals()), inputs)
    if not stage.is_done():
        with threadpool_limits(limits=1):  # the same sums on every machine
            fuse_and_score(folders, place, stage.unfinished)
        stage.publish()
    show(read_json(place / "ensemble_details.json", "ensemble.py"), place)


def fuse_and_score(folders: list[Path], place: Path, unfinished: Path) -> None:
    """Fuse, score and write: the whole stage. Other folds' fusions are written to their places."""
    every = [folds.read(folder) for folder in folders]
    test, learn, fitted_on, compared_by = folds.join(every)
    corpus = origin.read_corpus(DATA, [fold.test for fold in every])
    ablation = origin.read_ablation(test) if len(every) == 1 else []
    histories = plots.read_histories(place, test.models)
    is_held_out = all(fold.is_held_out for fold in every)
    with ThreadPoolExecutor(1) as beside:  # LightGBM leaves Python's lock to others
        rules = beside.submit(follow_paper, test, learn, is_held_out)
        probabilities, votes, choices = fuse(test, learn)
    plain = probabilities["stacking"]
    readings = conversation.read_folds(every, choices, corpus.turns, plain) if CONTEXT else []
    probabilities |= conversation.join(readings)
    pred = {name: p.argmax(-1) for name, p in probabilities.items() if p is not None}
    pred["hard"] = methods.vote_hard(test.logits)
    pred = {name: pred[name] for name in probabilities}  # in the order of the tables
    del probabilities["hard"]

    synthetic = next(filter(None, (run.get("synthetic") for run in test.runs.values())), None)
    speaker_norm = {model: run.get("speaker_norm") for model, run in test.runs.items()}
    notes = {"speaker_norm": speaker_norm, "synthetic": synthetic}
    inputs = {m: run.get("inputs", INPUTS.get(m, "text+audio")) for m, run in test.runs.items()}
    parts = zip(every, choices, readings or [None] * len(every), strict=True)
    fusions = [
        choice.fit_fusion(fold.rows, chosen.winner, inputs, reading, fold.fitted_on, notes)
        for fold, chosen, reading in parts
    ]
    learned = choice.summarise(test.models, votes, choices, fusions)
    learned["conversation"] = conversation.summarise(readings) if readings else None
    results = {
        **notes,
        "test": {"rows": folds.describe(test), "models": test.models},
        "is_held_out": is_held_out,
        "fitted_on": fitted_on,
        "compared_by": compared_by,
        "target": TARGET,
        "runs": test.runs,
        "learned": learned,
        **scoring.evaluate(test, pred, probabilities, rules.result(), corpus.seen),
        "ablation": ablation,
        "origin": origin.describe([fold.test for fold in every], corpus),
    }
    figures = plots.draw_all(unfinished / "plots", results, test, pred, probabilities, histories)
    for folder, fusion in zip(folders, fusions, strict=True):
        fusion.write((unfinished if folder == place else folder) / "fusion.json")
    write_results(unfinished, results, test, pred, probabilities, corpus, figures)


def fuse(test: Predictions, learn) -> tuple[dict, list, list]:
    """Return every method's probabilities (N, C), the weighted votes and the choices of the folds.

    learn: of `folds.join`. The baselines are scored and never fused; hard voting has labels alone.
    """
    probabilities = {"majority": learn(methods.fit_majority)[0]}
    probabilities |= {name: softmax(rows, axis=-1) for name, rows in test.baselines.items()}
    probabilities |= dict(zip(test.models, softmax(test.logits, axis=-1), strict=True))
    probabilities["soft"] = methods.vote_soft(test.logits)
    probabilities["weighted_soft"], votes = learn(methods.fit_weighted_soft)
    probabilities["hard"] = None
    probabilities["stacking"], choices = learn(partial(choice.choose, target=TARGET))
    return probabilities, votes, choices


def follow_paper(test: Predictions, learn, is_held_out: bool) -> dict[str, np.ndarray]:
    """Return labels (N,) by the published rules; the first learns from the labels it is scored on.

    {} where one of the paper's models is missing, which is said.
    """
    if missing := [model for model in PAPER_MODELS if model not in test.models]:
        print(f"the paper's procedure is left out: no outputs of {', '.join(missing)}")
        return {}
    logits, rows = test.select(PAPER_MODELS), folds.to_logit_set(test)[0]
    fit = partial(paper.fit_stacking, places=[test.models.index(m) for m in PAPER_MODELS])
    rules = {
        "stacking_in_sample": fit(rows).predict(test.logits).argmax(-1),
        "stacking_cross_validated": cross_fit(fit, rows).argmax(-1),
    }
    if is_held_out:
        rules["stacking_honest"] = learn(fit)[0].argmax(-1)
    rules["soft"], rules["hard"] = paper.vote_soft(logits), paper.vote_hard(logits)
    return rules | {"weighted_soft": paper.vote_weighted_soft(logits)}


def write_results(
    place: Path,
    results: dict,
    test: Predictions,
    pred: dict,
    probabilities: dict,
    corpus: origin.Corpus,
    figures: dict[str, Path],
) -> None:
    """Write fused predictions, tables and the report page."""
    made = tables.make_tables(results)
    if results["learned"]["conversation"]:
        made["conversation"].append(tables.tabulate_changes(test, pred, probabilities, corpus))
    font = find_font()
    html = page.write_page(results, made, figures, test, pred, probabilities, corpus, font)
    every = [table for section in made.values() for table in section]
    notice = {name: results[name] for name in ("synthetic", "speaker_norm")}
    rows = [row | notice for row in results["rows"]]
    for row in rows if results["untied"] else ():
        scores = results["untied"]["scores"][row["method"]]
        row["untied"] = {"rows": results["untied"]["rows"], **scores}
    for method in pred:
        if method not in (*test.models, *test.baselines, "majority"):
            write_array(place / f"ensemble_{method}_pred.npy", pred[method])
            if method in probabilities:
                write_array(place / f"ensemble_{method}_output.npy", probabilities[method])
    write_json(place / "ensemble.json", [{"untied": None} | row for row in rows])
    write_json(place / "ensemble_details.json", results)
    write_text(place / "ensemble.md", tables.write_markdown(results["synthetic"], every))
    write_text(place / "report.html", html)


def show(results: dict, place: Path) -> None:
    """Print the tables of scores, where the others are, and the choice of the stacker."""
    made = tables.make_tables(results)
    print(tables.write_markdown(results["synthetic"], [*made["scores"], *made["paper"]]))
    print(f"written: {place}/ensemble.json, ensemble_details.json, ensemble_*.npy, plots/")
    print(f"all tables: {place}/ensemble.md; with plots: {place}/report.html")
    score = next(row["accuracy"] for row in results["rows"] if row["method"] == "stacking")
    winner = results["learned"]["stacking"]["winner"]
    print(f"stacking: accuracy {score:.4f} by {winner}, chosen {results['compared_by']}")


if __name__ == "__main__":
    settings.run(main)
