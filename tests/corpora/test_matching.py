"""KEMDy19 and KEMDy20, right and wrong, on disk -> utterances and account."""

import os
import shutil
from itertools import product

import hostile
import numpy as np
import pandas as pd
import pytest
import soundfile
from irregularities import CHANGES19, CHANGES20, CLIPPED, STYLES19, STYLES20

from common.files import UserError
from corpora import recordings
from corpora.account import LISTS, Account
from corpora.counts import compare_counts
from corpora.matching import read_corpus
from corpora.reading import read_texts_and_lengths, start_workers, write_audio
from corpora.several import find_source
from corpora.tree import Tree, find_tree
from extras.sample.writer import Segment, unanimous

HEALTHY = {"KEMDy19": 150, "KEMDy20": 50}  # 5 sessions x 3 x 5 x 2, 5 x 2 x 5


def ingest(folder, out):
    """Return what preprocess.py makes of a corpus before it splits it: {id: utterance}, samples."""
    tree = find_tree(folder)
    table = read_corpus(tree)
    with start_workers(2, "") as parallel:
        table = read_texts_and_lengths(parallel, tree.root, table, "spoken", tree.account)
        table = write_audio(parallel, tree.root, table, out / "audio.npy", tree.account)
    audio = np.load(out / "audio.npy", allow_pickle=False)
    ends = table["sample_count"].cumsum()
    assert ends.iat[-1] == len(audio)
    assert table["first_sample"].tolist() == [0, *ends[:-1]]
    samples = dict(zip(table["id"], np.split(audio, ends[:-1]), strict=True))
    return {row.id: row for row in table.itertuples()}, samples, tree.account, tree


def check_entries(account, expected):
    """Compare an account with what has to be said; a path may be given by its end."""
    found = [
        (name, entry.get("id", entry.get("path")), entry["reason"])
        for name in LISTS
        for entry in getattr(account, name)
    ]
    for name, end, reason in expected:
        (entry,) = (e for e in found if (e[0], e[2]) == (name, reason) and e[1].endswith(end))
        found.remove(entry)
    assert not found


def check_places(account, corpus):
    """Every entry names a file that is there, and a row of it that has the ID."""
    for entry in account.repaired + account.dropped + account.noted:
        for place in entry["where"].split("; "):
            name, _, row = place.split(", kept ")[0].partition(" row ")
            content = (corpus / name).read_bytes()
            if row:
                number, _, other = row.partition(" ")
                line = content.splitlines()[int(number) - 1].decode("utf-8", "replace")
                assert (other.strip("()") or entry.get("was", entry["id"])) in line, entry
    for entry in account.orphans + account.ignored:
        assert os.path.lexists(corpus / entry["path"]), entry


@pytest.mark.parametrize("kind, changes", [("KEMDy19", CHANGES19), ("KEMDy20", CHANGES20)])
def test_all_irregularities_together(tmp_path, kind, changes):
    hostile.write(tmp_path / "corpus", kind, changes)
    utterances, _, account, _ = ingest(tmp_path / "corpus", tmp_path)
    check_entries(account, [entry for change in changes for entry in change.entries])
    check_places(account, tmp_path / "corpus")
    assert len(utterances) == HEALTHY[kind] + sum(change.utterances for change in changes)


@pytest.fixture(scope="module")
def hostile19(tmp_path_factory):
    """Utterances and samples of the KEMDy19 corpus with every irregularity."""
    folder = tmp_path_factory.mktemp("hostile19")
    hostile.write(folder / "corpus", "KEMDy19", CHANGES19)
    return ingest(folder / "corpus", folder)


def test_repaired_row_keeps_its_own_ratings(hostile19):
    """F001's row in the F file is found under M001; the M file's row of F001 rates the man."""
    utterances, samples, _, _ = hostile19
    first = utterances["Sess01_script01_F001"]
    assert (first.label, first.text) == ("neutral", "그래서 가가가 말이야.")
    assert np.array_equal(samples[first.id], hostile.samples_of(0))
    assert utterances["Sess01_script01_M001"].label == "angry"
    number = [s.id for x in hostile.healthy19() for s in x.segments].index("Sess02_script02_F001")
    assert np.array_equal(samples["Sess02_script02_F001"], hostile.samples_of(number))


