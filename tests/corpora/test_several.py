"""Several corpora as one: nothing of one is taken for something of another."""

import csv
import json
import re

import hostile
import numpy as np
import pytest

from common.data import load_data

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Three corpora of five sessions: two of KEMDy19's kind with the same IDs, one of KEMDy20's.

    The second lacks a recording.
    """
    root = tmp_path_factory.mktemp("corpora")
    for name, kind in (("A", "KEMDy19"), ("deep/B", "KEMDy19"), ("C", "KEMDy20")):
        hostile.write(root / name, kind, [])
    (root / "deep/B/wav/Session02/Sess02_script01/Sess02_script01_F001.wav").unlink()
    return root


@pytest.fixture
def preprocess(run_script, tmp_path):
    """Return a function that runs preprocess.py and returns tables by split, audio, manifest."""

    def run(corpus, *settings, name="data"):
        data = tmp_path / name
        places = ("--corpus", corpus, "--data", data, "--outputs", tmp_path / "outputs")
        done = run_script("preprocess.py", *places, *settings)
        if done.status:
            return done
        tables, audio = {}, {}
        for split in SPLITS:
            with open(data / f"{split}.tsv", encoding="utf-8", newline="") as stream:
                tables[split] = list(csv.DictReader(stream, delimiter="\t", quoting=3))
            audio[split] = np.load(data / f"{split}_audio.npy")
        return tables, audio, json.loads((data / "manifest.json").read_text())

    return run


def test_three_corpora_keep_every_row_of_each_and_say_whose_it_is(preprocess, corpora, tmp_path):
    alone = {name: preprocess(corpora / name, name=name[-1]) for name in ("A", "deep/B", "C")}
    tables, audio, manifest = preprocess(f"{corpora}/A, {corpora}/deep/B,{corpora}/C")
    for split in SPLITS:
        rows = tables[split]
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        for number, (name, (own, own_audio, _)) in enumerate(alone.items(), 1):
            name = name[-1]
            found = [row for row in rows if row["corpus"] == name]
            assert len(found) == len(own[split])
            for row, single in zip(found, own[split], strict=True):
                start, count = int(row.pop("first_sample")), int(row["sample_count"])
                first = int(single["first_sample"])
                samples = own_audio[split][first : first + count]
                assert np.array_equal(audio[split][start : start + count], samples)
                apart = {
                    "id": f"{name}:{single['id']}",
                    "speaker": f"{name}:{single['speaker']}",
                    "session": str(1000 * number + int(single["session"])),
                    "corpus": name,
                }
                del single["first_sample"]
                assert row == single | apart
    assert manifest["corpus"]["kind"] == "KEMDy19 + KEMDy20"
    assert manifest["corpus"]["name"] == "A + B + C"
    parts = manifest["corpus"]["parts"]
    assert [(part["name"], part["kind"], part["sessions"]) for part in parts] == [
        ("A", "KEMDy19", [*range(1001, 1006)]),
        ("B", "KEMDy19", [*range(2001, 2006)]),
        ("C", "KEMDy20", [*range(3001, 3006)]),
    ]
    prints = [own[2]["corpus"]["fingerprint"] for own in alone.values()]
    assert [part["fingerprint"] for part in parts] == prints
    assert manifest["corpus"]["fingerprint"] not in prints
    rows = [own[2]["corpus"]["annotation_rows"] for own in alone.values()]
    assert manifest["corpus"]["annotation_rows"] == sum(rows)
    (dropped,) = manifest["dropped"]
    assert dropped["id"] == "B:Sess02_script01_F001"
    assert dropped["where"].startswith("B:annotation/Session02_F_res.csv row ")
    assert manifest["counts"]["corpus"] == {"A": 150, "B": 149, "C": 50}
    rows = load_data(tmp_path / "data", "test")
    assert rows.speakers.tolist() == [row["speaker"] for row in tables["test"]]


def test_train_on_one_and_test_on_the_other(preprocess, corpora):
    both = f"{corpora}/A,{corpora}/C"
    tables, *_ = preprocess(both, "--test-corpus", "C", "--test-sessions", "1002")
    assert {row["corpus"] for row in tables["train"] + tables["valid"]} == {"A"}
    assert [len(tables[split]) for split in SPLITS] == [90, 30, 80]
    assert {row["session"] for row in tables["test"] if row["corpus"] == "A"} == {"1002"}


@pytest.mark.parametrize(
    "names, settings, message",
    [
        (("A", "A"), (), "'A' cannot be one of several corpora: each needs a name of its own"),
        (("A", "C"), ("--test-corpus", "B"), "--test-corpus: 'B' is none of A, C"),
        (("A", "X"), (), "X is no folder"),
        (("A",), ("--test-corpus", "A"), "no session is left to train on"),
    ],
)
def test_refused(preprocess, corpora, names, settings, message):
    done = preprocess(",".join(str(corpora / name) for name in names), *settings)
    assert done.status == 2
    assert re.search(message, done.stderr) and done.stderr.count("\n") == 1


def test_a_corpus_is_called_by_the_path_that_was_given(preprocess, tmp_path):
    """A folder around it, whose name differs from the corpus's, or a link."""
    for name in ("one", "two"):
        hostile.write(tmp_path / name / "release" / "KEMDy19", "KEMDy19", [])
    (tmp_path / "v1.2").symlink_to(tmp_path / "two" / "release" / "KEMDy19")
    for name in ("two", "v1.2"):
        tables, *_ = preprocess(f"{tmp_path}/one,{tmp_path}/{name}", "--test-corpus", name)
        assert {row["corpus"] for row in tables["test"]} == {name}
        assert {row["corpus"] for row in tables["train"]} == {"one"}


def test_the_sessions_of_a_corpus_with_a_thousand_stay_apart(preprocess, corpora, tmp_path):
    hostile.write(tmp_path / "D", "KEMDy19", [])
    for path in (tmp_path / "D" / "annotation").glob("Session05_*"):
        path.rename(path.with_name(path.name.replace("05", "1005")))
    parts = preprocess(f"{corpora}/A,{tmp_path}/D")[2]["corpus"]["parts"]
    expected = [[*range(10001, 10006)], [20001, 20002, 20003, 20004, 21005]]
    assert [part["sessions"] for part in parts] == expected
