"""run_all.sh and runs/*.sh for real on a small corpus; their stages run in the test's process."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import hostile
import numpy as np
import pytest
import soundfile
from conftest import ROOT
from small_speech import save_checkpoint, save_recogniser

from common.files import read_json
from common.settings import read_block
from common.stages import find_damage

SHELL = sorted((ROOT / "runs").glob("*.sh")) + [ROOT / "run_all.sh"]
STAGES = ["baseline", "text_train", "text_test", "audio_train", "audio_test", "run_classifier"]
STAGES += ["ensemble"]

# Stands for .venv/bin/python: what is no stage runs; a stage is handed over and its end awaited.
PYTHON = """#!/usr/bin/env bash
case $1 in *.py) ;; *) exec {python} "$@" ;; esac
mkfifo "{folder}/answer$$"
printf '%s\\n' "$STAGES" "$@" >"{folder}/asked$$"
echo $$ >"{folder}/bell"
read -r status <"{folder}/answer$$"
exit "$status"
"""


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Return (script or "run_models", names of settings) of every such line of a shell file."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, value in re.findall(r'^ *(\w+)="(.*)"$', text, re.MULTILINE):
        text = re.sub(rf"\${name}\b", lambda _, value=value: value, text)
    lines = re.findall(
        r"^ *(?:(?:speech_)?stage (\w+\.py)|(run_models))\b(.*)$", text, re.MULTILINE
    )
    return [(script or models, re.findall(r" --([\w-]+)", rest)) for script, models, rest in lines]


def names_of(script: str) -> set[str]:
    return {name.lower().replace("_", "-") for name in read_block(ROOT / script)[1]}


def test_every_setting_of_a_shell_file_is_its_stages():
    """The stages pass over each other's settings: a name in the wrong place would do nothing."""
    found = {path.name: commands(path) for path in SHELL}
    assert len(found["paper.sh"]) == 7 and "lr-encoder" in found["paper.sh"][1][1]
    some = set().union(*(names_of(f"{stage}.py") for stage in STAGES))
    for path, lines in found.items():
        for script, names in lines:
            known = some if script == "run_models" else names_of(script)
            assert set(names) <= known, (path, script)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Five sessions of twelve utterances of a tenth of a second."""

    def shorten(sessions):
        for session in sessions:
            del session.segments[12:]

    folder = tmp_path_factory.mktemp("runs") / "KEMDy19"
    hostile.write(folder, "KEMDy19", [hostile.Change("short", edit=shorten)])
    return folder


@pytest.fixture
def project(tmp_path):
    """A folder with the project's files and its own data, outputs and Python."""
    rooms = ("models", "common", "corpora", "extras", "fusion", "runs")
    for name in (*rooms, "requirements.txt", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in (*ROOT.glob("*.py"), ROOT / "run_all.sh"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "data").mkdir()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(python=sys.executable, folder=tmp_path))
    python.chmod(0o755)
    installed = [(ROOT / name).read_text() for name in ("requirements.txt", "constraints.txt")]
    (tmp_path / ".venv" / "installed.txt").write_text("".join(installed))
    os.mkfifo(tmp_path / "bell")
    return tmp_path


@pytest.fixture
def shell(project, run_script, monkeypatch):
    """Return a function that runs a shell file in the project: (its stages, what it printed)."""

    def answer(number):
        text = (project / f"asked{number}").read_text(encoding="utf-8")
        *stages, script, rest = re.fullmatch(r"(.*\.py)\n(\w+\.py)\n(.*)", text, re.DOTALL).groups()
        monkeypatch.setenv("STAGES", *stages)
        done = run_script(script, *rest.splitlines())
        (project / f"answer{number}").write_text(f"{done.status}\n")
        assert done.status == 0, done.stderr
        return script.removesuffix(".py")

    def run(script, *arguments, status=0, **variables):
        monkeypatch.chdir(project)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables}
        command = ["bash", str(project / script), *map(str, arguments)]
        bell, met = os.open(project / "bell", os.O_RDWR | os.O_NONBLOCK), []
        with open(project / "screen.txt", "w+", encoding="utf-8") as screen:
            running = subprocess.Popen(command, env=environment, stdout=screen, stderr=screen)
            while running.poll() is None:
                if select.select([bell], [], [], 0.1)[0]:
                    met += map(answer, os.read(bell, 1000).decode().split())
            screen.seek(0)
            printed = screen.read()
        os.close(bell)
        assert running.returncode == status, printed
        return met, printed

    return run


