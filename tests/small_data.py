"""Small preprocessed data: four sessions of ten utterances, as preprocess.py writes them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import soxr

from common import sound
from common.files import LABELS
from extras.sample.speech import ESPEAK_RATE, speak

SESSIONS = {"train": (1, 2), "valid": (3,), "test": (4,)}
ROWS = 10  # utterances of a session
SHORTEST, LONGEST = 4_800, 40_000  # samples
SENTENCES = """
오늘은 정말 기분이 좋아요 왜 그렇게 화를 내는 거야 너무 무서워서 혼자 갈 수 없어
그냥 집에 있었어 갑자기 비가 와서 깜짝 놀랐어 친구가 떠나서 마음이 아파
이런 냄새는 싫어 밥은 먹었니 내일 다시 이야기하자
"""


def make_rows(seed: int = 0, labels: tuple[str, ...] = LABELS) -> list[dict]:
    """Return all utterances, each with its int16 samples: words and a tone of its label's pitch.

    The woman and the man of a session speak in turn; sorted by ID, they do not.
    """
    random, raters = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    words = SENTENCES.split()
    spoken = speak(" ".join(words), "f2", speed=220, pitch=50, range=50, gap=0)
    spoken = soxr.resample(spoken.astype(float), ESPEAK_RATE, 16_000)
    rows = []
    for split, sessions in SESSIONS.items():
        for session in sessions:
            clock = 1.0  # seconds into the session's only dialogue
            for number in range(ROWS):
                gender = "FM"[number % 2]
                label = int(random.integers(len(labels))) if number >= len(labels) else number
                length = SHORTEST if number == 0 else int(random.integers(SHORTEST, LONGEST))
                time = np.arange(length) / 16_000
                wave = 3000 * np.sin(2 * np.pi * (200 + 150 * (label % 20)) * time)
                wave += 300 * random.standard_normal(length)
                wave += np.resize(np.roll(spoken, -len(rows) * len(spoken) // 40), length)
                votes = random.multinomial(9, [1 / len(labels)] * len(labels))
                votes[label] += 1
                rows.append(
                    {
                        "split": split,
                        "id": f"Sess{session:02d}_script01_{gender}{number:03d}",
                        "session": session,
                        "speaker": f"Sess{session:02d}{gender}",
                        "gender": gender,
                        "scenario": "script01",
                        "dialogue_number": 1,
                        "turn": number + 1,
                        "wav_start": round(clock, 3),
                        "wav_end": round(clock + length / 16_000, 3),
                        "label": labels[label],
                        "labels": labels[label],
                        "text": " ".join(random.choice(words, 2 + int(random.integers(8)))),
                        # Blank where nobody gave one.
                        "valence": round(raters.uniform(1, 5), 2) if number != 5 else "",
                        "arousal": round(1.2 + 0.5 * (label % 7) + raters.uniform(0, 0.4), 2),
                        **{f"votes_{each}": int(v) for each, v in zip(labels, votes, strict=True)},
                        "samples": wave.astype(np.int16),
                    }
                )
                clock += length / 16_000 + 0.5
    return sorted(rows, key=lambda row: row["id"])


def write_data(folder: Path, rows: list[dict], labels: tuple[str, ...] = LABELS) -> Path:
    """Write {split}.tsv, {split}_audio.npy and manifest.json; return the folder."""
    folder.mkdir(parents=True)
    hashes = {}
    for split in SESSIONS:
        chosen = [row for row in rows if row["split"] == split]
        columns = [name for name in rows[0] if name not in ("split", "samples")]
        names = [*columns, "first_sample", "sample_count", "level", "noise"]
        lines, start = ["\t".join(names)], 0
        for row in chosen:
            cells = [row[name] for name in columns]
            cells += [start, len(row["samples"]), *sound.measure_level(row["samples"])]
            lines.append("\t".join(map(str, cells)))
            start += len(row["samples"])
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        audio = np.concatenate([np.zeros(0, np.int16), *[row["samples"] for row in chosen]])
        np.save(folder / f"{split}_audio.npy", audio)
        for name in (f"{split}.tsv", f"{split}_audio.npy"):
            hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    of_split = {split: [row for row in rows if row["split"] == split] for split in SESSIONS}
    manifest = {
        "files": hashes,
        "labels": list(labels),
        "corpus": {"kind": "KEMDy19", "name": "tones", "fingerprint": "of tones"},
        "counts": {
            "split": {split: len(own) for split, own in of_split.items()},
            "class": {
                split: {label: sum(row["label"] == label for row in own) for label in labels}
                for split, own in of_split.items()
            },
            "seconds": {
                split: sum(len(row["samples"]) for row in own) / 16_000
                for split, own in of_split.items()
            },
        },
        "dropped": [],
        "repaired": [],
        "sessions": {split: list(sessions) for split, sessions in SESSIONS.items()},
        "settings": {"ties": "first", "text_style": "spoken"},
        "reference_range": sound.reference_range(
            sound.measure(row["samples"]) for row in of_split["train"]
        ),
        "synthetic": "tones of a test",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
