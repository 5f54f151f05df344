"""preprocess.py: the aligned files, the manifest, the report."""

import csv
import json
import os
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import pytest
from dask_cluster import start_cluster
from irregularities import CHANGES19, TIED

import preprocess
from common.data import load_data
from common.files import LABELS, UserError, sha256
from common.sound import measure_level
from corpora.report import fleiss_kappa
from extras.sample.writer import Row, Vote

SCRIPT = Path(preprocess.__file__)
SPLITS = ("train", "valid", "test")
FIRST20 = "Sess01_script01_User001F_001"  # of hostile.healthy20


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the stage under settings and returns the data folder."""

    def run(corpus, name="data", **settings):
        settings = {"corpus": str(corpus), "data": str(tmp_path / name), **settings}
        settings.setdefault("outputs", str(tmp_path / "outputs"))
        for setting, value in settings.items():
            monkeypatch.setattr(preprocess, setting.upper(), value)
        preprocess.main()
        return tmp_path / name

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A KEMDy19 corpus with every irregularity."""
    folder = tmp_path_factory.mktemp("corpus") / "KEMDy19_v1_9"
    hostile.write(folder, "KEMDy19", CHANGES19)
    return folder


def read_manifest(data):
    return json.loads((data / "manifest.json").read_text(encoding="utf-8"))


def write_changed(root, kind, *edits):
    """Write the healthy corpus of a kind with changed sessions; return its folder."""
    hostile.write(root, kind, [hostile.Change("", edit=edit) for edit in edits])
    return root


