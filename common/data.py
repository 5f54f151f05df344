"""The preprocessed utterances: their table, their recordings, and which of them a training may see.

Shapes: N utterances, S samples, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.files import DIMENSIONS, UserError, hash_data, naming, read_array, sha256
from common.stages import read_recorded

Batch = dict[str, np.ndarray]  # a network's arguments
MakeBatch = Callable[..., Batch]  # (rows) or, in training, (rows, number of the step)
MEASURES = ("wav_start", "wav_end", "valence", "arousal")  # may be blank
LEVELS = ("level", "noise")  # may be blank, or missing in older tables
WORDS = ("id", "speaker", "gender", "scenario", "label", "labels", "text", "corpus")  # "007", too
NEEDED = (*MEASURES, "session", "dialogue_number", "turn", "labels", "first_sample", "sample_count")


class Change(NamedTuple):
    """What all recordings of a dataset are heard through (common/conditions.py).

    key: tells the change from any other, JSON.  apply: samples (S,) int16, the row's ID and speaker
    -> samples, always the same.  tempo: by which a recording becomes shorter.
    """

    key: list
    apply: Callable[[np.ndarray, str, str], np.ndarray]
    tempo: float = 1.0


@dataclass(eq=False)
class Dataset:
    """Rows of the tables that preprocess.py wrote, sorted by id, and their recordings.

    table: one utterance a row.  folder: of the data, None for
    utterances in memory.  data_hash: of its files.  manifest: what
    preprocess.py says of them.  known_stats (N, K): statistics that a voice is normalised by, where
    they are not to be taken from the rows (common/voice.py).  change: what the recordings are heard
    through, None for nothing.
    """

    table: pd.DataFrame
    folder: Path | None
    data_hash: str
    manifest: dict
    known_stats: np.ndarray | None = None
    change: Change | None = None

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        sessions = ", ".join(map(str, np.unique(self.table["session"])))
        return f"{len(self)} utterances of sessions {sessions}"

    @property
    def notice(self) -> str | None:
        """What is to be said beside every score: that the corpus is synthetic, or who speaks."""
        said = [self.manifest["synthetic"], *self.manifest.get("warnings", [])]
        return " ".join(filter(None, said)) or None

    @property
    def has_words(self) -> bool:
        return bool((self.table["text"] != "").any())

    @property
    def label_names(self) -> tuple[str, ...]:
        """The C labels in the order of their ids."""
        return tuple(self.manifest["labels"])

    @cached_property
    def ids(self) -> np.ndarray:
        return self.table["id"].to_numpy(dtype=str)

    @cached_property
    def labels(self) -> np.ndarray:
        """Label ids, (N,) int64."""
        return self.table["label"].map(self.label_names.index).to_numpy(np.int64, copy=True)

    @cached_property
    def votes(self) -> np.ndarray:
        """How many raters chose each label, (N, C) float32."""
        return self.table[[f"votes_{label}" for label in self.label_names]].to_numpy(np.float32)

    def targets(self, kind: str) -> np.ndarray:
        """Return what training aims at, (N, C) float32: "label", one-hot, or shares of "votes".

        A row without votes has its label.
        """
        labels = np.eye(len(self.label_names), dtype=np.float32)[self.labels]
        counts = self.votes.sum(1, keepdims=True)
        if kind == "label":
            return labels
        return np.where(counts > 0, self.votes / np.maximum(counts, 1), labels)

    @cached_property
    def dimensions(self) -> np.ndarray:
        """Valence and arousal, means of the raters, (N, 2) float32; nan where there is none."""
        return self.table[[*DIMENSIONS]].to_numpy(np.float32)

    @property
    def dimension_scale(self) -> list[float]:
        """The lowest and the highest number that a rater can give."""
        return self.manifest.get("dimension_scale", [1, 5])

    @cached_property
    def stored_counts(self) -> np.ndarray:
        """Samples of each recording as it is on the disk, (N,) int64."""
        return self.table["sample_count"].to_numpy(np.int64)

    @cached_property
    def sample_counts(self) -> np.ndarray:
        counts = self.stored_counts
        tempo = self.change.tempo if self.change else 1.0
        return counts if tempo == 1 else np.maximum(1, np.round(counts / tempo)).astype(np.int64)

    @cached_property
    def first_samples(self) -> np.ndarray:
        return self.table["first_sample"].to_numpy(np.int64)

    @cached_property
    def splits(self) -> np.ndarray:
        return self.table["split"].to_numpy()

    @cached_property
    def recordings(self) -> dict[str, tuple[Path, np.dtype, int]]:
        """The file of each split's recordings, its type and the place of its first sample."""
        found = {}
        for split in np.unique(self.splits):
            path = self.folder / f"{split}_audio.npy"
            array = read_array(path, "preprocess.py", mmap=True)
            found[split] = path, array.dtype, array.offset
        return found

    @cached_property
    def sessions(self) -> np.ndarray:
        return self.table["session"].to_numpy()

    @cached_property
    def speakers(self) -> np.ndarray:
        return self.table["speaker"].to_numpy(dtype=str)

    @cached_property
    def time_order(self) -> np.ndarray:
        """The rows in the order of time: sessions, their dialogues, the turns of each, (N,)."""
        return np.lexsort([self.table[name] for name in ("turn", "dialogue_number", "session")])

    def samples(self, row: int) -> np.ndarray:
        """Return the recording of one row, (S,) int16.

        It is read when it is asked for: of a mapped file, all that was ever touched would count as
        memory of the process.
        """
        path, kind, start = self.recordings[self.splits[row]]
        offset = start + self.first_samples[row] * kind.itemsize
        samples = np.fromfile(path, kind, self.stored_counts[row], offset=offset)
        if self.change is None:
            return samples
        return self.change.apply(samples, self.ids[row], self.speakers[row])

    def select(self, mask: np.ndarray) -> "Dataset":
        """Return the rows where `mask` (N,) is true, in the same order."""
        return replace(self, table=self.table[mask].reset_index(drop=True))

    def shuffle_voices(self, seed: int) -> "Dataset":
        """Return the same rows and words with each other's speakers and recordings."""
        order = np.random.default_rng(seed).permutation(len(self))
        voice = ["split", "first_sample", "sample_count"]
        voice += ["speaker", "session", "dialogue_number", "turn"]  # whose it is, and when
        table = self.table.assign(**{name: self.table[name].to_numpy()[order] for name in voice})
        return replace(self, table=table)