def test_any_recording_becomes_16_khz_mono(hostile19):
    _, samples, _, _ = hostile19
    stereo = samples["Sess05_script01_F001"]
    tone = hostile.sine(16000, 0.5, 0.4) * 32768
    assert len(stereo) == 8000
    assert np.abs(stereo[400:-400] - tone[400:-400]).max() < 40  # 0.1 % of full scale
    assert len(samples["Sess05_script01_F002"]) == 2 * hostile.FRAMES  # 8 kHz
    assert np.array_equal(samples["Sess05_script01_F003"], hostile.samples_of(3))  # 24 bit
    assert len(samples["Sess05_script01_F004"]) == 534  # ceil(1600 / 3), 48 kHz
    assert len(samples["Sess05_script01_F005"]) == 1600  # FLAC, 4,410 samples at 44.1 kHz
    assert samples["Sess05_script01_M001"][5] == 0  # was nan
    assert np.array_equal(samples["Sess05_script01_M002"], CLIPPED)


@pytest.mark.parametrize(
    "kind, style",
    [("KEMDy19", s) for s in STYLES19.items()] + [("KEMDy20", s) for s in STYLES20.items()],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_releases_say_the_same(tmp_path, kind, style):
    """However a release is written, the utterances are those of the healthy corpus."""
    hostile.write(tmp_path / "corpus", kind, [], style[1])
    utterances, samples, account, _ = ingest(tmp_path, tmp_path)
    check_entries(account, [])
    sessions = hostile.healthy19() if kind == "KEMDy19" else hostile.healthy20()
    segments = [segment for session in sessions for segment in session.segments]
    assert sorted(utterances) == sorted(segment.id for segment in segments)
    for segment in segments:
        utterance = utterances[segment.id]
        rated = utterance.gender if kind == "KEMDy19" else "eval"
        assert utterance.label == segment.rows[rated].emotion
        assert sum(hostile.votes_of(utterance)) == 10
        assert utterance.text == segment.text
        assert np.array_equal(samples[segment.id], segment.audio)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            hostile.edit_row("Sess02_script01_F001", "F", valence="high"),
            r"Session02_F_res.csv row 3: 'high' is not a number",
        ),
        (
            hostile.add(2, Segment("Sess02_script01_F001", dict.fromkeys("FM", unanimous("fear")))),
            r"Sess02_script01_F001 is rated twice.*Session02_F_res.csv row 3.*row 33",
        ),
    ],
)
def test_refused_annotation(tmp_path, change, message):
    hostile.write(tmp_path, "KEMDy19", [hostile.Change("refused", edit=change)])
    with pytest.raises(UserError, match=message):
        hostile.read(tmp_path)


def rename_all(root):
    for number, path in enumerate(sorted((root / "annotation").iterdir())):
        path.rename(path.with_name(f"ratings{number}.csv"))


def link_out(root):
    path = root / ODD
    path.rename(root.parent / "elsewhere.csv")
    path.symlink_to(root.parent / "elsewhere.csv")


ODD, EVAL = "annotation/Session03_M_res.csv", "annotation/Sess01_eval.csv"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda root: (root / ODD).write_text("id,emotion\n1,sad\n2,happy\n"),
            r"Session03_M_res.csv is no annotation file of KEMDy19.*'Segment ID'.*id, em",
        ),
        (lambda root: (root / ODD).write_bytes(b""), r"Session03_M_res.csv is no .*an empty file"),
        (lambda root: (root / ODD).unlink(), r"session 03 has only Session03_F_res.csv"),
        (rename_all, r"neither KEMDy19 .* nor KEMDy20 .* found ratings0.csv"),
        (lambda root: shutil.copy(root / ODD, root / EVAL), r"neither KEMDy19 .* nor KEMDy20"),
        (link_out, r"Session03_M_res.csv is a symbolic link out of the corpus"),
    ],
)
def test_refused_corpus(tmp_path, spoil, message):
    root = tmp_path / "corpus"
    hostile.write(root, "KEMDy19", [])
    spoil(root)
    with pytest.raises(UserError, match=message):
        ingest(root, tmp_path)


def test_folder_above_the_corpus(tmp_path):
    """It may hold one corpus, as deep as two folders down; of two, the user has to choose."""
    with pytest.raises(UserError, match="is no folder"):
        find_source(tmp_path / "nowhere")
    with pytest.raises(UserError, match="expected one corpus"):
        find_source(tmp_path)
    hostile.write(tmp_path / "a" / "KEMDy20_v1_2", "KEMDy20", [])
    assert find_source(tmp_path).root == tmp_path / "a" / "KEMDy20_v1_2"
    hostile.write(tmp_path / "b" / "KEMDy19", "KEMDy19", [])
    assert find_source(tmp_path / "b").kind == "KEMDy19"
    with pytest.raises(UserError, match="expected one corpus.*KEMDy20_v1_2.*KEMDy19"):
        find_source(tmp_path)


