"""common/ranges.py: every setting of every script has a rule, kept wherever it is set."""

import math
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from common import ranges, settings
from common.files import UserError
from common.speakers import SPEAKER_NORMS
from corpora.transcripts import STYLES
from fusion.choice import TARGETS

SCRIPTS = [
    path
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("runs/*.py")])
    if "settings.run(main" in path.read_text(encoding="utf-8")
]
BLOCKS = {path.stem: settings.read_block(path)[1] for path in SCRIPTS}
EVERY = [(script, name) for script, block in BLOCKS.items() for name in block]
STAGES = ("preprocess", "text_train", "audio_train", "run_classifier", "ensemble")


def take(script, *arguments, stages=(), **edited):
    """Return the overrides of a script whose block was edited, alone or among stages."""
    blocks = {script: BLOCKS[script] | edited}
    blocks |= {stage: BLOCKS[stage] for stage in stages if stage != script}
    words = "recordings" if script == "predict" else ""
    return settings.take_overrides(list(arguments), blocks, script, words)


def refusal(script, *arguments, **more):
    """Return what is said, in one line."""
    with pytest.raises(UserError) as error:
        take(script, *arguments, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("script", "name"), EVERY)
def test_every_setting_has_a_rule_that_its_default_keeps(script, name):
    rule = ranges.find_rule(script, name)
    assert rule, f"common/ranges.py has no rule for {name} of {script}.py"
    assert rule.allows(BLOCKS[script][name])


def wrong(rule):
    """Return values that a rule refuses: as they are edited, and as the command line says them."""
    if rule.kind in (int, float):
        found = [math.nan, math.inf, -math.inf, -3, 10**18, -0.5, 0, 1, 1.5]
        found = [rule.kind(x) if math.isfinite(x) and x == int(x) else x for x in found]
        found = [x for x in found if not rule.allows(x)]
        assert len(found) > 4
        return [None, "1", True, *found], list(map(repr, found))
    if rule.kind is bool:
        return [None, 1, 0, "yes", "no"], ["2", "maybe", "None"]
    if rule.kind is tuple:
        return [None, "a,b", ["a"], (True,)], []
    return [None, 3, True, ("a",)], []


@pytest.mark.parametrize(("script", "name"), EVERY)
def test_what_a_rule_refuses_is_refused_edited_or_given(script, name):
    rule = ranges.find_rule(script, name)
    edited, given = wrong(rule)
    for value in edited:
        said = refusal(script, **{name: value})
        assert said.startswith(f"{name.upper()} = {value!r}: give ") and rule.allowed in said
    for text in given:
        said = refusal(script, f"--{name.replace('_', '-')}={text}")
        assert name in said.lower().replace("-", "_") and text.lstrip("-") in said


@pytest.mark.parametrize(
    ("script", "name", "values"),
    [
        *((script, "folds", (1, -1)) for script in ("text_train", "audio_train", "run_classifier")),
        ("text_train", "pooling", ("cls", "", "Mean")),
        ("text_train", "max_length", (2,)),
        ("text_train", "bert", ("", "  ")),
        ("audio_train", "name", ("text", "soft", "a/b", "")),
        ("audio_train", "encoder", ("alexnt", "")),
        ("audio_train", "augment", (9.0, 5.5)),
        ("audio_train", "beta2", (1.0,)),
        ("audio_train", "clip", (0.0,)),
        ("run_classifier", "pooling", ("sum",)),
        ("audio_train", "tempos", ((), (0.1,), ("1",))),
        ("run_classifier", "audio", ("mfcc",)),
        ("run_classifier", "pad_id", (-2,)),
        ("run_classifier", "frozen", (("",),)),
        ("preprocess", "jobs", (0, -2)),
        ("preprocess", "ties", ("last",)),
        ("preprocess", "text_style", ("raw",)),
        ("preprocess", "test_sessions", ("first", "1;2", "1-", "none")),
        ("preprocess", "valid_sessions", ("all", "-3")),
        ("preprocess", "cluster", ("nowhere",)),
        ("sample_corpus", "sessions", (100,)),
        ("sample_corpus", "utterances", (19,)),
        ("ensemble", "target", ("", "precision+uar", "f1+", "f1,uar")),
        ("demo", "port", (65536,)),
        ("demo", "host", ("",)),
        ("baseline", "speaker_norm", ("future",)),
    ],
)
def test_limits_and_words_are_those_that_the_stage_can_do(script, name, values):
    for value in values:
        assert not ranges.find_rule(script, name).allows(value), value


