"""Files that stages exchange: written whole or not at all, read without pickle."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

RATE = 16_000  # Hz of every recording behind preprocess.py: mono int16
FULL_SCALE = 32_768  # an int16 sample of this size is 1.0 as a float

UMASK = os.umask(0)  # can only be read by setting it
os.umask(UMASK)


class UserError(Exception):
    """A mistake that the user can mend: printed as one line, exit status 2, no traceback."""


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The data reach the disk before the rename, so a killed process or a power cut leaves either the
    old file or the new one under the final name, never a part. The temporary name is always the
    same: what a killed process left is overwritten by the next one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~UMASK)  # some writers make files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a whole file, atomically."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, content: object) -> None:
    """Write readable JSON, atomically; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str, made_by: str) -> dict:
    """Read a JSON file that the stage `made_by` writes; missing or damaged is a UserError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run {made_by} first") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): run {made_by} again") from None


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    with write_atomically(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)


def read_array(path: Path | str, made_by: str, mmap: bool = False) -> np.ndarray:
    """Read one .npy array that the stage `made_by` writes, without pickle."""
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run {made_by} first") from None
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): run {made_by} again") from None


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_data(files: dict[str, str]) -> str:
    """Return one hash of preprocessed data from those of its files (a manifest's `files`)."""
    return hashlib.sha256("".join(files[name] for name in sorted(files)).encode()).hexdigest()
