"""The data that the predictions were made from: transcripts, labelled turns, where it all is from.

Shapes: N test rows.
"""

import shlex
import sys
from dataclasses import dataclass, field
from datetime import datetime
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
from fusion.predictions import BASELINES, HELD_OUT, Predictions, find_models, script_of

SPLITS = ("train", "valid", "test")
TURNS = ["session", "dialogue_number", "turn", "speaker", "label"]


@dataclass(frozen=True)
class Corpus:
    """What preprocess.py left of the rows, as far as it is at hand.

    transcripts (N,); seen (N,): whether the same transcript is in a training row; turns: for each
    run all turns of its training and validation sessions (TURNS, label by number); sources: kind
    and name of the corpora; missing: why there is nothing of all that, or "".
    """

    transcripts: np.ndarray | None = None
    seen: np.ndarray | None = None
    turns: list[pd.DataFrame] = field(default_factory=list)
    sources: str = ""
    missing: str = ""


def read_corpus(data: str, parts: list[Predictions]) -> Corpus:
    """Read the folders of preprocess.py, one for each run (fold); other data are refused."""
    folders = [Path(folder.strip()) for folder in data.split(",")]
    folders *= len(parts) if len(folders) == 1 else 1
    if len(folders) != len(parts):
        raise UserError(f"DATA = '{data}': {len(folders)} folders, OUTPUTS has {len(parts)}")
    sources, transcripts, seen, turns = {}, [], [], []
    for folder, part in zip(folders, parts, strict=True):
        if part.ids is None or hash_of(part) is None:
            return Corpus(missing=f"{part.folder} does not tell what data it was made from")
        if not (folder / "manifest.json").is_file():
            return Corpus(missing=f"{folder}/manifest.json is missing: no transcripts")
        manifest = read_manifest(folder, part)
        source = sources.setdefault(manifest["corpus"]["fingerprint"], manifest["corpus"])
        if len(sources) > 1:
            raise UserError(
                f"{folder} is of another corpus than {folders[0]}: folds share one corpus"
            )
        tables = {split: read_table(folder, split, manifest) for split in SPLITS}
        texts = tables["test"]["text"].loc[part.ids]
        labelled = pd.concat([tables["train"], tables["valid"]], ignore_index=True)
        # Of a model for the ensemble of folds, the validation sessions are training rows too.
        has_folds = any(run.get("settings", {}).get("folds") for run in part.runs.values())
        transcripts.append(texts.to_numpy())
        seen.append(texts.isin((labelled if has_folds else tables["train"])["text"]).to_numpy())
        turns.append(labelled[TURNS].assign(label=labelled["label"].map(LABELS.index)))
    name = f"{source['kind']} ({source['name']})"
    return Corpus(np.concatenate(transcripts), np.concatenate(seen), turns, name)


def hash_of(part: Predictions) -> str | None:
    """Return the hash of the data that predictions were made from."""
    return part.runs[part.models[0]].get("data_hash")


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


def identify(folders: list[Path], data: str) -> dict[str, str]:
    """Return a hash of each kind of file that the ensemble of these folders reads.

    A file that has changed since its script wrote it is refused.
    """
    for folder in folders:
        for script in {script_of(name) for name in (*find_models(folder), *BASELINES)}:
            check_whole(folder, script)
    places = [place for folder in folders for place in (folder, folder / HELD_OUT)]
    ends = ("_truth.npy", "_pred.npy", "_output.npy", "_index.npy", "_rows.tsv", "_run.json")
    names = ("manifest.json", *(f"{split}.tsv" for split in SPLITS))
    files = {
        "predictions": [
            path
            for place in places
            for end in ends
            for path in place.glob(f"*{end}")
            if not path.name.startswith("ensemble_")
        ],
        "curves": [path for folder in folders for path in folder.glob("*/history.json")],
        "ablation": [folder / "cmbert_ablation.json" for folder in folders],
        "data": [Path(folder.strip()) / name for folder in data.split(",") for name in names],
    }
    present = {kind: sorted({*filter(Path.is_file, paths)}) for kind, paths in files.items()}
    return {
        kind: hash_json([(path.name, sha256(path)) for path in paths])
        for kind, paths in present.items()
    }


def describe(parts: list[Predictions], corpus: Corpus) -> dict[str, str]:
    """Return, for people, when, by what and of what these scores were made."""
    hashes = dict.fromkeys(str(hash_of(part) or "unknown")[:12] for part in parts)
    return {
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "Commit": describe_machine()["commit"],
        "Data": f"{corpus.sources or corpus.missing}; hash {', '.join(hashes)}",
    }
