"""Which recordings are to be predicted: files, folders, manifests, the turns of a diariser."""

import numpy as np
import pytest
import soundfile

from pipeline.files import UserError
from pipeline.predicting.recordings import (
    Recording,
    check,
    find_recordings,
    read,
    read_manifest,
    read_turns,
)

RATE = 16_000


def tone(seconds, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path):
    """A second of tone in every format, at several rates and channels, and a text file."""
    soundfile.write(tmp_path / "d.wav", tone(1), RATE)
    soundfile.write(tmp_path / "a.flac", np.stack([tone(1, 44_100)] * 2, axis=1), 44_100)
    soundfile.write(tmp_path / "c.OGG", tone(1, 8000), 8000, format="OGG")
    soundfile.write(tmp_path / "b.mp3", tone(1, 48_000), 48_000)
    (tmp_path / "notes.txt").write_text("no recording")
    return tmp_path


def test_a_folder_is_all_its_recordings_by_name(folder):
    found = find_recordings([str(folder), str(folder / "d.wav")])
    names = [recording.path.rpartition("/")[2] for recording in found]
    assert names == ["a.flac", "b.mp3", "c.OGG", "d.wav", "d.wav"]


def test_every_format_is_the_same_tone(folder):
    files = find_recordings([str(folder)])
    check(files)
    for recording in files:
        samples, _ = read(recording)
        assert samples.dtype == np.int16
        assert len(samples) == pytest.approx(RATE, abs=RATE / 20)  # MP3 comes in whole blocks
        spectrum = np.abs(np.fft.rfft(samples[:RATE].astype(float), RATE))
        assert spectrum.argmax() == 300, recording.path
        assert np.abs(samples).max() == pytest.approx(0.3 * 32_768, rel=0.05)


@pytest.mark.parametrize("content", [b"", b"RIFF no wave", b"\0" * 5000])
def test_a_damaged_file_is_one_line_before_anything_is_predicted(folder, content):
    (folder / "x.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.wav: recording unreadable: give a whole file"):
        check(find_recordings([str(folder)]))


def test_a_truncated_file_is_refused(folder):
    content = (folder / "d.wav").read_bytes()
    (folder / "d.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"d\.wav: recording truncated"):
        check(find_recordings([str(folder)]))


def test_what_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nope\.wav is missing"):
        find_recordings([str(tmp_path / "nope.wav")])
    with pytest.raises(UserError, match="has no recording in it"):
        find_recordings([str(tmp_path)])


def test_a_turn_is_read_from_its_start_to_its_end(tmp_path):
    samples = np.arange(3 * RATE) % 1000 - 500
    soundfile.write(tmp_path / "talk.wav", samples.astype(np.int16), RATE)
    turn, _ = read(Recording(str(tmp_path / "talk.wav"), start=0.5, end=2.25))
    np.testing.assert_array_equal(turn, samples[8000:36_000])
    for start, end in ((2.0, 2.0), (-1.0, 2.0), (3.0, 3.5), (1.0, 9.0)):
        with pytest.raises(UserError, match=r"talk\.wav: no turn from"):
            read(Recording(str(tmp_path / "talk.wav"), start=start, end=end))


def test_a_manifest_is_read_in_its_order(tmp_path):
    table = tmp_path / "list.tsv"
    table.write_text(
        "dialogue\tpath\ttext\tspeaker\tstart\tend\n"
        'd1\tb.wav\t그는 "네"라고 했어요\tMina\t1.5\t2\n'
        "d1\t\t말만 있어요\tJun\t\t\n"
        "\ta.wav\t\t\t\t\n",
        encoding="utf-8-sig",
    )
    first, second, third = read_manifest(str(table))
    assert (first.path, first.text) == (str(tmp_path / "b.wav"), '그는 "네"라고 했어요')
    assert (first.speaker, first.dialogue, first.start, first.end) == ("Mina", "d1", 1.5, 2.0)
    assert (second.path, second.text, second.speaker) == ("", "말만 있어요", "Jun")
    assert (third.path, third.speaker, third.end) == (str(tmp_path / "a.wav"), "", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path\ttranscript\na.wav\tx\n", "the first row has path, transcript; give path or"),
        ("speaker\tdialogue\nx\ty\n", "the first row has speaker, dialogue"),
        ("", "the first row has nothing"),
        ("path\ttext\na.wav\tx\n\t\n", "line 3: neither a path nor a text"),
        ("path\na.wav\tx\n", "line 2: more cells than columns"),
        ("path\tstart\na.wav\tsoon\n", "line 2: 'soon' is not a number of seconds"),
    ],
)
def test_a_wrong_manifest_names_file_and_row(tmp_path, content, words):
    table = tmp_path / "list.tsv"
    table.write_text(content)
    with pytest.raises(UserError, match=words) as error:
        read_manifest(str(table))
    assert str(table) in str(error.value)


RTTM = """\
;; found by a diariser
SPEAKER talk 1 4.20 1.10 <NA> <NA> spk01 <NA> <NA>
SPEAKER talk 1 0.50 2.00 <NA> <NA> spk00 <NA> <NA>
SPEAKER other 1 0.00 1.00 <NA> <NA> spk00 <NA> <NA>
"""


def test_the_turns_of_a_diariser_come_in_order_with_speakers(tmp_path):
    (tmp_path / "x.rttm").write_text(RTTM)
    turns = read_turns(str(tmp_path / "x.rttm"), [Recording("a/talk.mp3"), Recording("other.wav")])
    found = [(t.path, t.start, round(t.end, 2), t.speaker) for t in turns]
    assert found == [
        ("a/talk.mp3", 0.5, 2.5, "talk/spk00"),
        ("a/talk.mp3", 4.2, 5.3, "talk/spk01"),
        ("other.wav", 0.0, 1.0, "other/spk00"),
    ]
    assert [t.dialogue for t in turns] == ["a/talk.mp3", "a/talk.mp3", "other.wav"]


def test_turns_of_another_file_are_one_line(tmp_path):
    (tmp_path / "x.rttm").write_text(RTTM)
    with pytest.raises(UserError, match="no turns of mine, only of talk, other"):
        read_turns(str(tmp_path / "x.rttm"), [Recording("mine.wav")])
    (tmp_path / "x.rttm").write_text("SPEAKER talk 1 0.50\n")
    with pytest.raises(UserError, match=r"x\.rttm, line 1: no turn of an RTTM file"):
        read_turns(str(tmp_path / "x.rttm"), [Recording("talk.wav")])
