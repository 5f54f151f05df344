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

from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from common.files import (
    Stage,
    read_bytes,
    read_json,
    write_array,
    write_bytes,
    write_json,
    write_text,
)
from fusion import choice, dialogue, methods, paper, plots, scoring, tables
from fusion.corpus import Corpus, describe, identify, read_corpus
from fusion.fitting import Fold, average, join_folds, read_fold
from fusion.fitting import describe as describe_rows
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
    stage = Stage("ensemble.py", place, settings.read(globals()), identify(folders, DATA))
    if not stage.is_done():
        with threadpool_limits(limits=1):  # the same sums on every machine
            fuse_and_score(folders, stage.unfinished)
        stage.publish()
    if len(folders) > 1 or folders[0] != place:  # each fold predicts by its own fusion
        for number, folder in enumerate(folders):
            fitted = read_bytes(place / name_fusion(folders, number), "ensemble.py")
            write_bytes(folder / "fusion.json", fitted)
    show(read_json(place / "ensemble_details.json", "ensemble.py"), place)


def name_fusion(folders: list[Path], number: int) -> str:
    """Return the name of a fold's fusion among the results."""
    return f"fusion_fold{number}.json" if len(folders) > 1 else "fusion.json"


def fuse_and_score(folders: list[Path], place: Path) -> None:
    """Fuse, score and write to a place: the whole stage."""
    every = [read_fold(folder) for folder in folders]
    test, learn, fitted_on = join_folds(every)
    corpus = read_corpus(DATA, [fold.test for fold in every])
    is_held_out = all(fold.is_held_out for fold in every)
    rules = paper.apply_rules(test, learn, is_held_out)
    probabilities, votes, choices = fuse(test, learn)
    readings = read_dialogues(every, choices, corpus, probabilities["stacking"])
    for kind in dialogue.KINDS if readings else ():
        parts = [reading.probabilities[kind] for reading in readings]
        probabilities[f"dialogue_{kind}"] = np.concatenate(parts)
    pred = {
        name: methods.vote_hard(test.logits) if name == "hard" else rows.argmax(-1)
        for name, rows in probabilities.items()
    }
    del probabilities["hard"]

    synthetic = next(filter(None, (run.get("synthetic") for run in test.runs.values())), None)
    speaker_norm = {model: run.get("speaker_norm") for model, run in test.runs.items()}
    notes = {"speaker_norm": speaker_norm, "synthetic": synthetic}
    inputs = {m: run.get("inputs", INPUTS.get(m, "text+audio")) for m, run in test.runs.items()}
    fusions = []
    for number, fold in enumerate(every):
        reading = readings[number] if readings else None
        winner, fitted_on_fold = choices[number].winner, fold.fitted_on
        fusions.append(choice.fit_fusion(fold.rows, winner, inputs, reading, fitted_on_fold, notes))
        fusions[-1].write(place / name_fusion(folders, number))
    learned = choice.summarise(test.models, votes, choices, fusions)
    learned["dialogue"] = average([reading.learned for reading in readings]) if readings else None
    ablation = folders[0] / "cmbert_ablation.json"  # of several folds, the first one's
    results = {
        **notes,
        "test": {"rows": describe_rows(test), "models": test.models},
        "is_held_out": is_held_out,
        "fitted_on": fitted_on,
        "target": TARGET,
        "runs": test.runs,
        "learned": learned,
        **scoring.evaluate(test, pred, probabilities, rules, corpus.seen),
        "ablation": read_json(ablation, "run_classifier.py") if ablation.is_file() else [],
        "origin": describe([fold.test for fold in every], corpus),
    }
    histories = plots.read_histories(folders[0], test.models)
    shown = {m: pred[m] for m in (*test.models, "soft", "weighted_soft", "hard", "stacking")}
    figures = plots.draw_all(place / "plots", results, test.truth, shown, histories)
    write_results(place, results, test, pred, probabilities, corpus, figures)


def fuse(test: Predictions, learn) -> tuple[dict, list, list]:
    """Return every method's probabilities (N, C), the weighted votes and the choices of the folds.

    learn: of `join_folds`. The baselines are scored and never fused; hard voting has labels alone.
    """
    probabilities = {"majority": learn(methods.fit_majority)[0]}
    probabilities |= {name: softmax(rows, axis=-1) for name, rows in test.baselines.items()}
    probabilities |= dict(zip(test.models, softmax(test.logits, axis=-1), strict=True))
    probabilities["soft"] = methods.vote_soft(test.logits)
    probabilities["weighted_soft"], votes = learn(methods.fit_weighted_soft)
    probabilities["hard"] = None
    probabilities["stacking"], choices = learn(partial(choice.choose, target=TARGET))
    return probabilities, votes, choices


def read_dialogues(
    every: list[Fold], choices: list[choice.Choice], corpus: Corpus, stacked: np.ndarray
) -> list[dialogue.Reading]:
    """Read the test rows of every fold; [] where that is not wanted or their order not on record.

    stacked (N, C): stacking's probabilities of the test rows of all folds.
    """
    if not CONTEXT:
        return []
    if any(fold.facts is None or fold.test.facts is None for fold in every):
        print("no dialogue rows: *_rows.tsv with the order of the turns is missing")
        return []
    ends = np.cumsum([len(fold.test.truth) for fold in every])
    turns = corpus.turns or [None] * len(every)
    return [
        dialogue.read_fold(fold, chosen.cross_validated, plain, train_turns)
        for fold, chosen, plain, train_turns in zip(
            every, choices, np.split(stacked, ends[:-1]), turns, strict=True
        )
    ]


def write_results(
    place: Path,
    results: dict,
    test: Predictions,
    pred: dict,
    probabilities: dict,
    corpus: Corpus,
    figures: dict[str, Path],
) -> None:
    """Write fused predictions, tables and the report page."""
    made = tables.make_tables(results)
    write_text(place / "ensemble.md", tables.write_markdown(results["synthetic"], made.values()))
    made["mistakes"] = tables.tabulate_mistakes(
        test, pred, probabilities["stacking"].max(1), corpus
    )
    write_text(place / "report.html", tables.write_page(results, made, figures))
    notice = {name: results[name] for name in ("synthetic", "speaker_norm")}
    rows = [{"untied": None} | row | notice for row in results["rows"]]
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
    shown = [made[name] for name in ("scores", "comparisons", "paper") if name in made]
    print(tables.write_markdown(results["synthetic"], shown))
    print(f"written: {place}/ensemble.json, ensemble_details.json, ensemble_*.npy, plots/")
    print(f"all tables: {place}/ensemble.md; with plots: {place}/report.html")
    score = next(row["accuracy"] for row in results["rows"] if row["method"] == "stacking")
    winner = results["learned"]["stacking"]["winner"]
    print(f"stacking: accuracy {score:.4f} by {winner}, chosen on {results['fitted_on']}")


if __name__ == "__main__":
    settings.run(main)
