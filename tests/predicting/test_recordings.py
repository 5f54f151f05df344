"""Which recordings are to be predicted: files, folders, manifests, the turns of a diariser."""

import csv
import io
import os
import unicodedata

import numpy as np
import pytest
import soundfile

from common.files import UserError
from predicting.lists import read_manifest, read_turns
from predicting.recordings import Recording, check, find_recordings, read

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
    soundfile.write(tmp_path / "e.opus", tone(1, 48_000), 48_000, format="OGG", subtype="OPUS")
    soundfile.write(tmp_path / "f.aiff", tone(1, 48_000), 48_000)
    (tmp_path / "notes.txt").write_text("no recording")
    return tmp_path


def test_every_format_is_the_same_tone(folder):
    """Of a folder all recordings are read, by name."""
    files = check(find_recordings([str(folder), str(folder / "d.wav")]))
    names = [recording.path.rpartition("/")[2] for recording in files]
    assert names == ["a.flac", "b.mp3", "c.OGG", "d.wav", "e.opus", "f.aiff", "d.wav"]
    for recording in files:
        samples, _ = read(recording)
        assert samples.dtype == np.int16
        assert len(samples) == pytest.approx(RATE, abs=RATE / 20)  # MP3 comes in whole blocks
        spectrum = np.abs(np.fft.rfft(samples[:RATE].astype(float), RATE))
        assert spectrum.argmax() == 300, recording.path
        assert np.abs(samples).max() == pytest.approx(0.3 * 32_768, rel=0.05)


def stream_flac(path):
    """Write a FLAC as into a pipe: its header does not tell how long it is."""
    soundfile.write(path, tone(1), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)


BROKEN = {
    "damaged": lambda path: path.write_bytes(b"RIFF no wave"),
    "no sound": lambda path: soundfile.write(path, np.zeros(0), RATE),
    "its end is": lambda path: (
        soundfile.write(path, tone(1), RATE),
        os.truncate(path, 9000),
    ),
    "is missing: correct": lambda path: path.symlink_to("nowhere"),
    "is a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "unknown length": stream_flac,
    "cut it": lambda path: soundfile.write(path, np.zeros(24 * 3601 * 10, np.int16), 10),
    "AAC cannot be decoded here: convert it": lambda path: path.write_bytes(b"\0\0\0\x20ftypM4A"),
    "one channel": lambda path: soundfile.write(path, np.zeros((4000, 255), np.int16), 1000),
}


SUFFIX = {"unknown length": "x.flac", "AAC cannot be decoded here: convert it": "x.AAC"}


@pytest.mark.parametrize("words", BROKEN)
def test_every_reason_has_its_own_remedy_before_anything_is_predicted(folder, words, monkeypatch):
    path = folder / (SUFFIX.get(words, "x.wav"))
    BROKEN[words](path)
    if words == "one channel":  # what needs a gigabyte otherwise
        monkeypatch.setattr("predicting.recordings.LONGEST_WHOLE", 2 * RATE)
    refused = []
    good = check(find_recordings([str(folder)]), refused.append)
    assert len(good) == 6
    (error,) = refused
    assert str(path) in str(error)
    remedies = [own for own in BROKEN if own in str(error)]
    assert remedies == [words]


def test_what_is_not_there_is_one_line(tmp_path):
    for name, words in (("nope.wav", r"nope\.wav is missing"), ("", "has no recording in it")):
        with pytest.raises(UserError, match=words):
            find_recordings([str(tmp_path / name)])


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
        ("path\ttranscript\na.wav\tx\n", "the first row is 'path\ttranscript': give path or"),
        ("speaker\tdialogue\nx\ty\n", "the first row is 'speaker\tdialogue'"),
        ("", "the first row is ''"),
        ("path\ttext\tspeaker\na.wav\tx\n\t\tMina\n", "line 3: neither a path nor a text"),
        ("path;text\n\n;;\n", "no row below its header"),
        ("path,path\na,b\n", "names a column twice"),
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


