"""Files that stages exchange: written whole or not at all, read without pickle, checked by hash."""

import errno
import hashlib
import io
import json
import os
import platform
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

# The emotions, in the order of the paper's label ids.
LABELS = ("neutral", "angry", "happy", "surprise", "sad", "fear", "disgust")
LABELS_KO = ("중립", "분노", "기쁨", "놀람", "슬픔", "공포", "혐오")
SAMPLE_RATE = 16_000  # Hz of every recording behind preprocess.py: mono int16
FULL_SCALE = 32_768  # an int16 sample of this size is 1.0 as a float

RECORDS = "records"  # folder beside a stage's outputs: who wrote which file (pipeline/record.py)
WRITTEN: list[Path] = []  # what this process has written, in order
HELD: dict[Path, Any] = {}  # its locks, by file; None: there are none on that disk
WAITING: list[dict[Path, Path]] = []  # files without their final names: see `together`


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


def find_path(path: Path) -> Path:
    """Return a path as the disk has it, whose names may be in another normal form (NFC, NFD).

    One that is nowhere stays as it is.
    """
    if path.exists() or path.name in ("", ".."):
        return path
    parent, name = find_path(path.parent), unicodedata.normalize("NFC", path.name)
    with suppress(OSError):
        for found in os.listdir(parent):
            if unicodedata.normalize("NFC", found) == name:
                return parent / found
    return path


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
        if WAITING:
            WAITING[-1][path] = temporary
        else:
            temporary.replace(path)
            WRITTEN.append(path)
    except OSError as error:
        remove(temporary)
        raise unwritable(path, error.strerror or error) from None
    except BaseException:
        remove(temporary)
        raise


@contextmanager
def together() -> Iterator[None]:
    """Give all files that the block writes their final names at its end, or none of them.

    Files that belong together are then of one run: those of an earlier run stay until all are
    written. Within the block nobody can read them.
    """
    WAITING.append({})
    try:
        yield
        for path, temporary in WAITING[-1].items():
            temporary.replace(path)
            WRITTEN.append(path)
    finally:
        for temporary in WAITING.pop().values():
            remove(temporary)


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


def name_of(path: str) -> str | bytes:
    """Return a path as soundfile takes it; its own encoding refuses names that are no UTF-8."""
    return path if os.name == "nt" else os.fsencode(path)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    # A file name that is no UTF-8 (a zip from Korean Windows) is written as \udcb0, which is JSON.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path | str, content: object) -> None:
    """Write readable JSON, atomically; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_bytes(path: Path | str, made_by: str) -> bytes:
    """Read a file that the stage `made_by` writes; missing or not as recorded is a UserError."""
    with naming(path, made_by):
        content = Path(path).read_bytes()
        check_recorded(path, hashlib.sha256(content).hexdigest())
        return content


def read_json(path: Path | str, made_by: str) -> dict:
    """Read a JSON file that the stage `made_by` writes; missing or damaged is a UserError."""
    content = read_bytes(path, made_by)
    with naming(path, made_by):
        return json.loads(content.decode("utf-8"))


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    with write_atomically(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)


def read_array(path: Path | str, made_by: str, mmap: bool = False) -> np.ndarray:
    """Read one .npy array that the stage `made_by` writes, without pickle.

    mmap: leave it on the disk; then its hash is not compared.
    """
    with naming(path, made_by):
        source = path if mmap else io.BytesIO(read_bytes(path, made_by))
        array = np.load(source, allow_pickle=False, mmap_mode="r" if mmap else None)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive, not one array")
        return array


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; of a file unchanged, once."""
    state = os.stat(path)
    return hash_file(os.path.abspath(path), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def hash_file(path: str, *state: int) -> str:
    """Return the SHA-256 of a file; `state` changes when its content does."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_recorded(path: Path | str, digest: str = "") -> None:
    """Refuse a file that differs from what is on record of it; without a record all is well.

    Records lie in a folder `records` beside the file or up to two folders above it.
    digest: the SHA-256 of its content, if that is known.
    """
    place = Path(path).absolute()
    for folder in list(place.parents)[:3]:
        name = json.dumps(place.relative_to(folder).as_posix(), ensure_ascii=False)
        for record in sorted((folder / RECORDS).glob("*.json")):
            content = record.read_text(encoding="utf-8", errors="replace")
            if f"{name}: " in content and f'{name}: "{digest or sha256(path)}"' not in content:
                raise UserError(
                    f"{path} has changed since {record.stem}.py wrote it: run {record.stem}.py "
                    f"again, or remove {record} if the change is yours"
                )


def read_data_hash(data: Path | str) -> str:
    """Return the hash of the preprocessed data in a folder, by its manifest."""
    path = Path(data) / "manifest.json"
    manifest = read_json(path, "preprocess.py")
    with naming(path, "preprocess.py"):
        return hash_data(manifest["files"])


def hash_data(files: dict[str, str]) -> str:
    """Return one hash of preprocessed data from those of its files (a manifest's `files`)."""
    return hashlib.sha256("".join(files[name] for name in sorted(files)).encode()).hexdigest()


def hold(place: Path) -> None:
    """Keep other runs from writing to a place until this process ends or lets go.

    The system drops the lock of a process that died, even if a child of it still lives.
    """
    with warnings.catch_warnings():  # which is said below
        warnings.simplefilter("ignore")
        from filelock import FileLock, SoftFileLock, Timeout  # here: only who writes waits for it

    folder = place.parent
    path = (folder / RECORDS / f"{place.name}.lock").absolute()
    if path in HELD:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        open(path, "a").close()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror})") from None
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        if isinstance(lock, SoftFileLock):  # a file that a killed process would leave behind
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        lock.acquire()
    except Timeout:
        owner = "a process"
        with suppress(OSError):  # Windows: nobody else may read it
            owner = path.read_text(encoding="utf-8", errors="replace").strip() or owner
        raise UserError(
            f"{place}: {owner} is writing there: wait until it ends, or give another --outputs"
        ) from None
    except OSError as error:
        if None not in HELD.values():
            print(f"{folder}: no locks on this file system ({error.strerror}): start no second run")
        HELD[path] = None
        return
    HELD[path] = lock
    with suppress(OSError):
        path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")


def let_go() -> None:
    """Give up all locks of this process."""
    while HELD:
        if lock := HELD.popitem()[1]:
            lock.release()


def hash_json(content: object) -> str:
    """Return the SHA-256 of what JSON makes of a value."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write_rows(path, rows):
    """Write arrays (T, K) one after another as one .npy, atomically; return each one's T.

    The whole is never in memory.
    """
    counts = []
    with write_atomically(path) as temporary, open(temporary, "wb") as stream:
        for array in rows:
            if not counts:
                header = {"descr": array.dtype.str, "fortran_order": False}
                np.lib.format.write_array_header_1_0(
                    stream, header | {"shape": (0, array.shape[1])}
                )
            stream.write(np.ascontiguousarray(array))
            counts.append(len(array))
        stream.seek(0)  # numpy leaves room in the header for more rows
        header["shape"] = (sum(counts), array.shape[1])
        np.lib.format.write_array_header_1_0(stream, header)
    return counts


@contextmanager
def write_tensors(path: Path) -> Iterator[Path]:
    """Yield a temporary path as `write_atomically` does, for writers whose errors are their own."""
    try:
        with write_atomically(path) as temporary:
            yield temporary
    except RuntimeError as error:  # torch.save's
        raise unwritable(path, " ".join(str(error).split())[:200]) from None