def load_words(folder: str | Path, *splits: str) -> Dataset:
    """Read splits as `load_data` does, for a model of words; UserError if the corpus has none."""
    data = load_data(folder, *splits)
    if not data.has_words:
        raise UserError(f"{folder}: the corpus has no words: audio_train.py learns from the voice")
    return data


def load_data(folder: str | Path, *splits: str) -> Dataset:
    """Read and check splits of the preprocessed data as one set of rows sorted by id."""
    folder = Path(folder)
    manifest = read_recorded(folder, "manifest.json", "preprocess.py")
    if manifest["settings"]["ties"] == "soft":
        raise UserError(
            f"{folder}: made with --ties soft, which is --targets votes of the training scripts "
            "now: run preprocess.py again"
        )
    tables = []
    for split in splits:
        path = folder / f"{split}.tsv"
        for file in (path, folder / f"{split}_audio.npy"):
            if not file.is_file():
                raise UserError(f"{file} is missing: run preprocess.py first")
            if sha256(file) != manifest["files"].get(file.name):
                raise UserError(
                    f"{file} differs from what manifest.json says: run preprocess.py again"
                )
        tables.append(read_table(path).assign(split=split))
        if split != "valid" and tables[-1].empty:  # a corpus may do without validation
            raise UserError(f"{path} has no rows: give preprocess.py other sessions")
    table = pd.concat(tables).sort_values("id", kind="stable").reset_index(drop=True)
    return Dataset(table, folder, hash_data(manifest["files"]), manifest)


