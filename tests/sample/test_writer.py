"""The tree writer: KEMDy19's and KEMDy20's layouts, and mistakes written as they are."""

import csv

import numpy as np

from extras.sample import writer
from extras.sample.writer import Segment, Session, Vote, row_of_votes, unanimous

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


def test_majority_ties_and_means():
    votes = [Vote("surprise", 4, 5)] * 4 + [Vote("angry", 1, 4)] * 4 + [Vote("neutral", 3, 1)] * 2
    row = row_of_votes(tuple(votes))
    # (4 x 4 + 4 x 1 + 2 x 3) / 10 and (4 x 5 + 4 x 4 + 2 x 1) / 10
    assert (row.emotion, row.valence, row.arousal) == ("angry;surprise", 2.6, 3.8)
    assert row_of_votes(tuple(votes[1:])).emotion == "angry"
