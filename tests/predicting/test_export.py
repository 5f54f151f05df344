"""A run handed on as one folder: it predicts the same, without torch too, and is safe to take."""

import json
import subprocess
import sys
from shutil import copytree, ignore_patterns

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT

from common.files import UserError
from extras.export.export import export
from fusion import stored as fusion
from predicting import Recording, load_run, predict

MODELS = ("text", "audio", "cmbert")


def recordings_of(talk, speaker=""):
    return [Recording(row["path"], row["text"], speaker) for row in talk]


def assert_same(answers, others, atol):
    for one, other in zip(answers, others, strict=True):
        assert one.logits.keys() == other.logits.keys()
        for model in one.logits:
            np.testing.assert_allclose(one.logits[model], other.logits[model], atol=atol)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=atol)


def test_the_folder_has_all_that_is_needed_and_nothing_else(handed_on):
    files = {str(path.relative_to(handed_on)) for path in handed_on.rglob("*") if path.is_file()}
    of_models = {
        f"{model}/{name}"
        for model in MODELS
        for name in ("config.json", "model.safetensors", "model.onnx")
    }
    others = {"README.md", "fusion.json", "text/spiece.model", "cmbert/spiece.model"}
    assert files == of_models | others | {"records/predict.json"}


@pytest.mark.parametrize(
    ("name", "onnx"), [("model.safetensors", False), ("model.onnx", True), ("spiece.model", False)]
)
def test_a_bit_that_was_lost_on_the_way_is_found(handed_on, talk, tmp_path, name, onnx):
    path = copytree(handed_on, tmp_path / "sent") / "text" / name
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} has changed since predict\.py wrote it"):
        list(predict(load_run(path.parents[1], onnx), recordings_of(talk[:1])))


@pytest.mark.parametrize("speaker", ["", "Mina"])
def test_it_predicts_as_the_run_does(trained, handed_on, talk, tmp_path, speaker):
    """Its graphs too: strangers in batches of different lengths; a known voice turn by turn."""
    moved, files = copytree(handed_on, tmp_path / "elsewhere"), recordings_of(talk, speaker)
    before = list(predict(load_run(trained.outputs), files))
    assert set(before[0].logits) == set(MODELS)
    assert_same(predict(load_run(moved), files), before, atol=0)
    assert_same(predict(load_run(moved, onnx=True), files), before, atol=1e-4)


@pytest.mark.parametrize("samples", [10, 5000, 960_000])
@pytest.mark.parametrize("words", ["네", "오늘은 정말 기분이 좋아요 " * 40])
def test_lengths_are_free(handed_on, samples, words):
    voice = (3000 * np.random.default_rng(0).standard_normal(samples)).astype(np.int16)
    file = Recording(samples=voice, text=words, end=samples / 16_000)
    answers = [list(predict(load_run(handed_on, onnx), [file])) for onnx in (False, True)]
    assert_same(*answers, atol=1e-4)


def test_a_graph_runs_by_itself(handed_on):
    """As another language would run it: any batch, each clip at every tempo."""
    session = onnxruntime.InferenceSession(handed_on / "audio" / "model.onnx")
    config = json.loads((handed_on / "audio" / "config.json").read_text())["network"]
    tempos, bins = len(config["tempos"]), config["mel"]["bins"]
    features = np.random.default_rng(0).standard_normal((3 * tempos, 3, 50, bins))
    inputs = {
        "features": features.astype(np.float32),
        "frame_counts": np.array([50, 20, 35] * tempos),
    }
    (logits,) = session.run(["logits"], inputs)
    assert logits.shape == (3, 9)  # of the labels, and valence and arousal
    inputs["features"][1::3, :, 20:] = 99  # behind the clip's end
    np.testing.assert_allclose(session.run(None, inputs)[0], logits, atol=1e-5)