WRITTEN = ["a.wav", '그는 "네", 하고; 웃었어요', "Mina", "1.5"]
COMMON = {"lineterminator": "\r\n", "delimiter": "\t"}
LISTS = {
    "Unicode text": ("utf-16", COMMON),
    "UTF-16, big end first": ("utf-16-be", COMMON),
    "CSV UTF-8": ("utf-8-sig", COMMON | {"delimiter": ","}),
    "CSV of Korean Windows": ("cp949", COMMON | {"delimiter": ","}),
    "CSV of a country with decimal commas": ("utf-8", COMMON | {"delimiter": ";"}),
    "all in marks": ("cp949", COMMON | {"quoting": csv.QUOTE_ALL}),
    "no marks": ("utf-8", COMMON | {"quoting": csv.QUOTE_NONE, "quotechar": None}),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_is_read_however_it_was_saved(tmp_path, kind):
    code, form = LISTS[kind]
    text = io.StringIO()
    writer = csv.writer(text, **form)
    writer.writerow([" Path", "TEXT ", "Speaker", "start", "", ""])
    writer.writerow([*WRITTEN, "", ""])
    writer.writerow([""] * 6)
    writer.writerow(["", "끝", "", "", "", ""])
    mark = "\ufeff" if code == "utf-16-be" else ""
    (tmp_path / "list").write_bytes((mark + text.getvalue()).encode(code))
    first, last = read_manifest(str(tmp_path / "list"))
    found = [first.path, first.text, first.speaker, first.start]
    assert found == [str(tmp_path / "a.wav"), *WRITTEN[1:3], 1.5]
    assert last.text == "끝" and last.where.endswith("list, line 4")


@pytest.mark.parametrize(
    ("rows", "texts", "lines"),
    [
        ('"두\n줄"\tA\n끝\tB\n', ["두\n줄", "끝"], "24"),  # of a spreadsheet
        ('"열린\tA\n"네"라고\tB\n닫힌"\tC\n', ['"열린', '"네"라고', '닫힌"'], "234"),
        ('"열린\tA\n닫힌"\tB\n', ['"열린', '닫힌"'], "23"),
    ],
)
def test_marks_and_lines_within_cells(tmp_path, rows, texts, lines):
    """A spreadsheet's cell may hold line ends; a mark that closes no cell swallows no rows."""
    (tmp_path / "list.tsv").write_text("text\tspeaker\n" + rows)
    found = read_manifest(str(tmp_path / "list.tsv"))
    assert [row.text for row in found] == texts
    assert [row.speaker for row in found] == list("ABC"[: len(texts)])
    assert [row.where[-1] for row in found] == list(lines)


FORMS = {
    "composed": lambda name: unicodedata.normalize("NFC", name).encode(),
    "decomposed": lambda name: unicodedata.normalize("NFD", name).encode(),
    "of Korean Windows": lambda name: name.encode("cp949"),
}


@pytest.mark.parametrize("on_disk", FORMS)
@pytest.mark.parametrize("written", FORMS)
def test_a_name_is_found_in_every_form(tmp_path, on_disk, written):
    """Of the file and of its folder; in a list, on the command line and among turns."""
    folder = os.fsencode(tmp_path) + b"/" + FORMS[on_disk]("첫 모음")
    os.mkdir(folder)
    path = folder + b"/" + FORMS[on_disk]("둘째 말.wav")
    soundfile.write(path, tone(1, 44_100), 44_100, format="FLAC")
    asked = FORMS[written]("첫 모음/둘째 말.wav")
    (tmp_path / "list.tsv").write_bytes(b"path\n" + asked + b"\n")
    (row,) = check(read_manifest(str(tmp_path / "list.tsv")))
    assert os.fsencode(row.path) == path
    (found,) = check(find_recordings([os.fsdecode(os.fsencode(tmp_path) + b"/" + asked)]))
    assert os.fsencode(found.path) == path
    line = f"SPEAKER {'둘째 말'} 1 0 0.5 <NA> <NA> 화자 <NA> <NA>"
    (tmp_path / "x.rttm").write_bytes(FORMS[written](line))
    (turn,) = read_turns(str(tmp_path / "x.rttm"), [found])
    assert (turn.path, turn.speaker) == (found.path, "둘째 말/화자")
    assert len(read(turn)[0]) == RATE / 2


RTTM = """\
;; found by a diariser
SPEAKER talk 1 4.20 1.10 <NA> <NA> spk01 <NA> <NA>
SPEAKER talk 1 0.50 2.00 <NA> <NA> spk00 <NA> <NA>
SPEAKER other 1 0.00 1.00 <NA> <NA> spk00 <NA> <NA>
SPEAKER talk 1 0.50
"""


def test_the_turns_of_a_diariser_come_in_order_with_speakers(tmp_path):
    (tmp_path / "x.rttm").write_text(RTTM)
    files, refused = [Recording(f"a/{name}.mp3") for name in ("talk", "other", "mine")], []
    turns = read_turns(str(tmp_path / "x.rttm"), files, lambda error: refused.append(str(error)))
    found = [(t.dialogue, t.start, round(t.end, 2), t.speaker) for t in turns]
    assert found == [
        ("a/talk.mp3", 0.5, 2.5, "talk/spk00"),
        ("a/talk.mp3", 4.2, 5.3, "talk/spk01"),
        ("a/other.mp3", 0.0, 1.0, "other/spk00"),
    ]
    assert [turn.path for turn in turns] == [turn.dialogue for turn in turns]
    broken, missing = refused
    assert "x.rttm, line 5: no turn of an RTTM file: 'SPEAKER talk 1 0.50'" in broken
    assert "no turns of mine, only of talk, other" in missing


@pytest.mark.parametrize("end", ["", " <NA>", " 0.93 <NA>"])
@pytest.mark.parametrize(("name", "speaker"), [("talk", "A"), ("a  b 1 0.5 2.0", "Mina Kim 2")])
def test_blanks_in_names_shift_no_field(tmp_path, name, speaker, end):
    (tmp_path / "x.rttm").write_text(f"SPEAKER {name} 1 0.50 2.00 <NA> <NA> {speaker}{end}\n")
    (turn,) = read_turns(str(tmp_path / "x.rttm"), [Recording(f"{name}.wav")])
    assert (turn.start, turn.end, turn.speaker) == (0.5, 2.5, f"{name}/{speaker}")