def test_words_are_those_that_the_code_knows():
    assert ranges.find_rule("baseline", "speaker_norm").allowed == " or ".join(SPEAKER_NORMS)
    assert set(ranges.find_rule("preprocess", "text_style").allowed.split(" or ")) == set(STYLES)
    assert all(ranges.find_rule("ensemble", "target").allows(target) for target in TARGETS)
    assert ranges.find_rule("ensemble", "target").allows("+".join(TARGETS))


def test_a_whole_number_in_the_block_takes_a_fraction_from_the_command_line():
    assert take("audio_train", "--dropout", "0.5", dropout=0) == {"dropout": 0.5}


# --- no effect


@pytest.mark.parametrize(
    ("script", "arguments", "name", "beside"),
    [
        ("audio_train", "--encoder a/b --augment 0", "AUGMENT", "ENCODER = 'a/b'"),
        ("audio_train", "--encoder a/b --features mel", "FEATURES", "ENCODER"),
        ("audio_train", "--encoder a/b --tempos 1", "TEMPOS", "ENCODER"),
        ("audio_train", "--lr-encoder 1e-5", "LR_ENCODER", "ENCODER = 'alexnet'"),
        ("audio_train", "--features paper --augment 1", "AUGMENT", "FEATURES = 'paper'"),
        ("audio_train", "--features paper --tempos 1,.9", "TEMPOS", "FEATURES = 'paper'"),
        ("text_train", "--folds 5 --patience 3", "PATIENCE", "FOLDS = 5"),
        ("run_classifier", "--audio paper --text-drop-prob .5", "TEXT_DROP_PROB", "AUDIO"),
        ("run_classifier", "--audio a/b --augment 0", "AUGMENT", "AUDIO"),
        ("run_classifier", "--audio paper --speaker-norm all", "SPEAKER_NORM", "AUDIO"),
        ("run_classifier", "--train no --lr-encoder .1", "LR_ENCODER", "TRAIN = False"),
        ("text_pretrain", "--bert a/b --layers 3", "LAYERS", "BERT"),
        ("text_pretrain", "--missing-weight 0 --bare-share .5", "BARE_SHARE", "MISSING_WEIGHT"),
        ("preprocess", "--cluster a:1 --jobs 2", "JOBS", "CLUSTER"),
    ],
)
def test_a_setting_without_effect_is_refused_where_it_is_given(script, arguments, name, beside):
    arguments = arguments.split()
    said = refusal(script, *arguments)
    assert said.startswith(f"{name} = ") and f"has no effect with {beside}" in said
    place = arguments.index(f"--{name.lower().replace('_', '-')}")
    take(script, *arguments[:place], *arguments[place + 2 :])  # all else may be


def test_one_that_is_edited_beside_another_kind_of_model_is_named(capsys):
    take("audio_train", encoder="a/b", augment=0, features="paper")
    printed = capsys.readouterr().out
    assert "FEATURES = 'paper' has no effect with ENCODER = 'a/b'" in printed
    assert "AUGMENT" not in printed  # 0: what is done anyway
    for script in BLOCKS:
        take(script)
    assert not capsys.readouterr().out


def test_what_has_no_effect_are_settings_of_the_script():
    for script, cases in ranges.IDLE.items():
        for names, _, reason in cases:
            assert {*names.split(), reason} <= BLOCKS[script].keys(), script


