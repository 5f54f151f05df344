"""What the models say about every utterance, as the ensemble reads it (files: fusion/outputs.py).

Shapes: M models, N rows, C labels.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.files import LABELS, UserError, naming, read_array, read_json
from fusion.metrics import choose_groups
from fusion.outputs import (
    BASELINES,
    FACTS,
    MEASURES,
    OPTIONAL,
    again,
    check_arrays,
    in_order,
    name_votes,
    read_labels,
    refuse,
    script_of,
)
from fusion.ratings import Ratings, check_same_ratings, join_ratings, read_ratings


@dataclass(frozen=True)
class Predictions:
    """The outputs of all models for the same N utterances in the same order.

    models: M names; labels: C names; truth (N,); logits (M, N, C); ids (N,) or None; facts: a table
    of FACTS and votes, or None; runs: model -> the content of {name}_run.json; baselines: name ->
    logits (N, C), which are scored and never fused; ratings: valence and arousal of those that have
    learned them, or None.
    """

    folder: Path
    models: tuple[str, ...]
    truth: np.ndarray
    logits: np.ndarray
    ids: np.ndarray | None
    facts: pd.DataFrame | None
    runs: dict[str, dict]
    baselines: dict[str, np.ndarray] = field(default_factory=dict)
    ratings: Ratings | None = None
    labels: tuple[str, ...] = LABELS

    def groups(self, kind: str) -> np.ndarray | None:
        """Return `session`, `scenario` (script or impro), `speaker` ... of every row, (N,).

        None without facts, and for one of OPTIONAL that the table lacks.
        """
        if self.facts is None or kind not in self.facts:
            return None
        groups = self.facts[kind].astype(str)
        return (groups.str.rstrip("0123456789") if kind == "scenario" else groups).to_numpy(str)

    def measure(self, kind: str) -> np.ndarray | None:
        """Return one of MEASURES of every row, (N,), nan where unknown; None if none is known."""
        if self.facts is None or kind not in self.facts:
            return None
        return self.facts[kind].to_numpy(np.float64)

    @property
    def tied(self) -> np.ndarray | None:
        """Whether each row's raters left several labels, (N,) bool; None if unknown."""
        return None if self.facts is None else self.facts["labels"].str.contains(";").to_numpy()

    @property
    def votes(self) -> np.ndarray | None:
        """How many raters chose each label, (N, C); None if unknown."""
        if self.facts is None:
            return None
        return self.facts[name_votes(self.labels)].to_numpy(np.float64)

    def resample(self, part: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, str]:
        """Return the groups that the intervals of these rows leave out, (N,), and a caption."""
        known = [self.groups(kind) for kind in ("session", "speaker")]
        known = [None if names is None else names[part] for names in known]
        return choose_groups(*known, len(self.truth[part]))


def find_models(folder: Path) -> tuple[str, ...]:
    """Return the models that have files in a folder: text, audio, cmbert, then by name."""
    ends = ("_output.npy", "_truth.npy")
    names = {p.name.removesuffix(end) for end in ends for p in folder.glob(f"*{end}")}
    names = (name for name in names if not name.endswith("_dims"))  # {model}_dims_truth.npy
    return in_order(name for name in names if not name.startswith(("ensemble_", "baseline_")))


def load(folder: Path, baselines: tuple[str, ...] = BASELINES) -> Predictions:
    """Read and check the outputs of all models; a refusal names the file and the row.

    baselines: which to read beside the models, if they are there.
    """
    models = find_models(folder)
    if not models:
        raise UserError(
            f"{folder} has no model's outputs (*_output.npy): run the test scripts first "
            "(text_test.py ...)"
        )
    has_index, has_run, has_facts = (
        any((folder / f"{model}_{end}").exists() for model in models)
        for end in ("index.npy", "run.json", "rows.tsv")
    )
    kinds = ["truth", "pred", "output", *["index"] * has_index]
    # A corpus without words has none of text.
    ends = ("output.npy", "truth.npy")
    baselines = [n for n in baselines if any((folder / f"{n}_{end}").exists() for end in ends)]
    arrays, runs, first = {}, {}, models[0]
    for name in (*models, *baselines):
        script = script_of(folder, name)
        run = folder / f"{name}_run.json"
        runs[name] = read_json(run, script) if has_run else {}
        with naming(run, script):
            labels = read_labels(runs[name])
        arrays[name] = {k: read_array(folder / f"{name}_{k}.npy", script) for k in kinds}
        check_arrays(folder, name, arrays[name], len(labels))
        check_same_rows(folder, first, name, arrays)
        for own in ("data_hash", "labels"):
            check_same_run(folder, name, runs[name], folder / f"{first}_run.json", runs[first], own)
    norms = {runs[model].get("speaker_norm") for model in models} - {None}
    for name in baselines if norms else ():
        norm, path = runs[name].get("speaker_norm"), folder / f"{name}_run.json"
        if norm not in {None, *norms}:  # the baseline knows what no model knows
            others = " or ".join(sorted(norms))
            raise UserError(
                f"{path}: speaker_norm {norm}, of the models {others}: run baseline.py "
                f"--speaker-norm {others}"
            )
    ids, facts = arrays[first].get("index"), None
    if ids is not None and has_facts:
        facts = [read_facts(folder, model, ids, labels) for model in models][0]
    ratings = read_ratings(folder, runs, ids, len(arrays[first]["truth"]))
    logits = {name: arrays[name]["output"].astype(np.float64) for name in arrays}
    return Predictions(
        folder=folder,
        models=models,
        truth=arrays[first]["truth"].astype(np.int64),
        logits=np.stack([logits[model] for model in models]),
        ids=ids,
        facts=facts,
        runs={model: runs[model] for model in models},
        baselines={name: logits[name] for name in baselines},
        ratings=ratings,
        labels=labels,
    )


