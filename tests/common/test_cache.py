"""What is computed of recordings: once for all, found again by whoever asks, and kept whole."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_data import make_rows, write_data

from common import cache
from common.cache import cached
from common.data import load_data, plan_trainings

SETTINGS = {"of": "a test"}


class Stopped(Exception):
    """In place of a kill."""


class Compute:
    """Two to five lines of each clip, which tell it from any other; counts what it is asked for."""

    def __init__(self, stop_after=10**9):
        self.asked, self.batches, self.left = [], [], stop_after

    def __call__(self, clips):
        self.left -= len(clips)
        if self.left < 0:
            raise Stopped
        self.asked += [len(clip) for clip in clips]
        self.batches.append(len(clips))
        return [describe(clip) for clip in clips]


def describe(clip):
    lines = np.arange(2 + len(clip) % 4)[:, None]
    return (lines + [clip[:100].sum(), len(clip), 7]).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Data of its own, the cache in files of four rows."""
    monkeypatch.setattr(cache, "ROWS", 4)
    return write_data(tmp_path / "data", make_rows())


def check(data, found):
    """Each row has what its own recording gives."""
    for row in range(len(data)):
        expected = describe(data.samples(row))
        assert np.array_equal(found.read(row), expected)
        assert np.array_equal(found.read(row, 2), expected[:2])
    expected = [describe(data.samples(row)) for row in range(len(data))]
    assert np.array_equal(found.read_all(), np.concatenate(expected))


def test_folds_and_shuffled_voices_find_their_own_rows(folder):
    compute, data = Compute(), load_data(folder, "train", "valid")
    some = data.select(data.sessions == 2)
    check(some, cached(some, "lines", SETTINGS, compute))
    assert len(compute.asked) == 12  # in whole files of four
    for training in plan_trainings(data, 3, Path()):
        for rows in (training.fit, training.held_out):
            check(rows, cached(rows, "lines", SETTINGS, compute)) if len(rows) else None
    assert sorted(compute.asked) == sorted(data.sample_counts)  # each row once
    shuffled = data.shuffle_voices(1)
    assert (shuffled.first_samples != data.first_samples).any()
    check(shuffled, cached(shuffled, "lines", SETTINGS, compute))
    backwards = replace(data, table=data.table[::-1].reset_index(drop=True))
    check(backwards, cached(backwards, "lines", SETTINGS, compute))
    assert len(compute.asked) == len(data)


def test_no_rows_have_an_empty_cache(folder):
    nothing = load_data(folder, "train").select(np.zeros(20, bool))
    assert cached(nothing, "lines", SETTINGS, Compute()).arrays == []


def test_another_kind_other_settings_and_other_data_are_computed_anew(folder):
    data = load_data(folder, "valid")
    files = data.manifest["files"]
    for kind, settings, changed, asked in (
        ("lines", SETTINGS, {}, 10),
        ("lines", {"of": "another"}, {}, 10),
        ("curves", SETTINGS, {}, 10),
        ("lines", SETTINGS, {"valid_audio.npy": "another"}, 10),
        ("lines", SETTINGS, {"valid.tsv": "with other labels"}, 0),
    ):
        compute, manifest = Compute(), data.manifest | {"files": files | changed}
        cached(replace(data, manifest=manifest, data_hash=str(changed)), kind, settings, compute)
        assert len(compute.asked) == asked


@pytest.mark.parametrize("done", [0, 3, 4, 11])
def test_who_is_stopped_goes_on_behind_the_last_whole_file(folder, done):
    data, first, second = load_data(folder, "train"), Compute(done), Compute()
    with pytest.raises(Stopped):
        cached(data, "lines", SETTINGS, first)
    check(data, cached(data, "lines", SETTINGS, second))
    kept = done // 4 * 4
    assert len(second.asked) == 20 - kept
    counts = load_data(folder, "train").sample_counts  # in the order of the file
    assert sorted(second.asked) == sorted(counts[kept:])


@pytest.mark.parametrize("name", ["4.npy", "4.starts.npy"])
def test_a_file_that_was_deleted_is_computed_again(folder, name):
    data, compute = load_data(folder, "train"), Compute()
    cached(data, "lines", SETTINGS, Compute())
    (path,) = folder.glob(f"cache/*/{name}")
    path.unlink()
    check(data, cached(data, "lines", SETTINGS, compute))
    assert len(compute.asked) == 4


def test_clips_are_computed_in_batches_of_like_length_and_some_40_seconds(folder, monkeypatch):
    compute = Compute()
    monkeypatch.setattr(cache, "ROWS", 256)
    monkeypatch.setattr(cache, "BATCH_SAMPLES", 100_000)
    cached(load_data(folder, "train"), "lines", SETTINGS, compute)
    assert max(compute.batches) > 1 and len(compute.batches) < 20
    assert compute.asked == sorted(compute.asked)
    for batch in np.split(compute.asked, np.cumsum(compute.batches)[:-1]):
        assert len(batch) * max(batch) <= 100_000


def test_utterances_without_a_folder_are_computed_in_memory(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data = load_data(folder, "valid")
    spoken = [data.samples(row) for row in range(10)]

    class Talk(type(data)):
        def samples(self, row):
            return spoken[row]

    table = pd.DataFrame({"id": data.ids, "sample_count": data.sample_counts})
    talk = Talk(table, None, "", {})
    check(talk, cached(talk, "lines", {}, Compute()))
    assert not (folder / "cache").exists() and not (tmp_path / "home").exists()


def test_data_that_may_not_be_written_to_has_its_cache_in_the_users_own(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    mount = ["mount", "--bind", folder, folder]
    if os.getuid():
        folder.chmod(0o555)
    elif subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no folder can be made read-only here")
    try:
        if not os.getuid():
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        data, compute = load_data(folder, "train"), Compute()
        for _ in range(2):
            check(data, cached(data, "lines", SETTINGS, compute))
        assert len(compute.asked) == 20 and not (folder / "cache").exists()
        assert len([*(tmp_path / "home/.cache/kemdy").glob("lines-*/*.starts.npy")]) == 5
    finally:
        if not os.getuid():
            subprocess.run(["umount", folder])
        folder.chmod(0o755)


def test_two_processes_compute_each_row_once(folder, tmp_path):
    code = """
import sys
from pathlib import Path
from common import cache
from common.data import load_data
cache.ROWS = 4
def compute(clips):
    with open(sys.argv[2], "a") as stream:
        stream.write("row\\n" * len(clips))
    return [clip[:3, None] for clip in clips]
found = cache.cached(load_data(sys.argv[1], "train"), "lines", {}, compute)
print(found.read_all().sum())
"""
    from conftest import ROOT

    command = ["python", "-c", code, folder, tmp_path / "asked"]
    command[0] = os.sys.executable
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert printed[0] == printed[1] != b""
    assert (tmp_path / "asked").read_text().count("row") == 20
