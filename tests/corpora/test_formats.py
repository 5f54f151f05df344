"""Recordings of every kind become 16 kHz mono: nothing of them is lost, or it is said."""

import io

import numpy as np
import pytest
import soundfile

from corpora.recordings import RecordingError, count_plain, measure, read

RATE = 44_100


def tone(seconds, pitch, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def mp3(seconds, pitch, mode="VARIABLE", rate=RATE):
    """Return an MP3 of a tone; its first frame is a tag that counts the others."""
    stream = io.BytesIO()
    soundfile.write(stream, tone(seconds, pitch, rate), rate, format="MP3", bitrate_mode=mode)
    return stream.getvalue()


def untagged(content):
    """Return an MP3 as a stream or a hardware recorder has it: without the first frame."""
    return content[content.index(content[:2], 2) :]


def pitches(path):
    """Return a recording's length in seconds, and the pitch of its second and last half second."""
    samples, _ = read(path, measure(path))
    parts = samples[8000:16_000], samples[-12_000:-4000]
    strongest = [2 * int(np.abs(np.fft.rfft(part.astype(float))).argmax()) for part in parts]
    return len(samples) / 16_000, strongest


PICTURE = b"ID3\x04\0\0\0\0\x10\0" + b"\xff\xfb\x90\0" * 512  # looks like sound, and is none
LABEL = b"APETAGEX" + bytes([0xD0, 7, 0, 0]) + (3032).to_bytes(4, "little") + bytes(16)
LABEL += b"x" * 3000 + b"APETAGEX" + bytes(24)
MP3 = {
    "as encoders write it": (mp3(3, 300), 3, (300, 300)),
    "stream": (untagged(mp3(3, 300)), 3, (300, 300)),
    "recorder at 16 kHz": (untagged(mp3(3, 300, "CONSTANT", 16_000)), 3, (300, 300)),
    "stream from the middle of a frame": (untagged(mp3(3, 300))[777:], 3, (300, 300)),
    "two in one, pictures": (PICTURE + mp3(3, 300) + PICTURE + mp3(4, 600), 7, (300, 600)),
    "two streams": (untagged(mp3(3, 300)) + untagged(mp3(4, 600)), 7, (300, 600)),
    "label behind": (mp3(3, 300) + LABEL, 3, (300, 300)),
    "labels of 1996": (mp3(3, 300) + b"TAG" + bytes(125) + mp3(4, 600), 7, (300, 600)),
}


@pytest.mark.parametrize("kind", MP3)
def test_an_mp3_is_heard_to_its_end(tmp_path, kind):
    content, seconds, expected = MP3[kind]
    path = tmp_path / "talk.mp3"
    path.write_bytes(content)
    length, found = pitches(str(path))
    assert length == pytest.approx(seconds, abs=0.2)
    assert found == pytest.approx(list(expected), abs=4)


def test_an_mp3_as_encoders_write_it_begins_where_the_recording_did(tmp_path):
    """The tag says what the encoder put around it; the times of turns count on that."""
    path = tmp_path / "talk.mp3"
    path.write_bytes(mp3(3, 300, rate=16_000))
    samples, _ = read(str(path), measure(str(path)))
    assert len(samples) == 48_000
    expected = tone(3, 300, 16_000)[8000:40_000]
    assert np.corrcoef(samples[8000:40_000], expected)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mp3", mp3(5, 300)[:9000], "truncated"),
        ("a.mp3", mp3(3, 300) + mp3(3, 300, rate=22_050), "unreadable"),  # one half only
        ("a.mp3", untagged(mp3(3, 300)) + b"\0" * 90_000 + mp3(3, 300), "unreadable"),
        ("a.mp3", b"\0" * 5000, "unreadable"),
    ],
)
def test_an_mp3_that_cannot_be_heard_to_its_end_is_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=reason):
        read(str(tmp_path / name), measure(str(tmp_path / name)))


def wav(samples, **form):
    """Return a WAV file of samples (S,) int16 at 16 kHz."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16_000, **{"format": "WAV", "subtype": "PCM_16"} | form)
    return stream.getvalue()


NOISE = np.random.default_rng(0).integers(-9000, 9000, 16_000).astype(np.int16)
PLAIN, TITLE = wav(NOISE), b"LIST\x0e\0\0\0INFOISFT\x02\0\0\0ab"
WAV = {
    "samples alone": PLAIN,
    "a title behind": PLAIN + TITLE,
    "a title before": PLAIN[:36] + TITLE + PLAIN[36:],
    "another header": wav(NOISE, format="WAVEX"),
    "24 bits": wav(NOISE, subtype="PCM_24"),
}


@pytest.mark.parametrize("kind", WAV)
def test_a_wav_file_is_its_samples_whatever_else_is_in_it(tmp_path, kind):
    path = str(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(WAV[kind])
    assert (count_plain(path) > 0) == (kind == "samples alone")  # libsndfile not asked
    assert measure(path) == len(NOISE)
    assert np.array_equal(read(path, len(NOISE))[0], NOISE)
    piece = (0.25, 0.5)
    assert measure(path, piece=piece) == 4000
    assert np.array_equal(read(path, 4000, piece)[0], NOISE[4000:8000])
    assert np.array_equal(read(path, None, (0.25, np.nan))[0], NOISE[4000:])


def test_a_wav_file_that_holds_less_than_it_says_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(PLAIN)
    length = measure(str(path))
    path.write_bytes(PLAIN[:-1000])
    with pytest.raises(RecordingError, match="truncated"):
        measure(str(path))
    with pytest.raises(RecordingError, match="truncated"):
        read(str(path), length)


SPOKEN = tone(1, 300, 16_000)
NOTHING = np.zeros_like(SPOKEN)


@pytest.mark.parametrize(
    ("channels", "level", "is_said"),
    [
        ((SPOKEN, -SPOKEN), 1, True),
        ((SPOKEN, -0.9 * SPOKEN), 1, True),
        ((SPOKEN + 0.2, -SPOKEN + 0.2), 1, True),  # a shift of the microphone is no sound
        ((SPOKEN, SPOKEN), 1, False),
        ((SPOKEN, NOTHING), 0.5, False),
        ((SPOKEN, *[NOTHING] * 7), 1 / 8, False),
        ((NOTHING, NOTHING), 0, False),
    ],
)
def test_channels_that_cancel_each_other_are_not_mixed(tmp_path, channels, level, is_said):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.stack(channels, axis=1), 16_000)
    samples, remarks = read(path, measure(path))
    spectrum = np.abs(np.fft.rfft(samples / 32_768))[300] / 8000
    assert spectrum == pytest.approx(0.3 * level, abs=0.01)
    assert any("cancel" in remark for remark in remarks) == is_said
