"""Stages killed at random moments, also within a save, end with the bytes of an undisturbed run."""

import os
import subprocess
import sys

from conftest import ROOT

STAGES = "sample_corpus.py,preprocess.py,text_train.py,text_test.py"


def test_killed_stages_lose_nothing():
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "2", "--stages", STAGES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith("kills of 4 stages; stages that lost something: 0")
    assert int(last.split()[0]) > 2  # some runs end before their moment comes
