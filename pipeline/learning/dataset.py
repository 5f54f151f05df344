"""The aligned files of preprocess.py as rows, and which of them each training may see.

Shapes: N utterances, S samples, C = 7 classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.files import LABELS, UserError, hash_data, naming, read_array, read_json, sha256

MADE_BY = "preprocess.py"
MEASURES = ("wav_start", "wav_end", "valence", "arousal")  # may be blank


@dataclass
class Utterances:
    """Rows of the aligned files: the table, its recordings and the features made of them.

    table: one utterance a row, sorted by id.  audio: the samples of each source split, int16 at
    16 kHz, opened when they are first heard; the row's recording is
    audio[split][first_sample : first_sample + sample_count].  data_hash: of the preprocessed files.
    source: the kind of corpus, its sessions by split, how texts were cleaned.
    features: name -> one entry a row; "token_ids" are of the words, all others of the voice.
    """

    table: pd.DataFrame
    audio: dict[str, Samples]
    data_hash: str
    synthetic: str | None
    soft: bool
    features: dict[str, list] = field(default_factory=dict)
    source: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        sessions = ", ".join(str(session) for session in np.unique(self.table["session"]))
        return f"{len(self)} utterances of sessions {sessions}"

    @property
    def ids(self) -> np.ndarray:
        return self.table["id"].to_numpy(dtype=str)

    @property
    def labels(self) -> np.ndarray:
        """Label ids, (N,) int64."""
        return self.table["label"].map(LABELS.index).to_numpy(np.int64, copy=True)

    @property
    def targets(self) -> np.ndarray:
        """What training aims at, (N, C) float32: one-hot, or shares of votes (--ties soft)."""
        if not self.soft:
            return np.eye(len(LABELS), dtype=np.float32)[self.labels]
        votes = self.table[[f"votes_{label}" for label in LABELS]].to_numpy(np.float32)
        return votes / votes.sum(1, keepdims=True)

    @property
    def sample_counts(self) -> np.ndarray:
        return self.table["sample_count"].to_numpy(dtype=np.int64)

    @property
    def token_counts(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.features["token_ids"]], dtype=np.int64)

    @property
    def speakers(self) -> np.ndarray:
        return self.table["speaker"].to_numpy(dtype=str)

    def with_features(self, **features: list) -> Utterances:
        """Return the same rows with these features added."""
        return replace(self, features=self.features | features)

    def select(self, mask: np.ndarray) -> Utterances:
        """Return the rows where `mask` (N,) is true, in the same order; features are shared."""
        rows = np.flatnonzero(mask)
        features = {name: [entries[row] for row in rows] for name, entries in self.features.items()}
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True), features=features)

    def shuffle_voices(self, seed: int) -> Utterances:
        """Return the same rows and words with each other's speakers, recordings and voices."""
        order = np.random.default_rng(seed).permutation(len(self))
        places = ["split", "first_sample", "sample_count"]
        places += ["speaker", "session", "scenario", "dialogue_number", "turn"]  # whose, and when
        table = self.table.assign(**{name: self.table[name].to_numpy()[order] for name in places})
        features = {
            name: entries if name == "token_ids" else [entries[row] for row in order]
            for name, entries in self.features.items()
        }
        return replace(self, table=table, features=features)

    def samples(self, row: int) -> np.ndarray:
        """Return the recording of one row, (S,) int16."""
        entry = self.table.iloc[row]
        first = entry["first_sample"]
        return self.audio[entry["split"]][first : first + entry["sample_count"]]


class Samples:
    """The recordings of a split one after another, int16 on the disk.

    A recording is read when it is asked for: of a mapped file, all that was ever touched would
    count as memory of the process.
    """

    def __init__(self, array: np.memmap):
        self.array = array

    def __getitem__(self, place: slice) -> np.ndarray:
        """Return the samples of a recording, [start, stop)."""
        offset = self.array.offset + place.start * self.array.itemsize
        count = place.stop - place.start
        return np.fromfile(self.array.filename, self.array.dtype, count, offset=offset)


class Recordings(dict):
    """The recordings of each split, `Samples`, checked and opened when they are first heard.

    data: what preprocess.py wrote.  hashes: of its files, by name.
    """

    def __init__(self, data: Path, hashes: dict[str, str]):
        super().__init__()
        self.data, self.hashes = data, hashes

    def __missing__(self, split: str) -> Samples:
        path = self.data / f"{split}_audio.npy"
        check_whole(path, self.hashes)
        self[split] = Samples(read_array(path, MADE_BY, mmap=True))
        return self[split]


