"""AI Hub's data set 263, as published readers describe it."""

import csv
import io
import zipfile
from functools import partial

import own_table
import pytest
import soundfile
from own_table import SPLITS, noise

from common.files import LABELS, UserError
from corpora.several import find_source, open_corpus

HEADER = ["wav_id", "발화문", "상황", "1번 감정", "1번 감정세기", "2번 감정", "2번 감정세기"]
HEADER += [
    "3번 감정",
    "3번 감정세기",
    "4번 감정",
    "4번감정세기",
    "5번 감정",
    "5번 감정세기",
    "나이",
    "성별",
]
RELEASES = ("4차년도", "5차년도", "5차년도_2차")
START = 0x5E258000  # seconds since 1970
MINUTE = 60


def wav_id(seconds, number=0):
    """Return an object ID that was made then."""
    return f"{START + seconds:08x}{'9a' * 5}{number:06x}"


def make_row(
    identifier, votes="Angry Angry Angry Angry Angry", meant="anger", age=33, sex="female"
):
    """Return a row; the strengths are 0, 1, 2, 1, 2."""
    row = {"wav_id": identifier, "발화문": f"정말 {identifier[:8]} 화났어.", "상황": meant}
    for n, vote in enumerate(votes.split(" "), 1):
        row[f"{n}번 감정"] = vote
        row["4번감정세기" if n == 4 else f"{n}번 감정세기"] = (0, 1, 2, 1, 2)[n - 1]
    return row | {"나이": age, "성별": sex}


def make_releases(people=6, each=4):
    """Return rows of every release: people one after another, an hour apart, each of both sexes."""
    emotions = ("Happiness", "Sadness", "Neutral", "Fear")
    return {
        release: [
            make_row(
                wav_id(place * 10**6 + person * 60 * MINUTE + n * MINUTE, n),
                " ".join([emotions[n % len(emotions)]] * 5),
                age=30 + person % 2,
                sex=("female", "male")[person % 2],
            )
            for person in range(people)
            for n in range(each)
        ]
        for place, release in enumerate(RELEASES)
    }


def write_csv(path, rows, code="cp949", delimiter=","):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, HEADER, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue().encode(code))


def write(root, releases, folders=("4차년도", "5차년도/5차_wav", "5차년도_2차")):
    """Write the releases, each with its recordings in a folder."""
    for (release, rows), folder in zip(releases.items(), folders, strict=False):
        write_csv(root / f"{release}.csv", rows)
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(rows):
            soundfile.write(root / folder / f"{row['wav_id']}.wav", noise(number), 16_000)
    return root


@pytest.fixture
def run(tmp_path, monkeypatch):
    return partial(own_table.run, monkeypatch, tmp_path)


def read(root, label_column=""):
    """Return the table of utterances by ID, the account, and the source."""
    source = find_source(str(root), label_column=label_column)
    corpus = open_corpus(source)
    return {row.id: row for row in corpus.table.itertuples()}, corpus.account, source


def test_three_releases_in_their_folders(run, tmp_path, capsys):
    releases = make_releases()
    data = run(write(tmp_path / "aihub", releases))
    manifest = data.manifest
    assert manifest["labels"] == ["fear", "happy", "neutral", "sad"]
    assert manifest["speakers"] == "supposed"
    assert [said.split(" (")[0] for said in manifest["warnings"]] == ["Speakers are supposed"]
    assert manifest["counts"]["used"] == manifest["corpus"]["annotation_rows"] == 72
    row = data.of(releases["4차년도"][1]["wav_id"])
    expected = {"label": "sad", "votes_sad": "5", "gender": "F", "scenario": "4차년도"}
    expected |= {"strength": "1.2", "valence": "", "text": releases["4차년도"][1]["발화문"]}
    assert {name: row[name] for name in expected} == expected
    said = "Supposed speakers: 18, each with 4 to 4 utterances, the median 4."
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
    assert said in capsys.readouterr().out and said in report
    of_split = {split: {row["speaker"] for row in data.rows[split]} for split in SPLITS}
    assert [len(of_split[split]) for split in SPLITS] == [13, 1, 4]
    assert len(set.union(*of_split.values())) == 18
    tested = {row["scenario"] for row in data.rows["test"]}
    assert tested == {*RELEASES}  # each release gives its share
    counts = {entry["count"]: entry["found"] for entry in manifest["known_counts"]}
    assert counts == {"rows of the three releases": 72, "rows of 4차년도": 24}


