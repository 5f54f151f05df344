"""Long recordings, read block by block, against the same read whole."""

from functools import partial

import numpy as np
import pytest
import soundfile

from common.files import UserError
from predicting import cutting, recordings, streaming
from predicting.recordings import Recording, check, read
from predicting.utterances import find_utterances

RATE = 16_000
CONFIG = {"text_style": "spoken", "reference_range": {}}


@pytest.fixture(scope="module")
def speech(talk):
    """Half a minute of speech with pauses between the utterances, between -1 and 1."""
    pause = 20 * np.random.default_rng(0).standard_normal(RATE)
    parts = [part for row in talk[:12] for part in (row["samples"], pause)]
    return np.concatenate(parts) / 32_768


def at_rate(samples, rate):
    times = np.arange(len(samples) * rate // RATE) / rate
    return np.interp(times, np.arange(len(samples)) / RATE, samples)


def with_gap(samples):
    return np.where(np.arange(len(samples)) % 5000 == 7, np.nan, samples)


def write_streamed(path, samples):
    """An MP3 that two programs wrote: the tag of its first half does not speak of the second."""
    soundfile.write(path, at_rate(samples, 44_100), 44_100)
    path.write_bytes(path.read_bytes() * 2)


FORMS = {
    "16k.wav": lambda path, x: soundfile.write(path, x, RATE),
    "8k.ogg": lambda path, x: soundfile.write(path, at_rate(x, 8000), 8000),
    "44k.flac": lambda path, x: soundfile.write(
        path, np.stack([at_rate(x, 44_100)] * 2, 1), 44_100
    ),
    "tagged.mp3": lambda path, x: soundfile.write(path, at_rate(x, 48_000), 48_000),
    "two.mp3": write_streamed,
    "loud.wav": lambda path, x: soundfile.write(path, np.clip(20 * x, -1, 1), RATE),
    "faint.wav": lambda path, x: soundfile.write(path, x / 2000, RATE, "PCM_24"),
    "cancelled.wav": lambda path, x: soundfile.write(
        path, np.outer(at_rate(x, 22_050), [0.5, -1]), 22_050, "FLOAT"
    ),
    "nan.wav": lambda path, x: soundfile.write(path, with_gap(x), RATE, "FLOAT"),
}


def in_blocks(monkeypatch):
    """Let every file be a long one, in blocks much smaller than itself."""
    recordings.read_file.cache_clear()
    monkeypatch.setattr(recordings, "IN_MEMORY", RATE // 10)
    monkeypatch.setattr(streaming, "BLOCK", 3001)
    monkeypatch.setattr(cutting, "BLOCK", 7 * cutting.FRAME)


@pytest.mark.parametrize("name", FORMS)
def test_block_by_block_is_as_the_whole(tmp_path, speech, monkeypatch, name):
    path = tmp_path / name
    FORMS[name](path, speech)
    recordings.read_file.cache_clear()
    whole, remarks = read(Recording(str(path)))
    cut_whole = list(find_utterances(Recording(str(path)), CONFIG))
    in_blocks(monkeypatch)
    samples, found = read(Recording(str(path)))
    assert isinstance(samples, streaming.OnDisk) and isinstance(whole, np.ndarray)
    np.testing.assert_array_equal(samples[:], whole)
    assert found == remarks
    cut_in_blocks = list(find_utterances(Recording(str(path)), CONFIG))
    assert len(cut_in_blocks) == len(cut_whole) > (1 if name == "faint.wav" else 5)
    for one, other in zip(cut_in_blocks, cut_whole, strict=True):
        assert (one.recording.start, one.recording.end) == (
            other.recording.start,
            other.recording.end,
        )
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one.remarks == other.remarks


def test_a_start_without_an_end_is_cut_from_there(tmp_path, speech, monkeypatch):
    path = tmp_path / "a.flac"
    soundfile.write(path, at_rate(speech, 48_000), 48_000)
    recording = Recording(str(path), start=2.5)
    recordings.read_file.cache_clear()
    whole = [(u.recording.start, u.recording.end) for u in find_utterances(recording, CONFIG)]
    in_blocks(monkeypatch)
    blocks = [(u.recording.start, u.recording.end) for u in find_utterances(recording, CONFIG)]
    assert blocks == whole and min(blocks)[0] >= 2.5


@pytest.mark.parametrize("rate", [RATE, 44_100, 8000])
def test_a_turn_of_a_long_file_is_read_alone(tmp_path, speech, monkeypatch, rate):
    """At another rate its samples may be rounded otherwise."""
    path = tmp_path / "a.flac"
    soundfile.write(path, at_rate(speech, rate), rate)
    turns = [Recording(str(path), start=s, end=e) for s, e in ((0, 1.5), (3.21, 4.6), (9, 9.4))]
    seconds = len(speech) / RATE
    turns.append(Recording(str(path), start=seconds - 1, end=seconds + 0.7))
    recordings.read_file.cache_clear()
    whole = [read(turn)[0] for turn in turns]
    in_blocks(monkeypatch)
    monkeypatch.setattr(recordings, "read_file", None)  # of the whole
    for turn, samples in zip(turns, whole, strict=True):
        found, _ = read(turn)
        np.testing.assert_allclose(found, samples, rtol=0, atol=0 if rate == RATE else 1)


def test_one_verdict_is_of_an_hour_at_most(tmp_path):
    """What is cut may be longer, and so may the file of a turn."""
    path = str(tmp_path / "long.wav")
    soundfile.write(path, np.zeros(2 * 3600 * 100, np.int16), 100)
    check([Recording(path), Recording(path, start=3600.0), Recording(path, start=1.0, end=9.0)])
    for wrong in (Recording(path, "네"), Recording(path, start=1.0, end=3700.0)):
        with pytest.raises(UserError, match="more than 60 minutes for one verdict: cut it"):
            check([wrong])


def test_a_long_file_that_lacks_its_end_is_refused(tmp_path, speech, monkeypatch):
    path = tmp_path / "a.flac"
    soundfile.write(path, speech, RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    in_blocks(monkeypatch)
    with pytest.raises(UserError, match=r"a\.flac: recording (truncated|unreadable)"):
        read(Recording(str(path)))


def test_a_full_disk_is_said_with_what_to_do(tmp_path, speech, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech, RATE)
    in_blocks(monkeypatch)
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "wb"))
    with pytest.raises(UserError, match="has no room for a long recording .* set TMPDIR"):
        read(Recording(str(path)))
