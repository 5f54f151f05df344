"""By what a speaker is normalised: which turns are known, and how they mix with the corpus."""

import json
from dataclasses import replace

import numpy as np
import pytest

from common.data import load_data
from common.features import Mel, log_mel
from common.speakers import SPEAKER_NORMS, SpeakerNorm, SpeakerStats, clip_stats
from common.voice import cache_log_mel, collect_stats

of_norms = pytest.mark.parametrize("name", SPEAKER_NORMS)


def same(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


def known(data, stats, name, read=None):
    """The statistics of all rows, (N, K)."""
    found = SpeakerStats(data, read or (lambda rows: stats[rows]), name)
    return np.stack([found.of(row) for row in range(len(data))])


@pytest.fixture(scope="module")
def train(data):
    return load_data(data, "train")


def long_talk(data):
    """Two sessions of one woman and one man, each with 40 turns, in any order of rows."""
    order = np.random.default_rng(0).permutation(160)
    table = data.table.iloc[np.zeros(160, int)].reset_index(drop=True)
    number = order % 80
    return replace(
        data,
        table=table.assign(
            session=1 + order // 80,
            speaker=np.array(["F", "M"])[number % 2],
            dialogue_number=1 + number // 50,
            turn=1 + number % 50,
        ),
    )


@pytest.mark.parametrize("clips", [1, 40])
@pytest.mark.parametrize("prior_clips", [0, 10, 25.5])
def test_the_norm_is_that_of_the_speaker_and_of_prior_clips_of_the_corpus(clips, prior_clips):
    random = np.random.default_rng(0)
    own = random.normal([3, 3, 900], 2, (600, 3)).astype(np.float32)  # whose sums are large
    corpus = random.normal([-1, 3, 900], 1, (600, 3))
    corpus[:, 1] = own[:, 1] = 0.3  # never moves
    stats = sum(clip_stats(part) for part in np.array_split(own, clips))[None]
    norm = replace(SpeakerNorm.fit([clip_stats(corpus)]), prior_clips=prior_clips)
    weights = np.repeat([clips, prior_clips], 600)  # a frame of the one, and of the other
    both = np.concatenate([own, corpus])
    mean = np.average(both, axis=0, weights=weights)
    std = np.sqrt(np.average((both - mean) ** 2, axis=0, weights=weights))
    again = SpeakerNorm.from_json(json.loads(json.dumps(norm.to_json())))
    for found in (norm.mean_and_std(stats), again.mean_and_std(stats)):
        same(found[0][0], mean, 1e-4), same(found[1][0], np.maximum(std, 0.1))
        assert found[0].dtype == found[1].dtype == np.float32
    assert SpeakerNorm.from_json(replace(norm, std_floor=0.7).to_json()).std_floor == 0.7
    same(norm.mean_and_std(stats[0])[0], mean, 1e-4)  # one row as well


def test_the_corpus_is_all_frames_of_its_rows():
    clips = [np.random.default_rng(n).normal(n, 1 + n, (10 + 30 * n, 4)) for n in range(3)]
    norm = SpeakerNorm.fit((clip_stats(clip) for clip in clips), std_floor=0.5)
    same(norm.mean, np.concatenate(clips).mean(0), 1e-9)
    same(norm.variance, np.concatenate(clips).var(0), 1e-9)
    assert norm.prior_clips == 10 and norm.std_floor == 0.5


def variants(data):
    """The data; with two dialogues a session, whose turns begin at 1, under ids of another order
    or of time's; with speakers who come again in another session; of many turns."""
    yield data
    second = data.table["turn"] > 5
    turns = {"dialogue_number": 1 + second, "turn": data.table["turn"] - 5 * second}
    for first in ("", "x"):
        ids = np.where(second, "b", first) + data.ids.astype(object)
        cut = data.table.assign(id=ids, **turns).sort_values("id").reset_index(drop=True)
        yield replace(data, table=cut)
    yield replace(data, table=data.table.assign(speaker=data.table["speaker"].str[-1]))
    yield long_talk(data)


@of_norms
def test_each_row_is_normalised_by_its_own_speakers_turns(train, name):
    for data in variants(train):
        numbers = np.arange(len(data))
        stats = np.random.default_rng(0).integers(0, 100, (len(data), 6)).astype(float)
        time = (100 * data.table["dialogue_number"] + data.table["turn"]).to_numpy()
        found = known(data, stats, name)
        for row in numbers:
            own = data.speakers == data.speakers[row]
            past = own & (data.sessions == data.sessions[row]) & (time <= time[row])
            heard = {"utterance": numbers == row, "past": past, "all": own}[name]
            assert np.array_equal(found[row], stats[heard].sum(0))
        given = replace(data, known_stats=stats[::-1])  # in place of the rows' own
        assert np.array_equal(known(given, None, name), stats[::-1])


def test_a_spectrograms_statistics_are_those_of_its_frames(train):
    stats = collect_stats(cache_log_mel(train, Mel()))
    frames = log_mel(train.samples(3), Mel()).astype(float)
    assert stats.shape == (len(train), 2 + 2 * 64) and stats[3, :2].tolist() == [1, len(frames)]
    same(stats[3, 2:] / len(frames), np.hstack([frames.mean(0), (frames**2).mean(0)]), 1e-9)


def test_past_never_hears_the_future(train):
    """What is said later changes nothing; all that is asked for are turns up to the row's own."""
    data = long_talk(train)
    stats = np.random.default_rng(0).integers(0, 100, (len(data), 6)).astype(float)
    whole = known(data, stats, "past")
    own = (data.speakers == "M") & (data.sessions == 2)
    turns = data.time_order[own[data.time_order]]
    for count in (1, 2, 15, 16, 17, 32, 33, 40):  # stopped after so many turns
        some = np.isin(np.arange(len(data)), turns[:count])
        assert np.array_equal(known(data.select(some), stats[some], "past"), whole[some])
    assert np.array_equal(whole[turns[0]], stats[turns[0]])


@of_norms
def test_few_sums_are_kept_and_few_rows_are_read(train, name):
    data, read = long_talk(train), []

    def own_stats(rows):
        read.append(len(rows))
        return np.ones((len(rows), 6))

    found = SpeakerStats(data, own_stats, name)
    kept = {id(each) for _, sums in found.talks for each in sums[name == "past" :]}
    assert len(kept) <= {"utterance": 0, "past": 12, "all": 2}[name] and sum(read) <= len(data)
    read.clear()
    for row in range(len(data)):
        found.of(row)
    assert max(read, default=0) <= 16


@of_norms
def test_no_rows_have_no_statistics(train, name):
    nothing = train.select(np.zeros(len(train), bool))
    SpeakerStats(nothing, lambda rows: np.zeros((len(rows), 6)), name)
