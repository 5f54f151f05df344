"""What stands behind the scores: the command, the code, the preprocessed data, the ablation."""

import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from fusion import metrics
from fusion.predictions import BASELINES, MODELS, Predictions
from pipeline.files import UserError, hash_data, read_json, reading, sha256
from pipeline.labels import LABELS
from pipeline.record import describe_machine, hash_files

SPLITS = ("train", "valid", "test")
TURNS = ["session", "dialogue_number", "turn", "speaker", "label"]
PACKAGES = ("numpy", "scipy", "scikit-learn", "lightgbm")


@dataclass(frozen=True)
class Corpus:
    """The data that the predictions were made from, as far as it is at hand.

    manifests: of preprocess.py, by folder; transcripts (N,) of the test rows, and whether they are
    those of a training row as well, (N,) bool; told: for each run all turns of its training and
    validation sessions (TURNS, label by number); missing: why there is nothing of all that, or "".
    """

    manifests: dict[Path, dict] = field(default_factory=dict)
    transcripts: np.ndarray | None = None
    seen: np.ndarray | None = None
    told: list[pd.DataFrame] = field(default_factory=list)
    missing: str = ""


def read_corpus(data: str, parts: list[Predictions]) -> Corpus:
    """Read the folders of preprocess.py, one for each run (fold); other data are refused."""
    folders = [Path(folder.strip()) for folder in data.split(",")]
    folders *= len(parts) if len(folders) == 1 else 1
    if len(folders) != len(parts):
        raise UserError(f"DATA = '{data}': {len(folders)} folders, OUTPUTS has {len(parts)}")
    manifests, transcripts, seen, told = {}, [], [], []
    for folder, part in zip(folders, parts, strict=True):
        if part.ids is None or part.runs[MODELS[0]].get("data_hash") is None:
            return Corpus(missing=f"{part.folder} does not tell what data it was made from")
        if not (folder / "manifest.json").is_file():
            return Corpus(missing=f"{folder}/manifest.json is missing: no transcripts, no counts")
        manifests[folder] = read_manifest(folder, part)
        tables = {split: read_table(folder, split, manifests[folder]) for split in SPLITS}
        texts = tables["test"]["text"].loc[part.ids]
        # Of a model for the ensemble of folds, the validation sessions are training rows too.
        has_folds = any(run.get("settings", {}).get("folds") for run in part.runs.values())
        splits = ("train", "valid") if has_folds else ("train",)
        learned = pd.concat([tables[split]["text"] for split in splits])
        transcripts.append(texts.to_numpy())
        seen.append(texts.isin(learned).to_numpy())
        turns = pd.concat([tables["train"], tables["valid"]], ignore_index=True)[TURNS]
        told.append(turns.assign(label=turns["label"].map(LABELS.index)))
    first = next(iter(manifests))
    for folder, manifest in manifests.items():
        if manifest["corpus"]["fingerprint"] != manifests[first]["corpus"]["fingerprint"]:
            raise UserError(f"{folder} is of another corpus than {first}: folds share one corpus")
    return Corpus(manifests, np.concatenate(transcripts), np.concatenate(seen), told)


def identify(folders: list[Path], data: str) -> dict[str, str]:
    """Return a hash of each kind of file that the ensemble of these folders reads."""
    names = [*MODELS, *BASELINES]
    own = [path for folder in folders for path in (folder, folder / "valid")]
    corpora = [Path(folder.strip()) for folder in data.split(",")]
    tables = ("manifest.json", *(f"{split}.tsv" for split in SPLITS))
    curves = [folder / model / "history.json" for folder in folders for model in MODELS]
    ablations = [folder / "cmbert" / "ablation.json" for folder in folders]
    found = {
        "predictions": (p for folder in own for name in names for p in folder.glob(f"{name}_*")),
        "curves": (*curves, *ablations),
        "data": (folder / name for folder in corpora for name in tables),
    }
    return {kind: hash_files(found[kind]) for kind in found}


def read_manifest(folder: Path, part: Predictions) -> dict:
    """Read what `folder` holds, and refuse other data than the predictions were made from."""
    manifest = read_json(folder / "manifest.json", "preprocess.py")
    with reading(folder / "manifest.json", "preprocess.py"):
        ours, theirs = hash_data(manifest["files"]), part.runs[MODELS[0]]["data_hash"]
    if ours != theirs:
        raise UserError(
            f"{folder / 'manifest.json'}: other data (hash {ours[:12]}) than the predictions in "
            f"{part.folder} were made from ({theirs[:12]}): give theirs with --data, or --data none"
        )
    return manifest


def read_table(folder: Path, split: str, manifest: dict) -> pd.DataFrame:
    """Return the rows of a split by segment ID."""
    path = folder / f"{split}.tsv"
    if not path.is_file() or sha256(path) != manifest["files"][path.name]:
        raise UserError(f"{path} is not what manifest.json says: run preprocess.py again")
    with reading(path, "preprocess.py"):
        table = pd.read_csv(path, sep="\t", quoting=3, keep_default_na=False, dtype={"text": str})
        if missing := sorted({"id", "text", *TURNS} - set(table)):
            raise UserError(f"{path} has no column {', '.join(missing)}: run preprocess.py again")
        return table.set_index("id")


def read_ablation(outputs: Path, test: Predictions) -> list[dict]:
    """Return the rows of CM-BERT's ablation if it is of these predictions, else nothing."""
    path = outputs / "cmbert" / "ablation.json"
    if not path.is_file():
        return []
    rows = read_json(path, "run_classifier.py")
    known = test.runs["cmbert"].get("known")
    own = metrics.scores(test.truth, test.pred[MODELS.index("cmbert")])
    with reading(path, "run_classifier.py"):
        whole = [row for row in rows if (row["input"], row["known"]) == ("words and voice", known)]
        same = [all(np.isclose(row[s], own[s]) for s in ("accuracy", "macro_f1")) for row in whole]
        if any(same):
            return [check_scores(row) for row in rows]
    print(f"{path} is of another run than cmbert_pred.npy: left out")
    return []


def check_scores(row: dict) -> dict:
    """Return a row of the ablation; an error if it lacks what the report shows."""
    shown = [row[f"{name}{end}"] for name in ("accuracy", "macro_f1", "uar") for end in ("", "_ci")]
    if not isinstance(row["input"], str) or not all(isinstance(v, float | list) for v in shown):
        raise ValueError("scores are no numbers")
    return row


def describe(parts: list[Predictions], corpus: Corpus) -> dict[str, str]:
    """Return, for people, when, by what and of what these scores were made."""
    runs = parts[0].runs[MODELS[0]]
    hashes = dict.fromkeys(part.runs[MODELS[0]].get("data_hash", "unknown") for part in parts)
    kinds = dict.fromkeys(
        f"{manifest['corpus']['kind']} ({manifest['corpus']['name']})"
        for manifest in corpus.manifests.values()
    )
    here = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "Commit": describe_machine()["commit"],
        "Data": f"{', '.join(kinds) or corpus.missing}; hash {', '.join(h[:12] for h in hashes)}",
        "Versions": list_versions(here),
        "Versions of the models": list_versions(runs.get("versions", {})) or "not on record",
    }


def list_versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
