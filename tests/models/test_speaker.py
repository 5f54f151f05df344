"""What is known of a speaker: sums and moments by hand."""

import pytest
import torch
from models.speaker import PRIOR_CLIPS, clip_sums, known_at_each, known_moments

from models import ModelError


def test_sums_of_clips_by_hand():
    # one clip of two frames, one channel, two frequencies: 1 2 / 3 4; then padding
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]]])
    # clips, frames, sum over frames of the mean over frequency, the same of the squares
    assert clip_sums(maps, torch.tensor([2])).tolist() == [[1, 2, 1.5 + 3.5, 2.5 + 12.5]]


def test_regimes_by_hand():
    own = torch.tensor([[1.0, 10], [1, 20], [1, 30]]).double()
    before = torch.tensor([2.0, 5]).double()
    assert known_at_each(own, "utterance", before).tolist() == own.tolist()
    assert known_at_each(own, "past").tolist() == [[1, 10], [2, 30], [3, 60]]
    assert known_at_each(own, "past", before).tolist() == [[3, 15], [4, 35], [5, 65]]
    assert known_at_each(own, "all").tolist() == [[3, 60]] * 3
    assert known_at_each(own, "all", before).tolist() == [[5, 65]] * 3
    with pytest.raises(ModelError, match="SPEAKER_NORM = 'future'"):
        known_at_each(own, "future")


def test_the_average_speaker_counts_as_some_clips():
    mean, variance = torch.tensor([1.0]), torch.tensor([4.0])
    clips = 2.0 * PRIOR_CLIPS  # trust 2 / 3
    # frames of values -2 and 4 in equal shares: mean 1, variance 9
    known = torch.tensor([[clips, 100.0, 100.0, 1000.0]]).double()
    found = [x.item() for x in known_moments(known, mean, variance, PRIOR_CLIPS)]
    assert found == pytest.approx([1.0, (2 * 9 + 4) / 3])
    # all values 7: mean 7 and no variance; two thirds of (7, 0), one third of (1, 4), around 5
    known = torch.tensor([[clips, 10.0, 70.0, 490.0]]).double()
    found = [x.item() for x in known_moments(known, mean, variance, PRIOR_CLIPS)]
    assert found == pytest.approx([5.0, (2 * 4 + 16 + 4) / 3])


def test_large_means_lose_no_variance():
    maps = 1e4 + torch.randn(1, 1, 5000, 1, generator=torch.Generator().manual_seed(0))
    sums = clip_sums(maps, torch.tensor([5000])) * torch.tensor(1.0).double()
    sums[:, 0] = 1e9  # trusted
    _, variance = known_moments(sums, torch.full((1,), 1e4), torch.ones(1), PRIOR_CLIPS)
    assert variance.item() == pytest.approx(maps.double().var(correction=0).item(), rel=1e-3)