def test_a_trained_model_is_tested_without_the_settings_of_training():
    tested = set(BLOCKS["run_classifier"]) - set(ranges.TRAINING.split())
    afterwards = {
        "speaker_norm",
        "condition",
        "attention",
        "train",
        "seed",
        "batch_size",
        "batch_tokens",
    }
    assert tested == afterwards | {"data", "outputs", "restart"}


# --- several stages of one command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--epochs 0", "text_train.py's EPOCHS = 0: give a whole number"),
        ("--audio_train.epochs 0", "audio_train.py's EPOCHS = 0"),
        ("--target precision", "ensemble.py's TARGET = 'precision'"),
        ("--pooling cls", "text_train.py's POOLING = 'cls'"),
        ("--encoder a/b --features paper", "audio_train.py's FEATURES = 'paper' has no effect"),
        ("--encoder a/b --audio-train.augment 0", "audio_train.py's AUGMENT = 0.0 has no effect"),
        ("--folds 5 --patience 3", "PATIENCE = 3 has no effect with FOLDS = 5"),
    ],
)
def test_the_first_stage_refuses_what_a_later_one_would(arguments, said):
    assert said in refusal("preprocess", *arguments.split(), stages=STAGES)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("preprocess", "--encoder a/b --augment 0"),  # it is CM-BERT's as well
        ("audio_train", "--encoder a/b --augment 0"),
        ("audio_train", "--features paper --tempos 1 --augment 0"),  # as paper.sh starts it
        ("text_train", "--epochs 3 --context --bert a/b"),
        ("run_classifier", "--train no --epochs 3"),
        ("preprocess", "--follow-links --context --train no"),
    ],
)
def test_what_another_stage_needs_passes(script, arguments):
    take(script, *arguments.split(), stages=STAGES)


def test_a_bare_flag_of_another_stage_takes_nothing_with_it():
    given = ("--context", "--batch-size", "8", "--follow-links", "--run_classifier.train")
    assert take("text_train", *given, stages=STAGES) == {"batch_size": 8}
    assert take("preprocess", *given, stages=STAGES) == {"follow_links": True}


def test_another_stages_block_may_hold_a_formula(tmp_path):
    path = tmp_path / "stage.py"
    path.write_text("# ---\nEPOCHS = 2 * 8\nPATIENCE = 3\n# ---\n")
    other = settings.read_block(path)[1]
    assert other == {"epochs": None, "patience": 3}
    blocks = {"preprocess": BLOCKS["preprocess"], "text_train": BLOCKS["text_train"] | other}
    assert settings.take_overrides(["--patience", "4"], blocks, "preprocess", "") == {}


# --- as a user meets it


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("text_train.py", "--epochs 0", "EPOCHS = 0"),
        ("audio_train.py", "--dropout 1.5", "DROPOUT = 1.5"),
        ("audio_train.py", "--augment 9", "AUGMENT = 9.0"),
        ("text_train.py", "--warmup -3", "WARMUP = -3.0"),
        ("run_classifier.py", "--lr-head nan", "LR_HEAD = nan"),
        ("sample_corpus.py", "--sessions 0", "SESSIONS = 0"),
        ("predict.py", "a.wav --export x --asr a/b", "--export takes --model and --push alone"),
    ],
)
def test_nothing_is_read_before_it(run_script, tmp_path, monkeypatch, script, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = run_script(script, *arguments.split())
    assert (done.status, done.stdout) == (2, "") and not list(tmp_path.iterdir())
    assert done.stderr.startswith(f"{script}: error: {said}") and done.stderr.count("\n") == 1


def test_an_edited_block_is_checked(tmp_path):
    source = (ROOT / "text_test.py").read_text(encoding="utf-8")
    edited = tmp_path / "text_test.py"
    edited.write_text(source.replace("BATCH_SIZE = 64", "BATCH_SIZE = 0"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, edited],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("text_test.py: error: BATCH_SIZE = 0: give a whole number")
