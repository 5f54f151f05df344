"""What the conversation adds, as tables: on held-out rows, and where it changed a verdict."""

import numpy as np

from fusion.origin import Corpus
from fusion.predictions import Predictions
from fusion.tables import NAMES, Table, describe_known, number
from pipeline.labels import LABELS, LABELS_KO

EXAMPLES = 10  # changed verdicts shown
ROWS = {"plain": "Stacking", "past": "Dialogue (past)", "whole": "Dialogue (whole)"}


def tabulate(
    results: dict, test: Predictions, pred: dict, probabilities: dict, corpus: Corpus
) -> list[Table]:
    """Return the tables; results: see ensemble.py; pred, probabilities: by method."""
    held_out = tabulate_held_out(results["learned"]["conversation"])
    changed = tabulate_changes(test, pred, probabilities, corpus)
    known = describe_known(results["known"])
    return [table._replace(note=table.note + known) for table in (held_out, changed)]


def tabulate_held_out(learned: dict) -> Table:
    rows = []
    for kind, scores in learned["held_out"].items():
        used = learned["used"].get(kind, [True])
        said = f"{sum(used)} of {len(used)} folds" if len(used) > 1 else "yes" if used[0] else "no"
        cells = [number(scores[name]) for name in ("log_loss", "accuracy", "macro_f1")]
        rows.append([ROWS[kind], *cells, f"{scores['lead']:+.4f}", f"{scores['error']:.4f}", said])
    turns = ", ".join(f"{count:,}" for count in dict.fromkeys(learned["turns"]))
    precision = ", ".join(f"{value:g}" for value in dict.fromkeys(learned["precision"]))
    note = (
        f"How emotions follow one another is learned from {turns} labelled turns of the training "
        f"sessions (precision of the prior, chosen across sessions: {precision}). Scores of the "
        "held-out rows by transitions of other sessions. Lead: log loss saved a row. What loses "
        "more than a standard error, over sessions, is not used: its row in the scores is "
        "stacking's."
    )
    header = ["", "Log loss", "Accuracy", "Macro F1", "Lead", "Standard error", "Used"]
    return Table("What the conversation tells of held-out rows", note, header, rows)


def tabulate_changes(test: Predictions, pred: dict, probabilities: dict, corpus: Corpus) -> Table:
    """Return the test rows whose verdict the past of the dialogue changed most surely."""
    before, after = pred["stacking"], pred["dialogue_past"]
    changed = np.flatnonzero(before != after)
    right = {name: int((pred[name][changed] == test.truth[changed]).sum()) for name in pred}
    sure = probabilities["dialogue_past"][changed, after[changed]]
    rows = []
    for row in changed[np.argsort(-sure, kind="stable")][:EXAMPLES]:
        segment = str(test.ids[row]) if test.ids is not None else f"row {row}"
        said = corpus.transcripts[row] if corpus.transcripts is not None else "-"
        labels = [test.truth[row], before[row], after[row], pred["dialogue_whole"][row]]
        verdicts = [f"{LABELS[label]} {LABELS_KO[label]}" for label in labels]
        rows.append([segment, said, str(test.facts["turn"].iloc[row]), *verdicts])
    note = (
        f"The turns before changed {len(changed)} of {len(before)} verdicts: of these stacking had "
        f"{right['stacking']} right, the dialogue {right['dialogue_past']}. The surest ones."
    )
    names = [NAMES[name] for name in ("stacking", "dialogue_past", "dialogue_whole")]
    header = ["Segment", "Transcript", "Turn", "True", *names]
    return Table("Where the conversation changed the verdict", note, header, rows)
