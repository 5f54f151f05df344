"""What the models say about every utterance: the files between the test stages and the ensemble.

For each model `{model}_truth.npy` (int64, N), `{model}_pred.npy` (int64, N), `{model}_output.npy`
(float32 logits, N x 7), `{model}_index.npy` (segment IDs, N), `{model}_rows.tsv` (what is known of
the N rows beside their truth: FACTS) and `{model}_run.json` (how they came about: data hash, seed,
whether the corpus is synthetic). The last three may be missing, for all models alike. The same
files of BASELINES may stand beside them. Rows are counted from 0.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.files import (
    UserError,
    read_array,
    read_bytes,
    read_json,
    write_array,
    write_json,
    write_text,
)
from pipeline.labels import LABELS

MODELS = ("text", "audio", "cmbert")
BASELINES = ("baseline_text", "baseline_audio", "baseline_both")
MADE_BY = {"text": "text_test.py", "audio": "audio_test.py", "cmbert": "run_classifier.py"}
MADE_BY |= dict.fromkeys(BASELINES, "baseline.py")

# Of the table of preprocess.py. dialogue_number, turn: the place in the order of time of the
# dialogue, which is one scenario of one session, and of the row in it; labels: all that are tied,
# joined by ";". Tables of several corpora have `corpus`, too.
FACTS = ("id", "session", "speaker", "scenario", "dialogue_number", "turn", "labels")
FACTS += tuple(f"votes_{label}" for label in LABELS)

# Sess01_script01_F001 (KEMDy19, speaker Sess01F), Sess01_script01_User002M_001 (KEMDy20, User002M)
SEGMENT = re.compile(r"(Sess\d+)_(script|impro)\d+_(?:([FM])\d+|(User\d+[FM]?)_\d+)")


@dataclass(frozen=True)
class Predictions:
    """The three models' outputs for the same N utterances in the same order.

    truth (N,); logits (3, N, 7) in the order of MODELS; ids (N,) or None; facts: a table of FACTS
    or None; runs: model -> its run.
    """

    folder: Path
    truth: np.ndarray
    logits: np.ndarray
    ids: np.ndarray | None
    facts: pd.DataFrame | None
    runs: dict

    @property
    def pred(self) -> np.ndarray:
        """Label ids that each model predicts, (3, N)."""
        return self.logits.argmax(axis=2)

    def groups(self, kind: str) -> np.ndarray | None:
        """Return `session`, `scenario` (script or impro), `speaker` or `corpus` of every row.

        Without facts the segment IDs are asked; None if they do not tell, and of a single corpus.
        """
        if kind == "corpus" and (self.facts is None or kind not in self.facts):
            return None
        if self.facts is not None:
            groups = self.facts[kind].astype(str)
            return (groups.str.rstrip("0123456789") if kind == "scenario" else groups).to_numpy(str)
        matches = (
            [SEGMENT.fullmatch(segment) for segment in self.ids] if self.ids is not None else []
        )
        if not matches or not all(matches):
            return None
        if kind == "session":
            return np.array([match[1] for match in matches])
        if kind == "scenario":
            return np.array([match[2] for match in matches])
        return np.array([match[4] or f"{match[1]}{match[3]}" for match in matches])

    @property
    def tied(self) -> np.ndarray | None:
        """Tell of every row whether its raters left several labels, (N,) bool; None if unknown."""
        if self.facts is None:
            return None
        return self.facts["labels"].str.contains(";").to_numpy()


def write(
    folder: Path | str, model: str, ids, truth, logits, run: dict, facts: pd.DataFrame | None = None
) -> None:
    """Write one model's outputs for N utterances, in their order.

    ids, truth (N,), logits (N, 7); run: JSON with at least `data_hash` and `synthetic` (a notice
    that every printed score repeats, or None); facts: a table with at least the columns FACTS.
    """
    folder = Path(folder)
    arrays = {
        "truth": np.asarray(truth, np.int64),
        "pred": np.asarray(logits).argmax(axis=1).astype(np.int64),
        "output": np.asarray(logits, np.float32),
        "index": np.asarray(ids, np.str_),
    }
    check_one(folder, model, arrays)
    for name, array in arrays.items():
        write_array(folder / f"{model}_{name}.npy", array)
    if facts is not None:
        content = take_facts(facts).to_csv(sep="\t", index=False, lineterminator="\n")
        write_text(folder / f"{model}_rows.tsv", content)
    write_json(folder / f"{model}_run.json", run)


def load(folder: Path | str) -> Predictions:
    """Read and check the outputs of all three models; each refusal names the file and the row."""
    folder = Path(folder)
    has_index = any((folder / f"{model}_index.npy").exists() for model in MODELS)
    has_facts = has_index and any((folder / f"{model}_rows.tsv").exists() for model in MODELS)
    has_run = any((folder / f"{model}_run.json").exists() for model in MODELS)
    names = ["truth", "pred", "output"] + ["index"] * has_index
    arrays, runs, facts = {}, {}, None
    for model in MODELS:
        stage = MADE_BY[model]
        arrays[model] = {name: read(folder / f"{model}_{name}.npy", stage) for name in names}
        check_one(folder, model, arrays[model])
        runs[model] = read_json(folder / f"{model}_run.json", stage) if has_run else {}
        if has_facts:
            own = read_facts(folder / f"{model}_rows.tsv", arrays[model]["index"], model)
            facts = own if facts is None else facts
    first = MODELS[0]
    for model in MODELS[1:]:
        check_same_rows(folder, first, model, arrays, "index" if has_index else "truth")
        check_same_rows(folder, first, model, arrays, "truth")
        check_same_data(folder / f"{first}_run.json", runs[first], folder, model, runs[model])
    return Predictions(
        folder=folder,
        truth=arrays[first]["truth"].astype(np.int64),
        logits=np.stack([arrays[model]["output"] for model in MODELS]).astype(np.float64),
        ids=arrays[first]["index"] if has_index else None,
        facts=facts,
        runs=runs,
    )


def join(parts: list[Predictions]) -> Predictions:
    """Return the rows of several runs (folds) as one, in order; no segment may be in two of them.

    IDs and facts are kept if all parts have them; runs are those of the first.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        for model in MODELS:
            check_same_regime(first, part, model)
            if part.runs[model].get("synthetic") != first.runs[model].get("synthetic"):
                raise UserError(f"{part.folder} is of another corpus than {first.folder}")
    has_ids = all(part.ids is not None for part in parts)
    seen = first.ids
    for part in parts[1:] if has_ids else ():
        path = part.folder / f"{MODELS[0]}_index.npy"
        refuse(path, np.isin(part.ids, seen), "is a test row of an earlier folder too", part.ids)
        seen = np.concatenate([seen, part.ids])
    has_facts = all(part.facts is not None for part in parts)
    return Predictions(
        folder=first.folder,
        truth=np.concatenate([part.truth for part in parts]),
        logits=np.concatenate([part.logits for part in parts], axis=1),
        ids=seen if has_ids else None,
        facts=pd.concat([part.facts for part in parts], ignore_index=True) if has_facts else None,
        runs=first.runs,
    )