def test_link_inside_the_corpus_is_followed(tmp_path):
    hostile.write(tmp_path / "corpus", "KEMDy19", [])
    path = next((tmp_path / "corpus").glob("wav/*/*/Sess02_impro01_M002.wav"))
    path.rename(tmp_path / "corpus" / "store.wav")
    path.symlink_to(tmp_path / "corpus" / "store.wav")
    utterances, _, account, _ = ingest(tmp_path / "corpus", tmp_path)
    check_entries(account, [])
    assert len(utterances) == HEALTHY["KEMDy19"]


def test_damage_found_while_decoding_leaves_no_gap(tmp_path):
    """The header of a FLAC file with a missing half is as good as ever."""
    hostile.write(tmp_path / "corpus", "KEMDy19", [])
    path = next((tmp_path / "corpus").glob("wav/*/*/Sess02_impro01_M002.wav"))
    soundfile.write(path.with_suffix(".flac"), hostile.samples_of(1, 48000), 16000)
    path.unlink()
    content = path.with_suffix(".flac").read_bytes()
    path.with_suffix(".flac").write_bytes(content[: len(content) // 2])
    utterances, samples, account, _ = ingest(tmp_path / "corpus", tmp_path)
    check_entries(account, [("dropped", "Sess02_impro01_M002", "recording unreadable")])
    sessions = {s.id: s for session in hostile.healthy19() for s in session.segments}
    assert len(samples) == HEALTHY["KEMDy19"] - 1
    assert all(np.array_equal(samples[i], sessions[i].audio) for i in samples)


def test_recordings_of_a_pipe_are_not_truncated(tmp_path):
    """A program that writes WAV into a pipe promises 4 GiB of samples."""
    content = bytearray(hostile.wav_bytes(hostile.samples_of(0)))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert recordings.measure(str(tmp_path / "a.wav")) == hostile.FRAMES


def test_ten_minutes_are_the_most_of_a_plain_wav_too(tmp_path):
    """Such files are read without libsndfile."""
    for frames in (recordings.LONGEST, recordings.LONGEST + 1):
        content = hostile.wav_bytes(np.zeros(frames, np.int16))
        (tmp_path / f"{frames}.wav").write_bytes(content)
    assert recordings.measure(f"{tmp_path}/{recordings.LONGEST}.wav") == 600 * 16000
    with pytest.raises(recordings.RecordingError, match="longer than 10 minutes"):
        recordings.measure(f"{tmp_path}/{recordings.LONGEST + 1}.wav")


def full(kind, sessions, dialogues):
    """Return a tree of a kind and a table of one utterance a dialogue, all neutral but the last."""
    annotation = dict.fromkeys(range(1, sessions + 1))
    tree = Tree(None, kind, False, Account(), annotation=annotation)
    table = pd.DataFrame(product(range(1, sessions + 1), range(dialogues)))
    table = table.set_axis(["session", "scenario"], axis=1).assign(
        label="neutral", labels="neutral"
    )
    table["id"] = [f"{s}-{d}" for s, d in zip(table["session"], table["scenario"], strict=True)]
    table.loc[len(table) - 1, "labels"] = "neutral;sad"
    return tree, table


def test_known_counts_of_a_full_corpus_name_every_difference():
    """The paper's rows are counted without repaired IDs, the repaired total with them."""
    tree, table = full("KEMDy19", 20, 10)
    tree.account.annotation_rows = 7
    tree.account.repaired = [{"id": "3-1"}, {"id": "18-2"}]
    found = {
        entry["count"]: (entry["expected"], entry["found"])
        for entry in compare_counts(tree, table, table[:-5], True)
    }
    assert found["annotation rows"] == (20566, 7)
    assert found["of these with recording and transcript"] == (10274, 198)
    assert found["the same, wrong IDs repaired"] == (10277, 200)
    assert found["with one label: neutral"] == (3835, 197)
    assert found["the paper's rows"] == (10256, 193)
    assert found["the paper's rows, sessions 1-16"] == (8231, 159)
    assert found["the paper's rows, sessions 17-20"] == (2025, 34)
    rules = compare_counts(tree, table, table, False)
    assert "the paper's rows" not in {entry["count"] for entry in rules}


@pytest.mark.parametrize(
    ("kind", "sessions", "dialogues", "is_full"),
    [
        *(("KEMDy19", 20, 9, False), ("KEMDy19", 19, 11, False)),
        *(("KEMDy20", 40, 6, True), ("KEMDy20", 39, 6, False)),
    ],
)
def test_only_a_full_corpus_is_compared(kind, sessions, dialogues, is_full):
    tree, table = full(kind, sessions, dialogues)
    assert (compare_counts(tree, table, table, True) is not None) == is_full
