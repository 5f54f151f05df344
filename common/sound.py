"""How a recording sounds before any emotion: level, noise, pitch ...; and what is unusual.

Shapes: S samples (int16, 16 kHz), T frames.
"""

from collections.abc import Iterable

import numpy as np
from scipy.fft import irfft, rfft

from common.features import slice_frames
from common.files import FULL_SCALE, SAMPLE_RATE

HOP = 320  # samples between frames, 20 ms
WINDOW = 2 * HOP  # samples of a frame
NARROW = 4000  # Hz; a telephone transmits nothing above
LOWEST, HIGHEST = 60, 800  # Hz; of voices, children's too
VOICED = 0.5  # of the autocorrelation, from which a frame counts as voiced
OCTAVE = 0.05  # of it, by which a peak must be higher than one an octave above
HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
# What a frame's int16 samples, squared, count for in its mean power: the window's two halves.
WEIGHTS = (np.square(HANN / FULL_SCALE) / np.square(HANN).sum()).reshape(2, HOP)
SILENCE = 1e-10  # power that is added, -100 dB of full scale
SILENT = -90.0  # dB, the rounding of 16 bits and less
ENOUGH = 25  # voiced frames, half a second, that tell how far a voice goes up and down
RARE = 0.5  # per cent of the training recordings that lie beyond either end of their range
# A recording so far beyond the range is unusual: dB, per cent, and of FACTORS a factor.
MARGINS = {"level": 6.0, "treble": 10.0, "noise": 6.0, "pitch": 1.15, "melody": 1.5, "voicing": 3.0}
FACTORS = ("pitch", "melody")
NAMES = {
    "level": "level {:.0f} dB",
    "treble": "share above 4 kHz {:.0f} dB",
    "noise": "noise {:.0f} dB",
    "pitch": "pitch {:.0f} Hz",
    "melody": "melody {:.1f} semitones",
    "voicing": "voicing {:.0f} %",
}


def measure(samples: np.ndarray) -> dict[str, float]:
    """Return how a recording (S,) sounds.

    level: mean power in dB of full scale.  treble: share of the power above 4 kHz, noise: power of
    the quietest tenth of the frames against the mean, both in dB.  pitch: median in Hz over voiced
    frames, nan without any.  melody: semitones between the pitches that a tenth of the voiced
    frames is below and above, nan of few.  voicing: how periodic the loud frames are, in per cent.
    """
    level, noise = measure_level(samples)
    if level < SILENT:  # nothing is heard, so nothing else can be said
        return dict.fromkeys(MARGINS, np.nan) | {"level": level}
    frames = slice_frames(samples.astype(np.float32) / FULL_SCALE, WINDOW, HOP)
    power = np.square(np.abs(rfft(frames * HANN, 2 * WINDOW))) / np.square(HANN).sum()
    first = NARROW * 2 * WINDOW // SAMPLE_RATE
    treble = power[:, first:].sum() / power.shape[1] / len(power) + SILENCE
    each = frame_powers(samples)
    treble = 10 * float(np.log10(treble)) - level
    voice = measure_voice(power[each >= each.mean()], HANN)
    return {"level": level, "treble": treble, "noise": noise, **voice}


def measure_level(samples: np.ndarray) -> tuple[float, float]:
    """Return level and noise of a recording (S,), as `measure` does, without any spectrum.

    The noise of a silent recording is nan.
    """
    each = frame_powers(samples)
    level, quiet = (10 * float(np.log10(x)) for x in (each.mean(), np.percentile(each, 10)))
    return level, quiet - level if level >= SILENT else np.nan


def frame_powers(samples: np.ndarray) -> np.ndarray:
    """Return the mean power of each frame (T,) of a recording (S,), under a Hann window."""
    frames = max(len(samples) // HOP, 2) - 1
    scaled = np.zeros((frames + 1) * HOP, np.float32)
    scaled[: len(samples)] = samples[: len(scaled)]
    # A frame is two hops, each of them under one half of the window. einsum, as the threads of a
    # matrix product are in the way of those that read recordings.
    halves = np.einsum("th,kh->tk", np.square(scaled, out=scaled).reshape(-1, HOP), WEIGHTS)
    return halves[:-1, 0] + halves[1:, 1] + SILENCE


def measure_voice(power: np.ndarray, window: np.ndarray) -> dict[str, float]:
    """Return pitch, melody and voicing (see `measure`) of power spectra (T, WINDOW + 1).

    Boersma, "Accurate short-term analysis of the fundamental frequency", IFA 1993: the highest
    peak of the autocorrelation, divided by the window's own.
    """
    lags = np.arange(SAMPLE_RATE // HIGHEST, SAMPLE_RATE // LOWEST)
    own = irfft(np.square(np.abs(rfft(window, 2 * WINDOW))))
    correlation = irfft(power)
    correlation = correlation[:, lags] / (correlation[:, :1] + SILENCE) / (own[lags] / own[0])
    if not len(power):
        return dict.fromkeys(("pitch", "melody", "voicing"), np.nan)
    strength = correlation.max(1)
    voiced = correlation[strength > VOICED] - OCTAVE * np.log2(lags)
    pitches = SAMPLE_RATE / lags[voiced.argmax(1)]
    low, high = np.percentile(pitches, (10, 90)) if len(pitches) >= ENOUGH else (np.nan, np.nan)
    return {
        "pitch": float(np.median(pitches)) if len(pitches) else np.nan,
        "melody": 12 * float(np.log2(high / low)),
        "voicing": 100 * float(strength.mean()),
    }


def reference_range(measured: Iterable[dict[str, float]]) -> dict[str, list[float]]:
    """Return the limits between which nearly all of some recordings lie: {name: [low, high]}.

    measured: of each recording, by `measure`. A name without any finite value is left out.
    """
    measured = list(measured)
    values = {name: np.array([each[name] for each in measured]) for name in MARGINS}
    ends = RARE, 100 - RARE
    return {
        name: np.percentile(finite, ends).tolist()
        for name, all_values in values.items()
        if len(finite := all_values[np.isfinite(all_values)])
    }


def find_unusual(samples: np.ndarray, reference: dict[str, list[float]]) -> list[str]:
    """Say in what a recording (S,) is unlike those of a `reference_range`, a sentence each."""
    found = []
    for name, value in measure(samples).items():
        if name not in reference:
            continue
        (low, high), margin = reference[name], MARGINS[name]
        lowest, highest = low - margin, high + margin
        if name in FACTORS:
            lowest, highest = low / margin, high * margin
        if name == "noise":  # less of it is no matter, nor a clearer voice
            lowest = -np.inf
        elif name == "voicing":
            highest = np.inf
        if not lowest <= value <= highest and np.isfinite(value):
            found.append(f"{NAMES[name].format(value)}, usual {low:.0f} to {high:.0f}")
    return found
