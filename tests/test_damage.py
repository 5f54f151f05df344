"""Damaged files, every stage and every file it reads: one line that names it, and nothing changed.

More of them: DAMAGE_CASES=10 DAMAGE_SEED=7 python -m pytest tests/test_damage.py -s  (ten times as
many cases of another seed, and the table of what became of them).
"""

import lzma
import os
import shutil
from collections import Counter

import hostile
import pytest
import soundfile
from damage import BROUGHT, STAGES, Case, draw_cases, fingerprint, link

from common import checkpoint
from common.files import sha256, write_json
from common.stages import Stage, describe_machine

TIMES = float(os.environ.get("DAMAGE_CASES", 1))
SURVIVED = ("refused", "taken")
SEED = int(os.environ.get("DAMAGE_SEED", 0))


@pytest.fixture(scope="module")
def whole(trained, handed_on, talk, rows, bert, run_script, tmp_path_factory):
    """A folder of all that any stage reads."""
    root = tmp_path_factory.mktemp("damage") / "whole"
    shutil.copytree(trained.data, root / "data")
    made = {path.name: path for path in (root / "data").iterdir()}
    stage = Stage("preprocess.py", root / "data", {"restart": False}, {})
    hashes = {name: sha256(path) for name, path in made.items() if path.is_file()}
    write_json(stage.record, {**stage.made_of, **describe_machine(), "outputs": hashes})
    shutil.copytree(trained.outputs, root / "outputs")
    shutil.copytree(bert, root / "bert")
    shutil.copytree(handed_on, root / "handed")
    hostile.write(root / "corpus", "KEMDy19", [])
    (root / "corpus" / "SYNTHETIC.json").write_text('{"notice": "noise"}')
    soundfile.write(root / "talk.wav", talk[0]["samples"], 16_000)
    (root / "list.tsv").write_text("path\ttext\tspeaker\ntalk.wav\t정말\tMina\n\t좋아요\tMina\n")
    (root / "talk.rttm").write_text("SPEAKER talk 1 0.0 0.2 <NA> <NA> A <NA> <NA>\n" * 2)
    lines = "\n".join(f"{1 + row['session'] * 2}\t{row['text']}" for row in rows)
    (root / "lines.tsv.xz").write_bytes(lzma.compress(lines.encode()))
    both = ("--data", root / "data", "--outputs", root / "outputs")
    for script, *arguments in (
        ("baseline.py", *both),
        ("ensemble.py", *both),
        ("predict.py", root / "talk.wav", "--model", root / "outputs", "--speaker", "Mina"),
    ):
        done = run_script(script, *arguments)
        assert done.status == 0, done.stderr
    stop_training(run_script, root)
    return root


def stop_training(run_script, root):
    """Leave an unfinished training of the text model in stopped/."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save_file", interrupted)
        patch.chdir(root)
        done = run_script(*STAGES["resume"].command)
    assert done.status == 130 and (root / "stopped/text/unfinished-text_train/state.pt").is_file()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "export"])
def test_the_stages_run_on_what_is_whole(stage, whole, run_script, tmp_path, monkeypatch):
    """Else a refusal below would prove nothing; an export was made already, and takes long."""
    link(whole, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    done = run_script(*STAGES[stage].command)
    assert done.status == 0, done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_file_is_named_and_nothing_is_changed(stage, whole, run_script, tmp_path):
    found, lost = Counter(), []
    cases = draw_cases(stage, SEED, round(TIMES * STAGES[stage].cases))
    for number, case in enumerate(cases):
        outcome = try_case(case, whole, run_script, tmp_path / str(number))
        found[case.damage, outcome.partition(":")[0]] += 1
        if outcome not in SURVIVED:
            lost.append(f"{case}: {outcome}")
    for (damage, outcome), count in sorted(found.items()):
        print(stage, damage, outcome, count, sep="\t")
    assert not lost, "\n".join(lost)


def try_case(case: Case, whole, run_script, root) -> str:
    """Run a stage on the damaged file; return what became of it, one of SURVIVED or why not."""
    link(whole, root)
    is_same = case.apply(root, whole)
    before = fingerprint(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        try:
            done = run_script(*STAGES[case.stage].command)
        except Exception as error:
            return f"traceback: {error!r}"
    after = fingerprint(root)
    shutil.rmtree(root)
    brought = case.file.startswith(BROUGHT)
    folder = os.path.dirname(case.file) if brought or case.stage == "resume" else case.file
    if done.status == 0:
        is_said = "begun by other code" in done.stdout
        return "taken" if brought or is_same or is_said else "undetected"
    said = [line for line in done.stderr.splitlines() if ": error: " in line]
    in_rows = case.stage in ("manifest", "turns")  # a bad row costs itself alone
    as_told = done.status == 2 and len(said) == 1 or in_rows and done.status in (1, 2) and said
    if not as_told or "Traceback" in done.stderr:
        return f"status {done.status}: {done.stderr[-300:]}"
    changed = {name for name in before if before[name] != after.get(name)}
    if changed:
        return f"changed: {changed}"
    named = os.path.basename(case.file) in said[0] or folder in said[0]
    return "refused" if named else f"not named: {said[0]}"
