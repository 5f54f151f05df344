"""The aligned files of preprocess.py -> batches of tensors.

Shapes: B utterances of a batch, L tokens, S samples, C = 7 classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.files import UserError, read_array, read_json, sha256
from pipeline.labels import LABELS

MADE_BY = "preprocess.py"


@dataclass
class Utterances:
    """Rows of the aligned files: the table, its recordings and what a stage derives from them.

    table: one utterance a row, sorted by id.  audio: one int16 array (16 kHz) per source split; the
    row's recording is audio[split][start : start + length].  data_hash: of the preprocessed files.
    token_ids, frames: one entry a row, set by the stage that needs them.
    """

    table: pd.DataFrame
    audio: dict[str, np.ndarray]
    data_hash: str
    synthetic: str | None
    soft: bool
    token_ids: list[list[int]] | None = None
    frames: list[np.ndarray] | None = None

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
        return self.table["length"].to_numpy(dtype=np.int64)

    @property
    def token_counts(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def select(self, mask: np.ndarray) -> Utterances:
        """Return the rows where `mask` (N,) is true, in the same order."""
        rows = np.flatnonzero(mask)
        table = self.table.iloc[rows].reset_index(drop=True)
        token_ids = self.token_ids and [self.token_ids[row] for row in rows]
        frames = self.frames and [self.frames[row] for row in rows]
        return replace(self, table=table, token_ids=token_ids, frames=frames)

    def shuffle_audio(self, seed: int) -> Utterances:
        """Return the same rows with each other's recordings; token ids stay, frames move along."""
        order = np.random.default_rng(seed).permutation(len(self))
        places = ["split", "start", "length"]
        table = self.table.assign(**{name: self.table[name].to_numpy()[order] for name in places})
        frames = self.frames and [self.frames[row] for row in order]
        return replace(self, table=table, frames=frames)

    def samples(self, row: int) -> np.ndarray:
        """Return the recording of one row, (S,) int16."""
        entry = self.table.iloc[row]
        return self.audio[entry["split"]][entry["start"] : entry["start"] + entry["length"]]


def load_utterances(data: str | Path, *splits: str) -> Utterances:
    """Read and check splits of the preprocessed data as one set of rows sorted by id."""
    data = Path(data)
    manifest = read_json(data / "manifest.json", MADE_BY)
    hashes = manifest["files"]
    tables, audio = [], {}
    for split in splits:
        for name in (f"{split}.tsv", f"{split}_audio.npy"):
            if not (data / name).is_file():
                raise UserError(f"{data / name} is missing: run {MADE_BY} first")
            if sha256(data / name) != hashes[name]:
                raise UserError(
                    f"{data / name} differs from what manifest.json says: run {MADE_BY} again"
                )
        # keep_default_na: an utterance may well say "nan" or "null".
        table = pd.read_csv(data / f"{split}.tsv", sep="\t", keep_default_na=False, quoting=3)
        tables.append(table.assign(split=split))
        audio[split] = read_array(data / f"{split}_audio.npy", MADE_BY, mmap=True)
    table = pd.concat(tables).sort_values("id", kind="stable").reset_index(drop=True)
    data_hash = hashlib.sha256(
        "".join(hashes[name] for name in sorted(hashes)).encode()
    ).hexdigest()
    return Utterances(
        table, audio, data_hash, manifest["synthetic"], manifest["settings"]["ties"] == "soft"
    )


