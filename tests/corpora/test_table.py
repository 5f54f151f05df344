"""A table of one's own: its dialects, its columns, and what may be wrong with it."""

import csv
import io
import re
import zipfile
from functools import partial

import hostile
import numpy as np
import openpyxl
import own_table
import pytest
import soundfile
from own_table import SPLITS, make_rows, noise, write_recordings, write_table

from common.data import load_data
from common.files import LABELS, UserError
from corpora.sheets import read_sheet


@pytest.fixture
def run(tmp_path, monkeypatch):
    return partial(own_table.run, monkeypatch, tmp_path)


def refusal(run, path, **settings):
    """Return the one line that is said."""
    with pytest.raises(UserError) as error:
        run(path, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


DIALECTS = {
    "list.csv": "utf-8",
    "bom.csv": "utf-8-sig",
    "excel.csv": "utf-16",
    "korean.csv": "cp949",
    "tabs.tsv": "utf-8",
    "book.xlsx": "",
}


def test_every_dialect_gives_the_same_files(run, tmp_path):
    rows = make_rows()
    rows[0] |= {"text": 'He said "네, 그래" 3,5', "label": "화남"}
    rows[1] |= {"label": "화남"}
    found = []
    for name, code in DIALECTS.items():
        found.append(run(write_table(tmp_path / "mine", rows, name, code)).manifest["files"])
    semicolons = tmp_path / "mine" / "german.csv"
    semicolons.write_text(own_table.to_text(rows, ";"), "utf-8")
    found.append(run(semicolons).manifest["files"])
    assert len(found[0]) == 6 and all(files == found[0] for files in found)


def test_rows_and_audio_are_those_of_the_table(run, tmp_path):
    rows = make_rows(labels=("happy", "Angry", "두려움"))
    data = run(write_table(tmp_path / "mine", rows))
    assert data.manifest["labels"] == ["Angry", "happy", "두려움"]
    assert (data.manifest["speakers"], data.manifest["warnings"]) == ("known", [])
    assert {split: {row["speaker"] for row in data.rows[split]} for split in SPLITS} == {
        "train": {"화자 0", "화자 1", "화자 2"},
        "valid": {"화자 3"},
        "test": {"화자 4"},
    }
    for number, row in enumerate(rows):
        written = data.of(row["path"])
        assert written["label"] == written["labels"] == row["label"]
        votes = {label: written[f"votes_{label}"] for label in data.manifest["labels"]}
        assert votes == {label: str(int(label == row["label"])) for label in votes}
        assert (written["speaker"], written["session"]) == (row["speaker"], str(number % 5 + 1))
        assert written["text"] == row["text"]
        assert np.array_equal(data.samples(row["path"]), noise(number))
    assert load_data(data.folder, "train").table["text"].tolist() == [
        row["text"] for row in data.rows["train"]
    ]


@pytest.mark.parametrize("count", [2, 20, 30])
def test_as_many_classes_as_the_corpus_has(run, tmp_path, count):
    labels = [f"감정 {number:02d}" for number in range(count)]
    data = run(write_table(tmp_path / "mine", make_rows(5 * count, 5, labels)))
    assert data.manifest["labels"] == labels
    assert data.manifest["counts"]["class"]["test"] == dict.fromkeys(labels, 1)
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
    assert all(label in report for label in labels)


@pytest.mark.parametrize("count", [1, 31])
def test_too_few_or_many_classes(run, tmp_path, count):
    rows = make_rows(5 * count, 5, [f"e{number}" for number in range(count)])
    assert f"{count} labels" in refusal(run, write_table(tmp_path / "mine", rows))


def test_a_piece_of_a_longer_recording(run, tmp_path):
    """Of a whole hour, at another rate and with two channels, as of a file that is copied."""
    folder = tmp_path / "mine"
    folder.mkdir()
    talk = np.concatenate([noise(number, 8000) for number in range(20)])
    soundfile.write(folder / "talk.wav", talk, 16_000)
    time = np.arange(44_100 * 700) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * np.where(time < 650, 300, 600) * time).astype("f4")
    soundfile.write(folder / "long.flac", np.stack([tone, tone], 1), 44_100)
    del time, tone
    rows = [
        {"path": "talk.wav", "start": n / 2, "end": n / 2 + 0.5, "label": "ab"[n % 2]}
        for n in range(20)
    ]
    rows += [
        {"path": "long.flac", "start": start, "end": end, "label": "a"}
        for start, end in ((648, 649.5), (651.25, 652), (699, ""))
    ]
    rows += [{"path": "long.flac", "start": "", "end": end, "label": "a"} for end in (2, 800, 601)]
    rows = [row | {"speaker": f"s{n % 5}"} for n, row in enumerate(rows)]
    data = run(write_table(folder, rows))
    assert np.array_equal(data.samples("talk.wav@1.5-2"), talk[24_000:32_000])
    assert len(data.samples("long.flac@699-")) == 16_000
    for piece, seconds, pitch in (("648-649.5", 1.5, 300), ("651.25-652", 0.75, 600)):
        samples = data.samples(f"long.flac@{piece}")
        assert len(samples) == seconds * 16_000
        spectrum = np.abs(np.fft.rfft(samples.astype(float)))
        assert spectrum.argmax() / seconds == pytest.approx(pitch, abs=2)
    row = data.of("long.flac@651.25-652")
    assert (row["wav_start"], row["wav_end"]) == ("651.25", "652")
    assert {entry["id"]: entry["reason"] for entry in data.manifest["dropped"]} == {
        "long.flac@-800": "start or end is beyond the end of the recording",
        "long.flac@-601": "recording longer than 10 minutes",
    }


