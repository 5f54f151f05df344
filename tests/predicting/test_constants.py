"""A trained model carries what its answers depend on: code with other numbers in it agrees."""

import ast
import subprocess
import sys
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from conftest import ROOT

# What the models are made of.
FILES = ("models/alexnet.py", "models/cmbert.py", "models/kobert.py")
FILES += ("common/encoding.py", "common/features.py", "common/speakers.py", "common/voice.py")
# In a project: is anything trained again? And the tests once more.
AGAIN = """
import runpy, sys
from pathlib import Path
def run(script, *arguments):
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
data, bert, *folders = sys.argv[1:]
both = "--data", data, "--outputs", folders[0]
run("text_train.py", *both, "--bert", bert, *"--epochs 2 --batch-size 8 --dimensions 0.0".split())
run("text_test.py", *both, "--restart")
for folder in folders:
    both = "--data", data, "--outputs", folder, "--restart"
    run("audio_test.py", *both)
    run("run_classifier.py", *both, "--train", "no", "--batch-size", "8")
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
    for folder in ("common", "corpora", "fusion"):
        copytree(ROOT / folder, root / folder)
    copytree(ROOT / "models", root / "models", ignore=ignore_patterns("kobert-mini"))
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.txt")):
        (root / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for path in (root / name for name in FILES):
        source, names = change_numbers(path.read_text(encoding="utf-8"))
        path.write_text(source, encoding="utf-8")
        changed.update(name.partition(":")[0] for name in names)
    assert {"LAYERS", "PRIOR_CLIPS", "STD_FLOOR", "PROJECTION", "bins", "mfcc_floor"} <= changed
    return root


def test_other_constants_in_the_code_change_no_trained_model(
    trained, of_the_paper, other_project, data, bert, tmp_path
):
    folders = [trained.outputs, of_the_paper]
    copies = [copytree(folder, tmp_path / str(k)) for k, folder in enumerate(folders)]
    weights = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    command = [sys.executable, "-c", AGAIN, data, bert, *copies]
    done = subprocess.run(
        list(map(str, command)), cwd=other_project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first = done.stdout.partition("test:")[0]
    assert "nothing to do" in first and "epoch 1" not in first
    assert weights == {path: path.read_bytes() for path in weights}
    for folder, copy in zip(folders, copies, strict=True):
        found = sorted(path.relative_to(copy) for path in copy.rglob("*_output.npy"))
        models = {str(path.name).partition("_")[0] for path in found}
        assert {"audio", "cmbert"} <= models
        for name in found:
            if not name.name.startswith("ensemble"):
                both = (np.load(place / name) for place in (copy, folder))
                np.testing.assert_allclose(*both, atol=1e-4, err_msg=str(name))
