"""Files of valence and arousal: what is written is read; what does not fit is refused by name."""

import numpy as np
import pytest
from fusion_files import MODELS, change_run, put, write_baselines, write_dimensions, write_models

from common.files import LABELS, UserError
from fusion import predictions


@pytest.fixture
def outputs(tmp_path):
    truth = write_models(tmp_path, range(17, 19), 40, seed=1)
    write_baselines(tmp_path, range(17, 19), 40, seed=3, right=truth)
    write_models(tmp_path / "heldout", range(11, 13), 40, seed=2)
    for place in (tmp_path, tmp_path / "heldout"):
        write_dimensions(place, seed=1, blank=(2, 5))
    return tmp_path


def save(path, change):
    np.save(path, change(np.load(path)))


def test_what_is_written_is_what_is_read(outputs):
    ratings = predictions.load(outputs).ratings
    assert [*ratings.predicted] == [*MODELS] and ratings.scale == (1, 5)
    assert np.isnan(ratings.truth).any(axis=1).nonzero()[0].tolist() == [2, 5]
    assert (ratings.predicted["audio"] == np.load(outputs / "audio_dims.npy")).all()
    predictions.check_held_out(predictions.load(outputs), predictions.load(outputs / "heldout"))


def test_they_are_optional_for_every_model(outputs):
    for name in ("text_dims.npy", "text_dims_truth.npy"):
        (outputs / name).rename(outputs / f"baseline_{name}")
    read = predictions.load(outputs)
    assert read.models == MODELS  # and none called text_dims
    assert [*read.ratings.predicted] == ["audio", "cmbert", "baseline_text"]
    for path in outputs.glob("*_dims*"):
        path.unlink()
    assert predictions.load(outputs).ratings is None


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("audio_dims", lambda a: a[:39], r"audio_dims.npy: float32 of shape \(39, 2\), where"),
        ("audio_dims", lambda a: a[:, :1], r"audio_dims.npy: float32 of shape \(40, 1\), where"),
        ("cmbert_dims", lambda a: a.astype(int), r"cmbert_dims.npy: int64 of shape"),
        ("text_dims", put((3, 1), np.nan), r"text_dims.npy, row 3 \(Sess17\w+\): not a finite"),
        ("text_dims", put((3, 1), np.inf), r"text_dims.npy, row 3 .*: not a finite"),
        ("text_dims_truth", put((4, 0), -np.inf), r"text_dims_truth.npy, row 4 .*: not a finite"),
        ("audio_dims_truth", lambda a: a[:-1], r"audio_dims_truth.npy: float32 of shape \(39, 2\)"),
        ("audio_dims_truth", put((7, 0), 2.5), r"audio_dims_truth.npy, row 7 .*not as in text_dim"),
        ("audio_dims_truth", put((7, 0), np.nan), r"audio_dims_truth.npy, row 7 .*not as in text_"),
        ("audio_dims_truth", put((2, 1), 2.5), r"audio_dims_truth.npy, row 2 .*not as in text_dim"),
        ("audio_dims", lambda a: a.astype(object), r"audio_dims.npy cannot be read .*Object"),
    ],
)
def test_damage_is_refused_by_file_and_row(outputs, name, change, message):
    save(outputs / f"{name}.npy", change)
    script = "run_classifier" if name.startswith("cmbert") else f"{name.partition('_')[0]}_test"
    with pytest.raises(UserError, match=rf"{message}.*run {script}\.py again"):
        predictions.load(outputs)


@pytest.mark.parametrize("name", ["audio_dims", "audio_dims_truth"])
def test_one_file_without_the_other_names_its_stage(outputs, name):
    (outputs / f"{name}.npy").unlink()
    with pytest.raises(UserError, match=rf"/{name}\.npy is missing: run audio_test\.py first"):
        predictions.load(outputs)


def test_a_model_that_has_them_for_the_test_rows_alone_is_refused(outputs):
    for path in (outputs / "heldout").glob("audio_dims*"):
        path.unlink()
    test, held_out = predictions.load(outputs), predictions.load(outputs / "heldout")
    with pytest.raises(UserError, match=r"heldout/audio_dims\.npy is missing.*run audio_test\.py"):
        predictions.check_held_out(test, held_out)
    with pytest.raises(UserError, match=r"heldout/audio_dims\.npy is missing"):
        predictions.check_held_out(held_out, test)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ([1, 9], r"audio_run\.json: dimension_scale \(1.0, 9.0\), of text \(1.0, 5.0\): run audio"),
        ([5, 1], r"audio_run\.json cannot be read .*not the lowest"),
        ([1], r"audio_run\.json cannot be read"),
        ("15x", r"audio_run\.json cannot be read"),
    ],
)
def test_another_scale_is_refused(outputs, scale, message):
    change_run(outputs / "audio_run.json", dimension_scale=scale)
    with pytest.raises(UserError, match=message):
        predictions.load(outputs)
    for place in (outputs, outputs / "heldout"):
        for model in MODELS:
            change_run(place / f"{model}_run.json", dimension_scale=[1, 9])
    change_run(outputs / "heldout" / "text_run.json", dimension_scale=[1, 9])
    assert predictions.load(outputs).ratings.scale == (1, 9)


def test_folds_must_have_them_of_the_same_models_and_scale(outputs, tmp_path):
    parts = [predictions.load(outputs), predictions.load(outputs / "heldout", baselines=())]
    parts[0] = predictions.load(outputs, baselines=())
    both = predictions.join(parts).ratings
    assert both.truth.shape == (80, 2) and both.predicted["text"].shape == (80, 2)
    assert (both.predicted["text"][40:] == parts[1].ratings.predicted["text"]).all()
    for model in MODELS:
        change_run(outputs / "heldout" / f"{model}_run.json", dimension_scale=[1, 9])
    parts[1] = predictions.load(outputs / "heldout", baselines=())
    with pytest.raises(UserError, match=r"heldout has valence and arousal of the scale \(1.0, 9"):
        predictions.join(parts)
    for path in (outputs / "heldout").glob("*_dims*"):
        path.unlink()
    parts[1] = predictions.load(outputs / "heldout", baselines=())
    with pytest.raises(UserError, match=r"heldout/text_dims\.npy is missing, .* has it"):
        predictions.join(parts)


def test_a_table_without_gender_is_read_and_votes_must_be_counts(outputs):
    assert set(predictions.load(outputs).groups("gender")) == {"F", "M"}
    for model in MODELS:
        path = outputs / f"{model}_rows.tsv"
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        place = lines[0].index("gender")
        path.write_text("\n".join("\t".join(r[:place] + r[place + 1 :]) for r in lines) + "\n")
    read = predictions.load(outputs, baselines=())
    assert read.groups("gender") is None and read.votes.shape == (40, len(LABELS))
    text = (outputs / "audio_rows.tsv").read_text()
    for votes, message in (("-1", "row 39 .*no counts"), ("1.5", "row 39"), ("", "cannot be read")):
        (outputs / "audio_rows.tsv").write_text(text.rstrip()[:-1] + votes + "\n")
        with pytest.raises(UserError, match=rf"audio_rows\.tsv.*{message}"):
            predictions.load(outputs)
