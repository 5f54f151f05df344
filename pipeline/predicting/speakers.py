"""Voices that are kept between calls: MODEL/speakers/NAME.<model>.safetensors."""

import hashlib
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

from common.files import UserError, sha256
from pipeline.learning.profile import SpeakerProfile
from pipeline.predicting.predicting import Heard, Run

NAME = re.compile(r"\w[\w .-]{0,63}")  # a file's name and never a path
HEARERS = ("audio", "cmbert")


def load_voice(run: Run, name: str) -> Heard:
    """Return what was kept of a speaker, nothing for a new one."""
    heard = Heard()
    for model in set(HEARERS) & set(run.models):
        path = find_file(run, name, model)
        if not path.is_file():
            continue
        profile = SpeakerProfile.load(path)
        if profile.made_by != identify(run, model):
            raise UserError(
                f"{path} belongs to another {model} model: remove it, or make it again with --enrol"
            )
        heard.voices[model, name] = profile
    return heard


def save_voice(run: Run, name: str, heard: Heard) -> int:
    """Keep what is known of a speaker; return how many clips that is."""
    clips = 0
    for model in HEARERS:
        if profile := heard.voices.get((model, name)):
            profile = replace(profile, made_by=identify(run, model))
            profile.save(find_file(run, name, model))
            clips = max(clips, profile.clips)
    return clips


def find_file(run: Run, name: str, model: str) -> Path:
    """Return where a voice is kept, never outside the run's folder."""
    if not NAME.fullmatch(name):
        raise UserError(f"--speaker '{name}': letters, digits, blanks, dots, - and _ only")
    folder = run.folder / "speakers"
    if folder.resolve() != run.folder.resolve() / "speakers":
        raise UserError(f"{folder} leads out of {run.folder}: remove this link")
    name = unicodedata.normalize("NFC", name)  # a Mac's keyboard and its folders write it in two
    return folder / f"{name}.{model}.safetensors"


def identify(run: Run, model: str) -> str:
    """Return what tells a model from any other: its files' hash."""
    files = (run.folder / model / name for name in ("config.json", "model.safetensors"))
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