def read_table(path: Path) -> pd.DataFrame:
    """Read a split's table: measures as float, nan where a cell is blank, all else as it is."""
    # keep_default_na: an utterance may well say "nan" or "null".
    blanks = {name: [""] for name in (*MEASURES, *LEVELS)}
    kinds = dict.fromkeys((*MEASURES, *LEVELS), float) | dict.fromkeys(WORDS, str)
    with naming(path, "preprocess.py"):
        table = pd.read_csv(
            path, sep="\t", keep_default_na=False, na_values=blanks, dtype=kinds, quoting=3
        )
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: run preprocess.py again")
    return table


class Training(NamedTuple):
    """One of the trainings that a stage makes: where its results go and which rows it may see."""

    folder: Path  # the model's own predicts the test rows; fold0, fold1 ... below it the others
    fit: Dataset
    held_out: Dataset  # never trained on
    chooses_epoch: bool  # whether the held-out rows are validation, or predicted by the last epoch

    def __str__(self) -> str:
        held_out = f", {self.held_out} held out" if len(self.held_out) else ""
        return f"{self.fit} to learn from{held_out}"


def session_folds(sessions: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold 0..folds-1 of every row (N,): the sessions are dealt out in turn."""
    names, number = np.unique(sessions, return_inverse=True)
    if not 2 <= folds <= len(names):
        raise UserError(f"FOLDS = {folds}: give 0, or 2 to {len(names)} (the training sessions)")
    return number % folds


def plan_trainings(data: Dataset, folds: int, folder: Path) -> list[Training]:
    """Return the trainings of a stage: one with validation sessions, or `folds` + 1.

    data: of the splits train and valid.
    folds = 0: the train split, and the valid split chooses the best epoch (if it is empty, the last
    epoch counts).  folds = K: the sessions of both splits are dealt to K folds; training k holds
    out fold k, the last one holds out nothing, and nothing is chosen on held-out rows.
    """
    if folds == 0:
        is_valid = (data.table["split"] == "valid").to_numpy()
        return [Training(folder, data.select(~is_valid), data.select(is_valid), is_valid.any())]
    fold = session_folds(data.sessions, folds)
    plan = [
        Training(folder / f"fold{k}", data.select(fold != k), data.select(fold == k), False)
        for k in range(folds)
    ]
    return [*plan, Training(folder, data, data.select(fold < 0), False)]


def cut_batches(
    lengths: np.ndarray, budget: int, rows: int, seed: int | None = None
) -> list[np.ndarray]:
    """Cut rows into batches of at most `budget` padded length units and at most `rows` rows.

    With a seed, rows are shuffled, sorted by length inside buckets of some 16 batches, and the
    batches are shuffled: padding stays small and every epoch (its own seed) meets other neighbours.
    Without a seed, rows stay in file order. A single row longer than the budget is a batch alone.
    """
    if not len(lengths):
        return []
    order = np.arange(len(lengths))
    if seed is not None:
        random = np.random.default_rng(seed)
        order = random.permutation(order)
        bucket = 16 * max(1, min(rows, int(budget / lengths.mean())))
        order = np.concatenate(
            [
                chunk[np.argsort(lengths[chunk], kind="stable")]
                for chunk in np.split(order, range(bucket, len(order), bucket))
            ]
        )
    batches, start, longest = [], 0, 0
    for position, row in enumerate(order):
        longest = max(longest, int(lengths[row]))
        count = position - start + 1
        if count > 1 and (count > rows or count * longest > budget):
            batches.append(order[start:position])
            start, longest = position, int(lengths[row])
    batches.append(order[start:])
    if seed is not None:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def pad(sequences: Sequence[np.ndarray | list], value: float, length: int = 0) -> np.ndarray:
    """Stack sequences (L, ...) of different lengths, (B, at least `length`, ...).

    `value` stands behind each end.
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    longest = max(length, max(map(len, arrays)))
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def random_of(seed: int, step: int, row: int) -> np.random.Generator:
    """Return the generator by which a row is varied in a step, whatever its batch and process."""
    return np.random.default_rng([seed, step, row])