def join_baselines(parts: list[Predictions]) -> dict[str, np.ndarray]:
    """Return the logits (N, 7) of each of BASELINES for the rows of all parts; {} without any."""
    found = {part.folder: load_baselines(part.folder, part) for part in parts}
    if not any(found.values()):
        return {}
    for folder, logits in found.items():
        if not logits:
            raise UserError(f"{folder} has no baselines, another folder has: run baseline.py there")
    return {name: np.concatenate([rows[name] for rows in found.values()]) for name in BASELINES}


def load_baselines(folder: Path | str, test: Predictions) -> dict[str, np.ndarray]:
    """Return the logits (N, 7) of each of BASELINES for the same test rows; {} if there are none.

    What a baseline knows of the speakers must be what some model that hears them knows.
    """
    folder = Path(folder)
    if not any((folder / f"{name}_output.npy").exists() for name in BASELINES):
        return {}
    first, found = MODELS[0], {}
    ours = {"truth": test.truth} if test.ids is None else {"index": test.ids, "truth": test.truth}
    heard = {run["known"] for run in test.runs.values() if run.get("known")}
    for name in BASELINES:
        stage = MADE_BY[name]
        arrays = {
            kind: read(folder / f"{name}_{kind}.npy", stage) for kind in (*ours, "pred", "output")
        }
        check_one(folder, name, arrays)
        for kind in ours:
            check_same_rows(folder, first, name, {first: ours, name: arrays}, kind)
        path = folder / f"{name}_run.json"
        run = read_json(path, stage)
        check_same_data(test.folder / f"{first}_run.json", test.runs[first], folder, name, run)
        if run.get("known") and heard and run["known"] not in heard:
            others = " or ".join(sorted(heard))
            raise UserError(
                f"{path}: speakers known: {run['known']}, by the models {others}: "
                f"run {stage} --known {others}"
            )
        found[name] = arrays["output"].astype(np.float64)
    return found


def check_pair(test: Predictions, held_out: Predictions) -> None:
    """Refuse held-out rows of other data or another regime, and such as are test rows."""
    for model in MODELS:
        first = test.folder / f"{model}_run.json"
        check_same_data(first, test.runs[model], held_out.folder, model, held_out.runs[model])
        check_same_regime(test, held_out, model)
    if test.ids is not None and held_out.ids is not None:
        path = held_out.folder / f"{MODELS[0]}_index.npy"
        refuse(path, np.isin(held_out.ids, test.ids), "is a test row as well", held_out.ids)


def read(path: Path, stage: str) -> np.ndarray:
    """Read one array; Python objects could only be read by running code, so they are refused."""
    try:
        return read_array(path, stage)
    except UserError as error:
        if "Object arrays" in str(error):
            raise UserError(
                f"{path}, row 0: holds Python objects, not numbers: run {stage} again"
            ) from None
        raise