def test_a_renamed_copy_with_tabs_in_another_layout(tmp_path):
    """UTF-8, tabs, annotation/ beside wav/: as somebody laid out the third release."""
    rows = make_releases()["5차년도_2차"]
    expected, *_ = read(write(tmp_path / "a", {"5차년도_2차": rows}))
    write(tmp_path / "b", {"train": rows}, ("wav",))
    (tmp_path / "b" / "train.csv").unlink()
    write_csv(tmp_path / "b" / "annotation" / "train.tsv", rows, "utf-8-sig", "\t")
    found, *_ = read(tmp_path / "b")
    assert found.keys() == expected.keys()
    for name, row in found.items():
        assert row.scenario == "train" and row.recording == f"wav/{name}.wav"
        assert (row.text, row.session) == (expected[name].text, expected[name].session)


def test_releases_whose_tables_have_one_name(tmp_path):
    """They are called by their folders; every row is told from that of another release."""
    releases = make_releases()
    root = write(tmp_path / "aihub", releases, RELEASES)
    for release in RELEASES:
        (root / f"{release}.csv").rename(root / release / "data.csv")
    releases["5차년도"][2]["1번 감정세기"] = "strong"
    write_csv(root / "5차년도" / "data.csv", releases["5차년도"])
    found, account, source = read(root)
    assert [*source.sheets] == sorted(RELEASES) and len(found) == 71
    assert {row.scenario for row in found.values()} == {*RELEASES}
    assert [entry["where"] for entry in account.dropped] == ["5차년도 row 4: strong"]
    (root / "4차년도" / "data.csv").rename(root / "4차년도" / "other.csv")
    write_csv(root / "4차년도" / "data.csv", [make_row(wav_id(9))])
    soundfile.write(root / "4차년도" / f"{wav_id(9)}.wav", noise(9), 16_000)
    names = ["4차년도/data.csv", "4차년도/other.csv", "5차년도/data.csv", "5차년도_2차/data.csv"]
    assert [*read(root)[2].sheets] == names


SPELT = {
    "Angry angry ANGER 화남 분노": "angry",
    "Happiness happy Happy 기쁨 행복": "happy",
    "Sadness sad SAD 슬픔 sadness": "sad",
    "Disgust disgust disqust 혐오 Disgust": "disgust",
    "Surprise surprise 놀람 Surprise Surprise": "surprise",
    "Fear fear 공포 두려움 Fear": "fear",
    "Neutral neutral 중립 Neutral NEUTRAL": "neutral",
}


def test_case_and_spelling_of_emotions(tmp_path):
    rows = [make_row(wav_id(n), votes) for n, votes in enumerate(SPELT)]
    found, *_ = read(write(tmp_path, {"4차년도": rows}))
    for row, label in zip(rows, SPELT.values(), strict=True):
        assert getattr(found[row["wav_id"]], f"votes_{label}") == 5


def test_majority_ties_and_what_no_rater_said(run, tmp_path):
    cases = {
        "Angry Angry Sadness Fear Angry": "angry",
        "Sadness Sadness Angry Angry Fear": "angry;sad",  # in the order of the labels
        "Happiness Happiness Neutral Neutral Angry": "neutral;happy",
        "Fear  Fear  Surprise": "fear",
        "Disgust Disgust Disgust Disgust Disgust": "disgust",
        "Surprise Surprise Surprise Surprise Surprise": "surprise",
        "    ": None,
        "Angry Angry Angry Angry Bored": None,
    }
    rows = [make_row(wav_id(10**5 + n * 60 * MINUTE), votes) for n, votes in enumerate(cases)]
    data = run(write(tmp_path / "aihub", make_releases() | {"5차년도_2차": rows}))
    assert data.manifest["labels"] == list(LABELS)
    for row, labels in zip(rows, cases.values(), strict=True):
        if labels:
            written = data.of(row["wav_id"])
            assert (written["labels"], written["label"]) == (labels, labels.partition(";")[0])
    assert data.reasons() == [
        ("5차년도_2차 row 9: Bored", "unknown emotion of rater 5"),
        ("5차년도_2차 row 8", "no majority label"),
    ]
    silent = [where for where, reason in data.reasons("noted") if "not every rater" in reason]
    assert silent == ["5차년도_2차 row 5", "5차년도_2차 row 8"]