def read(data, split):
    """Return the rows of a split's table as dictionaries."""
    with open(data / f"{split}.tsv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_script_writes_the_contract(tmp_path, corpus):
    """As a user runs it: files, hashes, alignment of every row with its own recording."""
    data, outputs = tmp_path / "data", tmp_path / "outputs"
    command = [sys.executable, SCRIPT, "--corpus", corpus.parent, "--data", data]
    done = subprocess.run(
        [*command, "--outputs", outputs, "--jobs", "2"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(data)
    assert sorted(manifest["files"]) == sorted(
        f"{split}{end}" for split in SPLITS for end in (".tsv", "_audio.npy")
    )
    for name, digest in manifest["files"].items():
        assert sha256(data / name) == digest
    assert manifest["corpus"]["kind"] == "KEMDy19"
    assert manifest["corpus"]["name"] == corpus.parent.name
    assert manifest["labels"] == list(LABELS)
    assert manifest["synthetic"] is None
    assert manifest["known_counts"] is None
    ranges = manifest["reference_range"]
    assert set(ranges) == {"level", "treble", "noise", "voicing"}  # noise has no pitch
    level, treble = ((low + high) / 2 for low, high in (ranges["level"], ranges["treble"]))
    assert level == pytest.approx(20 * np.log10(9000 / 32768 / np.sqrt(3)), abs=3)
    assert treble == pytest.approx(10 * np.log10(0.5), abs=1)  # of white noise half is above 4 kHz
    sessions = hostile.healthy19()
    audio_of = {segment.id: segment.audio for session in sessions for segment in session.segments}
    seen = []
    for split in SPLITS:
        rows = read(data, split)
        audio = np.load(data / f"{split}_audio.npy", allow_pickle=False)
        assert audio.dtype == np.dtype("<i2") and audio.ndim == 1
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        place = 0
        for row in rows:
            assert int(row["first_sample"]) == place
            place += int(row["sample_count"])
            clip = audio[int(row["first_sample"]) : place]
            measured = float(row["level"]), float(row["noise"])
            assert measured == pytest.approx(measure_level(clip), abs=0.006)
            if not row["id"].startswith("Sess05_script01"):  # those recordings were changed
                assert np.array_equal(clip, audio_of[row["id"]])
        assert place == len(audio)
        assert manifest["counts"]["split"][split] == len(rows)
        assert {int(row["session"]) for row in rows} <= set(manifest["sessions"][split])
        seen += [row["id"] for row in rows]
    assert len(seen) == len(set(seen)) == manifest["counts"]["used"]
    dropped = {entry["id"] for entry in manifest["dropped"]}
    assert set(audio_of) <= set(seen) | dropped
    # Session 3 lists an ID of session 4, where the same ID is right.
    assert set(seen) & dropped == {"Sess04_script01_F002"}
    report = (outputs / "corpus" / "report.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines()]
    assert "Fleiss' kappa" in report and ["dropped", "1", "recording truncated"] in cells
    labels = [
        row["label"] for split in SPLITS for row in read(data, split) if row["session"] == "3"
    ]
    assert ["3", str(len(labels)), *(str(labels.count(label)) for label in LABELS)] in cells
    for name in ("counts.png", "ratings.png"):
        assert (outputs / "corpus" / name).read_bytes().startswith(b"\x89PNG")


def test_a_silent_recording_has_no_noise(run, tmp_path):
    """Its cell is blank, and what learns reads it as unknown."""
    change = hostile.edit("Sess01_script01_F001", audio=np.zeros(8000, np.int16))
    data = run(write_changed(tmp_path / "corpus", "KEMDy19", change))
    (row,) = (row for row in read(data, "train") if row["id"] == "Sess01_script01_F001")
    assert (row["level"], row["noise"]) == ("-100", "")
    table = load_data(data, "train").table.set_index("id")
    assert np.isnan(table["noise"]["Sess01_script01_F001"]) and table["level"].dtype == float


def test_columns_and_a_row_by_hand(run, corpus):
    data = run(corpus, text_style="spoken")
    row = {row["id"]: row for row in read(data, "train")}["Sess03_script01_F002"]
    assert list(row) == [
        *("id", "session", "speaker", "gender", "scenario", "dialogue_number", "turn"),
        *("wav_start", "wav_end"),
        *("label", "labels", "text", "valence", "arousal"),
        *("votes_neutral", "votes_angry", "votes_happy", "votes_surprise", "votes_sad"),
        *("votes_fear", "votes_disgust", "first_sample", "sample_count", "level", "noise"),
    ]
    expected = {"session": "3", "speaker": "Sess03F", "gender": "F", "scenario": "script01"}
    # Sessions 1 and 2 have 60 segments, 0 to 59; F002 is the third one of its dialogue.
    expected |= {"dialogue_number": "1", "turn": "3", "wav_start": "62", "wav_end": "62.1"}
    expected |= {"label": "neutral", "labels": "neutral;sad", "text": "그래서 가사다 말이야."}
    expected |= {"valence": "2.5", "votes_neutral": "5", "votes_sad": "5", "votes_angry": "0"}
    expected |= {"sample_count": "1600"}
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("kind", ["KEMDy19", "KEMDy20"])
def test_valence_and_arousal_stay_in_their_columns(run, tmp_path, kind):
    """From the annotation to what learning reads, valence here is lower than arousal."""
    name, rated = ("Sess01_script01_F001", "FM") if kind == "KEMDy19" else (FIRST20, ["eval"])
    row = Row("sad", 1.5, 4.5, (Vote("sad", 1, 4), Vote("sad", 2, 5)) * 5)
    change = hostile.edit(name, rows=dict.fromkeys(rated, row))
    table = load_data(run(write_changed(tmp_path / "corpus", kind, change)), "train").table
    written = table.set_index("id").loc[name]
    assert (written["valence"], written["arousal"]) == (1.5, 4.5)


@pytest.mark.parametrize(
    ("style", "expected"),
    [({}, "그제 3시에 왔어?"), ({"text_style": "hangul"}, "어제그제 시에 왔어")],
)
def test_transcripts_are_cleaned_as_asked(run, tmp_path, style, expected):
    change = hostile.edit("Sess01_script01_F001", text="b/ (어제+그제) 3시에 왔어?")
    data = run(write_changed(tmp_path / "corpus", "KEMDy19", change), **style)
    (row,) = (row for row in read(data, "train") if row["id"] == "Sess01_script01_F001")
    assert row["text"] == expected


def test_a_person_of_kemdy20_who_comes_again_is_one_speaker(run, tmp_path):
    """In sessions of two splits that is refused: the test would know the voice."""

    def come_again(sessions):
        last = sessions[-1].segments
        last[:] = [replace(s, id=s.id.replace("User009F", "User001F")) for s in last]

    write_changed(tmp_path / "corpus", "KEMDy20", come_again)
    with pytest.raises(UserError, match="speaker User001F is in session 1"):
        run(tmp_path / "corpus")
    rows = read(run(tmp_path / "corpus", test_sessions="1,5"), "test")
    women = {(row["session"], row["speaker"]) for row in rows if row["gender"] == "F"}
    assert women == {("1", "User001F"), ("5", "User001F")}


def test_ties(run, corpus, capsys):
    """One healthy utterance is tied, neutral first; one tied row has a misspelt speaker's label."""
    tied = "Sess03_script01_F002"
    for rule in ("first", "drop"):
        data = run(corpus, rule, ties=rule)
        labels = {row["id"]: row["label"] for row in read(data, "train")}
        assert labels.get(tied) == (None if rule == "drop" else "neutral")
        manifest = read_manifest(data)
        reasons = {entry["reason"] for entry in manifest["dropped"]}
        assert ("tied labels (--ties drop)" in reasons) == (rule == "drop")
        assert manifest["counts"]["tied"] == {"train": rule != "drop", "valid": 0, "test": 0}
    assert "which makes 1 of them neutral" in capsys.readouterr().out


def test_a_rating_off_the_scale_is_left_blank(run, tmp_path):
    odd = hostile.edit_row("Sess01_script01_F001", "F", valence=33.0)
    data = run(write_changed(tmp_path / "corpus", "KEMDy19", odd))
    (row,) = (row for row in read(data, "train") if row["id"] == "Sess01_script01_F001")
    assert row["valence"] == "" and 1 <= float(row["arousal"]) <= 5
    noted = [e for e in read_manifest(data)["noted"] if "left blank" in e["reason"]]
    assert [entry["id"] for entry in noted] == ["Sess01_script01_F001"]
    assert "33" in noted[0]["where"]


def test_an_interrupted_run_leaves_the_earlier_data_whole(run, corpus, monkeypatch):
    data = run(corpus)
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file() and p.suffix != ".lock"}

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(preprocess, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, ties="drop")
    assert {path: path.read_bytes() for path in before} == before


def test_without_validation_sessions_their_files_are_empty(run, corpus):
    data = run(corpus, valid_sessions="none")
    audio = np.load(data / "valid_audio.npy")
    assert (audio.dtype, audio.shape) == (np.dtype("<i2"), (0,))
    assert read(data, "valid") == []
    manifest = read_manifest(data)
    assert manifest["sessions"] == {"train": [1, 2, 3, 4], "valid": [], "test": [5]}
    assert manifest["files"]["valid_audio.npy"] == sha256(data / "valid_audio.npy")


def test_synthetic_notice_travels(run, tmp_path, capsys):
    hostile.write(tmp_path / "corpus", "KEMDy20", [])
    path, notice = tmp_path / "corpus" / "SYNTHETIC.json", "Synthetic: made by a program."
    for content in ({"seed": 1}, [], {"notice": 7}):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match="SYNTHETIC.json has no text under 'notice': run samp"):
            run(tmp_path / "corpus")
    path.write_text(json.dumps({"notice": notice}))
    assert read_manifest(run(tmp_path / "corpus"))["synthetic"] == notice
    assert notice in capsys.readouterr().out
    assert notice in (tmp_path / "outputs" / "corpus" / "report.md").read_text()


def test_blank_means_and_times_come_back_as_nan(run, tmp_path):
    """From the annotation through the table to what training reads."""
    first = "Sess01_script01_F001"
    means = hostile.edit_row(first, "F", valence="", arousal="nan")
    times = hostile.edit(first, start="", end="")
    data = run(write_changed(tmp_path / "corpus", "KEMDy19", means, times))
    names = ["valence", "arousal", "wav_start", "wav_end"]
    (row,) = (row for row in read(data, "train") if row["id"] == first)
    assert [row[name] for name in names] == [""] * 4
    table = load_data(data, *SPLITS).table.set_index("id")
    assert table.loc[first, names].isna().all()
    assert table[names].isna().to_numpy().sum() == 4


def test_the_tables_have_the_order_of_time(run, tmp_path):
    """Dialogue and turn in one table are the annotation's order, whatever names and IDs are."""
    order = ("impro01", "script02", "script01")

    def reorder(sessions):
        for session in sessions:
            session.segments.sort(key=lambda segment: order.index(segment.id.split("_")[1]))

    data = load_data(run(write_changed(tmp_path / "corpus", "KEMDy19", reorder)), *SPLITS)
    sessions = hostile.healthy19()
    reorder(sessions)
    in_time = [segment.id for session in sessions for segment in session.segments]
    ordered = data.table.sort_values(["session", "dialogue_number", "turn"])
    assert ordered["id"].tolist() == [data.ids[row] for row in data.time_order] == in_time


def test_transcripts_seen_in_training_are_counted(run, tmp_path, capsys):
    """Two of the test's twenty scripted ones and one of validation's repeat a text of session 1."""
    repeated = ("Sess05_script01_F001", "Sess05_script02_M002", "Sess04_script01_F001")
    changes = [hostile.edit(name, text=hostile.text_of(3)) for name in repeated]
    changes += [hostile.edit("Sess05_impro01_F001", rows={"F": TIED, "M": TIED})]
    manifest = read_manifest(run(write_changed(tmp_path / "corpus", "KEMDy19", *changes)))
    unseen = {"all": 10, "seen": 0}
    assert manifest["verbatim"] == {
        "valid": {"script": {"all": 20, "seen": 1}, "impro": unseen},
        "test": {"script": {"all": 20, "seen": 2}, "impro": unseen},
    }
    screen = capsys.readouterr().out
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text(encoding="utf-8")
    for line in (
        "Test transcripts that occur word for word in training: impro 0.0% of 10, script 10.0% of",
        "Rows with tied labels: train 0 of 90 (0.0%), valid 0 of 30 (0.0%), test 1 of 30 (3.3%)",
    ):
        assert line in screen and line in report


def test_a_cluster_that_does_not_answer_is_refused(run, corpus):
    with pytest.raises(UserError, match="--cluster: no Dask scheduler answers at nowhere"):
        run(corpus, cluster="nowhere")


def test_split_without_utterances_is_refused(run, tmp_path):
    last = hostile.healthy19()[4].segments
    silence = [hostile.edit(segment.id, text="b/") for segment in last]
    with pytest.raises(UserError, match="no usable utterance for test in session 5"):
        run(write_changed(tmp_path / "corpus", "KEMDy19", *silence))


CP949 = os.fsdecode("새 폴더".encode("cp949"))  # as a zip from Korean Windows leaves names


def test_names_that_are_no_utf8_are_read_said_and_written(tmp_path):
    """Of folders, of files in any of them, and of what the settings name."""
    root, data, outputs = (tmp_path / CP949 / name for name in (CP949, "data", "outputs"))
    hostile.write(
        tmp_path / "corpus", "KEMDy19", [c for c in CHANGES19 if c.name in ("FLAC", "24 bit")]
    )
    root.parent.mkdir()
    (tmp_path / "corpus").rename(root)
    stray = [f"annotation/{CP949}.csv", f"wav/{CP949}.hwp", f"wav/{CP949}/{CP949}.wav"]
    for suffix in (".wav", ".txt", ".m4a", ""):
        stray.append(f"wav/Session01/Sess01_script01/{CP949}{suffix}")
    for path in stray:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).touch()
    command = [sys.executable, SCRIPT, "--corpus", root, "--data", data, "--outputs", outputs]
    for said in ("written: ", "nothing to do"):
        done = subprocess.run(command, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        assert said in done.stdout.decode()  # UTF-8 whatever is in it
    manifest = read_manifest(data)
    assert manifest["corpus"]["name"] == CP949 and manifest["counts"]["used"] == 150
    entries = manifest["ignored"] + manifest["orphans"]
    assert {entry["path"] for entry in entries} == set(stray)
    assert "새 폴더".encode("cp949") not in (outputs / "corpus" / "report.md").read_bytes()


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("given", ["NFC", "NFD"])
def test_a_corpus_is_found_by_either_normal_form_of_its_name(run, tmp_path, on_disk, given):
    names = [Path(unicodedata.normalize(form, "말뭉치/감정")) for form in (on_disk, given)]
    hostile.write(tmp_path / names[0], "KEMDy20", [])
    manifest = read_manifest(run(tmp_path / names[1]))
    assert manifest["counts"]["used"] == 50


@pytest.mark.parametrize(
    ("kind", "form"), [("KEMDy19", "{}{:03d}"), ("KEMDy20", "User{:03d}{}_{:03d}")]
)
def test_a_recording_and_a_transcript_that_are_perhaps_one_are_noted(run, tmp_path, kind, form):
    """One of each of one speaker in one dialogue; not of two speakers, of two dialogues, of three.

    An M015 that is not annotated has the words of M016, which is.
    """

    def name(session, dialogue, letter, number):
        user = () if kind == "KEMDy19" else (2 * session - (letter == "F"),)
        return f"Sess{session:02d}_{dialogue}_{form.format(*user, letter, number)}"

    odd = 1, 3  # KEMDy20 counts both speakers' turns together
    heard, read_only = name(3, "script01", "M", 4), name(3, "script01", "M", 2)
    sounds = {heard, name(2, "script01", "F", 1), *(name(1, "script01", "F", n) for n in odd)}
    texts = {read_only, name(1, "script01", "F", 5)}
    texts |= {name(2, "script01", "M", 4), name(2, "script02", "F", 4)}
    tear = [hostile.edit(identifier, text=None) for identifier in sounds]
    tear += [hostile.edit(identifier, audio=None, rows={}) for identifier in texts]
    manifest = read_manifest(run(write_changed(tmp_path / "corpus", kind, *tear)))
    reason = (
        f"{heard}.wav has no transcript and {read_only}.txt no recording: perhaps one utterance"
    )
    assert [(entry["id"], entry["reason"]) for entry in manifest["noted"]] == [(heard, reason)]
    assert {e["id"] for e in manifest["dropped"]} == sounds
    assert {e["id"] for e in manifest["orphans"]} == texts


def test_workers_started_from_the_shell(run, corpus, tmp_path):
    """The commands of the script's docstring, on one machine; the worker reads from any folder.

    Threads of one machine, however many, write the same bytes.
    """
    alone = read_manifest(run(corpus, "alone", jobs=1))
    assert read_manifest(run(corpus, "threads", jobs=4))["files"] == alone["files"]
    with start_cluster(tmp_path) as address:
        command = [sys.executable, SCRIPT, "--corpus", corpus, "--data", tmp_path / "spread"]
        done = subprocess.run(
            [*command, "--outputs", tmp_path / "outputs", "--cluster", address],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "spread")["files"] == alone["files"]
    assert "Starting established connection" in (tmp_path / "scheduler.log").read_text()


def test_fleiss_kappa_of_the_published_example():
    """Fleiss (1971) as tabulated in textbooks: 10 subjects, 14 raters, 5 categories: 0.210."""
    table = "0 0 0 0 14,0 2 6 4 2,0 0 3 5 6,0 3 9 2 0,2 2 8 1 1,7 7 0 0 0,3 2 6 3 0,2 5 3 2 2"
    table += ",6 5 2 1 0,0 2 2 3 7"
    votes = np.array([row.split() for row in table.split(",")], int)
    assert fleiss_kappa(votes) == pytest.approx(0.2099, abs=1e-4)
    assert fleiss_kappa(np.array([[5, 0], [0, 5]])) == 1
    assert np.isnan(fleiss_kappa(np.array([[1, 0], [0, 0]])))


def test_a_report_that_cannot_be_written_is_said_before_the_corpus_is_read(corpus, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    command = [sys.executable, SCRIPT, "--corpus", corpus, "--data", tmp_path / "data"]
    done = subprocess.run(
        [*command, "--outputs", tmp_path / "outputs"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"error: {tmp_path / 'outputs'}" in done.stderr and "read:" not in done.stdout