@pytest.mark.parametrize("mode", ["tagged", "stream"])
def test_a_piece_of_an_mp3_is_what_a_player_has_there(run, tmp_path, mode):
    folder = tmp_path / "mine"
    write_recordings(folder, make_rows())
    time = np.arange(44_100 * 8) / 44_100
    pitch = 300 + 100 * np.floor(time)
    soundfile.write(folder / "talk.mp3", 0.3 * np.sin(2 * np.pi * pitch * time), 44_100)
    if mode == "stream":
        content = (folder / "talk.mp3").read_bytes()
        (folder / "talk.mp3").write_bytes(content[content.index(content[:2], 2) :])
    rows = [row | {"start": "", "end": ""} for row in make_rows()]
    rows += [rows[n] | {"path": "talk.mp3", "start": 1.2 + n, "end": 1.8 + n} for n in range(5)]
    data = run(write_table(folder, rows))
    for n in range(5):
        samples = data.samples(f"talk.mp3@{1.2 + n}-{1.8 + n}").astype(float)
        assert len(samples) == 9600
        strongest = np.abs(np.fft.rfft(samples)).argmax() / 0.6
        assert strongest == pytest.approx(400 + 100 * n, abs=4)


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".ogg", ".aiff"])
def test_recordings_of_other_formats_and_rates(run, tmp_path, suffix):
    rows = make_rows()
    rows[3]["path"] = f"clips/other{suffix}"
    folder = tmp_path / "mine" / "clips"
    folder.mkdir(parents=True)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    soundfile.write(folder / f"other{suffix}", np.stack([tone, tone], 1), 48_000)
    data = run(write_table(tmp_path / "mine", rows))
    samples = data.samples(f"clips/other{suffix}")
    assert abs(len(samples) - 16_000) < 1200  # MP3 is written in frames
    assert np.abs(np.fft.rfft(samples[:16_000].astype(float))).argmax() == pytest.approx(440, abs=3)


