"""Files that stages exchange: written whole or not at all, and read without pickle."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

# KEMDy's emotions, in the order of the paper's label ids. A corpus may have others: manifest.json.
LABELS = ("neutral", "angry", "happy", "surprise", "sad", "fear", "disgust")
DIMENSIONS = ("valence", "arousal")
ENOUGH_RATED = 10  # rows with a number, below which nothing is learned of a dimension
SAMPLE_RATE = 16_000  # Hz of every recording behind preprocess.py: mono int16
FULL_SCALE = 32_768  # an int16 sample of this size is 1.0 as a float


class UserError(Exception):
    """A mistake that the user can mend: printed as one line, exit status 2, no traceback."""


@contextmanager
def naming(path: Path | str, made_by: str) -> Iterator[None]:
    """Name the file in whatever goes wrong in the block, which uses what a file of ours holds.

    `made_by`: the script that writes it. For blocks that would not fail on an undamaged file.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run {made_by} first") from None
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{path} cannot be read ({reason}): run {made_by} again") from None


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The data reach the disk before the rename, so a killed process or a power cut leaves either the
    old file or the new one under the final name, never a part. The temporary name is always the
    same: what a killed process left is overwritten by the next one.
    """
    path = Path(path)
    temporary = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        temporary.touch()
        mode = temporary.stat().st_mode  # some writers make files that only their owner may read
        yield temporary
        with open(temporary, "rb+") as stream:  # Windows: only what may be written can be synced
            os.fsync(stream.fileno())
        with suppress(OSError):  # some disks have no modes
            temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        remove(temporary)
        raise unwritable(path, error.strerror or error) from None
    except BaseException:
        remove(temporary)
        raise


def remove(path: Path) -> None:
    """Remove a file if that can be done: where nothing can be written, nothing can be removed."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def unwritable(path: Path | str, reason: object) -> UserError:
    """Return the error for a file that cannot be written: a full disk, a folder that is read-only.

    Nothing of it is left, and what stood under its name before still does.
    """
    return UserError(
        f"{path} cannot be written ({reason}): make room or give another folder, and run this "
        "again; what stood there before is whole"
    )


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a whole file, atomically."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    # A file name that is no UTF-8 (a zip from Korean Windows) is written as \udcb0, which is JSON.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path | str, content: object) -> None:
    """Write readable JSON, atomically; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str, made_by: str) -> dict:
    """Read a JSON file that the stage `made_by` writes; missing or damaged is a UserError."""
    with naming(path, made_by):
        return json.loads(Path(path).read_text("utf-8"))


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    with write_atomically(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)


def read_array(path: Path | str, made_by: str, mmap: bool = False) -> np.ndarray:
    """Read one .npy array that the stage `made_by` writes, without pickle.

    mmap: leave it on the disk.
    """
    with naming(path, made_by):
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive, not one array")
        return array


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; of a file unchanged, once."""
    state = os.stat(path)
    return hash_file(os.path.abspath(path), state.st_ino, state.st_size, state.st_mtime_ns)


HASH_BLOCK = 1 << 24  # bytes: large, so that a thread that hashes seldom waits for Python's lock


@lru_cache(maxsize=4096)
def hash_file(path: str, *state: int) -> str:
    """Return the SHA-256 of a file; `state` changes when its content does."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_data(files: dict[str, str]) -> str:
    """Return one hash of preprocessed data from those of its files (a manifest's `files`)."""
    return hashlib.sha256("".join(files[name] for name in sorted(files)).encode()).hexdigest()


def hash_json(content: object) -> str:
    """Return the SHA-256 of what JSON makes of a value."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
