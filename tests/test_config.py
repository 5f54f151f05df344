"""Overrides from the command line: conversions, errors, help."""

import subprocess
import sys

import pytest
from conftest import ROOT

from common.files import UserError
from common.settings import parse

DEFAULTS = {
    "epochs": 16,
    "learning_rate": 5e-5,
    "shuffle": True,
    "bert": "folder",
    "sessions": (17, 18),
    "weights": (0.1, 0.9),
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--epochs", "3"], {"epochs": 3}),
        (["--learning-rate=1"], {"learning_rate": 1.0}),
        (["--learning_rate", "3e-5"], {"learning_rate": 3e-5}),
        (["--shuffle", "no"], {"shuffle": False}),
        (["--shuffle", "--epochs", "3"], {"shuffle": True, "epochs": 3}),
        (["--shuffle=TRUE"], {"shuffle": True}),
        (["--sessions", "1,2,3"], {"sessions": (1, 2, 3)}),
        (["--weights", "(1, .5)"], {"weights": (1.0, 0.5)}),
        (["--bert", "--odd--name"], {"bert": "--odd--name"}),
        (["--bert="], {"bert": ""}),
        (["--epochs", "-1"], {"epochs": -1}),
    ],
)
def test_conversion(arguments, expected):
    assert parse(arguments, DEFAULTS) == expected
    values = parse(arguments, DEFAULTS).values()
    assert [type(v) for v in values] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epoch", "3"], "--epochs"),
        (["--learnin-rate", "3"], "--learning-rate"),
        (["--epochs"], "needs a value"),
        (["--epochs", "2.5"], "not a whole number"),
        (["--shuffle", "maybe"], "not yes or no"),
        (["3"], "unexpected argument '3'"),
    ],
)
def test_errors_say_what_to_do(arguments, words):
    with pytest.raises(UserError, match=words):
        parse(arguments, DEFAULTS)


def test_words_without_a_name_go_to_one_setting():
    arguments = ["a.wav", "--shuffle", "b c.wav", "--epochs", "3", "--shuffle=no", "-"]
    expected = {"files": ("a.wav", "b c.wav", "-"), "shuffle": False, "epochs": 3}
    assert parse(arguments, {**DEFAULTS, "files": ()}, words="files") == expected
    assert parse(["--shuffle"], DEFAULTS) == {"shuffle": True}


def test_settings_of_other_stages_are_passed_over():
    elsewhere = {"jobs": -1, "links": False, "stage.links": False}
    assert parse(["--jobs", "2", "--epochs=3"], DEFAULTS, elsewhere) == {"epochs": 3}
    with pytest.raises(UserError, match="--jobs"):
        parse(["--job", "2"], DEFAULTS, elsewhere)
    for flag in ("--links", "--stage.links", "--links=no", "--stage.LINKS"):
        assert parse([flag, "--epochs", "3"], DEFAULTS, elsewhere) == {"epochs": 3}
        assert parse(["--shuffle", flag, "--epochs", "3"], DEFAULTS, elsewhere)["epochs"] == 3
        assert parse(["--epochs", "3", flag], DEFAULTS, elsewhere) == {"epochs": 3}
    for flag in (["--links", "no"], ["--stage.links", "yes"]):
        assert parse([*flag, "--epochs", "3"], DEFAULTS, elsewhere) == {"epochs": 3}


def test_a_setting_can_be_meant_for_one_stage():
    elsewhere = {"epochs": 1, "text.epochs": 1, "audio.epochs": 1}
    arguments = ["--text.epochs", "3", "--audio.epochs=5"]
    assert parse(arguments, DEFAULTS, elsewhere, "text") == {"epochs": 3}
    assert parse(arguments, DEFAULTS, elsewhere, "audio") == {"epochs": 5}
    assert parse(arguments, DEFAULTS, elsewhere, "ensemble") == {}
    with pytest.raises(UserError, match="--text.epochs"):
        parse(["--txt.epochs", "3"], DEFAULTS, elsewhere, "audio")


SCRIPT = '''"""A stage.

python stage.py
"""
from common import settings
from common.settings import BOOLEANS
# ----
EPOCHS = 16  # passes over the training rows
# ----
DERIVED = 3
def main():
    print(settings.read(globals()))
    if EPOCHS == 0:
        raise settings.UserError("no epochs: raise EPOCHS")
if __name__ == "__main__":
    settings.run(main)
'''


def run_script(tmp_path, *arguments):
    path = tmp_path / "stage.py"
    path.write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, path, *arguments], capture_output=True, text=True, env={"PYTHONPATH": "."}
    )


def test_script_echoes_and_applies_the_override(tmp_path):
    done = run_script(tmp_path, "--epochs=3")
    assert done.returncode == 0
    assert "EPOCHS = 3 (was 16)" in done.stdout
    assert "{'epochs': 3}" in done.stdout  # BOOLEANS and DERIVED are no settings


def test_help_prints_docstring_and_block(tmp_path):
    done = run_script(tmp_path, "--help")
    assert "A stage." in done.stdout
    assert "EPOCHS = 16  # passes over the training rows" in done.stdout


@pytest.mark.parametrize("script", sorted(ROOT.glob("*.py")), ids=lambda path: path.name)
def test_every_script_answers_help_before_it_imports_what_takes_seconds(script):
    command = [sys.executable, "-X", "importtime", script, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert "Settings (override" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "pandas", "scipy", "sklearn", "soundfile", "common.training"}


def test_user_errors_are_one_line_and_status_2(tmp_path):
    for arguments in (["--epochs", "0"], ["--nope", "1"]):
        done = run_script(tmp_path, *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("stage.py: error: ")
