"""What the models say about every utterance: the files that testing writes and the ensemble reads.

For each model `{name}_truth.npy` (int64, N), `{name}_pred.npy` (int64, N), `{name}_output.npy`
(float32 logits, N x 7), `{name}_index.npy` (segment IDs, N), `{name}_rows.tsv` (FACTS of the rows)
and `{name}_run.json` (data_hash, synthetic, speaker_norm, inputs, settings ...). The last three may
be missing, for all models alike. Rows are counted from 0.
Shapes: M models, N rows, C = 7 labels.
"""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.files import LABELS, UserError, naming, read_array, read_bytes, read_json

HELD_OUT = "heldout"  # folder below OUTPUTS: rows that the model was not trained on
BASELINES = ("baseline_text", "baseline_audio", "baseline_both")
FEWEST, MOST = 2, 10  # models to fuse
# Who writes a model's files, and what the model needs of an utterance; others: {name}_test.py and
# the field `inputs` of {name}_run.json.
SCRIPTS = {"text": "text_test.py", "audio": "audio_test.py", "cmbert": "run_classifier.py"}
SCRIPTS |= dict.fromkeys(BASELINES, "baseline.py")
INPUTS = {"text": "text", "audio": "audio", "cmbert": "text+audio"}

# Of the table of preprocess.py. dialogue_number, turn: the place in the order of time of the
# dialogue in its session and of the row in the dialogue; labels: all that are tied, joined by ";".
# Tables of several corpora have `corpus`, too.
FACTS = ("id", "session", "speaker", "scenario", "dialogue_number", "turn", "labels")
FACTS += tuple(f"votes_{label}" for label in LABELS)


@dataclass(frozen=True)
class Predictions:
    """The outputs of all models for the same N utterances in the same order.

    models: M names; truth (N,); logits (M, N, C); ids (N,) or None; facts: a table of FACTS or
    None; runs: model -> the content of {name}_run.json; baselines: name -> logits (N, C), which
    are scored and never fused.
    """

    folder: Path
    models: tuple[str, ...]
    truth: np.ndarray
    logits: np.ndarray
    ids: np.ndarray | None
    facts: pd.DataFrame | None
    runs: dict[str, dict]
    baselines: dict[str, np.ndarray] = field(default_factory=dict)

    def groups(self, kind: str) -> np.ndarray | None:
        """Return `session`, `scenario` (script or impro), `speaker` or `corpus` of every row (N,).

        None without facts, and for the corpus where there is one.
        """
        if self.facts is None or kind not in self.facts:
            return None
        groups = self.facts[kind].astype(str)
        return (groups.str.rstrip("0123456789") if kind == "scenario" else groups).to_numpy(str)

    @property
    def tied(self) -> np.ndarray | None:
        """Tell of every row whether its raters left several labels, (N,) bool; None if unknown."""
        return None if self.facts is None else self.facts["labels"].str.contains(";").to_numpy()

    def select(self, models: tuple[str, ...]) -> np.ndarray:
        """Return the logits of these models, in this order."""
        return self.logits[[self.models.index(model) for model in models]]


def find_models(folder: Path) -> tuple[str, ...]:
    """Return the models that have files in a folder: text, audio, cmbert, then by name."""
    ends = ("_output.npy", "_truth.npy")
    names = {p.name.removesuffix(end) for end in ends for p in folder.glob(f"*{end}")}
    names = {name for name in names if not name.startswith(("ensemble_", "baseline_"))}
    return (*[name for name in INPUTS if name in names], *sorted(names - {*INPUTS}))


