"""Korean speech for the sample corpus: speakers with their own voices who act the seven emotions.

The speech is eSpeak NG's (GPL-3.0), a library that the espeakng-loader package brings along and
that is loaded here, at run time, for nothing but the sample corpus.
"""

import _ctypes
import atexit
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.signal import lfilter, resample_poly

from common.files import SAMPLE_RATE, UserError

ESPEAK_RATE = 22050  # Hz
LONGEST_PATH = 140  # bytes; eSpeak NG cuts the path of its data folder at 160, file names included
REINSTALL = "reinstall espeakng-loader"

# Constants of eSpeak NG's speak_lib.h.
SYNCHRONOUS, DONT_EXIT, CHARACTERS, UTF8 = 2, 0x8000, 1, 1
SPEED, PITCH, RANGE, WORD_GAP = 1, 3, 4, 7

VARIANTS = {
    "F": ("f1", "f2", "f3", "f4", "f5", "linda", "belinda", "steph"),
    "M": ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
}


@dataclass(frozen=True)
class Voice:
    """How one speaker talks when neutral, and through which microphone."""

    variant: str
    speed: float  # words a minute
    pitch: float  # 0-100, eSpeak's scale: 50 is the variant's own
    range: float  # of the pitch, on the same scale
    scale: float  # of all frequencies; a shorter vocal tract is above 1
    bright: float  # dB above 1 kHz
    level: float  # of the speech, dB of full scale
    noise: float  # of the room, dB of full scale
    warmth: float  # how strongly emotions show


@dataclass(frozen=True)
class Delivery:
    """How one utterance differs from the speaker's neutral voice."""

    speed: float = 0.0  # natural logarithm of the factor
    pitch: float = 0.0  # points of eSpeak's scale, as the range
    range: float = 0.0
    level: float = 0.0  # dB, as bright
    bright: float = 0.0
    gap: float = 0.0  # between words, 10 ms
    tremor: float = 0.0  # depth of an amplitude modulation, 0-1


# Directions as in the literature on acted speech (Scherer 2003; Juslin & Laukka 2003): anger fast,
# loud and bright, joy high and lively, sadness slow, low, soft and flat, fear fast, high and flat.
EMOTIONS = {
    "neutral": Delivery(),
    "angry": Delivery(speed=0.12, pitch=6, range=14, level=6, bright=4),
    "happy": Delivery(speed=0.08, pitch=15, range=25, level=3, bright=1.5),
    "surprise": Delivery(speed=-0.04, pitch=26, range=38, level=3, gap=0.8),
    "sad": Delivery(speed=-0.22, pitch=-12, range=-24, level=-6, bright=-4, gap=2),
    "fear": Delivery(speed=0.2, pitch=18, range=-14, level=-3, bright=-1, gap=0.8, tremor=0.45),
    "disgust": Delivery(speed=-0.16, pitch=-10, range=14, level=0.5, bright=2, gap=1.2),
}
# One standard deviation of what varies from utterance to utterance whatever the emotion.
JITTER = Delivery(speed=0.07, pitch=5, range=9, level=1.8, bright=1.3, gap=0.6, tremor=0.05)


def random_voice(gender: str, variant: str, rng: np.random.Generator) -> Voice:
    """Return a speaker's voice made of one of the gender's variants."""
    return Voice(
        variant=variant,
        speed=rng.uniform(165, 215),
        pitch=rng.uniform(36, 60),
        range=rng.uniform(38, 62),
        scale=rng.uniform(0.98, 1.1) if gender == "F" else rng.uniform(0.92, 1.05),
        bright=rng.uniform(-4, 4),
        level=rng.uniform(-31, -22),
        noise=rng.uniform(-72, -56),
        warmth=rng.uniform(0.75, 1.25),
    )


def random_delivery(emotion: str, warmth: float, rng: np.random.Generator) -> Delivery:
    """Return one acted utterance's delivery: the emotion more or less strongly, and jitter."""
    strength = warmth * np.clip(rng.normal(1, 0.3), 0.3, 1.6)
    values = {
        name: strength * value + rng.normal(0, getattr(JITTER, name))
        for name, value in vars(EMOTIONS[emotion]).items()
    }
    return Delivery(**values)