def cut_batches(
    lengths: np.ndarray, budget: int, rows: int, seed: int | None = None
) -> list[np.ndarray]:
    """Cut rows into batches of at most `budget` padded length units and at most `rows` rows.

    With a seed, rows are shuffled, sorted by length inside buckets of some 16 batches, and the
    batches are shuffled: padding stays small and every epoch (its own seed) meets other neighbours.
    Without a seed, rows stay in file order. A single row longer than the budget is a batch alone.
    """
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
    if len(order):
        batches.append(order[start:])
    if seed is not None:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def pad(sequences: Sequence[np.ndarray | list], value: int, length: int = 0) -> torch.Tensor:
    """Stack sequences of different lengths, (B, at least `length`), padded right with `value`."""
    longest = max(length, max(len(sequence) for sequence in sequences))
    dtype = np.asarray(sequences[0]).dtype
    padded = np.full((len(sequences), longest), value, dtype=dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(padded)


def text_batches(
    utterances: Utterances, seed: int | None, budget: int, size: int
) -> list[np.ndarray]:
    """Cut into batches of at most `budget` padded tokens and `size` rows."""
    return cut_batches(utterances.token_counts, budget, size, seed)


def text_inputs(
    utterances: Utterances,
    rows: np.ndarray,
    training: bool,
    pad_id: int,
    length: int = 0,
    mask_id: int = 0,
    hide_tokens: float = 0.0,
) -> dict:
    """Return input_ids (B, L) and attention_mask (B, L), int64; L is at least `length`.

    In training, a share `hide_tokens` of the tokens between [CLS] and [SEP] becomes [MASK].
    """
    token_ids = [np.asarray(utterances.token_ids[row], dtype=np.int64) for row in rows]
    input_ids = pad(token_ids, pad_id, length)
    counts = torch.tensor([len(ids) for ids in token_ids])
    place = torch.arange(input_ids.shape[1])[None]
    mask = place < counts[:, None]
    if training and hide_tokens:
        inner = (place > 0) & (place < counts[:, None] - 1)
        input_ids[inner & (torch.rand(input_ids.shape) < hide_tokens)] = mask_id
    return {"input_ids": input_ids, "attention_mask": mask.long()}


def audio_inputs(utterances: Utterances, rows: np.ndarray, training: bool) -> dict:
    """Return samples (B, S) int16, zero after each clip's end, and sample_counts (B,) int64."""
    clips = [utterances.samples(row) for row in rows]
    counts = torch.tensor([len(clip) for clip in clips])
    return {"samples": pad(clips, 0), "sample_counts": counts}


@dataclass
class Training:
    """One of the trainings that a stage makes: where its results go and which rows it may see."""

    name: (
        str  # sub-folder: "" for the model that predicts the test rows, "fold0" ... for the others
    )
    fit: Utterances
    held_out: Utterances  # never trained on
    chooses_epoch: bool  # whether the held-out rows are validation, or predicted by the last epoch

    def __str__(self) -> str:
        held_out = f", {self.held_out} held out" if len(self.held_out) else ""
        return f"{self.name or 'model'}: {self.fit} to learn from{held_out}"


def plan_trainings(data: str | Path, folds: int) -> list[Training]:
    """Return the trainings of a stage: one with validation sessions, or `folds` + 1.

    folds = 0: train split, and the valid split chooses the best epoch (if it is empty, the last
    epoch counts).  folds = K: the sessions of both splits are dealt to K folds; training k holds
    out fold k, the last one holds out nothing, and nothing is chosen on held-out rows.
    """
    if folds == 0:
        train, valid = load_utterances(data, "train"), load_utterances(data, "valid")
        return [Training("", train, valid, chooses_epoch=len(valid) > 0)]
    everything = load_utterances(data, "train", "valid")
    sessions = np.unique(everything.table["session"])
    if not 2 <= folds <= len(sessions):
        raise UserError(f"FOLDS = {folds}: give 0, or 2 to {len(sessions)} (the training sessions)")
    fold_of = dict(zip(sessions, np.arange(len(sessions)) % folds, strict=True))
    fold = everything.table["session"].map(fold_of).to_numpy()
    plan = [
        Training(f"fold{k}", everything.select(fold != k), everything.select(fold == k), False)
        for k in range(folds)
    ]
    return [*plan, Training("", everything, everything.select(fold < 0), False)]
