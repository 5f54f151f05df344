"""Where the scores come from: the command, the code, the preprocessed data, the ablation."""

import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from common.files import (
    LABELS,
    UserError,
    check_whole,
    describe_machine,
    hash_data,
    hash_json,
    naming,
    read_json,
    sha256,
)
from fusion import metrics
from fusion.predictions import (
    BASELINES,
    HELD_OUT,
    SCRIPTS,
    Predictions,
    find_models,
    script_of,
)

SPLITS = ("train", "valid", "test")
TURNS = ["session", "dialogue_number", "turn", "speaker", "label"]
PACKAGES = ("numpy", "scipy", "scikit-learn", "lightgbm")


@dataclass(frozen=True)
class Corpus:
    """The data that the predictions were made from, as far as they are at hand.

    manifests: of preprocess.py, by folder; transcripts (N,) of the test rows; seen (N,): whether
    the same transcript is in a training row; turns: for each run all turns of its training and
    validation sessions (TURNS, label by number); missing: why there is nothing of all that, or "".
    """

    manifests: dict[Path, dict] = field(default_factory=dict)
    transcripts: np.ndarray | None = None
    seen: np.ndarray | None = None
    turns: list[pd.DataFrame] = field(default_factory=list)
    missing: str = ""


def read_corpus(data: str, parts: list[Predictions]) -> Corpus:
    """Read the folders of preprocess.py, one for each run (fold); other data are refused."""
    folders = [Path(folder.strip()) for folder in data.split(",")]
    folders *= len(parts) if len(folders) == 1 else 1
    if len(folders) != len(parts):
        raise UserError(f"DATA = '{data}': {len(folders)} folders, OUTPUTS has {len(parts)}")
    manifests, transcripts, seen, turns = {}, [], [], []
    for folder, part in zip(folders, parts, strict=True):
        if part.ids is None or hash_of(part) is None:
            return Corpus(missing=f"{part.folder} does not tell what data it was made from")
        if not (folder / "manifest.json").is_file():
            return Corpus(missing=f"{folder}/manifest.json is missing: no transcripts, no counts")
        manifests[folder] = read_manifest(folder, part)
        tables = {split: read_table(folder, split, manifests[folder]) for split in SPLITS}
        texts = tables["test"]["text"].loc[part.ids]
        labelled = pd.concat([tables["train"], tables["valid"]], ignore_index=True)
        # Of a model for the ensemble of folds, the validation sessions are training rows too.
        has_folds = any(run.get("settings", {}).get("folds") for run in part.runs.values())
        transcripts.append(texts.to_numpy())
        seen.append(texts.isin((labelled if has_folds else tables["train"])["text"]).to_numpy())
        turns.append(labelled[TURNS].assign(label=labelled["label"].map(LABELS.index)))
    first = next(iter(manifests))
    for folder, manifest in manifests.items():
        if manifest["corpus"]["fingerprint"] != manifests[first]["corpus"]["fingerprint"]:
            raise UserError(f"{folder} is of another corpus than {first}: folds share one corpus")
    return Corpus(manifests, np.concatenate(transcripts), np.concatenate(seen), turns)


def hash_of(part: Predictions) -> str | None:
    """Return the hash of the data that predictions were made from."""
    return part.runs[part.models[0]].get("data_hash")


def identify(folders: list[Path], data: str) -> dict[str, str]:
    """Return a hash of each kind of file that the ensemble of these folders reads.

    A file that has changed since its script wrote it is refused.
    """
    outputs = [place for folder in folders for place in (folder, folder / HELD_OUT)]
    ends = ("npy", "rows.tsv", "run.json")
    written = [path for place in outputs for end in ends for path in place.glob(f"*_*{end}")]
    names = ("manifest.json", *(f"{split}.tsv" for split in SPLITS))
    patterns = ("*/history.json", "cmbert_ablation.json")
    files = {
        "predictions": [path for path in written if not path.name.startswith("ensemble_")],
        "curves": [p for folder in folders for pattern in patterns for p in folder.glob(pattern)],
        "data": [Path(folder.strip()) / name for folder in data.split(",") for name in names],
    }
    for folder in folders:
        for script in {script_of(name) for name in (*find_models(folder), *BASELINES)}:
            check_whole(folder, script)
    present = {kind: sorted({*filter(Path.is_file, paths)}) for kind, paths in files.items()}
    return {kind: hash_json(list(map(sha256, paths))) for kind, paths in present.items()}


def read_manifest(folder: Path, part: Predictions) -> dict:
    """Read a manifest, and refuse other data than the predictions were made from."""
    manifest = read_json(folder / "manifest.json", "preprocess.py")
    with naming(folder / "manifest.json", "preprocess.py"):
        ours, theirs = hash_data(manifest["files"]), hash_of(part)
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
    with naming(path, "preprocess.py"):
        table = pd.read_csv(path, sep="\t", quoting=3, keep_default_na=False, dtype={"text": str})
        return table[["id", "text", *TURNS]].set_index("id")


def read_ablation(test: Predictions) -> list[dict]:
    """Return the rows of CM-BERT's ablation if it is of these predictions, else nothing."""
    path = test.folder / "cmbert_ablation.json"
    if not path.is_file() or "cmbert" not in test.models:
        return []
    rows, norm = read_json(path, SCRIPTS["cmbert"]), test.runs["cmbert"].get("speaker_norm")
    expected = metrics.scores(test.truth, test.select(("cmbert",))[0].argmax(axis=1))
    with naming(path, SCRIPTS["cmbert"]):
        for row in rows:
            shown = [row[name] for name in ("accuracy", "macro_f1", "uar")]
            if not isinstance(row["input"], str) or not all(isinstance(v, float) for v in shown):
                raise ValueError("scores are no numbers")
        for row in rows:
            if (row["input"], row["speaker_norm"]) == ("words and voice", norm) and all(
                np.isclose(row[name], expected[name]) for name in ("accuracy", "macro_f1")
            ):
                return rows
    print(f"{path} is of another run than cmbert_pred.npy: left out")
    return []


def describe(parts: list[Predictions], corpus: Corpus) -> dict[str, str]:
    """Return, for people, when, by what and of what these scores were made."""
    run = parts[0].runs[parts[0].models[0]]
    hashes = dict.fromkeys(str(hash_of(part) or "unknown")[:12] for part in parts)
    sources = [manifest["corpus"] for manifest in corpus.manifests.values()]
    kinds = dict.fromkeys(f"{source['kind']} ({source['name']})" for source in sources)
    here = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    versions, theirs = (
        ", ".join(f"{name} {number}" for name, number in every.items())
        for every in (here, run.get("environment", {}))
    )
    return {
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "Commit": describe_machine()["commit"],
        "Data": f"{', '.join(kinds) or corpus.missing}; hash {', '.join(hashes)}",
        "Versions": versions,
        "Versions of the models": theirs or "not on record",
    }