def load_utterances(data: str | Path, *splits: str) -> Utterances:
    """Read and check splits of the preprocessed data as one set of rows sorted by id."""
    data = Path(data)
    path = data / "manifest.json"
    manifest = read_json(path, MADE_BY)
    with naming(path, MADE_BY):
        hashes = {name: str(manifest["files"][name]) for name in manifest["files"]}
        source = {
            "corpus": manifest["corpus"]["kind"],
            "sessions": manifest["sessions"],
            "text": manifest["settings"]["text_style"],
        }
        soft, synthetic = manifest["settings"]["ties"] == "soft", manifest["synthetic"]
    tables = []
    for split in splits:
        check_whole(data / f"{split}.tsv", hashes)
        tables.append(read_table(data / f"{split}.tsv").assign(split=split))
        if split != "valid" and tables[-1].empty:  # a corpus may do without validation
            raise UserError(f"{data / split}.tsv has no rows: give {MADE_BY} other sessions")
    table = pd.concat(tables).sort_values("id", kind="stable").reset_index(drop=True)
    audio, data_hash = Recordings(data, hashes), hash_data(hashes)
    return Utterances(table, audio, data_hash, synthetic, soft, source=source)


def check_whole(path: Path, hashes: dict[str, str]) -> None:
    """Refuse a file that is not the one in the manifest."""
    if not path.is_file():
        raise UserError(f"{path} is missing: run {MADE_BY} first")
    if sha256(path) != hashes.get(path.name):
        raise UserError(f"{path} differs from what manifest.json says: run {MADE_BY} again")


def read_table(path: Path) -> pd.DataFrame:
    """Read a split's table: measures as float, nan where a cell is blank, all else as it is."""
    with naming(path, MADE_BY):
        header = path.read_text(encoding="utf-8").partition("\n")[0].split("\t")
    missing = {
        *MEASURES,
        "dialogue_number",
        "turn",
        "labels",
        "first_sample",
        "sample_count",
    } - set(header)
    if missing:
        raise UserError(f"{path} has no column {', '.join(sorted(missing))}: run {MADE_BY} again")
    # keep_default_na: an utterance may well say "nan" or "null".
    blanks = {name: [""] for name in MEASURES}
    with naming(path, MADE_BY):
        return pd.read_csv(
            path,
            sep="\t",
            keep_default_na=False,
            na_values=blanks,
            dtype=dict.fromkeys(MEASURES, float) | {"text": str},
            quoting=3,
        )


@dataclass
class Training:
    """One of the trainings that a stage makes: where its results go and which rows it may see."""

    folder: Path  # the model's own predicts the test rows; fold0, fold1 ... below it the others
    fit: Utterances
    held_out: Utterances  # never trained on
    chooses_epoch: bool  # whether the held-out rows are validation, or predicted by the last epoch
    identity: dict = field(default_factory=dict)  # what its state is of: settings, inputs, number

    def __str__(self) -> str:
        held_out = f", {self.held_out} held out" if len(self.held_out) else ""
        return f"{self.fit} to learn from{held_out}"


def plan_trainings(rows: Utterances, folds: int, folder: Path) -> list[Training]:
    """Return the trainings of a stage: one with validation sessions, or `folds` + 1.

    rows: of the splits train and valid.
    folds = 0: the train split, and the valid split chooses the best epoch (if it is empty, the last
    epoch counts).  folds = K: the sessions of both splits are dealt to K folds; training k holds
    out fold k, the last one holds out nothing, and nothing is chosen on held-out rows.
    """
    if folds == 0:
        is_valid = (rows.table["split"] == "valid").to_numpy()
        return [Training(folder, rows.select(~is_valid), rows.select(is_valid), is_valid.any())]
    sessions = np.unique(rows.table["session"])
    if not 2 <= folds <= len(sessions):
        raise UserError(f"FOLDS = {folds}: give 0, or 2 to {len(sessions)} (the training sessions)")
    fold_of = dict(zip(sessions, np.arange(len(sessions)) % folds, strict=True))
    fold = rows.table["session"].map(fold_of).to_numpy()
    plan = [
        Training(folder / f"fold{k}", rows.select(fold != k), rows.select(fold == k), False)
        for k in range(folds)
    ]
    return [*plan, Training(folder, rows, rows.select(fold < 0), False)]
