"""How fast features are extracted on one core, against librosa and scipy clip by clip.

The baselines compute the same numbers with the library's own function: the mel power spectrogram
and two orders of deltas, the paper's power spectral density, the paper's MFCC.
"""

import warnings

import librosa
import numpy as np
import scipy.signal
from pipeline.features import mel, paper
from threadpoolctl import threadpool_limits

from benchmarks.measure import alternate, draw_clips, row
from common.files import FULL_SCALE, SAMPLE_RATE

CLIPS = 100
MEL = mel.Mel()


def rows() -> list[dict]:
    clips = draw_clips(CLIPS)
    hours = sum(map(len, clips)) / SAMPLE_RATE / 3600
    pairs = {
        "log-mel, against librosa": (mel_ours, mel_librosa),
        "log-mel and its deltas, against librosa": (deltas_ours, deltas_librosa),
        "paper's spectrogram, against scipy": (paper.paper_spectrogram, paper_scipy),
        "paper's MFCC, against librosa": (paper.paper_mfcc, mfcc_librosa),
    }
    found = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, rivals in pairs.items():
            seconds = alternate(*(lambda f=f: [f(clip) for clip in clips] for f in rivals))
            ours, baseline = (hours / each for each in seconds)
            found.append(row(f"{name}, one core", "h of audio / s", ours, baseline, least=4))
    return found


def mel_ours(clip: np.ndarray) -> np.ndarray:
    return mel.log_mel(clip, MEL)


def deltas_ours(clip: np.ndarray) -> np.ndarray:
    return mel.add_deltas(mel.log_mel(clip, MEL), MEL)


def mel_librosa(clip: np.ndarray) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=clip.astype(np.float32) / FULL_SCALE,
        sr=SAMPLE_RATE,
        n_fft=MEL.window,
        hop_length=MEL.hop,
        n_mels=MEL.bins,
        fmin=MEL.lowest,
        fmax=MEL.highest,
        center=False,
    )
    return librosa.power_to_db(power, top_db=MEL.range)


def deltas_librosa(clip: np.ndarray) -> np.ndarray:
    spectrogram = mel_librosa(clip)
    slope, curve = (
        librosa.feature.delta(spectrogram, width=5, order=order, mode="nearest") for order in (1, 2)
    )
    return np.stack([spectrogram, slope, curve])


def paper_scipy(clip: np.ndarray) -> np.ndarray:
    _, _, density = scipy.signal.spectrogram(
        clip.astype(np.float64),
        SAMPLE_RATE,
        window=np.hanning(641)[:-1],
        noverlap=320,
        detrend=False,
    )
    spectrogram = np.log(density.T + 1e-10)
    first = np.diff(spectrogram, axis=-1, prepend=spectrogram[:, :1])
    return np.stack([spectrogram, first, np.diff(first, axis=-1, prepend=first[:, :1])])


def mfcc_librosa(clip: np.ndarray) -> np.ndarray:
    samples = clip.astype(np.float32) / FULL_SCALE
    mfcc = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=100, n_fft=400, hop_length=160)
    return (mfcc - mfcc.mean(1, keepdims=True)) / mfcc.std(1, keepdims=True)
