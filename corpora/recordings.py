"""Recordings of any format, rate, width and number of channels -> 16 kHz mono int16.

An MP3 is decoded to its end, because the number of frames in its header is an estimate: libsndfile
stops at the length that it reads in a Xing or Info tag, or reckons from the size of the file and
the bit rate of the first frame. A stream or a hardware recorder writes no tag, and two files put
together have the tag of the first.

An utterance may be a piece of a longer recording: (start, end) in seconds, nan for the recording's
own beginning or end.
Shapes: S samples, C channels.
"""

import io
import math
import os
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from common.files import FULL_SCALE, SAMPLE_RATE

CLIPPED_LEVEL = 32766 / FULL_SCALE
CLIPPED_SAMPLES = 3  # so many samples at that level are reported as clipping
CANCELLED = 0.5  # of the level that channels without anything in common would leave of the loudest
SILENT_LEVEL = 0.001  # a peak below it (-60 dB) is reported as near-silence
# Bytes 8 to 40 of a WAV file as KEMDy's: 16 kHz, mono, 16 bit, no other chunk than the samples.
PLAIN = struct.pack("<8sIHHIIHH4s", b"WAVEfmt ", 16, 1, 1, SAMPLE_RATE, 32_000, 2, 16, b"data")
HEADER = 12 + len(PLAIN)  # bytes, the last four of them the number of those that follow
# libsndfile's remark on a data chunk that is longer in the header than in the file.
SHORT_DATA = re.compile(r"^data : ([0-9]+) \(should be ([0-9]+)\)", re.MULTILINE)
# Programs that write WAV into a pipe cannot know the length and promise about 2 or 4 GiB.
STREAMED = 0x7FFF0000
UNKNOWN = 1 << 62  # frames, by libsndfile: a FLAC that was written into a pipe
LONGEST = 600 * SAMPLE_RATE  # an utterance is no longer; a damaged header may promise terabytes
LONGEST_WHOLE = 24 * 3600 * SAMPLE_RATE  # of a recording that utterances are cut from
ROUNDING = 1.0  # seconds that a piece may seem to go on after the end of its recording
MOST_VALUES = 12  # times the longest: two channels at 96 kHz; a header may promise 255 channels
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")  # header of a layer III frame
TAG = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]")  # has a frame count
HEAD = 4096  # bytes before which the tag, or the first frame of a stream, begins
LONGER = 64  # times its size that a file claims to have: no two bit rates differ by more
FRAME = 1152  # samples
MARGIN = 5 * FRAME  # that encoders put before and behind what they are given
BLOCK = 1 << 20  # samples that are decoded at once


Piece = tuple[float, float]
ALL = (math.nan, math.nan)


class RecordingError(Exception):
    """A recording that cannot be used; the message is the reason."""


class Length(NamedTuple):
    """How many frames a recording holds, and of what kind; is_whole: an MP3's tag is right."""

    frames: int
    channels: int
    samplerate: int
    is_whole: bool = False


def measure(path: str, longest: int = LONGEST, piece: Piece = ALL) -> int:
    """Return the length in samples at 16 kHz that the header promises, of an MP3 what it holds.

    Raises RecordingError for a recording that is unreadable, empty, truncated or longer than the
    `longest`; of a longer one a piece may be taken.
    """
    most = LONGEST_WHOLE if is_cut(piece) else longest
    try:
        if frames := count_plain(path):
            found = Length(frames, 1, SAMPLE_RATE)
        elif is_mpeg(path):
            found = measure_mpeg(path, most, os.stat(path).st_mtime_ns)
        else:
            info = soundfile.info(name_of(path))
            found = Length(info.frames, info.channels, info.samplerate)
            short = SHORT_DATA.search(info.extra_info)
            if short and int(short[2]) < int(short[1]) < STREAMED:
                raise RecordingError("recording truncated")
            if info.frames >= UNKNOWN:
                raise RecordingError("recording of unknown length")
    except (soundfile.SoundFileError, OSError) as error:
        raise RecordingError("recording unreadable") from error
    length = check_length(found.frames, found, most)
    if not is_cut(piece):
        return length
    first, last = find_frames(piece, found.frames, found.samplerate)
    return check_length(last - first, found, longest)


def is_cut(piece: Piece) -> bool:
    """Tell whether a piece is less than the whole recording."""
    return not all(map(math.isnan, piece))


def find_frames(piece: Piece, frames: int, rate: int) -> tuple[int, int]:
    """Return the first frame of a piece and the one behind it; RecordingError if there is none."""
    start, end = piece
    first = 0 if math.isnan(start) else round(start * rate)
    last = frames if math.isnan(end) else round(end * rate)
    if first >= frames or last > frames + ROUNDING * rate:
        raise RecordingError("start or end is beyond the end of the recording")
    return first, min(last, frames)


