"""Answers within an utterance, window by window: their times, statistics, smoothing and forms."""

import csv
import io
import json
import shutil
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import soundfile
from small_speech import save_recogniser

from common.files import UserError
from fusion.dialogue import Dialogue, Transitions
from fusion.stored import Certainty
from predicting import History, Recording, load_run, predict, predict_windows
from predicting.windows import cut_windows

RATE = 16_000
NOISE = (200 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.int16)
RECORDS = shutil.ignore_patterns("records")  # which would tell of the change


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained.outputs)


@pytest.fixture(scope="module")
def voice(talk):
    """Turns one after another, as one utterance of nine seconds."""
    return np.resize(np.concatenate([row["samples"] for row in talk]), 9 * RATE)


def turn(samples, **more):
    """One utterance, however long, as a diariser has it."""
    return Recording(samples=samples, end=len(samples) / RATE, **more)


@pytest.mark.parametrize("size", [8000, 32_000])
@pytest.mark.parametrize("samples", [1, 3999, 15_999, 16_000, 40_000, 47_999, 48_000, 500_001])
def test_windows_follow_one_another_and_none_is_a_sliver(samples, size):
    bounds = cut_windows(samples, size)
    starts, ends = zip(*bounds, strict=True)
    assert starts == (0, *ends[:-1]) and ends[-1] == samples
    assert {end - start for start, end in bounds[:-1]} <= {size}
    if samples >= size / 2:
        assert size / 2 <= ends[-1] - starts[-1] < 1.5 * size


def test_an_utterance_of_one_window_is_judged_as_by_its_voice_alone(run, talk):
    files = [Recording(row["path"], row["text"], row["speaker"]) for row in talk]
    before, after = History(), History()
    alone = list(predict(run, [replace(file, text="") for file in files], before))
    found = list(predict_windows(run, files, 60.0, after))
    assert len(found) == len(alone)
    for row, one, other in zip(talk, found, alone, strict=True):
        assert (one.recording.start, one.recording.end) == (0, len(row["samples"]) / RATE)
        assert one.text == "" and one.remarks == other.remarks
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.dimensions == pytest.approx(other.dimensions, abs=1e-4)
        assert one.uncertain == other.uncertain


def test_an_utterance_counts_once_for_its_speaker_however_many_windows(run, voice):
    files = [turn(voice, speaker="Mina"), turn(voice, speaker="Mina")]
    by_window, by_turn = History(), History()
    answers = list(predict_windows(run, files, 0.5, by_window))
    list(predict(run, files, by_turn))
    assert len(answers) > 10
    for key, stats in by_turn.voices["Mina"].items():
        assert stats[0] == 2
        np.testing.assert_allclose(by_window.voices["Mina"][key], stats)


