"""What is to be predicted: recordings with their transcripts, found, checked and read.

Where several are asked for, a mistake costs its own row: it is handed to `refuse`, and the others
go on. Without that the first mistake ends all.

Shapes: S samples (int16, 16 kHz).
"""

import os
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from errno import ENAMETOOLONG, ENOENT, ENOTDIR
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.files import SAMPLE_RATE, UserError
from corpora import recordings
from corpora.recordings import LONGEST_WHOLE, MOST_VALUES, RecordingError, is_mpeg
from predicting.streaming import OnDisk, spool

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf")
# Recordings too, of telephones and browsers, which libsndfile does not decode.
UNREAD = (".m4a", ".aac", ".webm", ".mp4", ".3gp", ".amr", ".wma", ".mov", ".mkv")
LONGEST = 3600 * SAMPLE_RATE  # samples of which one verdict is given
IN_MEMORY = 600 * SAMPLE_RATE  # samples up to which a file is held whole
AFTER = 0.5  # seconds that are read behind a part, for the resampler
# What to do about a recording that cannot be read, by the beginning of the reason.
CONVERT = "convert it (ffmpeg -i THIS new.wav)"
REMEDIES = {
    "recording truncated": "its end is missing: copy it again",
    "recording empty": "it has a header and no sound: record it again, or leave it out",
    "recording longer": "cut it into shorter ones",
    "recording of too many samples": "convert it to 16 kHz and one channel",
    "recording unreadable": f"damaged, or not {', '.join(SUFFIXES)}: copy it again",
}

Refuse = Callable[[UserError], None]


def give_up(error: UserError) -> None:
    """Let a row's mistake end all: for whoever asks for one."""
    raise error


@dataclass(frozen=True, eq=False)
class Recording:
    """An utterance to be predicted, or a long recording of several: voice, words or both.

    path or samples (S,): the voice; neither: the words alone.  text: the transcript; "": none.
    speaker: whoever has the same name is one person, known better turn by turn; "": nobody.
    dialogue: whose turns are given in order; "": none.  start, end: seconds within the file.
    where: list and line that ask for it, if any do.
    """

    path: str = ""
    text: str = ""
    speaker: str = ""
    dialogue: str = ""
    start: float | None = None
    end: float | None = None
    samples: np.ndarray | None = None
    where: str = ""

    @property
    def has_voice(self) -> bool:
        return bool(self.path) or self.samples is not None


def of_row(recording: Recording, error: UserError) -> UserError:
    """Return the error with the list and the line that asked for the recording."""
    return UserError(f"{recording.where}: {error}") if recording.where else error


def readable(name: str) -> str:
    """Return a name for people; bytes that are no UTF-8 are cp949, as in zip files of Windows.

    What neither code explains is escaped. Parts of a path may be in different codes.
    """

    def decode(part: str) -> str:
        for code in ("utf-8", "cp949"):
            with suppress(UnicodeError):
                return os.fsencode(part).decode(code)
        return part.encode("utf-8", "backslashreplace").decode("utf-8")

    return "/".join(map(decode, name.split("/")))


def normal(name: str) -> str:
    """Return a name as it is compared: composed, whatever its bytes are."""
    return unicodedata.normalize("NFC", readable(name))


def locate(path: Path) -> Path:
    """Return the path, or where it is missing the one with the same letters in other bytes."""
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = locate(path.parent)
    with suppress(OSError, ValueError):
        names = list_names(str(folder), os.stat(folder).st_mtime_ns)
        return folder / names.get(normal(path.name), path.name)
    return path


@lru_cache(maxsize=64)
def list_names(folder: str, changed: int) -> dict[str, str]:
    """Return a folder's names by their normal forms; `changed` differs when they do."""
    return {normal(name): name for name in sorted(os.listdir(folder), reverse=True)}


def find_recordings(words: Iterable[str], refuse: Refuse = give_up) -> list[Recording]:
    """Return the files that are named, and of folders all recordings in them, by name."""
    found, kinds = [], (*SUFFIXES, *UNREAD)  # of the latter, the check says what to do
    for word in words:
        path = locate(Path(word))
        try:
            if os.path.isdir(path):
                paths = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in kinds)
            else:
                os.stat(path)
                paths = [word if os.path.lexists(word) else str(path)]
        except OSError as error:
            refuse(unreadable(word, error))
            continue
        if not paths:
            refuse(UserError(f"{readable(word)} has no recording in it ({', '.join(SUFFIXES)})"))
        found += map(Recording, paths)
    return found


def check(files: Iterable[Recording], refuse: Refuse = give_up) -> list[Recording]:
    """Return those that can be read, by their headers, before anything is predicted."""
    measure_once, good = lru_cache(maxsize=1024)(measure), []
    for recording in files:
        try:
            if recording.path:
                check_verdict(recording, measure_once(recording.path))
            good.append(recording)
        except UserError as error:
            refuse(of_row(recording, error))
    return good