def test_a_kemdy_tree_written_as_a_table_gives_the_same_data(run, tmp_path):
    """Of the table the IDs are paths, and the times in the dialogue are not known."""
    hostile.write(tmp_path / "tree", "KEMDy19", [])
    tree = run(tmp_path / "tree")
    ordered = sorted(
        tree, key=lambda r: [int(r[c]) for c in ("session", "dialogue_number", "turn")]
    )
    rows = []
    for row in ordered:
        session, dialogue, _ = row["id"].split("_")
        path = f"wav/Session{session[4:]}/{session}_{dialogue}/{row['id']}.wav"
        same = ("label", "labels", "text", "speaker", "session", "turn", "valence", "arousal")
        same += ("gender", "scenario", *(f"votes_{label}" for label in LABELS))
        rows.append({"path": path, "dialogue": dialogue, **{name: row[name] for name in same}})
    data = run(write_table(tmp_path / "tree", rows))
    assert data.manifest["labels"] == tree.manifest["labels"]
    for split in SPLITS:
        assert np.array_equal(data.audio[split], tree.audio[split])
        assert len(data.rows[split]) == len(tree.rows[split])
        for row, own in zip(data.rows[split], tree.rows[split], strict=True):
            assert row["id"].rpartition("/")[2] == f"{own['id']}.wav"
            assert list(row) == list(own)
            differ = {name for name in own if row[name] != own[name]}
            assert differ == {"id", "wav_start", "wav_end"} and row["wav_start"] == ""


def test_votes_make_the_label_and_its_ties(run, tmp_path):
    """By columns, or listed one a rater; the label's own column is not needed."""
    counts = [(3, 0), (1, 2), (2, 2), (0, 1), (5, 1)] * 4
    base = [{k: v for k, v in row.items() if k != "label"} for row in make_rows()]
    columns = [row | {"votes_b": b, "votes_a": a} for row, (a, b) in zip(base, counts, strict=True)]
    listed = [
        row | {"labels": ";".join(["b"] * b + ["a"] * a)}
        for row, (a, b) in zip(base, counts, strict=True)
    ]
    expected = ["a", "b", "a;b", "b", "a"] * 4
    for rows in (columns, listed):
        data = run(write_table(tmp_path / "mine", rows))
        for row, (a, b), labels in zip(rows, counts, expected, strict=True):
            written = data.of(row["path"])
            assert (written["labels"], written["label"]) == (labels, labels[0])
            assert (written["votes_a"], written["votes_b"]) == (str(a), str(b))
        assert data.manifest["counts"]["tied"] == {"train": 4, "valid": 0, "test": 0}
    given = [row | {"label": "b" if n else "a"} for n, row in enumerate(columns)]
    data = run(write_table(tmp_path / "mine", given))
    assert data.of(rows[2]["path"])["labels"] == "b;a"
    outvoted = {where for where, _ in data.reasons("noted")}
    assert outvoted == {f"list.csv row {n + 2}" for n in range(1, 20) if n % 5 in (0, 4)}


def test_dialogues_and_turns_are_those_of_the_table(run, tmp_path):
    """A row that cannot be used keeps its turn; who share a dialogue share a session."""
    rows = [
        {
            "path": f"{n}.wav",
            "label": "ab"[n % 2],
            "speaker": f"p{n // 6}{n % 2}",
            "dialogue": f"d{n // 3}",
        }
        for n in range(36)
    ]
    rows[1]["label"] = ""
    data = run(write_table(tmp_path / "mine", rows))
    numbers = [
        (r["session"], r["dialogue_number"], r["turn"])
        for r in map(data.of, (f"{n}.wav" for n in (0, 2, 3, 5, 6)))
    ]
    assert numbers == [*zip("11112", "11221", "13131", strict=True)]
    counted = [row | {"turn": 10 * n} for n, row in enumerate(rows)]
    assert run(write_table(tmp_path / "mine", counted)).of("5.wav")["turn"] == "50"


def test_without_words_the_voice_is_kept(run, tmp_path, capsys):
    rows = [{k: v for k, v in row.items() if k != "text"} for row in make_rows()]
    data = run(write_table(tmp_path / "mine", rows))
    assert [row["text"] for row in data] == [""] * 20 and data.manifest["dropped"] == []
    assert "no column 'text'" in capsys.readouterr().out