@lru_cache(maxsize=256)  # the pieces of one file follow one another
def measure_mpeg(path: str, longest: int, changed: int) -> Length:
    """Return the length of an MP3, by decoding it to its end; `changed` differs when it does."""
    file, promised = open_mpeg(path)
    count = 0
    with file:
        for block in blocks(file):
            count += len(block)
            check_length(count, file, longest)
    if count < promised:
        raise RecordingError("recording truncated")
    whole = is_whole(count, promised)
    if whole:
        count = soundfile.info(name_of(path)).frames
    return Length(count, file.channels, file.samplerate, whole)


def check_length(frames: int, file: soundfile.SoundFile | Length, longest: int) -> int:
    """Return the length at 16 kHz of so many frames of a file; RecordingError if it is refused."""
    if not frames:
        raise RecordingError("recording empty")
    if frames * file.channels > MOST_VALUES * longest:
        raise RecordingError("recording of too many samples")
    length = resampled_length(frames, file.samplerate)
    if length > longest:
        raise RecordingError(f"recording longer than {longest // (60 * SAMPLE_RATE)} minutes")
    return length


def count_values(path: str) -> int:
    """Return how many samples of all channels a file holds, 0 of an MP3: it has two at most."""
    if is_mpeg(path):
        return 0
    info = soundfile.info(name_of(path))
    return info.frames * info.channels


