"""The readers that stand beside the chain in benchmarks/dialogue.py."""

import numpy as np
import pytest
import torch

from benchmarks.dialogue import Neighbours, Recurrent
from fusion.dialogue import C, cut_dialogues


@pytest.mark.parametrize("make", [Neighbours, Recurrent])
def test_only_the_whole_reader_knows_later_turns(make):
    torch.manual_seed(0)
    dialogues = cut_dialogues(np.repeat([0, 1], 5), np.tile(np.arange(5), 2), np.arange(10) % 2)
    said = torch.randn(10, C)
    changed = said.clone()
    changed[4] += 1 - 2 * torch.eye(C)[0]  # the last turn of the first dialogue
    for kind, moved in (("past", [4]), ("whole", [0, 1, 2, 3, 4])):
        network = make(kind).eval()
        with torch.inference_mode():
            gap = (network(changed, dialogues) - network(said, dialogues)).abs().amax(1)
        assert set(np.flatnonzero(gap > 1e-5)) <= set(moved), kind
        assert gap[4] > 0.1 and (kind == "past" or gap[3] > 1e-3)