def load(folder: Path) -> Predictions:
    """Read and check the outputs of all models; a refusal names the file and the row."""
    models = find_models(folder)
    if not FEWEST <= len(models) <= MOST:
        raise UserError(
            f"{folder} has the outputs (*_output.npy) of {', '.join(models) or 'no model'}: the "
            f"ensemble fuses {FEWEST} to {MOST} models, run their test scripts first"
        )
    has_baselines = any((folder / f"{name}_output.npy").exists() for name in BASELINES)
    baselines = BASELINES if has_baselines else ()
    kinds = ["truth", "pred", "output"]
    kinds += ["index"] * any((folder / f"{model}_index.npy").exists() for model in models)
    has_run = any((folder / f"{model}_run.json").exists() for model in models)
    arrays, runs = {}, {}
    for name in (*models, *baselines):
        script = script_of(name)
        arrays[name] = {k: read_array(folder / f"{name}_{k}.npy", script) for k in kinds}
        check_arrays(folder, name, arrays[name])
        runs[name] = read_json(folder / f"{name}_run.json", script) if has_run else {}
        check_same_rows(folder, models[0], name, arrays)
        paths = [folder / f"{model}_run.json" for model in (models[0], name)]
        check_runs(paths[0], runs[models[0]], paths[1], runs[name], "data_hash")
    norms = {runs[model].get("speaker_norm") for model in models} - {None}
    for name in baselines if norms else ():
        if runs[name].get("speaker_norm") not in {None, *norms}:  # knows what no model knows
            others = " or ".join(sorted(norms))
            raise UserError(
                f"{folder / f'{name}_run.json'}: speaker_norm {runs[name]['speaker_norm']}, of the "
                f"models {others}: run baseline.py --speaker-norm {others}"
            )
    first = arrays[models[0]]
    facts = None
    if "index" in kinds and any((folder / f"{model}_rows.tsv").exists() for model in models):
        facts = [read_facts(folder, model, arrays[model]["index"]) for model in models][0]
    logits = {name: arrays[name]["output"].astype(np.float64) for name in arrays}
    return Predictions(
        folder=folder,
        models=models,
        truth=first["truth"].astype(np.int64),
        logits=np.stack([logits[model] for model in models]),
        ids=first.get("index"),
        facts=facts,
        runs={model: runs[model] for model in models},
        baselines={name: logits[name] for name in baselines},
    )


def check_held_out(test: Predictions, held_out: Predictions) -> None:
    """Refuse held-out rows of other models or data, and test rows among them."""
    check_same_models(test, held_out, "data_hash")
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
        if part.baselines.keys() != first.baselines.keys():
            without, other = (part, first) if first.baselines else (first, part)
            raise UserError(
                f"{without.folder} has no baselines, {other.folder} has: run baseline.py for both"
            )
        for earlier in parts[:number] if part.ids is not None else ():
            path, again = (
                part.folder / f"{first.models[0]}_index.npy",
                np.isin(part.ids, earlier.ids),
            )
            refuse(path, again, "is a test row of an earlier folder too", part.ids)

    def concatenate(every: list, axis: int = 0):
        return None if any(one is None for one in every) else np.concatenate(every, axis)

    has_facts = all(part.facts is not None for part in parts)
    return replace(
        first,
        truth=concatenate([part.truth for part in parts]),
        logits=concatenate([part.logits for part in parts], axis=1),
        ids=concatenate([part.ids for part in parts]),
        facts=pd.concat([part.facts for part in parts], ignore_index=True) if has_facts else None,
        baselines={
            name: concatenate([part.baselines[name] for part in parts]) for name in first.baselines
        },
    )


def read_facts(folder: Path, model: str, ids: np.ndarray) -> pd.DataFrame:
    """Read and check one model's table of its rows."""
    path, script = folder / f"{model}_rows.tsv", script_of(model)
    types = {"id": str, "dialogue_number": np.int64, "turn": np.int64, "labels": str}
    content = io.BytesIO(read_bytes(path, script))
    with naming(path, script):
        table = pd.read_csv(content, sep="\t", quoting=3, keep_default_na=False, encoding="utf-8")
        table = table[[*FACTS, *({"corpus"} & set(table))]].astype(types)
    if len(table) != len(ids):
        raise UserError(f"{path}: {len(table)} rows, {len(ids)} segments{again(model)}")
    refuse(path, table["id"] != ids, "another segment than in the index" + again(model), ids)
    return table


