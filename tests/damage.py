"""Damage to the files that stages read: which files those are, what can happen to one, a fuzzer.

Each stage runs in a copy of one whole run (tests/trained_run.py) in which one file is damaged.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MODELS = ("text", "audio", "cmbert")
SPLITS = ("train", "valid", "test")
ARRAYS = ("truth.npy", "pred.npy", "output.npy", "index.npy", "rows.tsv", "run.json")
WORDS = ("data/manifest.json", "data/train.tsv", "data/valid.tsv")
VOICES = ("data/train_audio.npy", "data/valid_audio.npy")
TEST = ("data/test.tsv", "data/test_audio.npy")
DATA = (*WORDS, *VOICES, *TEST)
HEARD = (*WORDS, VOICES[1], *TEST)
ENCODER = ("bert/config.json", "bert/model.safetensors", "bert/spiece.model")
# What users bring themselves: there a changed word is another word, and is taken for what it is.
WAV = (".wav", ".txt")
BROUGHT = ("corpus/", "bert/", "talk.", "list.tsv", "lines.")
FACTS = ("data/manifest.json", *(f"data/{split}.tsv" for split in SPLITS))


def trained(*models: str, folder: str = "outputs") -> tuple[str, ...]:
    """Return the files of trained models."""
    names = [(m, name) for m in models for name in ("config.json", "model.safetensors")]
    names += [(m, "spiece.model") for m in models if m != "audio"]
    return tuple(f"{folder}/{model}/{name}" for model, name in names)


@dataclass(frozen=True)
class Stage:
    """A script, how it is called in a folder of all that it needs, and the files it reads there."""

    script: str
    arguments: str
    reads: tuple[str, ...]
    cases: int = 30

    @property
    def command(self) -> list[str]:
        return [self.script, *self.arguments.split()]


BOTH = "--data data --outputs outputs"
AGAIN = f"{BOTH} --restart yes"
TINY = "--epochs 1 --batch-size 8 --bert bert"
STAGES = {
    "preprocess": Stage(
        "preprocess.py",
        "--corpus corpus --data made --outputs made --test-sessions 5 --valid-sessions 4",
        (
            *("corpus/SYNTHETIC.json", "corpus/annotation/Session01_F_res.csv"),
            *("corpus/annotation/Session05_M_res.csv",),
            *(f"corpus/wav/Session02/Sess02_script01/Sess02_script01_F001{e}" for e in WAV),
        ),
        20,
    ),
    "text_train": Stage("text_train.py", f"--data data --outputs new {TINY}", WORDS + ENCODER),
    "audio_train": Stage(
        "audio_train.py", "--data data --outputs new --epochs 1", WORDS + VOICES, 15
    ),
    "run_classifier": Stage(
        "run_classifier.py", f"--data data --outputs new {TINY}", WORDS + VOICES + ENCODER
    ),
    "resume": Stage(
        "text_train.py",
        f"--data data --outputs stopped {TINY}",
        tuple(
            f"stopped/text/unfinished-text_train/{name}" for name in ("state.pt", "made_of.json")
        ),
        15,
    ),
    "text_test": Stage("text_test.py", AGAIN, (*WORDS, TEST[0], *trained("text"))),
    "audio_test": Stage("audio_test.py", AGAIN, (*HEARD, *trained("audio"))),
    "cmbert_test": Stage("run_classifier.py", f"{AGAIN} --train no", (*HEARD, *trained("cmbert"))),
    "baseline": Stage("baseline.py", AGAIN, DATA, 20),
    "ensemble": Stage(
        "ensemble.py",
        BOTH,
        (
            *FACTS,
            *(
                f"{place}/{m}_{a}"
                for place in ("outputs", "outputs/heldout")
                for m in MODELS
                for a in ARRAYS
            ),
            *(
                f"outputs/baseline_{m}_{a}"
                for m in ("text", "audio", "both")
                for a in ARRAYS
                if a != "rows.tsv"
            ),
            "outputs/cmbert_ablation.json",
            *(f"outputs/{model}/history.json" for model in MODELS),
        ),
        120,
    ),
    "predict": Stage(
        "predict.py",
        "talk.wav --text 정말 --model outputs",
        (*trained(*MODELS), "outputs/fusion.json", "talk.wav"),
    ),
    "speaker": Stage(
        "predict.py",
        "talk.wav --text 정말 --model outputs --speaker Mina",
        ("outputs/speakers/Mina.safetensors",),
        10,
    ),
    "manifest": Stage(
        "predict.py", "--manifest list.tsv --model outputs", ("list.tsv", "talk.wav"), 10
    ),
    "turns": Stage("predict.py", "talk.wav --turns talk.rttm --model outputs", ("talk.rttm",), 5),
    "export": Stage(
        "predict.py",
        "--model outputs --export exported",
        (*trained(*MODELS), "outputs/fusion.json", "outputs/ensemble.json"),
        20,
    ),
    "onnx": Stage(
        "predict.py",
        "talk.wav --text 정말 --model handed --onnx",
        tuple(
            f"handed/{name}"
            for m in MODELS
            for name in (f"{m}/config.json", f"{m}/model.onnx", f"{m}/spiece.model")
            if not (m == "audio" and name.endswith("spiece.model"))
        )
        + ("handed/fusion.json",),
    ),
    "text_pretrain": Stage(
        "text_pretrain.py",
        "--text lines.tsv.xz --outputs new --bert bert --steps 2 --save-steps 2 --held-out 2 "
        "--decay-steps 1",
        ("lines.tsv.xz", *ENCODER),
        20,
    ),
}


# --- what can happen to a file: (content, random, another file of its kind) -> content


def truncate(content: bytes, chance: random.Random, other: bytes) -> bytes:
    return content[: chance.randrange(1, len(content))]


def empty(content: bytes, chance: random.Random, other: bytes) -> bytes:
    return b""


def flip(content: bytes, chance: random.Random, other: bytes) -> bytes:
    """Flip one bit in a random place."""
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def zero(content: bytes, chance: random.Random, other: bytes) -> bytes:
    """Overwrite a block with zeros, as a file system after a power cut may."""
    first = chance.randrange(len(content))
    length = min(chance.choice((16, 512, 4096)), len(content) - first)
    return content[:first] + bytes(length) + content[first + length :]


def garble(content: bytes, chance: random.Random, other: bytes) -> bytes:
    return chance.randbytes(len(content))


def swap(content: bytes, chance: random.Random, other: bytes) -> bytes:
    return other


def change_json(content: bytes, chance: random.Random, other: bytes) -> bytes:
    """Take a key or an entry away, or put something of another type in its place."""
    tree = json.loads(content)
    places = list(walk(tree))
    owner, key = chance.choice(places)
    if chance.random() < 0.5:
        del owner[key]
    else:
        owner[key] = chance.choice([None, "x", [], {}, -1, 1e300, True])
    return json.dumps(tree, ensure_ascii=False).encode()


def walk(tree) -> Iterator[tuple]:
    """Yield (container, key) of all that a JSON tree holds."""
    for key in range(len(tree)) if isinstance(tree, list) else tree:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from walk(tree[key])


def change_table(content: bytes, chance: random.Random, other: bytes) -> bytes:
    """Take a column, a row or a cell of a table away."""
    lines = [line.split("\t") for line in content.decode().splitlines()]
    kind = chance.choice(("column", "row", "cell"))
    place = chance.randrange(len(lines[0]))
    if kind == "row":
        del lines[chance.randrange(len(lines))]
    for line in lines if kind == "column" else [chance.choice(lines)] * (kind == "cell"):
        del line[min(place, len(line) - 1)]
    return ("\n".join("\t".join(line) for line in lines) + "\n").encode()


DAMAGES: dict[str, Callable] = {
    "truncated": truncate,
    "emptied": empty,
    "bit flipped": flip,
    "zeroed": zero,
    "garbled": garble,
    "another file's": swap,
    "JSON changed": change_json,
    "table changed": change_table,
}


@dataclass(frozen=True)
class Case:
    """One damage to one file of one stage."""

    stage: str
    file: str
    damage: str
    seed: int

    def apply(self, root: Path, whole: Path) -> bool:
        """Damage the file below `root`; tell whether it still says the same."""
        path = root / self.file
        content = path.read_bytes()
        chance = random.Random(f"{self.file} {self.seed}")
        others = sorted(whole.rglob(f"*{path.suffix}"))
        chance.shuffle(others)
        other = next((o for own in others if (o := own.read_bytes()) != content), b"none")
        changed = DAMAGES[self.damage](content, chance, other)
        path.unlink()  # it is a link to the whole one
        path.write_bytes(changed)
        return changed == content or path.suffix == ".json" and same_json(changed, content)


def same_json(one: bytes, other: bytes) -> bool:
    """Tell whether two JSON files say the same."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def draw_cases(stage: str, seed: int, count: int) -> list[Case]:
    """Return cases of a stage: every file once, then as chance has it."""
    chance = random.Random(f"{stage} {seed}")
    files = STAGES[stage].reads
    cases = []
    while len(cases) < max(count, len(files)):
        file = files[len(cases)] if len(cases) < len(files) else chance.choice(files)
        kinds = [name for name in DAMAGES if " changed" not in name]
        kinds += ["JSON changed"] * 6 * file.endswith(".json")
        kinds += ["table changed"] * 6 * file.endswith(".tsv")
        cases.append(Case(stage, file, chance.choice(kinds), chance.randrange(10**6)))
    return cases


def link(whole: Path, root: Path) -> None:
    """Make a copy of a folder whose files are links: quick, and no stage writes into a file."""
    shutil.copytree(whole, root, copy_function=os.link)


def fingerprint(root: Path) -> dict[str, tuple]:
    """Return what changes with every file below a folder: its place on the disk, size and time.

    Locks are left out: who holds one writes there who it is.
    """
    files = [p for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"]
    states = {path.relative_to(root): path.stat() for path in files}
    return {str(path): (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in states.items()}
