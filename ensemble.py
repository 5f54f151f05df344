"""Fuse the three models' predictions, and say how good each of them and each fusion is.

Reads   OUTPUTS/{text,audio,cmbert}_{truth,pred,output,index}.npy, _rows.tsv    test rows
        OUTPUTS/valid/ the same                                 rows held out of training
        OUTPUTS/baseline_{text,audio,both}_*.npy, if they are there: shown beside the others
Writes  OUTPUTS/ensemble_{soft,weighted_soft,hard,stacking}_pred.npy (and _output.npy)
        OUTPUTS/fusion.json                                     what was fitted, to predict with
        OUTPUTS/ensemble.json, ensemble_details.json, ensemble.md, plots/, report.html

    python ensemble.py

Whatever is fitted is fitted on the held-out rows and never sees a test label. With the test files
alone, the methods that learn are cross-validated on the test rows and do learn from test labels of
other sessions; the tables say so. Of several folds each has a fusion of its own. Only the report
page looks at anything else (transcripts and counts in DATA, training curves in OUTPUTS).
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from pipeline import config
from pipeline.evaluation import (
    choice,
    fitting,
    folds,
    origin,
    page,
    parts,
    predictions,
    published,
    scoring,
    tables,
    voting,
)
from pipeline.evaluation.fitting import Rows
from pipeline.evaluation.origin import Corpus
from pipeline.evaluation.predictions import MODELS, Predictions
from pipeline.figures import ensemble as plots
from pipeline.figures import style, training
from pipeline.files import write_array, write_json, write_text

# ----------------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote; for the report page only
OUTPUTS = "outputs"  # the models' predictions; of several folds: "outputs/fold1,outputs/fold2"
RESULTS = ""  # where tables and fused predictions go; empty: to OUTPUTS, of several the first
TARGET = "accuracy+macro_f1"  # the fusion is chosen by their mean; accuracy, f1, macro_f1, uar
# ----------------------------------------------------------------------------------------------

FUSED = ("soft", "weighted_soft", "hard", "stacking")


def main() -> None:
    with threadpool_limits(limits=1):  # the same sums on every machine, and no threads to wait for
        compare_methods()


def compare_methods() -> None:
    """Fuse, score and write: the whole stage."""
    choice.check_target(TARGET)
    every = [folds.read(Path(folder.strip())) for folder in OUTPUTS.split(",")]
    runs = [part.test for part in every]
    corpus = origin.read_corpus(DATA, runs)
    test, learn, fitted_on, compared_by = folds.join(every)
    classics = predictions.join_baselines(runs)
    pred, probabilities, weighted, choices = fuse(test.logits, classics, learn)
    known = {model: run.get("known") for model, run in test.runs.items()}
    synthetic = next(filter(None, (run.get("synthetic") for run in test.runs.values())), None)
    stored = [
        choice.fit_fusion(part.rows, chosen, known, synthetic, part.fitted_on)
        for part, chosen in zip(every, choices, strict=True)
    ]
    for part, fusion in zip(every, stored, strict=True):
        fusion.write(part.test.folder / "fusion.json")
    results = {
        "known": known,
        "synthetic": synthetic,
        "test": folds.describe(test),
        "fitted_on": fitted_on,
        "compared_by": compared_by,
        "target": TARGET,
        "runs": test.runs,
        "learned": choice.summarise(weighted, choices, stored),
        **scoring.evaluate(test, pred, probabilities, follow_paper(test, learn)),
        "parts": parts.score_parts(test, pred, corpus.seen),
        "ablation": origin.read_ablation(test.folder, test) if len(runs) == 1 else [],
        "origin": origin.describe(runs, corpus),
    }
    write_results(results, corpus, test, pred, probabilities)


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


def follow_paper(test: Predictions, learn) -> dict:
    """Predict by the published rules; the first learns from the labels that it is scored on."""
    rows = Rows(test.logits, test.truth, folds.choose_groups(test)[0])
    cross_validated = fitting.cross_fit(published.fit_published_stacking, rows)
    in_sample = published.fit_published_stacking(rows).predict(test.logits)
    return {
        "stacking_in_sample": in_sample.argmax(axis=-1),
        "stacking_cross_validated": cross_validated.argmax(axis=-1),
        "stacking_honest": learn(published.fit_published_stacking)[0].argmax(axis=-1),
        "soft": published.published_soft(test.logits),
        "weighted_soft": published.published_weighted_soft(test.logits),
        "hard": published.published_hard(test.logits),
    }


def write_results(
    results: dict, corpus: Corpus, test: Predictions, pred: dict, probabilities: dict
) -> None:
    """Write predictions, tables, plots and the report page, and print the tables."""
    outputs = Path(RESULTS or OUTPUTS.split(",")[0].strip())
    for method in FUSED:
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
    made = tables.make_tables(results)
    every = [table for section in made.values() for table in section]
    write_text(outputs / "ensemble.md", tables.write_markdown(results["synthetic"], every))
    print(tables.write_markdown(results["synthetic"], [*made["scores"], *made["paper"]]))
    figures = plots.draw_all(outputs / "plots", results, test, pred, probabilities)
    figures |= training.draw_all(outputs / "plots", outputs)
    font = style.find_font()
    html = page.write_page(results, made, figures, test, pred, probabilities, corpus, font)
    write_text(outputs / "report.html", html)
    print(f"written: {outputs}/ensemble.json, ensemble_details.json, ensemble_*.npy, plots/")
    print(f"all tables: {outputs}/ensemble.md; with plots: {outputs}/report.html")
    score = next(row["accuracy"] for row in results["rows"] if row["method"] == "stacking")
    winner = results["learned"]["stacking"]["winner"]
    print(f"stacking: accuracy {score:.4f} by {winner}, chosen {results['compared_by']}")


if __name__ == "__main__":
    config.run(main)