def measure(path: str) -> int:
    """Return how many samples a file promises to have; UserError for one that cannot be read."""
    if os.path.isdir(path):
        raise UserError(f"{readable(path)} is a folder: give the recordings in it, one a row")
    if os.path.exists(path) and not os.path.isfile(path):  # it would wait
        raise UserError(f"{readable(path)} is a device or a pipe: save the recording first")
    try:
        return recordings.measure(path, LONGEST_WHOLE)
    except RecordingError as error:
        raise unreadable(path, error) from None


def check_verdict(recording: Recording, length: int) -> None:
    """Refuse a recording of so many samples that is not cut and too long for one verdict."""
    first, last = find_place(recording, length)
    if last - first > LONGEST and (recording.text or recording.end is not None):
        minutes = LONGEST // (60 * SAMPLE_RATE)
        raise UserError(
            f"{readable(recording.path)}: more than {minutes} minutes for one verdict: cut it "
            "into shorter ones, or leave text and end out, and it is cut where nobody speaks"
        )


def find_place(recording: Recording, length: int) -> tuple[int, int]:
    """Return first sample and end of a recording in a file of so many samples.

    Times that make no sense are left to `read`.
    """
    start = recording.start or 0.0
    end = length / SAMPLE_RATE if recording.end is None else recording.end
    return round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)


def read(recording: Recording) -> tuple[np.ndarray | OnDisk, list[str]]:
    """Return the samples (S,) of a recording between its start and end, and remarks on them.

    Those of a long recording stay on the disk, unless one verdict is given of them.
    """
    samples, path = recording.samples, recording.path
    if samples is not None and (samples.dtype != np.int16 or samples.ndim != 1):
        raise UserError("samples are to be (S,) int16 at 16 kHz")
    length = measure_again(path, state_of(path)) if samples is None else len(samples)
    seconds, start = length / SAMPLE_RATE, recording.start or 0.0
    end = seconds if recording.end is None else recording.end
    if not (0 <= start < min(end, seconds) and end <= seconds + 1):  # a diariser may round up
        raise UserError(
            f"{readable(path) or 'samples'}: no turn from {start:g} to {end:g} s in a "
            f"recording of {seconds:.1f} s: correct its times"
        )
    check_verdict(recording, length)
    first, last = find_place(recording, length)
    if samples is not None:
        return samples[first:last], []
    try:
        if recording.end is not None and length > IN_MEMORY and not is_mpeg(path):
            return read_part(path, first, min(last, length))
        samples, remarks = read_file(path, state_of(path))
    except (RecordingError, OSError) as error:
        raise unreadable(path, error) from None
    if isinstance(samples, OnDisk):
        samples = samples.part(first, last)
        return (samples if is_cut(recording) else samples[:]), remarks
    return samples[first:last], remarks


def is_cut(recording: Recording) -> bool:
    """Tell whether a recording, if it is long, is cut into utterances: nobody has done so."""
    return not recording.text and recording.end is None


def read_part(path: str, first: int, last: int) -> tuple[np.ndarray, list[str]]:
    """Return the samples from first to last of a long file, reading not much more, and remarks.

    From a whole second before them, so that they are resampled as in the whole.
    """
    begin = max(0, first // SAMPLE_RATE - 1)
    samples, remarks = recordings.read(path, piece=(begin, last / SAMPLE_RATE + AFTER))
    return samples[first - begin * SAMPLE_RATE :][: last - first], remarks


def state_of(path: str) -> tuple[int, int] | None:
    """Return what differs when a file was written again; None of one that is missing."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1)  # the turns of one file follow one another
def measure_again(path: str, state: tuple | None) -> int:
    """Return `measure` of a file that is in a `state_of` it."""
    return measure(path)


@lru_cache(maxsize=1)
def read_file(path: str, state: tuple | None) -> tuple[np.ndarray | OnDisk, list[str]]:
    """Return all samples of a file, those of a long one on the disk, and remarks on them."""
    length = measure_again(path, state)
    fits = length <= IN_MEMORY and recordings.count_values(path) <= MOST_VALUES * IN_MEMORY
    return recordings.read(path, length) if fits else spool(path, length)


def unreadable(path: str, error: RecordingError | OSError) -> UserError:
    """Return what is wrong with a recording, and what can be done about it."""
    name, kind = readable(path), Path(path).suffix.lower()
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in (ENOENT, ENOTDIR, ENAMETOOLONG):
        return UserError(f"{name} is missing: correct its name, or leave it out")
    if isinstance(cause, OSError):
        reason = f"{name} cannot be read ({cause.strerror})"
        return UserError(f"{reason}: look after its disk and its permissions, or leave it out")
    if kind in UNREAD:
        return UserError(f"{name}: {kind[1:].upper()} cannot be decoded here: {CONVERT}")
    remedies = (what for start, what in REMEDIES.items() if str(error).startswith(start))
    return UserError(f"{name}: {error}: {next(remedies, CONVERT)}")
