"""The test scripts in a condition: results of their own, and nothing of the clean run changes."""

import shutil

import numpy as np
import pytest
from small_data import make_rows, write_data
from small_speech import save_checkpoint, save_recogniser

from common import encoding, voice
from common.conditions import change_recordings, name_folder
from common.data import load_data
from common.files import read_json, sha256
from common.stages import find_damage
from models.speech import load_speech_encoder


def hashes(outputs):
    """Return a hash of every file but those of conditions."""
    files = [path for path in outputs.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path: sha256(path) for path in files if "conditions" not in path.parts}


@pytest.fixture
def outputs(trained, tmp_path):
    return shutil.copytree(trained.outputs, tmp_path / "outputs")


@pytest.fixture
def test_in(trained, outputs, run_script):
    """Return a function that tests a model in a condition and returns the folder of that."""

    def run(script, condition, folder, *more):
        place = ("--data", trained.data, "--outputs", outputs)
        done = run_script(script, *place, "--condition", condition, *more)
        assert done.status == 0, done.stderr
        return outputs / "conditions" / folder, done.stdout

    return run


def test_a_condition_has_a_folder_and_the_clean_run_stays_as_it_is(outputs, test_in, tmp_path):
    before = hashes(outputs)
    (tmp_path / "asr").mkdir()
    recogniser = save_recogniser(tmp_path / "asr")
    no = ("--train", "no")
    folder, printed = test_in("audio_test.py", "noise:10", "noise_10")
    assert "test in condition noise:10" in printed and "held-out" not in printed
    test_in("run_classifier.py", "noise:10", "noise_10", *no)
    asr = f"asr:{recogniser}"
    words, _ = test_in("text_test.py", asr, name_folder(asr))
    test_in("run_classifier.py", asr, name_folder(asr), *no)
    assert hashes(outputs) == before
    for place, models in ((folder, ("audio", "cmbert")), (words, ("text", "cmbert"))):
        assert not (place / "heldout").exists() and not [*place.glob("*ablation*")]
        for model in models:
            clean, run = (read_json(p / f"{model}_run.json", "") for p in (outputs, place))
            assert run.pop("condition") == (asr if place == words else "noise:10") and run == clean
            kept, changed = (np.load(p / f"{model}_output.npy") for p in (outputs, place))
            assert kept.shape == changed.shape and np.abs(kept - changed).max() > 1e-3
            for kind in ("truth", "index"):
                assert (
                    sha256(place / f"{model}_{kind}.npy") == before[outputs / f"{model}_{kind}.npy"]
                )
        assert not any(map(find_damage, (place / "records").glob("*.json")))
    again = test_in("audio_test.py", "noise:10", "noise_10")[1]
    assert "nothing to do" in again


@pytest.mark.parametrize("kind", ["mel", "encoder"])
@pytest.mark.parametrize("condition", ["level:-20", "telephone", "noise:0"])
def test_the_speaker_is_known_by_changed_recordings_alone(
    data, tmp_path, tmp_path_factory, kind, condition
):
    """As if the corpus had been recorded like that."""
    clean = load_data(data, "test")
    heard = change_recordings(clean, condition)
    samples = {name: heard.samples(row) for row, name in enumerate(heard.ids)}
    rows = [row | {"samples": samples.get(row["id"], row["samples"])} for row in make_rows()]
    recorded = load_data(write_data(tmp_path / "data", rows), "test")
    encode = None
    if kind == "mel":
        config = {"kind": "ModifiedAlexNet", "tempos": [1.0]}
        config |= voice.choose_voice("aligned", load_data(data, "train"))
    else:
        encoder = load_speech_encoder(save_checkpoint(tmp_path_factory.mktemp("speech")))

        def encode(clips, block):
            return encoding.encode(encoder, clips, block)

        config = {"kind": "SpeechClassifier"} | encoding.describe_encoder(encoder, "a test")
        config["speaker_norm"] = encoding.EncoderFrames(clean, config, encode).fit_norm()
    for norm in ("past", "all"):
        found, expected, other = (
            voice.audio_batches(each, config, [norm], encode=encode)(np.arange(10))
            for each in (heard, recorded, clean)
        )
        (first, *_), (second, *_), (third, *_) = (x.values() for x in (found, expected, other))
        assert np.array_equal(first, second) and not np.allclose(first, third, atol=1e-3)
