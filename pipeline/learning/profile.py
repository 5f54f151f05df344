"""What is known of one speaker, as a small file: sums of frames and of a network's layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.files import UserError, write_atomically


@dataclass(frozen=True)
class SpeakerProfile:
    """Sums over the clips heard so far by the name of what they are of (see models/speaker.py).

    No label, no recording and no word is in it. It belongs to the model that made it.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        """How many clips have been heard."""
        return int(next(iter(self.sums.values()))[0]) if self.sums else 0

    def save(self, path: Path | str) -> None:
        """Write it as safetensors."""
        with write_atomically(path) as temporary:
            save_file({name: sums.contiguous() for name, sums in self.sums.items()}, temporary)

    @classmethod
    def load(cls, path: Path | str) -> SpeakerProfile:
        """Read a profile; UserError for a file that is none."""
        try:
            sums = load_file(path)
            if any(s.dtype != torch.float64 or s.ndim != 1 or len(s) < 4 for s in sums.values()):
                raise ValueError("not the sums of a speaker")
            if not sums or not all(s.isfinite().all() for s in sums.values()):
                raise ValueError("no numbers in it")
        except Exception as error:
            raise UserError(f"{path} is no speaker profile: {error}") from None
        return cls(sums)