def resampled_length(frames: int, rate: int) -> int:
    """Return ceil(frames * 16000 / rate), librosa's convention, in whole numbers."""
    return -(-frames * SAMPLE_RATE // rate)


def read(path: str, length: int | None = None, piece: Piece = ALL) -> tuple[np.ndarray, list[str]]:
    """Read a recording as (length,) int16 at 16 kHz, and what is to be reported of it.

    Raises RecordingError if it is unreadable, or has not the `length` that `measure` returned.
    """
    try:
        if frames := count_plain(path):
            first, last = find_frames(piece, frames, SAMPLE_RATE)
            samples = np.fromfile(path, "<i2", last - first, offset=HEADER + 2 * first)
            remarks = inspect(samples, FULL_SCALE)
        elif is_mpeg(path) and (found := read_mpeg(path, piece)):
            samples, remarks = convert(*found)
        else:
            with soundfile.SoundFile(name_of(path)) as file:
                count = -1
                if is_cut(piece):
                    first, last = find_frames(piece, file.frames, file.samplerate)
                    count = last - first
                    file.seek(first)
                if (file.samplerate, file.channels, file.subtype) == (SAMPLE_RATE, 1, "PCM_16"):
                    samples = file.read(count, dtype="int16")  # nothing to convert
                    remarks = inspect(samples, FULL_SCALE)
                else:
                    samples = file.read(count, dtype="float32", always_2d=True)
                    samples, remarks = convert(samples, file.samplerate)
    except (soundfile.SoundFileError, OSError, MemoryError) as error:
        raise RecordingError("recording unreadable") from error
    if length is not None and len(samples) != length:
        raise RecordingError("recording truncated")
    return samples, remarks


def count_plain(path: str) -> int:
    """Return how many samples a PLAIN file holds; 0 for a file that is for libsndfile to read.

    A file as KEMDy's is read in a fifth of the time that libsndfile's wrapper takes.
    """
    with open(path, "rb", buffering=0) as stream:
        head, size = stream.read(HEADER), os.fstat(stream.fileno()).st_size
    count = int.from_bytes(head[-4:], "little")
    is_plain = head[:4] == b"RIFF" and head[8:-4] == PLAIN
    return count // 2 if is_plain and HEADER + count == size and not count % 2 else 0


def convert(samples: np.ndarray, rate: int) -> tuple[np.ndarray, list[str]]:
    """Convert (n, channels) float32 to (ceil(n * 16000 / rate),) int16, with remarks."""
    remarks = []
    finite = np.isfinite(samples)
    if not finite.all():
        samples = np.where(finite, samples, np.float32(0))
        remarks.append("samples not finite, set to zero")
    remarks += inspect(samples, 1)
    mono = samples.mean(axis=1)
    levels = samples.std(axis=0)
    if mono.size and mono.std() * len(levels) < CANCELLED * levels.max():
        mono = samples[:, levels.argmax()]
        remarks.append("channels cancel each other out, the louder one taken")
    if rate != SAMPLE_RATE:
        length = resampled_length(len(mono), rate)
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")[:length]
        mono = np.pad(mono, (0, length - len(mono)))
    return to_int16(mono), remarks


def to_int16(mono: np.ndarray) -> np.ndarray:
    """Return samples (S,) between -1 and 1 as int16."""
    scaled = np.rint(mono * np.float32(FULL_SCALE))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def inspect(samples: np.ndarray, full_scale: int) -> list[str]:
    """Return remarks on a recording's level: clipped or near-silent."""
    if not samples.size:
        return []
    peak = max(float(samples.max()), -float(samples.min())) / full_scale
    clipped = count_clipped(samples, full_scale) if peak >= CLIPPED_LEVEL else 0
    return remark_on_level(peak, clipped)


def count_clipped(samples: np.ndarray, full_scale: int) -> int:
    """Return how many samples have reached the full scale."""
    limit = CLIPPED_LEVEL * full_scale
    return int(np.count_nonzero((samples >= limit) | (samples <= -limit)))


def remark_on_level(peak: float, clipped: int) -> list[str]:
    """Return remarks on a recording of a peak, of the full scale, and so many clipped samples."""
    if peak < SILENT_LEVEL:
        return ["near-silent"]
    return ["clipped"] if clipped >= CLIPPED_SAMPLES else []


def name_of(path: str) -> str | bytes:
    """Return a path as soundfile takes it; its own encoding refuses names that are no UTF-8."""
    return path if os.name == "nt" else os.fsencode(path)


class Endless(io.BytesIO):
    """A file that claims to be longer than it is, so that libsndfile reads to its end."""

    claimed = 0

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self.claimed = LONGER * self.getbuffer().nbytes + place if whence == io.SEEK_END else 0
        return self.claimed or super().seek(place, whence)

    def tell(self) -> int:
        return self.claimed or super().tell()


def is_mpeg(path: str) -> bool:
    """Tell whether a file is an MP3, or is called one and begins like no other recording."""
    with open(path, "rb", buffering=0) as stream:
        head = stream.read(4)
    named = path.lower().endswith(".mp3") and head not in (b"RIFF", b"RF64", b"fLaC", b"OggS")
    return named or head.startswith(b"ID3") or bool(SYNC.match(head))


def open_mpeg(path: str) -> tuple[soundfile.SoundFile, int]:
    """Open an MP3; return it, and how many samples its tag promises, 0 without one.

    It is to be read by `blocks`: its own length is made up.
    """
    with open(path, "rb") as stream:
        content = bytearray(stream.read())
    while (label := content.find(b"APETAGEX")) >= 0:  # titles in the way of libsndfile
        size = int.from_bytes(content[label + 12 : label + 16], "little")
        del content[label : label + 32 + size]
    start = 0
    if content[:3] == b"ID3":  # titles and pictures, of a length in four times seven bits
        start = 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(content[6:10]))
    first = SYNC.search(content, start, start + HEAD)
    if first is None:
        raise soundfile.LibsndfileError(1)
    promised, start = 0, first.start()
    if tag := TAG.search(content, start, start + HEAD):
        halved = not content[start + 1] & 8  # frames of 576 samples, below 32 kHz
        promised = int.from_bytes(content[tag.end() : tag.end() + 4], "big") * FRAME >> halved
        content[tag.start() : tag.start() + 4] = bytes(4)
    del content[:start]
    return soundfile.SoundFile(Endless(content)), promised


def blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield (S, C) float32 until nothing is left; a LibsndfileError where something is."""
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield block
    if len(file.name.getbuffer()) - file.name.tell() > HEAD:  # of another rate
        raise soundfile.LibsndfileError(29)


def is_whole(count: int, promised: int) -> bool:
    """Tell whether the tag speaks of all samples: then it also says what the encoder added."""
    return 0 < count - promised <= MARGIN and promised > 0


def read_mpeg(path: str, piece: Piece) -> tuple[np.ndarray, int] | None:
    """Return an MP3's samples, (S, C) float32, and its rate; None where its tag is right."""
    file, promised = open_mpeg(path)
    start, end = (file.samplerate * seconds for seconds in piece)
    kept, count = [], 0
    with file:
        for block in blocks(file):
            # Less than the whole is kept, so that many hours fit into the memory.
            if not (start > count + len(block) or end < count):
                kept.append((count, block))
            count += len(block)
    if is_whole(count, promised):
        return None
    first, last = find_frames(piece, count, file.samplerate)
    offset = kept[0][0]
    samples = np.concatenate([block for _, block in kept])
    return samples[first - offset : last - offset], file.samplerate