def settings(folder: Path, model: str) -> dict:
    return read_json(folder / model / "config.json", "")["settings"]


SHORT = ("--epochs", 1, "--batch-seconds", 4)


def test_run_all_goes_from_the_corpus_to_the_table(shell, project, corpus):
    met, printed = shell("run_all.sh", corpus, *SHORT, "--text-train.dropout", 0.25)
    assert met == ["preprocess", *STAGES]
    assert "== python ensemble.py" in printed
    rows = json.loads((project / "outputs" / "ensemble.json").read_text())
    assert {"text", "audio", "cmbert", "stacking", "baseline_both"} <= {r["method"] for r in rows}
    text, audio, cmbert = (settings(project / "outputs", m) for m in ("text", "audio", "cmbert"))
    assert (text["epochs"], audio["epochs"], cmbert["epochs"]) == (1, 1, 1)
    assert (text["dropout"], cmbert["dropout"]) == (0.25, 0.3)  # the one that it was meant for


def test_a_speech_encoder_is_a_second_voice_and_what_cmbert_hears(
    shell, project, corpus, tmp_path_factory
):
    """What is meant for BERT or for AlexNet does not reach it: it stays frozen."""
    speech = save_checkpoint(tmp_path_factory.mktemp("speech"), "whisper")
    more = ("--lr-encoder", 2e-5, "--audio_train.tempos", 1, "--Augment=0.5", "--lr=2e-3")
    met, printed = shell("run_all.sh", corpus, *SHORT, "--speech", speech, *more)
    voices = ["audio_train", "audio_test"]
    assert met == ["preprocess", *STAGES[:5], *voices, *STAGES[5:]]
    outputs = project / "outputs"
    text, audio, voice, cmbert = (
        settings(outputs, m) for m in ("text", "audio", "speech", "cmbert")
    )
    assert (audio["encoder"], audio["lr"], audio["tempos"]) == ("alexnet", 2e-3, [1.0])
    assert (voice["encoder"], voice["lr_encoder"], voice["epochs"]) == (speech, 0.0, 1)
    assert cmbert["audio"] == speech and text["lr_encoder"] == cmbert["lr_encoder"] == 2e-5
    methods = {row["method"] for row in json.loads((outputs / "ensemble.json").read_text())}
    assert {"text", "audio", "speech", "cmbert", "stacking"} <= methods


