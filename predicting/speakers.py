"""Voices that are kept between calls, MODEL/speakers/NAME.safetensors: sums of a spectrogram.

No label, no recording and no word is in them. They hold for every model that hears a spectrogram of
the same constants.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from common.files import UserError, write_bytes
from predicting.predicting import Run

NAME = re.compile(r"\w[\w .-]{0,63}")  # a file's name and never a path


def load_voice(run: Run, name: str) -> dict[str, np.ndarray]:
    """Return {name: statistics (K,)} of what was kept of a speaker; {} for a new one."""
    path = find_file(run, name)
    if run.mel is None or not path.is_file():
        return {}
    again = "remove it, or make it again with --enrol"
    try:
        with safe_open(path, "np") as stream:
            stats, metadata = stream.get_tensor("stats"), stream.metadata()
        expected = describe(run, stats)
        if metadata["sha256"] != expected["sha256"] or not np.isfinite(stats).all():
            raise ValueError("another checksum")
    except Exception as error:
        raise UserError(f"{path} is damaged, or no speaker's file ({error}): {again}") from None
    if metadata["mel"] != expected["mel"] or stats.shape != (2 + 2 * run.mel.bins,):
        raise UserError(f"{path} is of another kind of spectrogram: {again}")
    return {name: stats}


def save_voice(run: Run, name: str, stats: np.ndarray) -> int:
    """Keep the statistics (K,) of a speaker; return of how many utterances they are."""
    content = save({"stats": stats}, metadata=describe(run, stats))
    write_bytes(find_file(run, name), content)
    return int(stats[0])


def describe(run: Run, stats: np.ndarray) -> dict[str, str]:
    """Return what a voice's file says of its statistics: the spectrogram's constants and a hash."""
    digest = hashlib.sha256(stats.tobytes()).hexdigest()
    return {"mel": json.dumps(asdict(run.mel), sort_keys=True), "sha256": digest}


def find_file(run: Run, name: str) -> Path:
    """Return where a voice is kept, never outside the run's folder."""
    if not NAME.fullmatch(name):
        raise UserError(f"--speaker '{name}': letters, digits, blanks, dots, - and _ only")
    folder = run.folder / "speakers"
    if folder.resolve() != run.folder.resolve() / "speakers":
        raise UserError(f"{folder} leads out of {run.folder}: remove this link")
    name = unicodedata.normalize("NFC", name)  # a Mac's keyboard and its folders write it in two
    return folder / f"{name}.safetensors"
