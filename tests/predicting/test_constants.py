"""A trained model carries what its answers depend on: code with other numbers in it agrees."""

import ast
import subprocess
import sys
from shutil import copytree, ignore_patterns

import numpy as np
import onnxruntime
import pytest
from conftest import ROOT
from stage_settings import PAPER

from pipeline.learning import audio
from pipeline.predicting.graphs import write_graph

FOLDERS = ("models", "pipeline/learning", "pipeline/features")  # what the models are made of
# In a project: is anything trained again? The tests once more, and a graph of the audio model.
AGAIN = """
import runpy, sys
from pathlib import Path
def run(script, *arguments):
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
data, bert, graph, *folders = sys.argv[1:]
both = "--data", data, "--outputs", folders[0]
run("text_train.py", *both, "--bert", bert, "--epochs", "2", "--batch-size", "8")
run("text_test.py", *both, "--restart")
for folder in folders:
    both = "--data", data, "--outputs", folder, "--restart"
    run("audio_test.py", *both)
    run("run_classifier.py", *both, "--train", "no", "--batch-size", "8")
from pipeline.learning import audio
from pipeline.predicting.graphs import write_graph
write_graph(audio.load(Path(folders[0], "audio")), Path(graph))
"""


def change_numbers(source: str) -> tuple[str, list[str]]:
    """Return a file with other numbers in all its constants and fields, and their names."""
    tree, changed = ast.parse(source), []
    classes = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *sum(classes, [])]:
        is_constant = isinstance(node, ast.Assign | ast.AnnAssign) and node.value
        if not is_constant or isinstance(node.value, ast.Call):  # range(5) numbers five names
            continue
        for part in ast.walk(node.value):
            if isinstance(part, ast.Constant) and type(part.value) in (int, float):
                part.value = part.value + 1 if type(part.value) is int else part.value * 1.1
                changed.append(ast.unparse(node).partition(" = ")[0])
    return ast.unparse(tree), changed


@pytest.fixture(scope="module")
def other_project(tmp_path_factory):
    """A copy of the project in which a researcher has edited every constant of the models."""
    root, changed = tmp_path_factory.mktemp("edited") / "project", set()
    copytree(ROOT / "pipeline", root / "pipeline")
    copytree(ROOT / "common", root / "common")
    copytree(ROOT / "corpora", root / "corpora")
    copytree(ROOT / "models", root / "models", ignore=ignore_patterns("kobert-mini"))
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.txt")):
        (root / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for path in (path for folder in FOLDERS for path in (root / folder).glob("*.py")):
        source, names = change_numbers(path.read_text(encoding="utf-8"))
        path.write_text(source, encoding="utf-8")
        changed.update(name.partition(":")[0] for name in names)
    assert {"TEMPOS", "PRIOR_CLIPS", "PROJECTION", "half_trust", "bins", "mfcc_floor"} <= changed
    return root


@pytest.fixture(scope="module")
def of_the_paper(data, bert, run_script, tmp_path_factory):
    """The outputs of the two models with the published features, an epoch of each."""
    outputs = tmp_path_factory.mktemp("paper") / "outputs"
    own = {"audio_train.py": dict(PAPER["audio"]), "run_classifier.py": dict(PAPER["cmbert"])}
    own["run_classifier.py"] |= {"bert": bert, "hide_words": 0.0, "batch_size": 8}
    for script, settings in own.items():
        settings = settings | {"data": data, "outputs": outputs, "epochs": 1, "augment": 0.0}
        settings["frozen"] = ",".join(settings.pop("frozen", ()))
        words = [f"--{name}={value}" for name, value in settings.items() if value != ""]
        done = run_script(script, *words)
        assert done.status == 0, done.stderr
    done = run_script("audio_test.py", "--data", data, "--outputs", outputs)
    assert done.status == 0, done.stderr
    return outputs


def test_other_constants_in_the_code_change_no_trained_model(
    trained, of_the_paper, other_project, data, bert, tmp_path
):
    folders = [trained.outputs, of_the_paper]
    copies = [copytree(folder, tmp_path / str(k)) for k, folder in enumerate(folders)]
    weights = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    graphs = [tmp_path / "edited.onnx", tmp_path / "plain.onnx"]
    command = [sys.executable, "-c", AGAIN, data, bert, graphs[0], *copies]
    done = subprocess.run(
        list(map(str, command)), cwd=other_project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first = done.stdout.partition("test:")[0]
    assert "nothing to do" in first and "made by other code (" in first and "epoch 1" not in first
    assert weights == {path: path.read_bytes() for path in weights}
    for folder, copy in zip(folders, copies, strict=True):
        found = sorted(path.relative_to(copy) for path in copy.rglob("*_output.npy"))
        models = {str(path.name).partition("_")[0] for path in found}
        assert {"audio", "cmbert"} <= models
        for name in found:
            if not name.name.startswith("ensemble"):
                assert (copy / name).read_bytes() == (folder / name).read_bytes(), name
    write_graph(audio.load(trained.outputs / "audio"), graphs[1])
    found = [run_graph(path) for path in graphs]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def run_graph(path):
    """Return the logits of noise from strangers and from a speaker of whom something is known."""
    session = onnxruntime.InferenceSession(path)
    random = np.random.default_rng(0)
    spectrogram = random.standard_normal((2, 50, 64)).astype(np.float32)
    size = next(each.shape[1] for each in session.get_inputs() if each.name == "state")
    inputs = {"spectrogram": spectrogram, "frame_counts": np.array([50, 30])}
    _, state = session.run(None, inputs | {"state": np.zeros((2, size))})
    return session.run(None, inputs | {"state": state})[0]