def say(text: str, voice: Voice, delivery: Delivery, rng: np.random.Generator) -> np.ndarray:
    """Return an utterance, shape (n,) int16 at 16 kHz, between stretches of the room's noise."""
    speech = speak(
        text,
        voice.variant,
        speed=voice.speed * np.exp(delivery.speed),
        pitch=voice.pitch + delivery.pitch,
        range=voice.range + delivery.range,
        gap=delivery.gap,
    )
    # Taking the samples as if they came at another rate moves pitch and formants together.
    speech = resample_poly(speech / 32768, 160, round(ESPEAK_RATE / 100 * voice.scale))
    speech = brighten(speech, voice.bright + delivery.bright)
    speech *= 10 ** ((voice.level + delivery.level) / 20) / np.sqrt(np.mean(speech**2))
    seconds = np.arange(len(speech)) / SAMPLE_RATE
    wobble = np.sin(2 * np.pi * (rng.uniform(5, 8) * seconds + rng.uniform()))
    speech *= 1 + np.clip(delivery.tremor, 0, 0.9) * wobble
    before, after = (round(rng.uniform(0.12, 0.45) * SAMPLE_RATE) for _ in range(2))
    signal = np.concatenate([np.zeros(before), np.tanh(speech), np.zeros(after)])
    return to_int16(signal + room_noise(len(signal), voice.noise, rng))


def breathe(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return a breath without words, shape (n,) int16 at 16 kHz."""
    length = round(seconds * SAMPLE_RATE)
    breath = rng.standard_normal(length) * np.hanning(length) * 0.015
    return to_int16(breath + room_noise(length, -65, rng))


def brighten(signal: np.ndarray, decibels: float) -> np.ndarray:
    """Raise or lower what lies above about 1 kHz (a first-order shelf)."""
    pole = np.exp(-2 * np.pi * 1000 / SAMPLE_RATE)
    low = lfilter([1 - pole], [1, -pole], signal)
    return low + 10 ** (decibels / 20) * (signal - low)


def room_noise(length: int, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return low-passed noise of `level` dBFS."""
    noise = lfilter([1], [1, -0.9], rng.standard_normal(length))
    return noise * 10 ** (level / 20) / np.sqrt(np.mean(noise**2))


def to_int16(signal: np.ndarray) -> np.ndarray:
    """Return a signal of full scale 1 as 16-bit samples."""
    return np.clip(np.round(signal * 32767), -32768, 32767).astype(np.int16)


def speak(
    text: str, variant: str, speed: float, pitch: float, range: float, gap: float
) -> np.ndarray:
    """Return what eSpeak NG's Korean voice says, shape (n,) int16 at 22.05 kHz.

    The same arguments give the same samples whatever was said before.
    """
    pieces = []

    def receive(samples, count, _events):
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    receiver = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )(receive)
    parameters = {
        SPEED: np.clip(speed, 80, 450),
        PITCH: np.clip(pitch, 0, 99),
        RANGE: np.clip(range, 0, 99),
        WORD_GAP: max(gap, 0),
    }
    with fresh_espeak() as library:
        library.espeak_SetSynthCallback(receiver)
        if library.espeak_SetVoiceByName(f"ko+{variant}".encode()) != 0:
            raise UserError(f"eSpeak NG has no Korean voice: {REINSTALL}")
        for parameter, value in parameters.items():
            library.espeak_SetParameter(parameter, round(value), 0)
        data = text.encode("utf-8")
        library.espeak_Synth(data, len(data) + 1, 0, CHARACTERS, 0, UTF8, None, None)
    if not pieces:
        raise ValueError(f"eSpeak NG says nothing for {text!r}")
    return np.concatenate(pieces)


@contextmanager
def fresh_espeak() -> Iterator[ctypes.CDLL]:
    """Yield eSpeak NG just loaded, and unload it.

    The library keeps the phase of its oscillators and a random state in static variables that
    espeak_Terminate leaves alone; only loading it anew (4 ms) makes an utterance independent of
    those before it.
    """
    path, data = espeak_paths()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise UserError(f"eSpeak NG cannot be loaded ({error}): {REINSTALL}") from None
    try:
        if library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT) != ESPEAK_RATE:
            raise UserError(f"eSpeak NG cannot read its data in {data}: {REINSTALL}")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        yield library
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)


@cache
def espeak_paths() -> tuple[str, str]:
    """Return the paths of the library and of its data, as short as eSpeak NG needs them."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "espeakng-loader is missing: pip install -r requirements.txt, or give another corpus"
        ) from None
    path, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    if len(os.fsencode(data)) > LONGEST_PATH:
        folder = tempfile.mkdtemp(prefix="espeak")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        link = os.path.join(folder, "espeak-ng-data")
        os.symlink(data, link)
        return path, link
    return path, data