AWKWARD = {
    "no recording": {"path": "clips/nowhere.wav"},
    "recording is a folder": {"path": "clips"},
    "no path": {"path": ""},
    "no label": {"label": "NaN"},
    "no speaker": {"speaker": ""},
    "transcript empty after cleaning": {"text": "nan"},
    "label 'a b' has a ';', ',', tab or line break": {"label": "a\tb"},
    "label 'a;b' has a ';', which parts the column 'labels'": {"label": "a;b"},
    "start is not before end": {"start": "3", "end": "1"},
    "start is before the recording": {"start": "-1"},
    "end is no number up to 1,000,000,000": {"end": "0:30"},
    "valence is no number up to 1,000,000,000": {"valence": "3,5"},
    "turn is no whole number": {"turn": "1.5"},
    "votes_angry is no whole number": {"votes_angry": "0.5"},
    "start or end is beyond the end of the recording": {"start": "5", "end": "6"},
    "recording unreadable": {"path": "clips/damaged.wav"},
    "recording empty": {"path": "clips/empty.wav"},
}


def test_every_awkward_row_is_accounted_for(run, tmp_path):
    optional = dict.fromkeys(("start", "end", "valence", "turn", "dialogue", "votes_happy"), "")
    rows = [row | optional | {"votes_angry": ""} for row in make_rows(40)]
    for number, change in enumerate(AWKWARD.values()):
        rows[number] |= change
    good = [row for row in rows if row["path"] not in ("", "clips", "clips/nowhere.wav")]
    folder = tmp_path / "mine"
    (folder / "clips").mkdir(parents=True)
    (folder / "clips" / "damaged.wav").write_bytes(b"RIFFnothing of the kind")
    soundfile.write(folder / "clips" / "empty.wav", np.zeros(0, np.int16), 16_000)
    write_recordings(folder, good)
    path = folder / "list.tsv"
    path.write_text(own_table.to_text(rows, "\t"), "utf-8")
    with open(path, "a", encoding="utf-8") as stream:
        stream.write("\t" * 20 + "too far\n\n")
    data = run(path)
    found = {where.partition(":")[0]: reason for where, reason in data.reasons()}
    expected = {f"list.tsv row {n}": reason for n, reason in enumerate(AWKWARD, 2)}
    expected["list.tsv row 42"] = "more cells than columns: quotation marks belong around commas"
    assert found == expected
    assert data.manifest["counts"]["used"] == 40 - len(AWKWARD)
    assert data.manifest["corpus"]["annotation_rows"] == 41
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
    assert "start is not before end" in report


@pytest.mark.parametrize("number", ["100000000000000000000", "1e30", "1" + "0" * 5000, "-1e308"])
def test_numbers_that_no_table_can_hold_cost_their_row(run, tmp_path, number):
    columns = ("session", "turn", "votes_happy", "valence", "start")
    rows = [row | {"session": n % 5, "dialogue": n % 5} for n, row in enumerate(make_rows())]
    rows = [dict.fromkeys(columns, "") | row for row in rows]
    wrong = columns[not number.isdigit() :]  # sessions may have names
    for place, column in enumerate(wrong):
        rows[place + 2][column] = number
    data = run(write_table(tmp_path / "mine", rows))
    assert [where for where, _ in data.reasons()] == [
        f"list.csv row {place + 4}: {number}" for place in range(len(wrong))
    ]
    limit = "up to 1,000,000,000"
    assert [f"{column} is no number {limit}" for column in wrong] == [
        reason for _, reason in data.reasons()
    ]
    assert set(data.manifest["counts"]["session"]) == {*"01234"}


def test_the_scale_of_valence_and_arousal_is_that_of_the_rows(run, tmp_path):
    rows = make_rows()
    for number, row in enumerate(rows):
        row |= {"valence": number % 7 - 3, "arousal": ""}
    assert run(write_table(tmp_path / "mine", rows)).manifest["dimension_scale"] == [-3, 3]
    plain = write_table(tmp_path / "plain", make_rows())
    assert run(plain).manifest["dimension_scale"] == [1, 5]


