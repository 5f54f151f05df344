"""The benchmarks' table: what counts as met, in which worlds, and lengths like KEMDy19's."""

import json
import signal
import subprocess

import numpy as np
import pytest
from small_data import make_rows, write_data

from benchmarks import loop, measure, run, training


@pytest.mark.parametrize(
    ("ours", "baseline", "limits", "met"),
    [
        (6.0, 2.0, {"most": 3}, True),
        (6.1, 2.0, {"most": 3}, False),
        (8.0, 2.0, {"least": 4}, True),
        (7.9, 2.0, {"least": 4}, False),
        (5.9, None, {"most": 6}, True),
        (6.1, None, {"most": 6}, False),
    ],
)
def test_a_target_is_of_the_ratio_or_without_a_baseline_of_ours(ours, baseline, limits, met):
    row = measure.row("a stage", "s", ours, baseline, **limits)
    assert row["met"] is met
    assert row["ratio"] == (None if baseline is None else pytest.approx(ours / baseline))


def test_lengths_are_kemdy19s():
    seconds = measure.draw_lengths(20_000) / measure.SAMPLE_RATE
    characters = [len(text) for text in measure.draw_texts(20_000)]
    assert np.percentile(seconds, [50, 95]) == pytest.approx([4.2, 15.5], rel=0.05)
    assert np.percentile(characters, [50, 95]) == pytest.approx([22, 92], rel=0.08)


def test_a_row_may_have_no_target():
    assert measure.row("a stage", "s", 2.0, 1.0)["met"] is None


def test_rows_of_another_world_or_number_of_threads_stay(tmp_path, monkeypatch):
    def measured(world, threads, ours):
        found = measure.row("a stage", "s", ours)
        return {**found, "world": world, "threads": threads}

    monkeypatch.setattr(run, "RESULTS", str(tmp_path))
    monkeypatch.setattr(run, "NAMES", ("start",))
    for rows in ([("AVX512", 2, 1.0), ("AVX2", 2, 3.0), ("AVX2", 1, 5.0)], [("AVX2", 2, 2.0)]):
        monkeypatch.setattr(run, "measure", lambda name, rows=rows: [measured(*r) for r in rows])
        run.main()
    (page,) = tmp_path.glob("*.json")
    found = json.loads(page.read_text())["rows"]
    seconds = {(row["world"], row["threads"]): row["ours"] for row in found}
    assert seconds == {("AVX512", 2): 1.0, ("AVX2", 1): 5.0, ("AVX2", 2): 2.0}


def test_an_avx2_machine_and_one_thread_are_what_a_benchmark_is_run_on(monkeypatch):
    seen = []

    def start(command, env, **options):
        seen.append((env.get("ATEN_CPU_CAPABILITY"), env.get("OMP_NUM_THREADS")))
        return subprocess.CompletedProcess(command, 0, "epoch 1: ...\n[]\n", "")

    monkeypatch.setattr(run, "has_more_than_avx2", lambda: True)
    monkeypatch.setattr(run.subprocess, "run", start)
    for name in ("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    run.measure("training")
    assert seen == [(None, None), (None, "1"), ("avx2", None), ("avx2", "1")]


def test_a_watched_training_is_taken_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS", 0.01)
    monkeypatch.setattr(training, "PROFILED", 1)
    data = write_data(tmp_path / "data", make_rows())
    places = {"DATA": str(data), "OUTPUTS": str(tmp_path / "outputs"), "BATCH_SIZE": 4}
    watched = training.Watcher("audio")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        loop.run_loop("audio_train", places, watched)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    parts = watched.parts()
    assert all(0 < share < 1 for share in parts.values()) and sum(parts.values()) < 1
    assert watched.rate > 0 and watched.operations > 1e8
    assert not list((tmp_path / "outputs").glob("*.json"))  # it was broken off