def read_facts(path: Path, ids: np.ndarray, model: str) -> pd.DataFrame:
    """Read and check one model's table of its rows."""
    content = io.BytesIO(read_bytes(path, MADE_BY[model]))
    try:
        table = pd.read_csv(content, sep="\t", quoting=3, keep_default_na=False, encoding="utf-8")
        types = {"id": str, "dialogue_number": np.int64, "turn": np.int64, "labels": str}
        table = take_facts(table).astype(types)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}){again(model)}") from None
    if len(table) != len(ids):
        raise UserError(f"{path}: {len(table)} rows, {len(ids)} segments{again(model)}")
    other = table["id"].to_numpy() != ids
    refuse(path, other, "another segment than in the index" + again(model), ids)
    return table


def take_facts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns FACTS, and `corpus` where there are several."""
    return table[[*FACTS, *({"corpus"} & set(table))]]


def check_one(folder: Path, model: str, arrays: dict) -> None:
    """Check shapes, types and values of one model's arrays (`index` may be absent)."""
    paths = {name: folder / f"{model}_{name}.npy" for name in arrays}
    output = arrays["output"]
    count = len(output) if output.ndim else 0
    for name, array in arrays.items():
        shape = (count, len(LABELS)) if name == "output" else (count,)
        kinds = {"output": "f", "index": "U"}.get(name, "iu")
        if array.dtype.kind not in kinds:
            raise UserError(f"{paths[name]}, row 0: unexpected type {array.dtype}{again(model)}")
        if array.shape != shape or count == 0:
            row = min(count, len(array)) if array.ndim == 1 and name != "output" else 0
            raise UserError(
                f"{paths[name]}, row {row}: shape {array.shape} where {shape} is expected from "
                f"{paths['output'].name}{again(model)}"
            )
    ids, hint = arrays.get("index"), again(model)
    refuse(paths["output"], ~np.isfinite(output).all(axis=1), "not a finite number" + hint, ids)
    for name in ("truth", "pred"):
        wrong = (arrays[name] < 0) | (arrays[name] >= len(LABELS))
        refuse(paths[name], wrong, f"not a label id of 0-{len(LABELS) - 1}" + hint, ids)
    chosen = np.take_along_axis(output, arrays["pred"][:, None].astype(np.int64), axis=1)[:, 0]
    message = f"is not the largest column of {paths['output'].name}: files of two runs" + hint
    refuse(paths["pred"], chosen != output.max(axis=1), message, ids)
    if ids is not None:
        repeated = np.ones(count, bool)
        repeated[np.unique(ids, return_index=True)[1]] = False
        refuse(paths["index"], repeated, "the segment occurs twice" + hint, ids)


def check_same_rows(folder: Path, first: str, model: str, arrays: dict, name: str) -> None:
    """Refuse a model whose IDs or truth differ from those of the first model."""
    ours, theirs = arrays[model][name], arrays[first][name]
    path, other = folder / f"{model}_{name}.npy", folder / f"{first}_{name}.npy"
    hint = f": {first} and {model} must be tested on the same data; run {MADE_BY[model]} again"
    if len(ours) != len(theirs):
        row = min(len(ours), len(theirs))
        raise UserError(
            f"{path}, row {row}: {len(ours)} rows, {other.name} has {len(theirs)}{hint}"
        )
    for row in np.flatnonzero(ours != theirs)[:1]:
        order = " (the same values in another order)" * (sorted(ours) == sorted(theirs))
        raise UserError(
            f"{path}, row {row}: '{ours[row]}' where {other.name} has '{theirs[row]}'{order}{hint}"
        )


def check_same_data(first: Path, run: dict, folder: Path, model: str, other: dict) -> None:
    """Refuse outputs that were made from differently preprocessed data."""
    ours, theirs = other.get("data_hash"), run.get("data_hash")
    if ours != theirs and run and other:
        raise UserError(
            f"{folder / f'{model}_run.json'}, from row 0 on: made from other data (hash "
            f"{str(ours)[:12]}) than {first} ({str(theirs)[:12]}): run {MADE_BY[model]} again"
        )


def check_same_regime(first: Predictions, other: Predictions, model: str) -> None:
    """Refuse outputs of a model that knew something else of the speakers."""
    name = f"{model}_run.json"
    ours, theirs = (rows.runs[model].get("known") for rows in (first, other))
    if ours != theirs:
        raise UserError(
            f"{other.folder / name}: speakers known: {theirs}, in {first.folder / name}: {ours}"
            f"{again(model)}"
        )


def refuse(path: Path, wrong: np.ndarray, message: str, ids: np.ndarray | None) -> None:
    """Raise a UserError that names the first row where `wrong` is true, if there is one."""
    for row in np.flatnonzero(wrong)[:1]:
        segment = f" ({ids[row]})" if ids is not None else ""
        raise UserError(f"{path}, row {row}{segment}: {message}")


def again(model: str) -> str:
    """The advice that ends a refusal."""
    return f": run {MADE_BY[model]} again"
