"""runs/environment.sh: which corpus the shell scripts take; which versions they install."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FIND = """
set -eu
source "$1"
shift
stage() { echo "made by $1"; }
take_corpus "$@"
find_corpus
echo "corpus: $corpus"
"""


def find(folder, *arguments):
    """Run find_corpus in a folder, without a stage."""
    command = ["bash", "-c", FIND, "run_all.sh", ROOT / "runs" / "environment.sh", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["KEMDy19", "KEMDy19_v1_3", "KEMDy19 of 2024"])
def test_any_release_is_found(tmp_path, name):
    (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "KEMDy19_v1_4.zip").write_bytes(b"")
    done = find(tmp_path, "--seed", "2")
    assert (done.returncode, done.stdout) == (0, f"corpus: data/{name}\n")


def test_of_several_releases_the_user_has_to_choose(tmp_path):
    for name in ("KEMDy19", "KEMDy19_v1_3"):
        (tmp_path / "data" / name).mkdir(parents=True)
    done = find(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "run_all.sh: error: several corpora, data/KEMDy19 data/KEMDy19_v1_3: give one, "
        "run_all.sh FOLDER\n"
    )
    done = find(tmp_path, "data/KEMDy19_v1_3")
    assert done.stdout == f"corpus: {tmp_path}/data/KEMDy19_v1_3\n"


def test_without_a_corpus_the_sample_is_made_once(tmp_path):
    done = find(tmp_path)
    assert done.stdout == "made by sample_corpus.py\ncorpus: data/sample\n"
    (tmp_path / "data" / "sample").mkdir(parents=True)
    (tmp_path / "data" / "sample" / "SYNTHETIC.json").write_text("{}")
    assert find(tmp_path).stdout == "corpus: data/sample\n"


def test_what_lightgbm_lacks_is_said_before_the_first_stage(tmp_path):
    """An environment that is made already, on a machine without the system's libgomp."""
    for name in ("run_all.sh", "runs/environment.sh", "requirements.txt", "constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (binaries / "python").chmod(0o755)
    needed = [(ROOT / name).read_text() for name in ("requirements.txt", "constraints.txt")]
    (tmp_path / ".venv" / "installed.txt").write_text("".join(needed))
    lack = 'raise OSError("libgomp.so.1: cannot open shared object file: No such file")'
    (tmp_path / "lightgbm.py").write_text(lack)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = ["bash", tmp_path / "run_all.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "run_all.sh: error: LightGBM cannot be loaded (OSError: libgomp.so.1" in done.stderr
    assert "apt-get install libgomp1" in done.stderr and "brew install libomp" in done.stderr


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_every_requirement_has_one_tested_version_that_it_allows(python):
    here = {"python_version": python, "python_full_version": f"{python}.0"}

    def read(name):
        lines = [line.partition(" #")[0] for line in (ROOT / name).read_text().splitlines()]
        found = [Requirement(line) for line in lines if line and not line.startswith("#")]
        return [each for each in found if each.marker is None or each.marker.evaluate(here)]

    tested = read("constraints.txt")
    versions = {canonicalize_name(each.name): str(each.specifier) for each in tested}
    assert len(versions) == len(tested)
    assert all(version.startswith("==") and "+" not in version for version in versions.values())
    for needed in read("requirements.txt"):
        version = versions[canonicalize_name(needed.name)].removeprefix("==")
        assert needed.specifier.contains(version), needed


@pytest.mark.parametrize(
    "script", sorted(ROOT.glob("runs/*.sh")) + sorted(ROOT.glob("*.sh")), ids=str
)
def test_shell_scripts_can_be_parsed(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.stat().st_mode & 0o100


def test_the_newest_versions_are_those_of_every_package_but_torch():
    """What runs/check_latest.sh installs: names without their limits."""
    source = (ROOT / "runs" / "check_latest.sh").read_text()
    rule = source.split("sed '")[1].split("'")[0]
    files = ["requirements.txt", "requirements-demo.txt"]
    done = subprocess.run(["sed", rule, *files], cwd=ROOT, capture_output=True, text=True)
    named = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert "torch==2.13.0" in named and "transformers" in named and "gradio" in named
    assert not [name for name in named if set(name) & set("<>=# ") and "torch" not in name]
