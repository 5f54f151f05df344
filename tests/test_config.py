"""Overrides from the command line: conversions, errors, help."""

import subprocess
import sys

import pytest
from conftest import ROOT

from common.files import UserError
from common.settings import take_overrides

DEFAULTS = {
    "count": 16,
    "small_rate": 5e-5,
    "mixed": True,
    "folder": "here",
    "sessions": (17, 18),
    "weights": (0.1, 0.9),
}


def take(arguments, own="stage", words="", block=DEFAULTS, **others):
    return take_overrides(arguments, {own: block, **others}, own, words)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--count", "3"], {"count": 3}),
        (["--small-rate=1"], {"small_rate": 1.0}),
        (["--small_rate", "3e-5"], {"small_rate": 3e-5}),
        (["--mixed", "no"], {"mixed": False}),
        (["--mixed", "--count", "3"], {"mixed": True, "count": 3}),
        (["--mixed=TRUE"], {"mixed": True}),
        (["--sessions", "1,2,3"], {"sessions": (1, 2, 3)}),
        (["--weights", "(1, .5)"], {"weights": (1.0, 0.5)}),
        (["--folder", "--odd--name"], {"folder": "--odd--name"}),
        (["--folder="], {"folder": ""}),
        (["--count", "-1"], {"count": -1}),
    ],
)
def test_conversion(arguments, expected):
    found = take(arguments)
    assert found == expected
    assert [type(v) for v in found.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cout", "3"], "--count"),
        (["--smal-rate", "3"], "--small-rate"),
        (["--count"], "needs a value"),
        (["--count", "2.5"], "not a whole number"),
        (["--mixed", "maybe"], "not yes or no"),
        (["3"], "unexpected argument '3'"),
    ],
)
def test_errors_say_what_to_do(arguments, words):
    with pytest.raises(UserError, match=words):
        take(arguments)


def test_words_without_a_name_go_to_one_setting():
    arguments = ["a.wav", "--mixed", "b c.wav", "--count", "3", "--mixed=no", "-"]
    expected = {"files": ("a.wav", "b c.wav", "-"), "mixed": False, "count": 3}
    assert take(arguments, words="files", block={**DEFAULTS, "files": ()}) == expected
    assert take(["--mixed"]) == {"mixed": True}


def test_settings_of_other_stages_are_passed_over():
    other = {"number": -1, "links": False}
    assert take(["--number", "2", "--count=3"], other=other) == {"count": 3}
    with pytest.raises(UserError, match="--number"):
        take(["--numbr", "2"], other=other)
    for flag in ("--links", "--other.links", "--links=no", "--other.LINKS"):
        assert take([flag, "--count", "3"], other=other) == {"count": 3}
        assert take(["--mixed", flag, "--count", "3"], other=other)["count"] == 3
        assert take(["--count", "3", flag], other=other) == {"count": 3}
    for flag in (["--links", "no"], ["--other.links", "yes"]):
        assert take([*flag, "--count", "3"], other=other) == {"count": 3}


def test_a_setting_can_be_meant_for_one_stage():
    arguments = ["--text.count", "3", "--audio.count=5"]
    assert take(arguments, "text", audio={"count": 1}) == {"count": 3}
    assert take(arguments, "audio", text={"count": 1}) == {"count": 5}
    assert take(arguments, block={}, text={"count": 1}, audio={"count": 1}) == {}
    with pytest.raises(UserError, match="--text.count"):
        take(["--txt.count", "3"], "audio", text={"count": 1})


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
