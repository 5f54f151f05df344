"""What is known of one speaker, as a small file: sums of frames and of a network's layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from common.files import UserError, write_bytes


@dataclass(frozen=True)
class SpeakerProfile:
    """Sums over the clips heard so far by the name of what they are of (see models/speaker.py).

    No label, no recording and no word is in it. It belongs to the model that made it, which
    `made_by` identifies.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    made_by: str = ""

    @property
    def clips(self) -> int:
        """How many clips have been heard."""
        return int(next(iter(self.sums.values()))[0]) if self.sums else 0

    @property
    def digest(self) -> str:
        """SHA-256 of all sums, by which a damaged file is known."""
        found = hashlib.sha256(self.made_by.encode())
        for name in sorted(self.sums):
            found.update(name.encode() + self.sums[name].tobytes())
        return found.hexdigest()

    def save(self, path: Path | str) -> None:
        """Write it as safetensors."""
        metadata = {"made_by": self.made_by, "sha256": self.digest}
        write_bytes(path, save(self.sums, metadata=metadata))

    @classmethod
    def load(cls, path: Path | str) -> SpeakerProfile:
        """Read a profile; UserError for a file that is none."""
        try:
            with safe_open(path, "np") as stream:
                sums = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
                metadata = stream.metadata()
            profile = cls(sums, metadata["made_by"])
            if any(s.dtype != np.float64 or s.ndim != 1 or len(s) < 4 for s in sums.values()):
                raise ValueError("not the sums of a speaker")
            if not sums or not all(np.isfinite(s).all() for s in sums.values()):
                raise ValueError("no numbers in it")
            if profile.digest != metadata["sha256"]:
                raise ValueError("it was damaged")
        except Exception as error:
            raise UserError(
                f"{path} is no speaker profile, or a damaged one ({error}): remove it, or make it "
                "again with --enrol"
            ) from None
        return profile
