"""Long recordings are cut where it is silent."""

import numpy as np
import pytest

from pipeline.predicting.cutting import cut

RATE = 16_000


def record(*sounds, seconds, level=3000, hum=3):
    """Return `seconds` of faint noise with louder noise from start to end of each sound."""
    random = np.random.default_rng(0)
    samples = hum * random.standard_normal(seconds * RATE)
    for start, end in sounds:
        place = slice(round(start * RATE), round(end * RATE))
        samples[place] = level * random.standard_normal(place.stop - place.start)
    return samples.astype(np.int16)


def seconds(pieces):
    return [(start / RATE, end / RATE) for start, end in pieces]


def test_utterances_are_found_with_their_times():
    found = seconds(cut(record((1, 3), (5, 5.5), (9, 12), seconds=13)))
    assert found == [pytest.approx(expected, abs=0.15) for expected in ((1, 3), (5, 5.5), (9, 12))]
    for (start, end), (first, last) in zip(found, ((1, 3), (5, 5.5), (9, 12)), strict=True):
        assert start <= first and last <= end  # nothing of a word is cut off


def test_a_short_pause_ends_no_utterance_and_a_click_is_none():
    found = seconds(cut(record((1, 3), (3.3, 5), (8, 8.02), seconds=10)))
    assert found == [pytest.approx((1, 5), abs=0.15)]


def test_a_bang_does_not_silence_the_speech():
    samples = record((1, 3), (5, 7), seconds=8, level=300, hum=1)
    samples[4 * RATE : 4 * RATE + 200] = 32_000
    found = seconds(cut(samples))
    assert [pytest.approx((1, 3), abs=0.15), pytest.approx((5, 7), abs=0.15)] == found


def test_what_goes_on_and_on_is_cut_where_it_is_quietest():
    samples = record((0, 18), seconds=18)
    quiet = slice(7 * RATE, 7 * RATE + RATE // 5)
    samples[quiet] //= 4  # not silent
    first, second = seconds(cut(samples))
    assert first == pytest.approx((0, 7.1), abs=0.15)
    assert second == pytest.approx((7.1, 18), abs=0.15)
    pieces = seconds(cut(record((0, 100), seconds=100)))
    assert max(end - start for start, end in pieces) <= 15
    assert (pieces[0][0], pieces[-1][1]) == (0, 100)
    assert all(a[1] == b[0] for a, b in zip(pieces, pieces[1:], strict=False))  # nothing is lost


@pytest.mark.parametrize("sounds", [(), ((3, 3.02),)])
def test_where_nothing_is_said_nothing_is_left_out(sounds):
    pieces = cut(record(*sounds, seconds=40, hum=0))
    assert (pieces[0][0], pieces[-1][1]) == (0, 40 * RATE)
    assert max(end - start for start, end in pieces) <= 15.2 * RATE
