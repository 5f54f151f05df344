"""The sample corpus as the script makes it: layout, ratings, oddities, determinism, refusals."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--sessions", "4", "--utterances", "20"]
ORDER = ["neutral", "happy", "sad", "angry", "fear", "disgust", "surprise"]


def run(corpus, *arguments):
    command = [sys.executable, "sample_corpus.py", "--corpus", str(corpus), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def digest(folder):
    """One hash of all paths and bytes under a folder."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of 4 sessions and what the script printed."""
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    result = run(folder, *SMALL)
    assert result.returncode == 0, result.stderr
    return folder, result


@pytest.fixture(scope="module")
def corpus(made):
    return made[0]


@pytest.fixture(scope="module")
def planted(corpus):
    return json.loads((corpus / "SYNTHETIC.json").read_text(encoding="utf-8"))["planted"]


@pytest.fixture(scope="module")
def annotation(corpus):
    """{"F": {session: rows}, "M": {session: rows}} without the headers."""
    tables = {"F": {}, "M": {}}
    for path in sorted((corpus / "annotation").iterdir()):
        session, letter = re.fullmatch(r"Session(\d\d)_([FM])_res\.csv", path.name).groups()
        with open(path, encoding="utf-8", newline="") as stream:
            tables[letter][int(session)] = list(csv.reader(stream))[2:]
    return tables


def file_of(corpus, segment, suffix):
    dialogue = segment.rpartition("_")[0]
    return corpus / "wav" / f"Session{segment[4:6]}" / dialogue / f"{segment}{suffix}"


def test_the_same_seed_gives_the_same_bytes_and_replaces_what_was_there(corpus, tmp_path):
    again, unfinished = tmp_path / "again", tmp_path / "unfinished-sample_corpus"
    (unfinished / "again").mkdir(parents=True)
    (unfinished / "again" / "left by a killed run.wav").touch()
    assert run(again, *SMALL, "--seed", "7").returncode == 0
    assert digest(again) != digest(corpus)
    assert run(again, *SMALL).returncode == 0
    assert digest(again) == digest(corpus) and not unfinished.exists()


@pytest.mark.parametrize("place", [".", "thesis.txt/corpus"])
def test_a_place_that_is_something_elses_is_left_alone(tmp_path, place):
    mine = tmp_path / "thesis.txt"
    mine.write_text("three years")
    result = run(tmp_path / place)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert str(tmp_path) in result.stderr and list(tmp_path.iterdir()) == [mine]


def test_marker_says_synthetic_and_counts_what_is_there(made, annotation):
    corpus, result = made
    assert result.stderr == "" and "Synthetic" in result.stdout  # no progress bar in a log
    marker = json.loads((corpus / "SYNTHETIC.json").read_text(encoding="utf-8"))
    assert "synthetic" in marker["notice"].lower()
    assert marker["seed"] == 2026 and marker["utterances"] == sum(marker["classes"].values()) == 80
    # 80 x 3,835 / 9,627 = 31.87; the others 15.32, 11.67, 8.29, 6.38, 3.28, 3.19; whole parts add
    # up to 77, and the three left over go to the largest remainders: neutral, happy, sad
    expected = {"neutral": 32, "angry": 15, "happy": 12, "surprise": 8, "sad": 7}
    assert marker["classes"] == {**expected, "disgust": 3, "fear": 3}
    assert set(marker["channel"]) == {
        row[9] for rows in annotation["M"].values() for row in rows
    } - {marker["planted"]["phantom_row"].replace("_M", "_F")}


def test_both_files_of_a_session_rate_all_segments(annotation, planted):
    odd = {planted["wrong_id"], planted["wrong_id"].replace("_F001", "_M001")}
    odd |= {planted["phantom_row"], planted["phantom_row"].replace("_M", "_F")}
    assert len(annotation["F"]) == len(annotation["M"]) == 4
    for session, rows in annotation["F"].items():
        assert {len(row) for row in rows} == {43}
        for woman, man in zip(rows, annotation["M"][session], strict=True):
            assert woman[:9] == man[:9]
            assert woman[9] == man[9] or {woman[9], man[9]} <= odd


def test_total_evaluation_is_the_votes_majority_and_mean(annotation):
    for rows in (rows for tables in annotation.values() for rows in tables.values()):
        for row in rows:
            votes = Counter(word.replace("disqust", "disgust") for word in row[13::3])
            top = [label for label in ORDER if votes[label] == max(votes.values())]
            assert row[10] == ";".join(top) and sum(votes.values()) == 10
            for column in (11, 12):
                values = [int(cell) for cell in row[column + 3 :: 3]]
                assert set(values) <= {1, 2, 3, 4, 5}
                assert float(row[column]) == pytest.approx(np.mean(values), abs=0.051)


def test_recordings_are_16_khz_mono_16_bit_speech(corpus):
    paths = [p for p in corpus.rglob("*.wav") if p.parent.name != "converted"]
    assert len(paths) == 80 - 1  # one annotated segment has no files
    for path in paths:
        samples, rate_ = soundfile.read(path, dtype="int16")
        assert soundfile.info(path).subtype == "PCM_16" and rate_ == 16000 and samples.ndim == 1
        assert 0.5 < len(samples) / rate_ < 20 and 500 < np.abs(samples).max() < 32767


def test_segments_follow_one_another_and_are_as_long_as_their_recording(corpus, annotation):
    for rows in annotation["M"].values():
        ends = defaultdict(float)
        for start, end, segment in ((float(r[1]), float(r[2]), r[9]) for r in rows):
            dialogue, path = segment.rpartition("_")[0], file_of(corpus, segment, ".wav")
            assert start >= ends[dialogue]
            ends[dialogue] = end
            if path.exists() and "b/ n/" not in path.with_suffix(".txt").read_text("utf-8"):
                assert end - start == pytest.approx(soundfile.info(path).duration, abs=0.002)


def test_every_oddity_of_the_real_corpus_is_planted(corpus, annotation, planted):
    assert len(planted) == 7
    ids = {
        letter: [row[9] for rows in tables.values() for row in rows]
        for letter, tables in annotation.items()
    }
    right = planted["wrong_id"]
    wrong = right.replace("_F001", "_M001")
    assert right in ids["M"] and right not in ids["F"] and wrong in ids["F"]
    assert file_of(corpus, right, ".wav").exists()

    phantom = planted["phantom_row"]
    twin = phantom.replace("_M", "_F")
    assert annotation["F"][4][-1][9] == phantom and annotation["M"][4][-1][9] == twin
    assert phantom not in ids["M"] and twin not in ids["F"]

    for missing in (planted["missing_files"], phantom, twin):
        assert not file_of(corpus, missing, ".wav").exists()
        assert not file_of(corpus, missing, ".txt").exists()
    assert planted["missing_files"] in ids["F"] and planted["missing_files"] in ids["M"]

    orphan = planted["orphan_transcript"]
    assert file_of(corpus, orphan, ".txt").exists() and orphan not in ids["F"] + ids["M"]

    empty = file_of(corpus, planted["empty_transcript"], ".txt")
    assert empty.read_text("utf-8") == "b/ n/\n" and empty.with_suffix(".wav").exists()

    misspelt = [
        r[9] for t in annotation.values() for rows in t.values() for r in rows if "disqust" in r
    ]
    assert misspelt == [planted["misspelt_vote"]]

    original = file_of(corpus, planted["converted_copy"], ".wav")
    copies = list(corpus.rglob("converted/*"))
    assert copies == [original.parent / "converted" / original.name]
    assert copies[0].read_bytes() != original.read_bytes()
