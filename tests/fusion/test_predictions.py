"""The .npy contract: what is written is read, and what does not fit is refused by file and row."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fusion_files import MODELS, make_facts, put, write_outputs

from common.files import UserError
from fusion import predictions

IDS = [
    f"Sess0{s}_{k}01_{g}00{i}"
    for s in (1, 2)
    for k in ("impro", "script")
    for g in "FM"
    for i in (1, 2)
]
RUN = {"data_hash": "a" * 64, "synthetic": None, "seed": 1}


def write_all(folder, ids=IDS, run=RUN, seed=0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 7, len(ids))
    for model in MODELS:
        write_outputs(folder, model, ids, truth, random.normal(size=(len(ids), 7)), run)
    return truth


def write_baselines(folder, truth, ids=IDS, run=RUN):
    random = np.random.default_rng(1)
    for name in predictions.BASELINES:
        write_outputs(folder, name, ids, truth, random.normal(size=(len(ids), 7)), run)


def damage(path, change):
    array = np.load(path)
    np.save(path, change(array))


def test_what_is_written_is_what_is_read(tmp_path):
    truth = write_all(tmp_path)
    read = predictions.load(tmp_path)
    assert read.truth.tolist() == truth.tolist()
    assert read.ids.tolist() == IDS
    assert read.logits.shape == (3, 16, 7)
    assert read.models == MODELS and read.tied is None
    assert read.runs["cmbert"] == RUN


def write_facts(folder, **changes):
    labels = np.random.default_rng(0).integers(0, 7, len(IDS))
    facts = make_facts(IDS, labels, tied=(2, 5)).assign(**changes)
    for model in MODELS:
        write_outputs(folder, model, IDS, labels, np.eye(7)[labels], RUN, facts)


def test_facts_of_the_rows_travel_along(tmp_path):
    """The table knows a session better than an ID does: KEMDy20's session 17 is called Sess16."""
    write_facts(tmp_path, session=17, turn=range(3, 19), text="left out")
    read = predictions.load(tmp_path)
    assert read.groups("session").tolist() == ["17"] * 16
    assert read.groups("scenario").tolist() == (["impro"] * 4 + ["script"] * 4) * 2
    assert read.groups("speaker").tolist()[:4] == ["Sess01F", "Sess01F", "Sess01M", "Sess01M"]
    assert read.facts["turn"].tolist() == list(range(3, 19))
    assert np.flatnonzero(read.tied).tolist() == [2, 5]
    assert "text" not in read.facts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("Sess01_impro01_F002", "Sess01_impro01_F009"), "row 1"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "15 rows, 16 segments"),
        (lambda text: text.replace("\tturn", "\tplace"), "cannot be read"),
        (lambda text: text.replace("\tdialogue_number", "\tplace"), "dialogue_number"),
        (lambda text: text.replace("\t3\t", "\tthird\t"), "cannot be read"),
        (lambda text: "", "cannot be read"),
        (None, "is missing"),
    ],
)
def test_facts_of_other_rows_are_refused(tmp_path, change, words):
    write_facts(tmp_path)
    path = tmp_path / "audio_rows.tsv"
    text = path.read_text(encoding="utf-8")
    path.unlink()
    if change:
        path.write_text(change(text), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"audio_rows\.tsv.*run audio_test\.py (again|first)"
    ) as error:
        predictions.load(tmp_path)
    assert words in str(error.value)