WITHOUT_TORCH = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(sorted({"torch", "transformers"} & set(sys.modules)))
"""


def test_graphs_run_without_torch_in_memory(handed_on, talk, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict.py", talk[0]["path"], "--json"]
    command += ["--text", talk[0]["text"], "--model", handed_on]
    lines = {}
    for more in ((), ("--onnx",)):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines[more] = done.stdout.splitlines()
    assert "torch" in lines[()][-1]
    assert lines["--onnx",][-1] == "[]"
    found = json.loads(lines["--onnx",][0])["probabilities"]
    assert found == pytest.approx(json.loads(lines[()][0])["probabilities"], abs=1e-4)


def test_the_card_says_what_it_is(handed_on, trained):
    card = (handed_on / "README.md").read_text(encoding="utf-8")
    assert "**tones of a test**" in card  # a synthetic corpus is called so
    assert "train: 1, 2; valid: 3; test: 4" in card
    assert "audio: past, cmbert: past" in card
    rows = json.loads((trained.outputs / "ensemble.json").read_text())
    low, high = rows[-1]["accuracy_ci"]
    assert f"| {rows[-1]['accuracy']:.3f} ({low:.3f} to {high:.3f}) |" in card
    assert "licence" in card and "Limits" in card
    stored = fusion.load(handed_on / "fusion.json")
    for title, models in (("words and voice", MODELS), ("words", MODELS[:1]), ("voice", ["audio"])):
        threshold, coverage, accuracy = stored.certain[tuple(models)]
        assert f"| {title} | {threshold:.2f} | {coverage:.0%} | {accuracy:.0%} |" in card


def test_a_model_of_another_name_is_handed_on(of_encoders, talk, tmp_path):
    """With the graph of its speech encoder, which CM-BERT hears as well."""
    run, files = load_run(of_encoders), recordings_of(talk[:4])
    assert export(run, tmp_path / "sent") == {}
    assert_same(predict(load_run(tmp_path / "sent"), files), predict(run, files), atol=0)
    by_graphs = predict(load_run(tmp_path / "sent", onnx=True), files)
    assert_same(by_graphs, predict(run, files), atol=1e-4)
    card = (tmp_path / "sent" / "README.md").read_text(encoding="utf-8")
    assert "words, voice, words and voice (CM-BERT), voice (speech) |" in card
    threshold, coverage, accuracy = run.fusion.certain["audio", "speech"]
    assert f"| voice | {threshold:.2f} | {coverage:.0%} | {accuracy:.0%} |" in card
    for path in tmp_path.rglob("*.json"):
        assert str(of_encoders.parent) not in path.read_text()


def test_no_path_of_this_machine_is_handed_on(handed_on, bert):
    for path in handed_on.rglob("*.json"):
        assert str(bert.parent) not in path.read_text()
    settings = json.loads((handed_on / "text" / "config.json").read_text())["settings"]
    assert settings["bert"] == bert.name


def test_a_damaged_table_is_named_and_nothing_is_left_or_overwritten(trained, tmp_path):
    outputs = copytree(trained.outputs, tmp_path / "outputs")
    (outputs / "ensemble.json").write_text('[{"method": "text"}]')
    with pytest.raises(UserError, match=r"ensemble\.json has changed"):
        export(load_run(outputs), tmp_path / "sent")
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    with pytest.raises(UserError, match="outputs is there already"):
        export(load_run(trained.outputs), outputs)


# --- a folder that a stranger sends


class Evil:
    """Its pickle runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def sent(handed_on, tmp_path):
    """A copy by somebody who left the hashes out."""
    return copytree(handed_on, tmp_path / "sent", ignore=ignore_patterns("records"))


def test_weights_that_are_a_pickle_run_no_code(sent, talk, tmp_path):
    for model in MODELS:
        for name in ("model.safetensors", "pytorch_model.bin", "state.pt"):
            torch.save({"weights": Evil(tmp_path / "ran")}, sent / model / name)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        list(predict(load_run(sent), recordings_of(talk)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("onnx", [False, True])
def test_configurations_that_name_code_run_none(sent, talk, tmp_path, onnx):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n"
    names = ("AutoModel", "AutoConfig", "AutoTokenizer")
    for model in ("text", "cmbert"):
        path = sent / model / "config.json"
        config = json.loads(path.read_text())
        config["network"]["encoder"]["auto_map"] = config["auto_map"] = dict.fromkeys(
            names, "evil.Evil"
        )
        config["network"]["encoder"]["attn_implementation"] = "evil/kernel"
        path.write_text(json.dumps(config))
        (sent / model / "evil.py").write_text(code)
    answers = list(predict(load_run(sent, onnx), recordings_of(talk)))
    assert len(answers) == len(talk)
    for model in ("text", "cmbert"):  # a tokenizer of its own
        (sent / model / "spiece.model").unlink()
        own = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
        (sent / model / "tokenizer_config.json").write_text(json.dumps(own))
    with pytest.raises((UserError, ValueError), match="tokenizer"):
        list(predict(load_run(sent, onnx), recordings_of(talk)))
    assert not (tmp_path / "ran").exists()


def test_a_link_leads_no_voice_out_of_the_folder(sent, run_script, talk, tmp_path):
    speakers, outside = sent / "speakers", tmp_path / "outside"
    outside.mkdir()
    speakers.symlink_to(outside)
    command = ("predict.py", talk[0]["path"], "--speaker", "Mina", "--model", sent)
    done = run_script(*command)
    assert done.status == 2 and "leads out of" in done.stderr
    speakers.unlink()
    speakers.mkdir()
    (speakers / "Mina.safetensors").symlink_to(outside / "file")
    assert run_script(*command).status == 0
    assert list(outside.iterdir()) == []  # the link was replaced, not followed


def test_a_graph_that_is_none_is_one_line(sent, talk, trained):
    (sent / "audio" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"model\.onnx cannot be read"):
        list(predict(load_run(sent, onnx=True), recordings_of(talk)))
    with pytest.raises(UserError, match="make it with predict.py --export"):
        list(predict(load_run(trained.outputs, onnx=True), recordings_of(talk)))
