"""A run sent to the hub: all of it, readable there, or one line and the folder is kept."""

import json
import os
import subprocess
import sys
from shutil import copytree, rmtree

import pytest
from conftest import ROOT
from hub_stand_in import stand_in
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from common.files import UserError
from extras.export import export
from extras.export.hub import push as send
from predicting import load_run

# The graphs, which take half a minute, have tests of their own.
WITHOUT_GRAPHS = """
import runpy, sys
from extras.export import export
export.write_graphs = lambda model, folder: "not asked for"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def hub(monkeypatch):
    with stand_in() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


def push(hub, trained, folder, name, token="writes", **environment):
    """Run predict.py --export --push in a process that has the stand-in for its hub."""
    command = [sys.executable, "-c", WITHOUT_GRAPHS, "predict.py", "--model", trained.outputs]
    home = {"HF_HOME": str(folder.parent / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token}
    return subprocess.run(
        [*command, "--export", folder, "--push", name],
        cwd=ROOT,
        env=os.environ | {"HF_ENDPOINT": hub.address} | home | environment,
        capture_output=True,
        text=True,
    )


def read(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_whole_folder_arrives_in_a_private_repository(hub, trained, tmp_path, monkeypatch):
    done = push(hub, trained, tmp_path / "sent", "mina/emotions")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"sent to {hub.address}/mina/emotions\n")
    assert hub.repos["mina/emotions"]["visibility"] == "private"
    assert hub.files == read(tmp_path / "sent") and "text/model.safetensors" in hub.files
    hub.files.clear()
    monkeypatch.setenv("HF_TOKEN", "writes")
    (tmp_path / "sent" / "README.md").write_text("another card", "utf-8")
    with pytest.raises(UserError, match="Invalid metadata"):  # which the hub refuses
        send(tmp_path / "sent", "mina/emotions")
    (tmp_path / "sent" / "README.md").unlink()
    send(tmp_path / "sent", "mina/emotions")  # the repository is there
    assert hub.files == read(tmp_path / "sent")


def test_a_refusal_is_one_line_and_the_folder_is_kept(hub, trained, tmp_path):
    folder = tmp_path / "sent"
    done = push(hub, trained, folder, "mina/emotions", token="reads")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "(the token has no right to write there)" in done.stderr
    later = f"`hf upload --private mina/emotions {folder}` sends it later\n"
    assert done.stderr.endswith(later)
    assert "text/model.safetensors" in read(folder) and not hub.files


@pytest.mark.parametrize(
    ("owner", "token", "said"),
    [
        ("mina", "wrong", "(the token is not valid: `hf auth login`, or HF_TOKEN)"),
        ("nobody", "writes", "(there is no such owner)"),
    ],
)
def test_what_is_wrong_is_said(hub, tmp_path, monkeypatch, owner, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as error:
        send(tmp_path, f"{owner}/emotions")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "writes")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"not sent to http://127.0.0.1:9 \(.*[Cc]onnect"):
        send(tmp_path, "mina/emotions")


def test_without_a_token_nothing_is_begun(trained, tmp_path, run_script, monkeypatch):
    monkeypatch.setattr("extras.export.hub.get_token", lambda: None)
    command = ("predict.py", "--model", trained.outputs, "--export", tmp_path / "sent")
    done = run_script(*command, "--push", "mina/emotions")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert "`hf auth login` first" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--push mina/emotions", "--push needs --export FOLDER"),
        *(
            (f"--export sent --push {name}", f"PUSH = {name!r}: give owner/name")
            for name in ("emotions", "a/b/c", "감정/모델", "mina/a--b", "mina/.a", "mina/a.git")
        ),
    ],
)
def test_a_wrong_command_is_one_line(run_script, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_script("predict.py", *arguments.split())
    assert done.status == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_the_card_is_in_the_form_of_the_hub(handed_on, trained):
    card = ModelCard.load(handed_on / "README.md")
    assert card.data.language == "ko" and card.data.license is None
    assert card.text.lstrip().startswith("# Korean emotion recognition")
    assert {"onnx", "synthetic"} <= set(card.data.tags)
    rows = json.loads((trained.outputs / "ensemble.json").read_text())
    (row,) = [row for row in rows if row["method"] == "stacking"]
    found = {r.metric_name: r.metric_value for r in card.data.eval_results}
    titles = {"accuracy": "accuracy", "f1": "weighted F1", "macro_f1": "macro F1", "uar": "UAR"}
    titles |= {f"ccc_{name}": f"CCC of {name}" for name in ("valence", "arousal")}
    for name, title in titles.items():
        assert found.pop(f"{title} (stacking)") == pytest.approx(row[name], abs=1e-4)
    assert not found
    for result in card.data.eval_results:
        assert "synthetic" in result.dataset_name and result.dataset_type == "synthetic"
        assert result.dataset_name.endswith("sessions 4") and result.verified is False


def test_a_model_alone_has_its_own_scores(trained, tmp_path, monkeypatch):
    """A folder without one of the fusion's models does not promise what all of them reach."""
    monkeypatch.setattr(export, "write_graphs", lambda model, folder: "not asked for")
    rmtree(copytree(trained.outputs, tmp_path / "run") / "cmbert")
    export.export(load_run(tmp_path / "run"), tmp_path / "sent")
    (index,) = metadata_load(tmp_path / "sent" / "README.md")["model-index"]
    names = {m["name"] for result in index["results"] for m in result["metrics"]}
    assert index["name"] == "sent"
    assert {"accuracy (text)", "accuracy (audio)"} <= names
    assert not any("stacking" in name or "cmbert" in name for name in names)
