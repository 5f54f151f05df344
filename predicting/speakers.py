"""Voices that are kept between calls, MODEL/speakers/NAME.safetensors: sums of features.

No label, no recording and no word is in them. They hold for every model that hears a spectrogram of
the same constants, or the same speech encoder.
"""

import hashlib
import re
import unicodedata
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from common.files import UserError, write_bytes
from common.voice import features_key
from predicting.run import Run

NAME = re.compile(r"\w[\w .-]{0,63}")  # a file's name and never a path


def load_voice(run: Run, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Return {name: kind of features -> statistics (K,)} of a speaker; {} for a new one."""
    path, kinds = find_file(run, name), find_kinds(run)
    if not kinds or not path.is_file():
        return {}
    again = "remove it, or make it again with --enrol"
    try:
        with safe_open(path, "np") as stream:
            voice = {kind: stream.get_tensor(kind) for kind in stream.keys()}  # noqa: SIM118
            metadata = stream.metadata()
        is_finite = all(np.isfinite(stats).all() for stats in voice.values())
        if metadata["sha256"] != digest(voice) or not is_finite:
            raise ValueError("another checksum")
    except Exception as error:
        raise UserError(f"{path} is damaged, or no speaker's file ({error}): {again}") from None
    if {kind: stats.shape for kind, stats in voice.items()} != kinds:
        raise UserError(f"{path} is of models that hear other features: {again}")
    return {name: voice}


def save_voice(run: Run, name: str, voice: dict[str, np.ndarray]) -> int:
    """Keep the statistics (K,) of a speaker by kind; return of how many utterances they are."""
    write_bytes(find_file(run, name), save(voice, metadata={"sha256": digest(voice)}))
    return int(next(iter(voice.values()))[0])


def find_kinds(run: Run) -> dict[str, tuple[int]]:
    """Return the kinds of features that a run's speakers are normalised by, and the shape (K,)."""
    networks = [config["network"] for config in run.configs.values()]
    kinds = {features_key(config): config for config in networks if features_key(config)}
    return {kind: (2 + 2 * len(config["speaker_norm"]["mean"]),) for kind, config in kinds.items()}


def digest(voice: dict[str, np.ndarray]) -> str:
    """Return a hash of a speaker's statistics."""
    content = hashlib.sha256()
    for kind in sorted(voice):
        content.update(kind.encode() + voice[kind].tobytes())
    return content.hexdigest()


def find_file(run: Run, name: str) -> Path:
    """Return where a voice is kept, never outside the run's folder."""
    if not NAME.fullmatch(name):
        raise UserError(f"--speaker '{name}': letters, digits, blanks, dots, - and _ only")
    folder = run.folder / "speakers"
    if folder.resolve() != run.folder.resolve() / "speakers":
        raise UserError(f"{folder} leads out of {run.folder}: remove this link")
    name = unicodedata.normalize("NFC", name)  # a Mac's keyboard and its folders write it in two
    return folder / f"{name}.safetensors"