def test_the_label_may_be_what_the_line_was_to_convey(run, tmp_path):
    releases = make_releases()
    for rows, meant in zip(releases.values(), ("anger", "angry", "Sad"), strict=True):
        rows[:] = [row | {"상황": meant} for row in rows]
    releases["4차년도"][0]["상황"] = ""
    root = write(tmp_path / "aihub", releases)
    data = run(root, label_column="상황")
    assert data.manifest["labels"] == ["angry", "sad"]
    assert {(r["scenario"], r["label"]) for r in data} == {
        ("4차년도", "angry"),
        ("5차년도", "angry"),
        ("5차년도_2차", "sad"),
    }
    assert data.reasons() == [("4차년도 row 2", "no 상황")]
    with pytest.raises(UserError, match="LABEL_COLUMN = '감정': no table has that column"):
        run(root, label_column="감정")


def test_supposed_speakers_end_with_a_pause_another_age_or_sex(tmp_path):
    """Two who record at the same time are told apart by age and sex, and one goes on after both."""
    rows = [
        make_row(wav_id(0)),
        make_row(wav_id(10 * MINUTE)),
        make_row(wav_id(11 * MINUTE), sex="male"),
        make_row(wav_id(12 * MINUTE), age=34),
        make_row(wav_id(35 * MINUTE)),
        make_row(wav_id(66 * MINUTE)),  # 31 minutes after the one before
        make_row(wav_id(20 * MINUTE), sex="남", age=33),
    ]
    found, *_ = read(write(tmp_path, {"4차년도": rows}))
    groups = {}
    for place, row in enumerate(rows):
        groups.setdefault(found[row["wav_id"]].speaker, set()).add(place)
    assert sorted(map(sorted, groups.values())) == [[0, 1, 4], [2, 6], [3], [5]]
    assert len({row.session for row in found.values()}) == 4


def test_what_is_missing_or_odd_is_accounted_for(tmp_path):
    releases = make_releases()
    first = releases["4차년도"]
    root = write(tmp_path / "aihub", releases)
    (root / "4차년도" / f"{first[0]['wav_id']}.wav").unlink()
    soundfile.write(root / "5차년도" / f"{wav_id(7)}.wav", noise(1), 16_000)
    soundfile.write(root / f"{first[1]['wav_id']}.wav", noise(1), 16_000)
    first[2]["1번 감정세기"] = "strong"
    first[3]["wav_id"] = "recording7"
    soundfile.write(root / "recording7.wav", noise(2), 16_000)
    write_csv(root / "4차년도.csv", [*first, first[5]])
    found, account, _ = read(root)
    assert [(entry["where"], entry["reason"]) for entry in account.dropped] == [
        ("4차년도 row 2", "no recording"),
        ("4차년도 row 4: strong", "strength is no number"),
        ("4차년도 row 5", "wav_id is no object ID, so that its time is unknown"),
    ]
    lost = make_releases()["4차년도"][3]["wav_id"]
    assert {entry["id"] for entry in account.orphans} == {wav_id(7), lost}
    assert [e["reason"] for e in account.noted] == ["identical row again"]
    assert [e["path"] for e in account.ignored] == [f"{first[1]['wav_id']}.wav"]
    assert len(found) == 69


def test_a_release_without_recordings(tmp_path):
    """One that is still packed is to be unzipped."""
    root = write(tmp_path / "aihub", make_releases())
    packed = [*(root / "5차년도").rglob("*.wav")]
    with zipfile.ZipFile(root / "5차년도.zip", "w") as archive:
        for path in packed:
            archive.write(path, path.name)
    read(root)  # unzipped, and the archive still there
    for path in packed:
        path.unlink()
    with pytest.raises(
        UserError, match=r"no recording of the 24 rows of '5차년도'.*unzip .*5차년도\.zip"
    ):
        read(root)
    (root / "5차년도.zip").unlink()
    with pytest.raises(UserError, match="lay them into .*5차년도, or take its table away"):
        read(root)
    (root / "5차년도.csv").unlink()
    assert len(read(root)[0]) == 48


def test_contradictory_rows_and_a_header_that_lacks_a_column(tmp_path):
    rows = make_releases()["4차년도"]
    root = write(tmp_path / "aihub", {"4차년도": rows})
    write_csv(root / "4차년도.csv", [*rows, rows[0] | {"1번 감정": "Fear"}])
    with pytest.raises(UserError, match="is listed twice and differently: 4차년도 row 2 and 4차"):
        read(root)
    text = (root / "4차년도.csv").read_text("cp949")
    (root / "4차년도.csv").write_text(text.replace("나이", "연령"), "cp949")
    with pytest.raises(UserError, match="4차년도.csv: no column '나이': found wav_id, 발화문"):
        read(root)