def test_rows_twice(run, tmp_path):
    rows = make_rows()
    data = run(write_table(tmp_path / "mine", [*rows, rows[0]]))
    assert data.reasons("noted") == [("list.csv row 22", "identical row again")]
    assert data.manifest["counts"]["used"] == 20
    said = refusal(run, write_table(tmp_path / "mine", [*rows, rows[0] | {"label": "happy"}]))
    assert said.startswith("clips/u000.wav is listed twice and differently: list.csv row 2 and lis")


def without(column):
    return lambda rows: [{k: v for k, v in row.items() if k != column} for row in rows]


def change(place, **cells):
    return lambda rows: [row | cells if n == place else row for n, row in enumerate(rows)]


def with_column(**cells):
    return lambda rows: [row | cells for row in rows]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("path"), "list.csv: no column 'path': the first row has label, text, speaker"),
        (without("label"), "no column 'label'"),
        (without("speaker"), "no column 'speaker': .* say --speakers unknown"),
        (with_column(turn=1), "'turn' counts the turns of a 'dialogue'"),
        (with_column(Path="x"), "the first row has 'path' over two columns"),
        (with_column(**{"votes_a;b": 1}), "column 'votes_a;b': a label has no ';'"),
        (change(3, path="../u.wav"), r"list.csv row 5: '../u.wav' leads out of the table's folder"),
        (change(3, path="/etc/passwd"), "row 5: '/etc/passwd' leads out"),
        (change(3, path="a/../../u.wav"), "row 5: .* leads out"),
        (change(3, path="..\\u.wav"), "row 5: .* leads out"),
        (change(3, path="C:\\u.wav"), "row 5: .* leads out"),
        (with_column(split="dev"), "list.csv row 2: split 'dev': give train, valid or test"),
        (with_column(speaker=1), "1 speaker: three at least, .* five or more are better"),
        (lambda rows: rows[:2] + rows[5:7], "2 speakers: three at least"),
        (with_column(dialogue=1), "1 speaker group: three at least"),
        (with_column(label=""), "list.csv: none of 20 rows can be used: 20 no label"),
    ],
)
def test_a_wrong_table_ends_in_one_line(run, tmp_path, spoil, message):
    rows = make_rows()
    write_recordings(tmp_path / "mine", rows)
    path = tmp_path / "mine" / "list.csv"
    path.write_text(own_table.to_text(spoil(rows)), "utf-8")
    assert re.search(message, refusal(run, path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"", "list.csv is empty"),
        ("list.csv", b"\r\n\r\n", "list.csv is empty"),
        ("list.csv", b"path,label,speaker\n", "no row below its header"),
        ("list.csv", b'path,label,speaker\na.wav,"b,c\nd.wav,e,f\n', "cannot be cut into cells"),
        ("list.csv", b"path,label\n\xff\xff\xff,a\n", "neither UTF-8, UTF-16 nor cp949"),
        ("list.xlsx", b"PK no workbook", "no workbook that can be read"),
        ("list.xls", b"", "neither a folder nor a table"),
        ("list.zip", b"PK", "unzip an archive"),
    ],
)
def test_a_file_that_is_no_table(run, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in refusal(run, tmp_path / name)


def test_a_link_out_of_the_folder_is_followed_if_asked(run, tmp_path):
    rows = make_rows()
    path = write_table(tmp_path / "mine", rows)
    (tmp_path / "mine" / "clips").rename(tmp_path / "disk")
    (tmp_path / "mine" / "clips").symlink_to(tmp_path / "disk")
    said = refusal(run, path)
    assert "20 symbolic link out of the corpus (--follow-links yes allows it)" in said
    assert run(path, follow_links=True).manifest["counts"]["used"] == 20


SIDES = {
    "화자 0": "test",
    "화자 1": "Train",
    "화자 2": "valid",
    "화자 3": "train",
    "화자 4": "train",
}


def test_the_splits_of_a_table_are_taken(run, tmp_path):
    rows = [row | {"split": SIDES[row["speaker"]]} for row in make_rows()]
    rows[7]["split"] = ""
    data = run(write_table(tmp_path / "mine", rows))
    for split in SPLITS:
        found = {row["speaker"] for row in data.rows[split]}
        assert found == {name for name, side in SIDES.items() if side.lower() == split}
    assert data.manifest["sessions"] == {"train": [2, 4, 5], "valid": [3], "test": [1]}
    assert data.reasons() == [("list.csv row 9", "no split")]
    said = refusal(run, write_table(tmp_path / "mine", rows), test_sessions="2")
    assert said.startswith("TEST_SESSIONS: the table has a column 'split'")
    rows = [row | {"split": "train"} for row in rows]
    assert "has the split 'test'" in refusal(run, write_table(tmp_path / "mine", rows))


def count_of(data, name):
    """Return how many rows of a corpus each split has."""
    return [sum(row["corpus"] == name for row in data.rows[split]) for split in SPLITS]


def test_of_tables_with_splits_one_may_be_tested_as_a_whole(run, tmp_path, capsys):
    """The others keep training and validation; their test rows are accounted for."""
    rows = [row | {"split": SIDES[row["speaker"]]} for row in make_rows()]
    first = write_table(tmp_path / "a", rows, "first.csv")
    second = write_table(tmp_path / "b", rows, "second.csv")
    plain = write_table(tmp_path / "c", make_rows(), "plain.csv")
    data = run(f"{first},{second}")
    assert count_of(data, "first") == count_of(data, "second") == [12, 4, 4]
    capsys.readouterr()
    for others in ((first,), (first, plain)):
        data = run(",".join(map(str, (*others, second))), test_corpus="second")
        assert count_of(data, "second") == [0, 0, 20]
        assert count_of(data, "first") == [12, 4, 0]
        reasons = [reason for _, reason in data.reasons()]
        assert reasons == ["test row, and TEST_CORPUS is another"] * 4
        printed = capsys.readouterr().out
        report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
        for said in ("first: 4 test rows are left out", "second: column 'split' is not read"):
            assert said in printed and said in report
    assert count_of(data, "plain") == [16, 4, 0]
    data = run(f"{first},{plain}", test_corpus="plain")
    assert (count_of(data, "first"), count_of(data, "plain")) == ([12, 4, 0], [0, 0, 20])
    said = refusal(run, f"{first},{second}", test_corpus="second", test_sessions="1001")
    assert said.startswith("TEST_SESSIONS: the table has a column 'split'")
    assert "'third' is none of first, second" in refusal(
        run, f"{first},{second}", test_corpus="third"
    )


def test_a_speaker_in_two_splits_is_refused(run, tmp_path):
    """Unless the table leaves the speakers out."""
    rows = [row | {"split": SIDES[row["speaker"]]} for row in make_rows()]
    rows[6]["split"] = "test"
    path = write_table(tmp_path / "mine", rows)
    said = refusal(run, path)
    assert "list.csv row 8: speaker '화자 1' is in test, but in row 3 in train" in said
    data = run(write_table(tmp_path / "mine", without("speaker")(rows)), speakers="unknown")
    for row in rows:
        assert row["path"] in {found["id"] for found in data.rows[row["split"].lower()]}
    sessions = [s for split in SPLITS for s in data.manifest["sessions"][split]]
    assert len(sessions) == len(set(sessions))
    given = [row | {"split": SIDES[row["speaker"]], "session": 1} for row in make_rows()]
    said = refusal(run, write_table(tmp_path / "mine", given))
    assert "row 3: session '1' is in train, but in row 2 in test" in said


@pytest.mark.parametrize("is_sorted", [True, False])
def test_unknown_speakers_are_said_and_dealt(run, tmp_path, capsys, is_sorted):
    """Sorted by label, as folders of emotions are, or label by label: each split has every one."""
    rows = without("speaker")(make_rows(60, 1))
    if is_sorted:
        rows.sort(key=lambda row: row["label"])
    path = write_table(tmp_path / "mine", rows)
    data = run(path, speakers="unknown")
    assert data.manifest["speakers"] == "unknown"
    (warning,) = data.manifest["warnings"]
    assert "may stand in two splits" in warning and warning in capsys.readouterr().out
    for split in SPLITS:
        assert {row["label"] for row in data.rows[split]} == {"angry", "happy"}
    assert [len(data.rows[split]) for split in SPLITS] == [42, 6, 12]
    assert all(row["speaker"] == row["id"] for row in data)
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
    assert warning in report and "By speaker" not in report


def test_unknown_speakers_concern_the_tables_that_name_none(run, tmp_path):
    named = write_table(tmp_path / "a", make_rows(), "named.csv")
    path = write_table(tmp_path / "b", without("speaker")(make_rows()), "plain.csv")
    data = run(f"{named},{path}", speakers="unknown")
    for row in data:
        if row["corpus"] == "named":
            assert row["speaker"].startswith("named:화자 ")
    of_split = [{r["speaker"] for r in data.rows[s] if r["corpus"] == "named"} for s in SPLITS]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == 5
    assert data.manifest["warnings"][0].startswith("plain: Speakers are unknown")
    assert "leave it out" in refusal(run, named, speakers="unknown")


def test_sessions_of_the_table_keep_their_numbers_or_get_some(run, tmp_path):
    rows = [row | {"session": f"{n % 5 + 3:02d}"} for n, row in enumerate(make_rows())]
    assert run(write_table(tmp_path / "mine", rows)).manifest["sessions"]["test"] == [7]
    named = [row | {"session": f"day {row['session']}"} for row in rows]
    named[3]["session"] = ""
    data = run(write_table(tmp_path / "mine", named))
    assert data.manifest["sessions"]["test"] == [5]  # day 06, which row 10 is the first to name
    assert "1 = day 03, 2 = day 04" in data.manifest["corpus"]["remarks"][0]
    assert data.reasons() == [("list.csv row 5", "no session")]


def test_a_column_that_is_not_read_is_named(run, tmp_path):
    data = run(write_table(tmp_path / "mine", with_column(age=3)(make_rows())))
    assert data.reasons("noted") == [("row 1", "column 'age' is not read")]


def test_speakers_that_differ_in_case_only_are_named(run, tmp_path, capsys):
    rows = make_rows()
    rows[0]["speaker"], rows[5]["speaker"] = "Mina", "mina"
    run(write_table(tmp_path / "mine", rows))
    assert "speakers: Mina and mina differ in case only" in capsys.readouterr().out


def test_names_that_upset_tables_and_plots(run, tmp_path):
    """None of them is a formula, a column of Markdown, or markup."""
    labels = ("a|b", "$x_$ <b>", '"quoted"')
    rows = make_rows(30, labels=labels)
    data = run(write_table(tmp_path / "mine", with_column(scenario="$ | <i>")(rows)))
    assert data.manifest["labels"] == sorted(labels, key=str.casefold)
    assert {row["label"] for row in data} == set(labels)
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
    assert "<b>" not in report and "<i>" not in report
    widths = {line.count("|") for line in report.splitlines() if line.startswith("| train")}
    assert widths == {8}


def test_the_same_command_does_nothing_until_a_recording_changes(run, tmp_path, capsys):
    path = write_table(tmp_path / "mine", make_rows())
    for again in (False, True):
        run(path, data=str(tmp_path / "same"))
        assert ("nothing to do" in capsys.readouterr().out) == again
    soundfile.write(tmp_path / "mine" / "clips" / "u003.wav", noise(99), 16_000)
    data = run(path, data=str(tmp_path / "same"))
    assert np.array_equal(data.samples("clips/u003.wav"), noise(99))


@pytest.mark.parametrize("order", [("path", "text"), ("text", "path")])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_rows_that_a_quotation_mark_swallows_are_refused(run, tmp_path, order, delimiter):
    rows = [
        {**{c: r[c] for c in order}, **r, "label": f"l{n % 2}"} for n, r in enumerate(make_rows())
    ]
    for n, row in enumerate(rows):
        row["text"] = f"그래 {n}"
    path = write_table(tmp_path / "mine", rows)
    whole = own_table.to_text(rows, delimiter)
    for last in (6, 7):
        text = whole.replace("그래 5", '"그래 5').replace(f"그래 {last}", f'그래 {last}"')
        path.write_text(text, "utf-8")
        said = refusal(run, path)
        assert f"list.csv row 7: a quotation mark makes one cell of this row and {last - 5}" in said
    rows[5]["text"] = "네, 그래, 아니, 응\n그래, 정말, 그래요, 응?\n3,500원"
    path.write_text(own_table.to_text(rows, delimiter), "utf-8")
    data = run(path)
    assert data.of(rows[5]["path"])["text"] == " ".join(rows[5]["text"].split())
    assert ("list.csv row 7", "a cell has a line break in it") in data.reasons("noted")


def test_a_tab_separated_table_may_have_single_quotation_marks(tmp_path):
    (tmp_path / "a.tsv").write_text('path\ttext\na.wav\t"네" 하고\nb.wav\t"그래\n', "utf-8")
    cells = [cells for _, cells in read_sheet(tmp_path / "a.tsv", {"path"})]
    assert cells == [["path", "text"], ["a.wav", '"네" 하고'], ["b.wav", '"그래']]


def test_of_a_workbook_the_first_sheet_counts(run, tmp_path, capsys):
    """Whole numbers stay whole, and a program's wrong size of the sheet hides nothing."""
    rows = [row | {"session": float(n % 5 + 1)} for n, row in enumerate(make_rows())]
    path = write_table(tmp_path / "mine", rows, "list.xlsx")
    book = openpyxl.load_workbook(path)
    book.create_sheet("notes").append(["x"])
    book.save(path)
    spoiled = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(spoiled, "w") as copy:
        for name in archive.namelist():
            content = re.sub(
                rb'dimension ref="A1:E21"', b'dimension ref="A1:A1"', archive.read(name)
            )
            copy.writestr(name, content)
    path.write_bytes(spoiled.getvalue())
    data = run(path)
    assert data.manifest["counts"]["session"] == dict.fromkeys("12345", 4)
    assert "of 2 sheets the first is read, 'Sheet'" in capsys.readouterr().out


def test_two_tables_as_one(run, tmp_path):
    """Their labels are united; the recordings of each are found."""
    first = write_table(tmp_path / "a", make_rows(labels=("calm", "angry")), "first.csv")
    second = write_table(tmp_path / "b", make_rows(labels=("bored", "angry")), "second.csv")
    data = run(f"{first},{second}", test_corpus="second")
    assert data.manifest["labels"] == ["angry", "bored", "calm"]
    assert {row["corpus"] for row in data.rows["test"]} == {"second"}
    assert np.array_equal(data.samples("second:clips/u004.wav"), noise(4))
    with open(data.folder / "train.tsv", encoding="utf-8") as stream:
        (row, *_) = csv.DictReader(stream, delimiter="\t")
    assert (row["votes_bored"], row["session"][0]) == ("0", "1")


def test_kemdys_seven_stand_in_front_beside_a_table(run, tmp_path):
    hostile.write(tmp_path / "KEMDy19", "KEMDy19", [])
    table = write_table(tmp_path / "b", make_rows(labels=("bored", "angry")))
    data = run(f"{tmp_path / 'KEMDy19'},{table}")
    assert data.manifest["labels"] == [*LABELS, "bored"]
    sides = [row | {"split": SIDES[row["speaker"]]} for row in make_rows()]
    data = run(f"{tmp_path / 'KEMDy19'},{write_table(tmp_path / 'b', sides)}")
    assert data.manifest["sessions"] == {
        "train": [1001, 1002, 1003, 2002, 2004, 2005],
        "valid": [1004, 2003],
        "test": [1005, 2001],
    }
