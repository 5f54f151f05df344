"""The table of strange recordings: what they are made of, and that they are counted rightly."""

import shutil

import numpy as np
import pytest
import soundfile
from scipy.fft import rfft
from small_data import write_data

from common.conditions import power, random_of_id
from common.data import load_data
from common.files import read_json
from common.sound import measure
from runs import strange
from runs.strange import CLEAN, KINDS


@pytest.fixture(scope="module")
def test_rows(data):
    return load_data(data, "test")


def make(name, test_rows, row=0):
    return KINDS[name].make(test_rows, row, random_of_id(0, test_rows.ids[row]))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_the_same_each_time_and_none_is_the_recording(name, test_rows):
    made, samples = make(name, test_rows), test_rows.samples(0)
    assert np.array_equal(made, make(name, test_rows)) and made.dtype == np.int16
    assert len(made) == len(samples)
    assert np.array_equal(made, samples) == (name == CLEAN)


def test_what_is_changed_is_what_the_name_says(test_rows):
    samples = test_rows.samples(0)
    assert power(make("digital silence", test_rows)) == 0
    level = 20 * np.log10(np.sqrt(power(make("noise of a room", test_rows))) / 32_768)
    assert level == pytest.approx(strange.ROOM_LEVEL, abs=1)
    both = make("two speakers at once", test_rows).astype(float)
    others = np.flatnonzero(test_rows.speakers != test_rows.speakers[0])
    left = {}  # of the sum, without the two that are in it, by how much louder the second is
    for other in others:
        pair = np.stack([samples, np.resize(test_rows.samples(other), len(samples))]).astype(float)
        weights = np.linalg.lstsq(pair.T, both, rcond=None)[0]
        own = power(weights[1] * pair[1]) / power(weights[0] * pair[0])
        left[power(both - weights @ pair)] = own
    assert min(left) < 1 and left[min(left)] == pytest.approx(1, rel=0.01)
    sung, whispered = (measure(make(n, test_rows)) for n in ("on one note", "whispered"))
    assert sung["pitch"] == pytest.approx(strange.PITCH, rel=0.05)
    assert whispered["voicing"] < 75 < sung["voicing"]
    # The envelope stays: how loud each tenth of a second is.
    loud = [
        np.sqrt(np.square(wave[: len(wave) // 1600 * 1600].astype(float)).reshape(-1, 1600).mean(1))
        for wave in (samples, make("whispered", test_rows))
    ]
    assert np.corrcoef(*loud)[0, 1] > 0.9


def test_a_childs_voice_is_higher_and_an_old_one_lower(test_rows):
    def centre(name):
        spectrum = np.abs(rfft(make(name, test_rows).astype(float)))
        return (spectrum * np.arange(len(spectrum))).sum() / spectrum.sum()

    assert centre("old voice") < centre(CLEAN) < centre("child's voice")


def test_the_table_counts_what_predicting_says(trained, run_script, tmp_path):
    other = tmp_path / "language"
    other.mkdir()
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs")
    soundfile.write(other / "a.wav", np.zeros(16_000, np.int16), 16_000)
    done = run_script(
        "runs/strange.py", "--outputs", outputs, "--data", trained.data, "--language", other
    )
    assert done.status == 0, done.stderr
    found = read_json(outputs / "conditions" / "strange.json", "")
    assert [*found] == [*KINDS, strange.OTHER]
    rows = min(strange.COUNT, len(load_data(trained.data, "test")))
    assert [own["recordings"] for own in found.values()] == [rows] * len(KINDS) + [1]
    for name in ("digital silence", strange.OTHER):
        assert found[name]["nobody"] == found[name]["noticed"] == 1 and found[name]["unlike"] == 0
        assert found[name]["uncertain"] == 0 and found[name]["accuracy"] is None
    assert found[CLEAN]["noticed"] == 0 < found[CLEAN]["accuracy"] <= 1
    assert found["telephone"]["noticed"] == 1
    table = (outputs / "conditions" / "strange.md").read_text()
    assert f"digital silence ({rows})" in table and "another language (1)" in table


def test_other_data_than_the_runs_are_refused(trained, run_script, tmp_path, rows):
    other = write_data(tmp_path / "other", rows[: len(rows) // 2 * 2 - 2])
    done = run_script("runs/strange.py", "--outputs", trained.outputs, "--data", other)
    assert done.status == 2 and "is not what" in done.stderr and done.stderr.count("\n") == 1