def test_a_table_without_words_trains_the_voice_alone(shell, project, tmp_path):
    """Of another's labels and of unknown speakers, which the tables say."""
    folder, random, lines = tmp_path / "mine", np.random.default_rng(0), ["path,label"]
    folder.mkdir()
    for number in range(30):
        label = ("calm", "excited")[number % 2]
        tone = np.sin(2 * np.pi * (200 + 300 * (number % 2)) * np.arange(8_000) / 16_000)
        samples = 0.2 * tone + 0.02 * random.normal(size=8_000)
        soundfile.write(folder / f"{number}.wav", samples, 16_000)
        lines.append(f"{number}.wav,{label}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    met, printed = shell("run_all.sh", folder / "list.csv", *SHORT, "--speakers", "unknown")
    assert met == ["preprocess", "baseline", "audio_train", "audio_test", "ensemble"]
    assert "no words: the models of text are left out" in printed
    rows = json.loads((project / "outputs" / "ensemble.json").read_text())
    assert all("may stand in two splits" in row["synthetic"] for row in rows)
    assert {"audio", "baseline_audio", "stacking"} <= {row["method"] for row in rows}
    page = (project / "outputs" / "report.html").read_text()
    assert "may stand in two splits" in page and "excited" in page


def test_corpora_are_tested_on_each_other(shell, project, corpus, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    arguments = ("--label-map", "fear=drop", "--at-once", 1)
    shell("runs/cross_corpus.sh", corpus, other, *SHORT, *arguments)
    table = (project / "outputs" / "cross" / "summary.md").read_text()
    assert table.count("KEMDy19") >= 6 and table.count("other") >= 6
    manifest = read_json(project / "data" / "cross" / "KEMDy19_to_other" / "manifest.json", "")
    assert "fear" not in manifest["labels"]
    tested = json.loads((project / "outputs/cross/KEMDy19_to_other/ensemble.json").read_text())
    own = json.loads((project / "outputs/cross/KEMDy19_to_KEMDy19/ensemble.json").read_text())
    assert len(tested) == len(own)


@pytest.mark.parametrize("given", [["--speech"], ["--speech", "nobody/has-this"], ["--speech="]])
def test_a_speech_encoder_that_is_not_there_is_said_before_any_training(shell, corpus, given):
    met, printed = shell("run_all.sh", corpus, *given, status=2)
    assert met in ([], ["preprocess"]) and "Traceback" not in printed
    assert "error: " in printed.splitlines()[-1]


def test_the_papers_procedure(shell, project, corpus):
    met, _ = shell("runs/paper.sh", corpus, *SHORT, "--bert", "models/kobert-mini")
    assert met == ["preprocess", *STAGES[1:]]
    outputs = project / "outputs" / "paper"
    made = read_json(project / "data" / "paper" / "manifest.json", "")
    assert (made["settings"]["text_style"], made["sessions"]["valid"]) == ("hangul", [])
    text, audio, cmbert = (settings(outputs, model) for model in ("text", "audio", "cmbert"))
    assert [s["shuffle"] for s in (text, audio, cmbert)] == [False] * 3
    assert (text["pooling"], text["lr_head"], text["batch_size"]) == ("pooler", 5e-5, 16)
    assert (audio["features"], audio["tempos"], audio["batch_size"]) == ("paper", [1.0], 1)
    assert (cmbert["audio"], cmbert["max_length"], cmbert["pad_id"]) == ("paper", 100, 0)
    assert cmbert["frozen"] == ["encoder.embeddings", "classifier"]
    for name in ("ensemble.md", "report.html"):
        written = (outputs / name).read_text(encoding="utf-8")
        assert "procedure, encoder models/kobert-mini: its stacking row" in unescape(written)
    rows = json.loads((outputs / "ensemble.json").read_text(encoding="utf-8"))
    assert {row["encoder"] for row in rows} == {"models/kobert-mini"}
    assert not (project / "outputs" / "text").exists()


@pytest.mark.parametrize("more", [(), ("--epochs", 1), ("--speaker-norm", "past")])
def test_the_papers_procedure_is_not_that_of_another_encoder(shell, project, corpus, more):
    met, printed = shell("runs/paper.sh", corpus, *more, status=2)
    assert met == [] and not (project / "data" / "paper").exists()
    (line,) = printed.splitlines()
    assert line.startswith("paper.sh: error: the hub has not given skt/kobert-base-v1")
    assert line.endswith(f"runs/paper.sh {corpus} --bert models/kobert-mini")


def test_seeds_are_trained_apart_and_summarised(shell, project, corpus):
    met, _ = shell("runs/seeds.sh", 2, corpus, *SHORT)
    assert sorted(met) == sorted(["preprocess", *STAGES, *STAGES])
    outputs = project / "outputs" / "seeds"
    for seed in (1, 2):
        for model in ("text", "audio", "cmbert"):
            assert settings(outputs / f"seed{seed}", model)["seed"] == seed
    assert "stacking" in (outputs / "summary.md").read_text(encoding="utf-8").lower()


def test_folds_test_every_session_once(shell, project, corpus):
    met, _ = shell("runs/cross_validate.sh", corpus, *SHORT, K="3")
    assert sorted(met) == sorted(["preprocess", *["preprocess", *STAGES] * 3, "ensemble"])
    outputs = project / "outputs" / "folds"
    made = [project / "data" / "folds" / f"fold{fold}" / "manifest.json" for fold in (1, 2, 3)]
    assert [read_json(path, "")["sessions"]["test"] for path in made] == [[1, 2], [3, 4], [5]]
    rows = json.loads((outputs / "pooled" / "ensemble.json").read_text())
    assert rows and (outputs / "summary.md").is_file()
    assert not [*project.glob("data/folds/fold*/*_audio.npy")]
    for fold in (1, 2, 3):  # the pooled table leaves each fold's results as its record has them
        assert not find_damage(outputs / f"fold{fold}" / "records" / "ensemble.json")


def test_the_recipe_for_kemdy19_names_settings_that_exist(shell, project, corpus):
    met, printed = shell("runs/kemdy19.sh", corpus, "--epochs", 2, "--dry-run", SEEDS="2")
    assert met == ["preprocess"]
    jobs = re.findall(r"^seed\d: (.*)$", printed, re.MULTILINE)
    assert len(jobs) == 2 and all("runs/kemdy19.sh one-seed" in job for job in jobs)
    for name in re.findall(r" --([\w.-]+)", jobs[0]):
        stage, dot, own = name.rpartition(".")
        known = (
            names_of(f"{stage}.py")
            if dot
            else set().union(*(names_of(f"{each}.py") for each in STAGES))
        )
        assert own.replace("_", "-") in known, name
    assert jobs[0].endswith("--epochs 2")


def test_every_model_is_tested_again_where_recordings_are_worse(
    shell, project, corpus, tmp_path_factory
):
    """Fused as before; the clean run stays as it is."""
    asr = save_recogniser(tmp_path_factory.mktemp("asr"))
    status = shell("runs/robustness.sh", status=2)[1]
    assert "fusion.json is missing: run ./run_all.sh first" in status
    shell("run_all.sh", corpus, *SHORT)
    outputs = project / "outputs"
    before = {path: path.read_bytes() for path in outputs.glob("*.*")}
    given = {"CONDITIONS": "level:-20 words:.9 noise:0", "ASR": asr}
    met, _ = shell("runs/robustness.sh", *SHORT, **given)
    assert met == [
        *("audio_test", "run_classifier", "text_test", "run_classifier"),
        *("audio_test", "run_classifier", "text_test", "run_classifier"),
    ]
    assert before == {path: path.read_bytes() for path in outputs.glob("*.*")}
    found = read_json(outputs / "conditions" / "robustness.json", "")
    assert list(found) == ["clean", "noise:0", "level:-20", "words:.9", f"asr:{asr}"]
    table = read_json(outputs / "ensemble.json", "")
    stacking = next(row for row in table if row["method"] == "stacking")
    for score in ("accuracy", "macro_f1", "ece"):  # as in the main table
        assert found["clean"]["fusion"][score] == pytest.approx(stacking[score], abs=1e-6)
    assert found["clean"]["text"] == found["noise:0"]["text"] != found[f"asr:{asr}"]["text"]
    assert found["clean"]["audio"] == found[f"asr:{asr}"]["audio"] != found["noise:0"]["audio"]
    assert found["noise:0"]["fusion"] != found["clean"]["fusion"]
    page = (outputs / "conditions" / "robustness.md").read_text()
    assert page.count("noise:0") == 5 and (outputs / "conditions" / "robustness.png").is_file()
