"""The tree writer: KEMDy19's and KEMDy20's layouts, and mistakes written as they are."""

import csv
from dataclasses import replace

import numpy as np
import soundfile

from extras.sample import writer
from extras.sample.writer import Recording, Segment, Session, Style, Vote, row_of_votes, unanimous

TONE = (1000 * np.sin(np.arange(8000) / 5)).astype(np.int16)
WOMAN = Segment(
    "Sess02_script01_F001",
    {"F": unanimous("happy", 4, 5), "M": unanimous("sad", 2, 1)},
    text="b/ 안녕하세요",
    audio=TONE,
    start=1.25,
    end=1.75,
    sensors=("1", "2", "3", "4", "", ""),
)
SECOND = "Emotion,Valence,Arousal"


def table(path, encoding="utf-8"):
    with open(path, encoding=encoding, newline="") as stream:
        return list(csv.reader(stream))


def test_kemdy19_has_43_columns_two_headers_and_each_person_in_a_file(tmp_path):
    writer.write_kemdy19(tmp_path, [Session(2, [WOMAN], raters=tuple("abcdefghij"))])
    lines = (tmp_path / "annotation/Session02_F_res.csv").read_text().split("\n")
    raters = ",".join(f"{code},," for code in "abcdefghij")
    assert lines[0] == (f"Numb,Wav,,ECG,,E4-EDA,,E4-TEMP,,Segment ID,Total Evaluation,,,{raters}")
    assert lines[1] == ",start,end" * 4 + ",," + ",".join([SECOND] * 11)
    assert lines[2] == (
        "1,1.250,1.750,1,2,3,4,,,Sess02_script01_F001,happy,4.0,5.0" + ",happy,4,5" * 10
    )
    assert lines[3:] == [""]
    man = table(tmp_path / "annotation/Session02_M_res.csv")
    assert {len(row) for row in man} == {43} and man[2][9:13] == [WOMAN.id, "sad", "2.0", "1.0"]


def test_kemdy19_files_lie_in_their_dialogue(tmp_path):
    writer.write_kemdy19(tmp_path, [Session(2, [replace(WOMAN, converted=TONE[::-1])])])
    folder = tmp_path / "wav/Session02/Sess02_script01"
    samples, rate = soundfile.read(folder / "Sess02_script01_F001.wav", dtype="int16")
    assert rate == 16000 and np.array_equal(samples, TONE)
    assert (folder / "Sess02_script01_F001.txt").read_bytes() == "b/ 안녕하세요\n".encode()
    backwards, _ = soundfile.read(folder / "converted/Sess02_script01_F001.wav", dtype="int16")
    assert np.array_equal(backwards, TONE[::-1])


def test_kemdy20_has_37_columns_blanks_and_cp949(tmp_path):
    segment = Segment("Sess03_script01_User002M_001", {"eval": unanimous("fear")}, "네", TONE)
    writer.write_kemdy20(tmp_path, [Session(3, [segment])])
    top, second, row = table(tmp_path / "annotation/Sess03_eval.csv")
    assert len(top) == len(second) == len(row) == 37
    assert top[:7] == ["Numb", "Wav", " ", "Segment ID", "Total Evaluation", " ", " "]
    assert second[:5] == [" ", "start", "end", " ", "Emotion"]
    assert row[3:7] == [segment.id, "fear", "3.0", "3.0"]
    stem = tmp_path / "wav/Session03" / segment.id
    assert stem.with_suffix(".txt").read_bytes() == "네\n".encode("cp949")
    assert stem.with_suffix(".wav").exists()


def test_styles_change_sensors_encoding_and_line_ends(tmp_path):
    style = Style(
        start="Start", end="END", sensors=("EDA",), csv_encoding="utf-8-sig", newline="\r\n"
    )
    writer.write_kemdy19(tmp_path, [Session(1, [WOMAN])], style)
    data = (tmp_path / "annotation/Session01_F_res.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfNumb,Wav,,EDA,,Segment ID") and data.count(b"\r\n") == 3
    assert b",Start,END,Start,END,,Emotion" in data


def test_what_is_wrong_is_written_as_it_is(tmp_path):
    stereo = np.zeros((441, 2), np.float32)
    segments = [
        replace(WOMAN, rows={"F": replace(WOMAN.rows["F"], id="Sess02_script01_M001")}),
        Segment("Sess02_script01_F002", {}, text=b"\xff\xfe", audio=b"RIFF"),
        Segment("Sess02_script01_F003", {}, audio=Recording(stereo, 44100, "FLOAT")),
        Segment("../x", {"F": unanimous("joy"), "M": unanimous("joy")}),
    ]
    writer.write_kemdy19(tmp_path, [Session(2, segments)])
    woman, man = (table(tmp_path / f"annotation/Session02_{x}_res.csv")[2:] for x in "FM")
    assert [row[9] for row in woman] == ["Sess02_script01_M001", "../x"]
    assert [row[9:11] for row in man] == [["../x", "joy"]]
    folder = tmp_path / "wav/Session02/Sess02_script01"
    assert (folder / "Sess02_script01_F002.txt").read_bytes() == b"\xff\xfe"
    assert (folder / "Sess02_script01_F002.wav").read_bytes() == b"RIFF"
    information = soundfile.info(folder / "Sess02_script01_F003.wav")
    assert (information.samplerate, information.channels) == (44100, 2)
    assert information.subtype == "FLOAT" and not (folder / "Sess02_script01_F003.txt").exists()


def test_majority_ties_and_means():
    votes = [Vote("surprise", 4, 5)] * 4 + [Vote("angry", 1, 4)] * 4 + [Vote("neutral", 3, 1)] * 2
    row = row_of_votes(tuple(votes))
    # (4 x 4 + 4 x 1 + 2 x 3) / 10 and (4 x 5 + 4 x 4 + 2 x 1) / 10
    assert (row.emotion, row.valence, row.arousal) == ("angry;surprise", 2.6, 3.8)
    assert row_of_votes(tuple(votes[1:])).emotion == "angry"
