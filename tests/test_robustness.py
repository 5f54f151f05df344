"""The table of conditions: the stored fusion on what was tested alike, and nothing else."""

import json
import shutil

import numpy as np
import pytest
from scipy.special import softmax

from common.files import read_json
from fusion import stored
from runs.robustness import place_of

ALL = ("audio", "cmbert")


@pytest.fixture
def outputs(trained, tmp_path):
    return shutil.copytree(trained.outputs, tmp_path / "outputs")


def put(outputs, folder, condition, models=ALL, edit=lambda logits: logits, **other):
    """Write what the test scripts would: the models' files of a condition."""
    place = outputs / "conditions" / folder
    place.mkdir(parents=True)
    for model in models:
        for path in outputs.glob(f"{model}_*.*"):
            shutil.copy(path, place / path.name)
        logits = edit(np.load(place / f"{model}_output.npy"))
        np.save(place / f"{model}_output.npy", logits)
        np.save(place / f"{model}_pred.npy", logits.argmax(1))
        run = read_json(place / f"{model}_run.json", "") | {"condition": condition} | other
        (place / f"{model}_run.json").write_text(json.dumps(run))
    return place


def test_the_stored_fusion_reads_changed_and_unchanged_models(outputs, run_script):
    put(outputs, "noise_10", "noise:10", edit=lambda logits: logits[:, ::-1].copy())
    done = run_script("runs/robustness.py", "--outputs", outputs)
    assert done.status == 0, done.stderr
    found = read_json(outputs / "conditions" / "robustness.json", "")
    assert list(found) == ["clean", "noise:10"]
    fusion = stored.load(outputs / "fusion.json")
    truth = np.load(outputs / "text_truth.npy")
    for condition, place in (("clean", outputs), ("noise:10", outputs / "conditions/noise_10")):
        logits = {model: np.load(place / f"{model}_output.npy") for model in ALL}
        logits["text"] = np.load(outputs / "text_output.npy")
        fused, own = fusion.predict(logits), found[condition]["fusion"]
        assert own["accuracy"] == pytest.approx(np.mean(fused.argmax(1) == truth))
        is_uncertain = fused.max(1) < fusion.threshold(logits)
        assert own["uncertain"] == pytest.approx(is_uncertain.mean())
        every = fused.argmax(1) != truth
        risks = [every[fused.max(1) >= own_confidence].mean() for own_confidence in fused.max(1)]
        assert own["aurc"] == pytest.approx(np.mean(risks))
        low, high = own["aurc_ci"]
        assert low <= own["aurc"] <= high
        assert sum(count for count, *_ in own["reliability"]) == len(truth)
        right = fused.argmax(1)[is_uncertain] == truth[is_uncertain]
        assert own["accuracy_uncertain"] == (pytest.approx(right.mean()) if len(right) else None)
        audio = softmax(logits["audio"] / fusion.temperatures["audio"], axis=1)
        uncertain = (audio.max(1) < fusion.threshold(["audio"])).mean()
        assert found[condition]["audio"]["uncertain"] == pytest.approx(uncertain)
    assert (outputs / "conditions" / "robustness_reliability.png").stat().st_size > 10_000
    assert "## AURC" in (outputs / "conditions" / "robustness.md").read_text()
    lost = found["clean"]["audio"]["accuracy"] - found["noise:10"]["audio"]["accuracy"]
    assert found["noise:10"]["audio"]["loss"] == pytest.approx(lost)
    assert found["noise:10"]["text"] == found["clean"]["text"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"models": ("audio",)}, "cmbert was not tested in it"),
        ({"speaker_norm": "all"}, "audio was trained or tested otherwise"),
        ({"environment": {}}, "audio was trained or tested otherwise"),
    ],
)
def test_what_is_not_whole_or_not_of_this_run_is_left_out_and_said(
    outputs, run_script, options, said
):
    put(outputs, "room", "room", **options)
    put(outputs, "level_-20", "level:-20")
    done = run_script("runs/robustness.py", "--outputs", outputs)
    assert done.status == 0 and f"conditions/room is left out: {said}" in done.stdout
    assert [*read_json(outputs / "conditions/robustness.json", "")] == ["clean", "level:-20"]


def test_the_voice_does_not_hear_other_words(outputs, run_script):
    put(outputs, "words_.2", "words:.2", ("text", "cmbert"), lambda logits: logits[:, ::-1].copy())
    done = run_script("runs/robustness.py", "--outputs", outputs)
    assert done.status == 0, done.stderr
    found = read_json(outputs / "conditions" / "robustness.json", "")
    assert found["words:.2"]["audio"] == found["clean"]["audio"]
    assert found["words:.2"]["text"] != found["clean"]["text"]


def test_without_any_condition_it_says_what_to_run(outputs, run_script):
    done = run_script("runs/robustness.py", "--outputs", outputs)
    assert done.status == 2 and "run runs/robustness.sh" in done.stderr
    assert done.stderr.count("\n") == 1


def test_less_noise_comes_first():
    names = ["tempo:.9", "asr:a/b", "noise:0", "room", "clean", "noise:20", "noise:-5", "tempo:1.1"]
    names += ["words:.4", "words:.05"]
    expected = ["clean", "noise:20", "noise:0", "noise:-5", "tempo:1.1", "tempo:.9"]
    expected += ["room", "words:.05", "words:.4", "asr:a/b"]
    assert sorted(names, key=place_of) == expected