def test_a_window_is_normalised_by_its_whole_utterance(run, voice):
    """What is ten times as loud elsewhere in it makes a window another one."""
    half = 2 * RATE
    louder = np.concatenate([voice[:half], 10 * (voice[half:] // 20)])
    quieter = np.concatenate([voice[:half], voice[half:] // 20])
    (one, *_), (other, *_) = (predict_windows(run, [turn(s)], 2.0) for s in (louder, quieter))
    assert one.recording.end == other.recording.end == 2.0
    assert np.abs(one.logits["audio"] - other.logits["audio"]).max() > 1e-3


def test_where_nobody_speaks_a_window_has_no_verdict(run, talk):
    spoken = max((row["samples"] for row in talk), key=len)[: 2 * RATE]
    samples = np.concatenate([spoken, NOISE, spoken])
    answers = list(predict_windows(run, [turn(samples)], 2.0))
    assert [answer.emotion is not None for answer in answers] == [True, False, False, True]
    assert [answer.recording.start for answer in answers] == [0, 2, 4, 6]
    assert all(("nobody speaks" in answer.remarks) == (not answer.emotion) for answer in answers)
    (silent,) = predict_windows(run, [Recording(samples=NOISE, text="왜")], 2.0)
    assert silent.emotion is None and "nobody speaks" in silent.remarks


# --- smoothing


@pytest.fixture
def refit(trained, tmp_path):
    """The trained run with other transitions, and other thresholds for what is read by them."""
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs", ignore=RECORDS)
    stored = load_run(outputs).fusion

    def refit(**used):
        own, other = np.random.default_rng(1).normal(0, 2, (2, 8, 7))
        own[-1] = other[-1] = 0  # nothing said yet
        base = np.random.default_rng(2).dirichlet(np.full(7, 5.0))
        dialogue = Dialogue(Transitions(own, other), base, **used) if used else None
        changed = replace(
            stored,
            dialogue=dialogue,
            certain=dict.fromkeys(stored.forms, Certainty(1.0, 1, 1)),
            in_dialogue=dict.fromkeys(stored.forms, Certainty(0.0, 1, 1)) if used else {},
        )
        changed.write(outputs / "fusion.json")
        return load_run(outputs)

    return refit


def enumerate_paths(each, dialogue, until):
    """P(label) of one window by those before `until`: the sum over every sequence of labels."""
    base, own = dialogue.base, dialogue.transitions.own
    after = base * np.exp(own)
    after /= after.sum(1, keepdims=True)
    found = np.zeros((len(each), len(base)))
    for path in product(range(len(base)), repeat=until):
        weight = np.prod([each[t][label] / base[label] for t, label in enumerate(path)])
        weight *= base[path[0]] * np.prod([after[pair] for pair in pairwise(path)])
        for t, label in enumerate(path):
            found[t, label] += weight
    return found / found.sum(1, keepdims=True).clip(1e-300)


def test_windows_of_an_utterance_are_read_together(refit, voice):
    files = [turn(voice[: 3 * RATE], speaker=who, dialogue="talk") for who in ("Mina", "Jun")]
    plain = list(predict_windows(refit(), files, 1.0))
    each = np.stack([answer.probabilities for answer in plain[:3]])
    assert len(plain) == 6 and all(answer.uncertain for answer in plain)
    run = refit(past=True, whole=True)
    whole = list(predict_windows(run, files, 1.0))
    found = np.stack([answer.probabilities for answer in whole])
    np.testing.assert_allclose(found[:3], enumerate_paths(each, run.fusion.dialogue, 3), atol=1e-5)
    assert np.abs(found[:3] - each).max() > 0.01
    np.testing.assert_allclose(found[3:], found[:3], atol=1e-5)  # another utterance has no part
    assert not any(answer.uncertain for answer in whole)
    run = refit(past=True, whole=False)  # as reading later turns did harm
    past = [answer.probabilities for answer in predict_windows(run, files[:1], 1.0)]
    for until in (1, 2, 3):
        expected = enumerate_paths(each, run.fusion.dialogue, until)[until - 1]
        np.testing.assert_allclose(past[until - 1], expected, atol=1e-5)
    run = refit(past=False, whole=False)
    unused = [answer.probabilities for answer in predict_windows(run, files[:1], 1.0)]
    np.testing.assert_allclose(unused, each, atol=1e-5)


# --- as a user meets it


@pytest.fixture
def ask(run_script, trained):
    def ask(*arguments, model=trained.outputs):
        return run_script("predict.py", *arguments, "--model", model)

    return ask


@pytest.fixture
def wav(tmp_path, voice):
    soundfile.write(tmp_path / "a.wav", voice, RATE)
    return tmp_path / "a.wav"


def test_every_form_of_the_answer_has_a_line_a_window(ask, wav, voice, of_encoders):
    bounds = [(first / RATE, last / RATE) for first, last in cut_windows(len(voice), 2 * RATE)]
    assert len(bounds) == 5
    done = ask(wav, "--every", 2)
    lines = done.stdout.splitlines()
    assert done.status == 0 and len(lines) == len(bounds)
    assert lines[1].startswith(f"{wav} 0:02.0-0:04.0: ") and "[voice alone" in lines[1]
    objects = [json.loads(line) for line in ask(wav, "--every", 2, "--json").stdout.splitlines()]
    assert [(each["start"], each["end"]) for each in objects] == bounds
    assert all(set(each["models"]) == {"audio"} for each in objects)
    printed = ask(wav, "--every", 2, "--tsv", "-").stdout
    rows = list(csv.DictReader(io.StringIO(printed), delimiter="\t"))
    assert [row["emotion"] for row in rows] == [each["emotion"] for each in objects]
    path = wav.parent / "all.npy"
    assert ask(wav, "--every", 2, "--embeddings", path, model=of_encoders).status == 0
    found, names = (np.load(wav.parent / name) for name in ("all.npy", "all_index.npy"))
    assert len(found) == len({*names.tolist()}) == len(bounds)
    clip = next(predict(load_run(of_encoders), [Recording(samples=voice[: 2 * RATE])]))
    np.testing.assert_allclose(found[0], clip.embedding, atol=1e-5)


def test_a_kept_voice_is_known_from_utterances(ask, wav, trained, tmp_path):
    model = shutil.copytree(trained.outputs, tmp_path / "outputs")
    for number in (1, 2):
        done = ask(wav, "--every", 1, "--speaker", "Mina", model=model)
        assert f"Mina is known from {number} utterance" in done.stderr


def test_a_recogniser_writes_down_each_window(ask, wav, voice, tmp_path):
    folder = tmp_path / "recogniser"
    folder.mkdir()
    done = ask(wav, "--every", 2, "--json", "--asr", save_recogniser(folder))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("text" in each["models"] for each in answers if each["text"])
    assert len({each["text"] for each in answers}) > 1


def test_words_have_no_part_and_that_is_said(ask, wav, tmp_path):
    table = tmp_path / "list.tsv"
    table.write_text("path\ttext\na.wav\t왜 그래\n\t정말 기뻐요\n", encoding="utf-8")
    done = ask("--manifest", table, "--every", 2, "--tsv", tmp_path / "answers.tsv")
    assert done.status == 1 and "the transcripts have no part" in done.stderr
    assert f"error: {table}, line 3: words alone have no windows" in done.stderr
    count = len((tmp_path / "answers.tsv").read_text().splitlines()) - 1
    assert f"answers.tsv: {count} windows" in done.stderr and count > 2
    assert "no part" not in ask(wav, "--every", 2).stderr


def test_that_nothing_is_smoothed_is_said(ask, wav, refit):
    run = refit()
    assert "every window is judged by itself" in ask(wav, "--every", 2, model=run.folder).stderr
    run = refit(past=True, whole=True)
    assert "judged by itself" not in ask(wav, "--every", 2, model=run.folder).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", "왜", "--every", 2), "--every: when the words of --text were said"),
        (("{wav}", "--text", "왜", "--every", 2), "--every: when the words of --text were said"),
        (("--export", "x", "--every", 2), "--export takes --model and --push alone"),
        (("{wav}", "--every", 0.2), "EVERY = 0.2: give 0 or a number in [0.5"),
    ],
)
def test_what_excludes_each_other_is_one_line(ask, wav, arguments, said):
    done = ask(*(str(word).format(wav=wav) for word in arguments))
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_a_run_without_a_model_of_the_voice_alone_is_refused(trained, voice, tmp_path):
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs", ignore=RECORDS)
    shutil.rmtree(outputs / "audio")
    run = load_run(outputs)
    with pytest.raises(UserError, match=r"no model of the voice alone.*run audio_train\.py"):
        list(predict_windows(run, [turn(voice)], 2.0))
    answers = list(predict_windows(run, [turn(voice)], 2.0, transcribe=lambda samples: "왜 그래"))
    assert {tuple(answer.logits) for answer in answers} == {("text", "cmbert")}