def swap(array):
    array[[5, 9]] = array[[9, 5]]
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "audio_index",
            swap,
            rf"audio_index.npy, row 5 \({IDS[9]}\): not as in text_index.npy.* same data",
        ),
        ("audio_index", put(6, "Sess09_script01_F001"), r"audio_index.npy, row 6 \(Sess09"),
        ("cmbert_index", put(4, IDS[3]), rf"cmbert_index.npy, row 4 \({IDS[3]}\): .*occurs twice"),
        ("text_output", put((3, 2), np.nan), rf"text_output.npy, row 3 \({IDS[3]}\): not a finite"),
        ("text_output", put((15, 6), np.inf), r"text_output.npy, row 15 .* not a finite"),
        ("audio_output", lambda a: a[:, :6], r"audio_output.npy: float32 of shape \(16, 6\)"),
        ("audio_output", lambda a: a[:, None], r"audio_output.npy: float32 of shape \(16, 1, 7\)"),
        ("audio_truth", lambda a: a[:11], r"audio_truth.npy: int64 of shape \(11,\)"),
        ("cmbert_pred", lambda a: (a + 1) % 7, r"cmbert_pred.npy, row 0 .*not the largest column"),
        ("cmbert_pred", put(2, 7), r"cmbert_pred.npy, row 2 .*not a label id"),
        ("cmbert_truth", put(8, -1), r"cmbert_truth.npy, row 8 .*not a label id"),
        ("text_truth", lambda a: a.astype(float), r"text_truth.npy: float64 of shape"),
        (
            "baseline_text_index",
            swap,
            rf"baseline_text_index.npy, row 5 \({IDS[9]}\): .*run baseline.py again",
        ),
        ("baseline_both_truth", lambda a: (a + 1) % 7, r"both_truth.npy, row 0 .*text_truth.npy"),
        ("baseline_audio_pred", lambda a: (a + 1) % 7, r"audio_pred.npy, row 0 .*not the largest"),
        ("text_index", lambda a: a.astype("S"), r"text_index.npy: \|S\d+ of shape"),
        ("text_pred", lambda a: a.astype(object), r"text_pred.npy cannot be read .*Object arrays"),
    ],
)
def test_damage_is_refused_by_file_and_row(tmp_path, name, change, message):
    write_baselines(tmp_path, write_all(tmp_path))
    damage(tmp_path / f"{name}.npy", change)
    with pytest.raises(UserError, match=message):
        predictions.load(tmp_path)


@pytest.mark.parametrize("name", ["baseline_audio_output", "text_truth", "cmbert_index"])
def test_a_missing_file_names_its_stage(tmp_path, name):
    write_baselines(tmp_path, write_all(tmp_path))
    (tmp_path / f"{name}.npy").unlink()
    script = {"b": "baseline", "t": "text_test", "c": "run_classifier"}[name[0]]
    with pytest.raises(UserError, match=f"{name}.npy is missing: run {script}.py first"):
        predictions.load(tmp_path)


def test_other_data_are_refused(tmp_path):
    write_all(tmp_path)
    path = tmp_path / "audio_run.json"
    path.write_text(json.dumps(RUN | {"data_hash": "b" * 64}))
    with pytest.raises(
        UserError, match=r"audio_run.json: data_hash b+, in .*text_run.json: a+: run audio_test"
    ):
        predictions.load(tmp_path)


def test_held_out_rows_of_other_data_or_of_the_test_part_are_refused(tmp_path):
    write_all(tmp_path)
    write_all(tmp_path / "heldout", run=RUN | {"data_hash": "c" * 64})
    test, held_out = predictions.load(tmp_path), predictions.load(tmp_path / "heldout")
    with pytest.raises(UserError, match="heldout/text_run.json: data_hash c"):
        predictions.check_held_out(test, held_out)
    held_out = replace(held_out, models=("text", "audio"))
    with pytest.raises(UserError, match=r"heldout has the outputs of text, audio, .* cmbert"):
        predictions.check_held_out(test, held_out)
    write_all(tmp_path / "heldout", ids=["Sess03_impro01_F001", IDS[4]])
    with pytest.raises(
        UserError, match=rf"heldout/text_index.npy, row 1 \({IDS[4]}\): is a test row"
    ):
        predictions.check_held_out(test, predictions.load(tmp_path / "heldout"))


@pytest.mark.parametrize("audio", ["past", "utterance"])
def test_baselines_that_know_what_no_model_knows_are_refused(tmp_path, audio):
    """A speech encoder hears each clip by itself; CM-BERT beside it may know the speaker's past."""
    write_baselines(tmp_path, write_all(tmp_path), run=RUN | {"speaker_norm": "past"})
    for model, norm in (("audio", audio), ("cmbert", "past")):
        (tmp_path / f"{model}_run.json").write_text(json.dumps(RUN | {"speaker_norm": norm}))
    assert len(predictions.load(tmp_path).baselines) == 3
    (tmp_path / "cmbert_run.json").write_text(json.dumps(RUN | {"speaker_norm": "utterance"}))
    (tmp_path / "audio_run.json").write_text(json.dumps(RUN | {"speaker_norm": "utterance"}))
    message = "baseline_text_run.json: speaker_norm past.*run baseline.py --speaker-norm utterance"
    with pytest.raises(UserError, match=message):
        predictions.load(tmp_path)
