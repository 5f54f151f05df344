"""Fuse the three models' predictions, and say how good each of them and each fusion is.

Reads   OUTPUTS/{text,audio,cmbert}_{truth,pred,output,index}.npy, _rows.tsv    test rows
        OUTPUTS/valid/ the same                                 rows held out of training
Writes  OUTPUTS/ensemble_{soft,weighted_soft,hard,stacking}_pred.npy (and _output.npy)
        OUTPUTS/ensemble.json, ensemble_details.json, ensemble.md, plots/, report.html

    python ensemble.py

Whatever is fitted is fitted on the held-out rows and never sees a test label. With the test files
alone, the methods that learn are cross-validated on the test rows, and the tables say so. Only the
report page looks at anything else (transcripts and counts in DATA, training curves in OUTPUTS).
"""

from pathlib import Path

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from pipeline import config
from pipeline.evaluation import (
    fitting,
    page,
    predictions,
    published,
    scoring,
    stacking,
    tables,
    voting,
)
from pipeline.evaluation.fitting import Rows
from pipeline.evaluation.predictions import MODELS, Predictions
from pipeline.figures import ensemble as plots
from pipeline.figures import style, training
from pipeline.files import write_array, write_json, write_text

# ----------------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote; for the report page only
OUTPUTS = "outputs"  # the models' predictions; results go here as well
# ----------------------------------------------------------------------------------------------

FUSED = ("soft", "weighted_soft", "hard", "stacking")


def main() -> None:
    with threadpool_limits(limits=1):  # the same sums on every machine, and no threads to wait for
        compare_methods()


def compare_methods() -> None:
    """Fuse, score and write: the whole stage."""
    test, held_out = read_predictions(Path(OUTPUTS))
    learn, fitted_on, compared_by = choose_rows(test, held_out)
    pred, probabilities, learned = fuse(test.logits, learn)
    results = {
        "known": {model: run.get("known") for model, run in test.runs.items()},
        "synthetic": next(filter(None, (r.get("synthetic") for r in test.runs.values())), None),
        "test": describe(test),
        "fitted_on": fitted_on,
        "compared_by": compared_by,
        "runs": test.runs,
        "learned": learned,
        **scoring.evaluate(test, pred, probabilities, follow_paper(test, learn)),
    }
    write_results(results, test, pred, probabilities)


def read_predictions(outputs: Path) -> tuple[Predictions, Predictions | None]:
    """Read the test rows and, if any model wrote them, the held-out rows."""
    test = predictions.load(outputs)
    print(f"test rows: {describe(test)} from {outputs}")
    if not any((outputs / "valid").glob("*_output.npy")):
        print(f"no held-out rows in {outputs / 'valid'}: cross-validation on the test rows instead")
        return test, None
    held_out = predictions.load(outputs / "valid")
    predictions.check_pair(test, held_out)
    print(f"held-out rows: {describe(held_out)} from {outputs / 'valid'}")
    return test, held_out


def describe(rows: Predictions) -> str:
    """Say how many rows there are, of how many sessions and speakers."""
    if rows.groups("speaker") is None:
        return f"{len(rows.truth)} rows without known segment IDs"
    numbers = {kind: len(np.unique(rows.groups(kind))) for kind in ("session", "speaker")}
    counts = [f"{number} {kind}{'s' * (number > 1)}" for kind, number in numbers.items()]
    return f"{len(rows.truth)} rows of {', '.join(counts)}"


def choose_rows(test: Predictions, held_out: Predictions | None) -> tuple:
    """Return learn(fit) -> (probabilities of the test rows, what was learned), and two notes."""
    if held_out is not None:
        speakers = held_out.groups("speaker")
        rows = Rows(held_out.logits, held_out.truth, speakers)
        by = "by row" if speakers is None else "by speaker"

        def learn(fit) -> tuple[np.ndarray, dict]:
            fitted = fit(rows)
            return fitted.predict(test.logits), fitted.learned

        return learn, f"held-out rows ({describe(held_out)})", f"{by} on the held-out rows"
    sessions = test.groups("session")
    rows = Rows(test.logits, test.truth, sessions)
    by = "by row (no segment IDs)" if sessions is None else "by session"

    def learn(fit) -> tuple[np.ndarray, dict]:
        return fitting.cross_fit(fit, rows), fit(rows).learned

    return learn, f"the test rows themselves, cross-validated {by}", f"{by} on the test rows"


def fuse(logits: np.ndarray, learn) -> tuple[dict, dict, dict]:
    """Return predictions (N,), probabilities (N, C) and what was learned, each by method."""
    learned = {}
    probabilities = {"majority": learn(fitting.fit_majority)[0]}
    probabilities |= dict(zip(MODELS, softmax(logits, axis=-1), strict=True))
    probabilities["soft"] = voting.vote_soft(logits)
    probabilities["weighted_soft"], learned["weighted_soft"] = learn(voting.fit_weighted_soft)
    probabilities["stacking"], learned["stacking"] = learn(stacking.fit_stacking)
    pred = {method: values.argmax(axis=-1) for method, values in probabilities.items()}
    pred["hard"] = voting.vote_hard(logits)
    return {method: pred[method] for method in tables.NAMES}, probabilities, learned


def follow_paper(test: Predictions, learn) -> dict:
    """Predict by the published rules; the first learns from the labels that it is scored on."""
    rows = Rows(test.logits, test.truth, None)
    in_sample = published.fit_published_stacking(rows).predict(test.logits)
    return {
        "stacking_in_sample": in_sample.argmax(axis=-1),
        "stacking_honest": learn(published.fit_published_stacking)[0].argmax(axis=-1),
        "soft": published.published_soft(test.logits),
        "weighted_soft": published.published_weighted_soft(test.logits),
        "hard": published.published_hard(test.logits),
    }


def write_results(results: dict, test: Predictions, pred: dict, probabilities: dict) -> None:
    """Write predictions, tables, plots and the report page, and print the tables."""
    outputs = Path(OUTPUTS)
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
    write_text(outputs / "ensemble.md", tables.write_markdown(results["synthetic"], made))
    # On the screen the scores stand last, where they are seen.
    print(tables.write_markdown(results["synthetic"], [*made[1:], made[0]]))
    figures = plots.draw_all(outputs / "plots", results, test, pred, probabilities)
    figures |= training.draw_all(outputs / "plots", outputs)
    font = style.find_font()
    html = page.write_page(results, made, figures, test, pred, probabilities, Path(DATA), font)
    write_text(outputs / "report.html", html)
    print(f"written: {outputs}/ensemble.json, ensemble.md, ensemble_*.npy and {outputs}/plots/")
    print(f"look at: {outputs}/report.html")


if __name__ == "__main__":
    config.run(main)
