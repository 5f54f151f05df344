"""MP3 files, decoded to their end: the number of frames in a header is an estimate.

libsndfile stops at the length that it reads in a Xing or Info tag, or reckons from the size of the
file and the bit rate of the first frame. A stream or a hardware recorder writes no tag, and two
files put together have the tag of the first.

Shapes: S samples, C channels.
"""

import io
import re
from collections.abc import Iterator

import numpy as np
import soundfile

SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")  # header of a layer III frame
TAG = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]")  # has a frame count
HEAD = 4096  # bytes before which the tag, or the first frame of a stream, begins
LONGER = 64  # times its size that a file claims to have: no two bit rates differ by more
FRAME = 1152  # samples
MARGIN = 5 * FRAME  # that encoders put before and behind what they are given
BLOCK = 1 << 20  # samples that are decoded at once


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
    return soundfile.SoundFile(Endless(content[start:])), promised


def blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield (S, C) float32 until nothing is left; a LibsndfileError where something is."""
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield block
    if len(file.name.getbuffer()) - file.name.tell() > HEAD:  # of another rate
        raise soundfile.LibsndfileError(29)


def is_whole(count: int, promised: int) -> bool:
    """Tell whether the tag speaks of all samples: then it also says what the encoder added."""
    return 0 < count - promised <= MARGIN and promised > 0


def read(path: str) -> tuple[np.ndarray, int] | None:
    """Return all samples of an MP3, (S, C) float32, and its rate; None where its tag is right."""
    file, promised = open_mpeg(path)
    with file:
        samples = np.concatenate([*blocks(file)])
    return None if is_whole(len(samples), promised) else (samples, file.samplerate)
