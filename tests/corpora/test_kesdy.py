"""KESDy18: a workbook with two header rows, thirty actors, four emotions."""

from functools import partial

import openpyxl
import own_table
import pytest
import soundfile
from own_table import noise

from common.files import UserError

EMOTIONS = ("neutral", "happy", "Sad", "angry")
ABOVE = ["Segment ID", "Total Evaluation", None, None, "Eval01F", None, None, "Eval02M"]
BELOW = [None, *["Emotion", "Valence", "Arousal"] * 3]


def make_rows(actors=30):
    """Return rows of every actor and emotion, on which both raters agree."""
    return [
        [f"F{actor:02d}_{number}.wav", emotion, 2.5, 4, emotion, 2, 4, emotion, 3, 4]
        for actor in range(actors)
        for number, emotion in enumerate(EMOTIONS)
    ]


def write(root, rows, above=(ABOVE, BELOW), name="annotation/KESDy18_res.xlsx"):
    book = openpyxl.Workbook()
    for row in (*above, *rows):
        book.active.append(row)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    book.save(root / name)
    for number, row in enumerate(rows):
        path = root / "wav" / row[0][:3] / row[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(number), 16_000)
    return root


@pytest.fixture
def run(tmp_path, monkeypatch):
    return partial(own_table.run, monkeypatch, tmp_path)


def test_the_workbook_and_its_actors(run, tmp_path, capsys):
    rows = make_rows()
    rows[0][1:2] = ["neutral;sad"]
    rows[0][7] = "슬픔"
    rows[5][4] = rows[5][7] = "angry"
    data = run(write(tmp_path / "KESDy18", rows))
    assert data.manifest["labels"] == ["angry", "happy", "neutral", "sad"]
    assert data.manifest["corpus"]["kind"] == "KESDy18"
    assert data.manifest["counts"]["speakers"]["number"] == 30
    assert (len(data.rows["test"]), len(data.rows["valid"])) == (24, 12)
    row = data.of("F00_0.wav")
    expected = {"label": "neutral", "labels": "neutral;sad", "speaker": "F00", "valence": "2.5"}
    expected |= {"arousal": "4", "votes_neutral": "1", "votes_sad": "1", "text": ""}
    assert {name: row[name] for name in expected} == expected
    assert data.reasons("noted") == [("F01_1", "label is not what most raters chose")]
    assert "actors are told by the names of the files: F00 of F00_0" in capsys.readouterr().out
    found = [entry["found"] for entry in data.manifest["known_counts"]]
    assert found == [120, 30]


def test_names_that_tell_no_actor(run, tmp_path):
    root = write(tmp_path / "KESDy18", make_rows(20))
    with pytest.raises(UserError, match=r"no part of the file names \(F00_0, ...\) has 30 values"):
        run(root)
    data = run(root, speakers="unknown")
    assert data.manifest["speakers"] == "unknown" and len(data.manifest["warnings"]) == 1
    assert data.manifest["counts"]["used"] == 80
    known = write(tmp_path / "known", make_rows())
    parts = run(f"{root},{known}", speakers="unknown").manifest["corpus"]["parts"]
    assert [part["speakers"] for part in parts] == ["unknown", "known"]
    with pytest.raises(UserError, match="SPEAKERS = 'unknown' is for .* leave it out"):
        run(known, speakers="unknown")


def test_rows_that_cannot_be_used(run, tmp_path):
    rows = make_rows()
    rows[1][1], rows[2][2], rows[3][1] = "bored", "high", None
    root = write(tmp_path / "KESDy18", rows)
    (root / "wav" / "F01" / rows[4][0]).unlink()
    soundfile.write(root / "wav" / "stray.wav", noise(1), 16_000)
    data = run(root)
    book = "KESDy18_res.xlsx row"
    assert data.reasons() == [
        (f"{book} 4: bored", "unknown emotion"),
        (f"{book} 5: high", "valence is no number"),
        (f"{book} 6", "no majority label"),
        (f"{book} 7", "no recording"),
    ]
    assert [entry["path"] for entry in data.manifest["orphans"]] == ["wav/stray.wav"]


@pytest.mark.parametrize("above", [(), (ABOVE,), (["KESDy18"], ABOVE, BELOW)])
def test_a_workbook_with_another_header(run, tmp_path, above):
    root = write(tmp_path / "KESDy18", make_rows(), above)
    with pytest.raises(UserError, match=f"has two header rows.*found {len(above)} rows above"):
        run(root)


def test_transcripts_beside_the_recordings(run, tmp_path):
    root = write(tmp_path / "KESDy18", make_rows())
    paths = sorted((root / "wav").rglob("*.wav"))
    for path in paths[1:]:
        path.with_suffix(".txt").write_text("오늘은 b/ 좋다.", "utf-8")
    data = run(root)
    assert {row["text"] for row in data} == {"오늘은 좋다."}
    assert [reason for _, reason in data.reasons()] == ["no transcript"]