def check_held_out(test: Predictions, held_out: Predictions) -> None:
    """Refuse held-out rows of other models or data, and test rows among them."""
    check_same_models(test, held_out, "data_hash")
    places = test.folder, test.ratings, held_out.folder, held_out.ratings
    check_same_ratings(test.models, *places)
    if test.ids is not None and held_out.ids is not None:
        path = held_out.folder / f"{test.models[0]}_index.npy"
        refuse(path, np.isin(held_out.ids, test.ids), "is a test row as well", held_out.ids)


def join(parts: list[Predictions]) -> Predictions:
    """Return the rows of several runs (folds) as one, in order; no segment may be in two of them.

    IDs and facts are kept if all parts have them; runs are those of the first.
    """
    first = parts[0]
    for number, part in enumerate(parts[1:], 1):
        check_same_models(first, part, "synthetic")
        check_same_models(first, part, "labels")
        if part.baselines.keys() != first.baselines.keys():
            without, other = (part, first) if first.baselines else (first, part)
            raise UserError(
                f"{without.folder} has no baselines, {other.folder} has: run baseline.py for both"
            )
        places = first.folder, first.ratings, part.folder, part.ratings
        check_same_ratings((*first.models, *first.baselines), *places)
        path = part.folder / f"{first.models[0]}_index.npy"
        for earlier in parts[:number] if part.ids is not None else ():
            again = np.isin(part.ids, earlier.ids)
            refuse(path, again, "is a test row of an earlier folder too", part.ids)
    has_ids = all(part.ids is not None for part in parts)
    has_facts = all(part.facts is not None for part in parts)
    return replace(
        first,
        truth=np.concatenate([part.truth for part in parts]),
        logits=np.concatenate([part.logits for part in parts], axis=1),
        ids=np.concatenate([part.ids for part in parts]) if has_ids else None,
        facts=pd.concat([part.facts for part in parts], ignore_index=True) if has_facts else None,
        baselines={
            name: np.concatenate([part.baselines[name] for part in parts])
            for name in first.baselines
        },
        ratings=join_ratings([part.ratings for part in parts]),
    )


def read_facts(folder: Path, model: str, ids: np.ndarray, labels: tuple[str, ...]) -> pd.DataFrame:
    """Read and check one model's table of its rows."""
    path, script = folder / f"{model}_rows.tsv", script_of(folder, model)
    votes = name_votes(labels)
    words = dict.fromkeys(("id", "speaker", "scenario", "labels", *OPTIONAL), str)  # "007", too
    numbers = {"dialogue_number": np.int64, "turn": np.int64} | dict.fromkeys(votes, np.float64)
    blanks = {name: [""] for name in MEASURES}
    with naming(path, script):
        style = {"sep": "\t", "quoting": 3, "keep_default_na": False, "encoding": "utf-8"}
        table = pd.read_csv(path, dtype=words, na_values=blanks, **style)
        optional = [fact for fact in (*OPTIONAL, *MEASURES) if fact in table]
        numbers |= {fact: np.float64 for fact in optional if fact in MEASURES}
        table = table[[*FACTS, *votes, *optional]].astype(numbers)
    if len(table) != len(ids):
        raise UserError(f"{path}: {len(table)} rows, {len(ids)} segments{again(folder, model)}")
    message = "another segment than in the index" + again(folder, model)
    refuse(path, table["id"] != ids, message, ids)
    counts = table[votes].to_numpy()
    message = "the votes are no counts" + again(folder, model)
    refuse(path, ~((counts >= 0) & (counts % 1 == 0)).all(axis=1), message, ids)
    return table


def check_same_rows(folder: Path, first: str, model: str, arrays: dict) -> None:
    """Refuse a model whose IDs or truth differ from those of the first model."""
    hint = f": {first} and {model} must be tested on the same data{again(folder, model)}"
    for kind in [kind for kind in ("index", "truth") if kind in arrays[first]]:
        ours, theirs = arrays[model][kind], arrays[first][kind]
        path, other = folder / f"{model}_{kind}.npy", f"{first}_{kind}.npy"
        if len(ours) != len(theirs):
            raise UserError(f"{path}: {len(ours)} rows, {other} has {len(theirs)}{hint}")
        refuse(path, ours != theirs, f"not as in {other}{hint}", arrays[model].get("index"))


def check_same_run(
    folder: Path, model: str, run: dict, first: Path, first_run: dict, field: str = "data_hash"
) -> None:
    """Refuse outputs whose run differs in a field of {name}_run.json from that of `first`."""
    if run and first_run and run.get(field) != first_run.get(field):
        ours, theirs = (str(each.get(field))[:40] for each in (run, first_run))
        path = folder / f"{model}_run.json"
        raise UserError(f"{path}: {field} {ours}, in {first}: {theirs}{again(folder, model)}")


def check_same_models(first: Predictions, other: Predictions, field: str) -> None:
    """Refuse outputs of other models, and runs that differ in this field or in speaker_norm."""
    if other.models != first.models:
        ours, theirs = ", ".join(other.models), ", ".join(first.models)
        raise UserError(
            f"{other.folder} has the outputs of {ours}, {first.folder} of {theirs}: test what is "
            "missing, or remove what is not wanted"
        )
    for model, run in first.runs.items():
        path = first.folder / f"{model}_run.json"
        for name in ("speaker_norm", field):
            check_same_run(other.folder, model, other.runs[model], path, run, name)
