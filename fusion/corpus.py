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

from common.files import UserError, hash_json, naming, read_json, sha256
from common.stages import check_whole, describe_machine, read_data_hash
from fusion.outputs import BASELINES, HELD_OUT, SCRIPTS, script_of
from fusion.predictions import Predictions, find_models

SPLITS = ("train", "valid", "test")
PREDICTIONS = [f"*_{kind}.npy" for kind in ("truth", "pred", "output", "index", "dims")]
PREDICTIONS += ["*_rows.tsv", "*_run.json"]
WORDS = dict.fromkeys(("id", "speaker", "label", "text"), str)  # "007", too
TURNS = ["session", "dialogue_number", "turn", "speaker", "label"]
LEVELS = ("level", "noise")  # of a recording, in dB; older tables have neither


@dataclass(frozen=True)
class Corpus:
    """What preprocess.py left of the rows, as far as it is at hand.

    transcripts (N,); seen (N,): whether the same transcript is in a training row; edges: of each of
    LEVELS the numbers between the thirds of the training rows, (N, 2); turns: for each run all
    turns of its training and validation sessions (TURNS, label by number); sources: kind and name
    of the corpora; missing: why there is nothing of all that, or "".
    """

    transcripts: np.ndarray | None = None
    seen: np.ndarray | None = None
    edges: dict[str, np.ndarray] = field(default_factory=dict)
    turns: list[pd.DataFrame] = field(default_factory=list)
    sources: str = ""
    missing: str = ""


def read_corpus(data: str, parts: list[Predictions]) -> Corpus:
    """Read the folders of preprocess.py, one for each run (fold); other data are refused."""
    folders = split_folders(data)
    folders *= len(parts) if len(folders) == 1 else 1
    if len(folders) != len(parts):
        raise UserError(f"DATA = '{data}': {len(folders)} folders, OUTPUTS has {len(parts)}")
    sources, transcripts, seen, edges, turns = {}, [], [], [], []
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
        train = labelled if has_folds else tables["train"]
        seen.append(texts.isin(train["text"]).to_numpy())
        edges.append(find_edges(train, len(texts)))
        turns.append(labelled[TURNS].assign(label=labelled["label"].map(part.labels.index)))
    known = [kind for kind in LEVELS if all(kind in of for of in edges)]
    return Corpus(
        transcripts=np.concatenate(transcripts),
        seen=np.concatenate(seen),
        edges={kind: np.concatenate([of[kind] for of in edges]) for kind in known},
        turns=turns,
        sources=f"{source['kind']} ({source['name']})",
    )


def find_edges(train: pd.DataFrame, rows: int) -> dict[str, np.ndarray]:
    """Return the numbers between the thirds of training rows, by LEVELS, for test rows: (rows, 2).

    Neither is there in older tables.
    """
    edges = {}
    for kind in LEVELS:
        values = train[kind].dropna() if kind in train else ()
        if len(values):
            edges[kind] = np.tile(np.quantile(values, [1 / 3, 2 / 3]), (rows, 1))
    return edges


def split_folders(names: str) -> list[Path]:
    """Return the folders of a setting: "a,b" of several folds."""
    return [Path(name.strip()) for name in names.split(",")]


def hash_of(part: Predictions) -> str | None:
    """Return the hash of the data that predictions were made from."""
    return part.runs[part.models[0]].get("data_hash")


def read_manifest(folder: Path, part: Predictions) -> dict:
    """Read a manifest, and refuse other data than the predictions were made from."""
    path, theirs = folder / "manifest.json", hash_of(part)
    if (ours := read_data_hash(folder)) != theirs:
        raise UserError(
            f"{path}: other data (hash {ours[:12]}) than the predictions in {part.folder} were "
            f"made from ({theirs[:12]}): give theirs with --data, or --data none"
        )
    return read_json(path, "preprocess.py")


def read_table(folder: Path, split: str, manifest: dict) -> pd.DataFrame:
    """Return the rows of a split by segment ID."""
    path = folder / f"{split}.tsv"
    if not path.is_file() or sha256(path) != manifest["files"][path.name]:
        raise UserError(f"{path} is not what manifest.json says: run preprocess.py again")
    with naming(path, "preprocess.py"):
        blanks = {kind: [""] for kind in LEVELS}
        style = {"sep": "\t", "quoting": 3, "keep_default_na": False, "na_values": blanks}
        table = pd.read_csv(path, dtype=WORDS | dict.fromkeys(LEVELS, float), **style)
        levels = [kind for kind in LEVELS if kind in table]
        return table[["id", "text", *TURNS, *levels]].set_index("id")


def identify(folders: list[Path], data: str) -> dict[str, str]:
    """Return a hash of each kind of file that the ensemble of these folders reads.

    A file that has changed since its script wrote it is refused.
    """
    for folder in folders:
        for name in (*find_models(folder), *BASELINES):
            record = Path(SCRIPTS.get(name, f"{name}_test.py")).stem
            check_whole(folder, script_of(folder, name), record)
    places = [place for folder in folders for place in (folder, folder / HELD_OUT)]
    kinds = {
        "predictions": (places, PREDICTIONS),
        "curves": (folders, ["*/history.json"]),
        "ablation": (folders, ["cmbert_ablation.json"]),
        "data": (split_folders(data), ["manifest.json", *[f"{split}.tsv" for split in SPLITS]]),
    }
    hashes = {}
    for kind, (where, patterns) in kinds.items():
        paths = {path for place in where for pattern in patterns for path in place.glob(pattern)}
        paths = [path for path in sorted(paths) if not path.name.startswith("ensemble_")]
        hashes[kind] = hash_json([(path.name, sha256(path)) for path in paths])
    return hashes


def describe(parts: list[Predictions], corpus: Corpus) -> dict[str, str]:
    """Return, for people, when, by what and of what these scores were made."""
    hashes = dict.fromkeys(str(hash_of(part) or "unknown")[:12] for part in parts)
    return {
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "Commit": describe_machine()["commit"],
        "Data": f"{corpus.sources or corpus.missing}; hash {', '.join(hashes)}",
    }