def check_arrays(folder: Path, model: str, arrays: dict) -> None:
    """Check shapes, types and values of one model's arrays (`index` may be absent)."""
    paths = {name: folder / f"{model}_{name}.npy" for name in arrays}
    output, ids, hint = arrays["output"], arrays.get("index"), again(model)
    count = len(output) if output.ndim else 0
    for name, array in arrays.items():
        shape = (count, len(LABELS)) if name == "output" else (count,)
        is_kind = array.dtype.kind in {"output": "f", "index": "U"}.get(name, "iu")
        if array.shape != shape or count == 0 or not is_kind:
            raise UserError(
                f"{paths[name]}: {array.dtype} of shape {array.shape}, where {shape} is expected "
                f"from {paths['output'].name}{hint}"
            )
    refuse(paths["output"], ~np.isfinite(output).all(axis=1), "not a finite number" + hint, ids)
    for name in ("truth", "pred"):
        wrong = (arrays[name] < 0) | (arrays[name] >= len(LABELS))
        refuse(paths[name], wrong, f"not a label id of 0-{len(LABELS) - 1}" + hint, ids)
    chosen = output[np.arange(count), arrays["pred"]]
    message = f"is not the largest column of {paths['output'].name}: files of two runs" + hint
    refuse(paths["pred"], chosen != output.max(axis=1), message, ids)
    if ids is not None:
        repeated = ~np.isin(np.arange(count), np.unique(ids, return_index=True)[1])
        refuse(paths["index"], repeated, "the segment occurs twice" + hint, ids)


def check_same_rows(folder: Path, first: str, model: str, arrays: dict) -> None:
    """Refuse a model whose IDs or truth differ from those of the first model."""
    hint = f": {first} and {model} must be tested on the same data{again(model)}"
    for kind in [kind for kind in ("index", "truth") if kind in arrays[first]]:
        ours, theirs = arrays[model][kind], arrays[first][kind]
        path, other = folder / f"{model}_{kind}.npy", f"{first}_{kind}.npy"
        if len(ours) != len(theirs):
            row = min(len(ours), len(theirs))
            raise UserError(f"{path}, row {row}: {len(ours)} rows, {other} has {len(theirs)}{hint}")
        for row in np.flatnonzero(ours != theirs)[:1]:
            order = " (the same values in another order)" * (sorted(ours) == sorted(theirs))
            raise UserError(
                f"{path}, row {row}: '{ours[row]}' where {other} has '{theirs[row]}'{order}{hint}"
            )


def check_runs(first: Path, run: dict, path: Path, other: dict, *names: str) -> None:
    """Refuse outputs whose run differs from the first one's in fields of {name}_run.json."""
    for name in names:
        if run and other and other.get(name) != run.get(name):
            ours, theirs = (str(each.get(name))[:40] for each in (other, run))
            model = path.name.removesuffix("_run.json")
            raise UserError(f"{path}: {name} {ours}, in {first}: {theirs}{again(model)}")


def check_same_models(first: Predictions, other: Predictions, *names: str) -> None:
    """Refuse outputs of other models, and runs that differ in these fields or in speaker_norm."""
    if other.models != first.models:
        ours, theirs = ", ".join(other.models), ", ".join(first.models)
        raise UserError(
            f"{other.folder} has the outputs of {ours}, {first.folder} of {theirs}: run the test "
            "scripts of what is missing, or remove what is not wanted"
        )
    for model, run in first.runs.items():
        paths = [part.folder / f"{model}_run.json" for part in (first, other)]
        check_runs(paths[0], run, paths[1], other.runs[model], "speaker_norm", *names)


def refuse(path: Path, wrong: np.ndarray, message: str, ids: np.ndarray | None) -> None:
    """Raise a UserError that names the first row where `wrong` is true, if there is one."""
    for row in np.flatnonzero(wrong)[:1]:
        segment = f" ({ids[row]})" if ids is not None else ""
        raise UserError(f"{path}, row {row}{segment}: {message}")


def script_of(model: str) -> str:
    """Return the script that writes a model's files."""
    return SCRIPTS.get(model, f"{model}_test.py")


def again(model: str) -> str:
    return f": run {script_of(model)} again"
