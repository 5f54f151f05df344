"""Tables of one's own for tests: rows, their recordings, and what preprocess.py makes of them."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openpyxl
import soundfile

import preprocess

SPLITS = ("train", "valid", "test")
RATE = 16_000


def noise(seed: int, frames: int = 1600) -> np.ndarray:
    """Return int16 noise, different for every seed and neither clipped nor silent."""
    return np.random.default_rng(seed).integers(-9000, 9000, frames).astype(np.int16)


def make_rows(count: int = 20, speakers: int = 5, labels=("angry", "happy")) -> list[dict]:
    """Return rows of as many speakers, who say every label in turn."""
    return [
        {
            "path": f"clips/u{number:03d}.wav",
            "label": labels[number // speakers % len(labels)],
            "text": f"그래서 {number}번, 말이야.",
            "speaker": f"화자 {number % speakers}",
        }
        for number in range(count)
    ]


def write_recordings(folder: Path, rows: list[dict]) -> None:
    """Write a recording for every row's path that has none yet."""
    for number, row in enumerate(rows):
        path = folder / row["path"]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(number), RATE)


def to_text(rows: list[dict], delimiter: str = ",") -> str:
    """Return the rows as CSV with a header."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_table(folder: Path, rows: list[dict], name: str = "list.csv", code="utf-8") -> Path:
    """Write a table and its recordings; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_recordings(folder, rows)
    path = folder / name
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        book.active.append(list(rows[0]))
        for row in rows:
            book.active.append(list(row.values()))
        book.save(path)
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        path.write_bytes(to_text(rows, delimiter).encode(code))
    return path


@dataclass
class Data:
    """What preprocess.py wrote: rows by split, audio by split, the manifest."""

    folder: Path
    rows: dict[str, list[dict]]
    audio: dict[str, np.ndarray]
    manifest: dict

    def __iter__(self):
        """Yield every row of every split."""
        return (row for split in SPLITS for row in self.rows[split])

    def of(self, identifier: str) -> dict:
        (row,) = (row for row in self if row["id"] == identifier)
        return row

    def samples(self, identifier: str) -> np.ndarray:
        (split,) = (s for s in SPLITS if identifier in {row["id"] for row in self.rows[s]})
        row = self.of(identifier)
        start = int(row["first_sample"])
        return self.audio[split][start : start + int(row["sample_count"])]

    def reasons(self, kind: str = "dropped") -> list[tuple[str, str]]:
        """Return (where, reason) of the entries of the account, in order."""
        return [(entry["where"], entry["reason"]) for entry in self.manifest[kind]]


def read_data(folder: Path) -> Data:
    rows, audio = {}, {}
    for split in SPLITS:
        with open(folder / f"{split}.tsv", encoding="utf-8", newline="") as stream:
            rows[split] = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        audio[split] = np.load(folder / f"{split}_audio.npy")
    return Data(folder, rows, audio, json.loads((folder / "manifest.json").read_text("utf-8")))


def run(monkeypatch, folder: Path, corpus: object, **settings: object) -> Data:
    """Run preprocess.py under settings; its data go to a new folder below `folder`."""
    data = folder / f"data{len(list(folder.glob('data*')))}"
    settings = {"corpus": str(corpus), "data": str(data), **settings}
    settings = {"outputs": str(folder / "outputs")} | settings
    with monkeypatch.context() as patch:
        for name, value in settings.items():
            assert hasattr(preprocess, name.upper())
            patch.setattr(preprocess, name.upper(), value)
        preprocess.main()
    return read_data(Path(settings["data"]))
