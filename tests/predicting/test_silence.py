"""Recordings in which nobody speaks: each has an answer that says so."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from predicting import History, Recording, load_run, predict

RATE = 16_000
NOISE = (200 * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.int16)
SILENT = {
    "digital silence": np.zeros(3 * RATE, np.int16),
    "noise": NOISE[: 3 * RATE],
    "a minute of noise": NOISE,
    "some milliseconds": NOISE[:272],
    "tone": (9000 * np.sin(np.arange(3 * RATE) / 6)).astype(np.int16),
}


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained.outputs)


@pytest.fixture
def silent(tmp_path):
    soundfile.write(tmp_path / "silent.wav", SILENT["noise"], RATE)
    return str(tmp_path / "silent.wav")


@pytest.mark.parametrize("kind", SILENT)
def test_where_nobody_speaks_is_one_answer_without_a_verdict(run, kind):
    def transcribe(samples):
        raise AssertionError("a recogniser hears words in silence")

    heard = History()
    recording = Recording(samples=SILENT[kind], speaker="Mina", dialogue="talk")
    (answer,) = predict(run, [recording], heard, transcribe)
    assert (answer.emotion, answer.confidence, answer.probabilities) == (None, None, None)
    assert answer.recording is recording and "nobody speaks" in answer.remarks
    assert not answer.logits and not answer.models and not answer.text
    assert heard == History()  # neither a voice is learned nor a turn counted


def test_with_words_given_the_words_alone_are_judged(run):
    heard = History()
    words = "오늘은 정말 기분이 좋아요"
    silent = Recording(samples=SILENT["noise"], text=words, speaker="Mina")
    answer, of_words = predict(run, [silent, Recording(text=words)], heard)
    assert set(answer.logits) == {"text"} and not heard.voices
    np.testing.assert_allclose(answer.probabilities, of_words.probabilities, atol=1e-6)
    assert answer.remarks == ("nobody speaks: the words alone are judged",)


def test_turns_are_heard_where_they_are(run, talk, tmp_path):
    """A turn of a diariser in which nobody speaks, and short ones in which somebody does."""
    voice = max((row["samples"] for row in talk), key=len)[: 2 * RATE]
    soundfile.write(tmp_path / "a.wav", np.concatenate([voice, NOISE[: 4 * RATE]]), RATE)
    times = (0.5, 0.7), (0.0, 1.9), (4.5, 4.8), (4.0, 5.9), (1.0, 1.2)
    turns = [Recording(str(tmp_path / "a.wav"), start=start, end=end) for start, end in times]
    found = [answer.emotion is not None for answer in predict(run, turns)]
    assert found == [True, True, False, False, True]


def test_lines_objects_and_tables_say_it(run_script, trained, talk, silent):
    arguments = ("predict.py", talk[0]["path"], silent, "--model", trained.outputs)
    spoken, line = run_script(*arguments).stdout.splitlines()
    assert line.startswith(f"{silent}: 말소리 없음 no verdict") and "[nobody speaks]" in line
    assert "no verdict" not in spoken
    done = run_script(*arguments, "--json")
    _, answer = map(json.loads, done.stdout.splitlines())
    nothing = ("emotion", "emotion_ko", "confidence", "uncertain", "method")
    assert done.status == 0 and all(answer[name] is None for name in nothing)
    assert answer["probabilities"] == answer["models"] == answer["logits"] == {}
    assert answer["remarks"] == ["nobody speaks"]
    printed = run_script(*arguments, "--tsv", "-").stdout
    _, row = csv.DictReader(io.StringIO(printed), delimiter="\t")
    given = {name: cell for name, cell in row.items() if cell}
    assert given == {"path": silent, "remarks": "nobody speaks"}
