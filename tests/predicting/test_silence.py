"""Recordings in which nobody speaks, and those that are not decoded: none is passed over."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from predicting import History, Recording, load_run, predict
from predicting.recordings import check, find_recordings

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


def test_the_others_are_answered_as_without_it(run, talk):
    spoken = [Recording(row["path"], row["text"], row["speaker"], "talk") for row in talk[:4]]
    nobody = Recording(samples=SILENT["noise"], speaker=talk[0]["speaker"], dialogue="talk")
    with_it = list(predict(run, [spoken[0], nobody, *spoken[1:]]))
    assert with_it.pop(1).emotion is None
    for one, other in zip(with_it, predict(run, spoken), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


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


def test_a_little_speech_in_a_minute_of_quiet_is_found(run, talk):
    voice = max((row["samples"] for row in talk), key=len)[: 2 * RATE]
    samples = NOISE // 40
    samples[30 * RATE : 32 * RATE] += voice
    (answer,) = predict(run, [Recording(samples=samples)])
    where = answer.recording.start, answer.recording.end
    assert where == pytest.approx((30, 32), abs=0.4) and answer.emotion


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


def test_no_voice_is_remembered_from_silence(run_script, trained, silent, talk, tmp_path):
    model = tmp_path / "model"
    for name in ("text", "audio", "cmbert"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).symlink_to(trained.outputs / name)
    (model / "fusion.json").symlink_to(trained.outputs / "fusion.json")
    folder = tmp_path / "mina"
    folder.mkdir()
    soundfile.write(folder / "a.wav", SILENT["noise"], RATE)
    enrol = ("predict.py", "--speaker", "Mina", "--enrol", folder, "--model", model)
    done = run_script(*enrol)
    assert done.status == 2 and f"{folder}/a.wav: nobody speaks in it" in done.stderr
    assert not (model / "speakers").exists()
    soundfile.write(folder / "b.wav", talk[0]["samples"], RATE)
    done = run_script(*enrol)
    assert done.status == 1 and "a.wav: nobody speaks in it" in done.stderr
    assert "Mina is known from 1 utterances" in done.stderr


def test_voice_memos_in_a_folder_are_read_or_said_to_need_converting(tmp_path):
    tone = 0.3 * np.sin(np.arange(48_000) / 6)
    soundfile.write(tmp_path / "a.opus", tone, 48_000, format="OGG", subtype="OPUS")
    soundfile.write(tmp_path / "b.aiff", tone, 48_000)
    unread = ("c.m4a", "d.AAC", "e.webm", "f.mp4", "g.amr")
    for name in unread:
        (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A of a telephone" * 9)
    (tmp_path / "notes.txt").write_text("no recording")
    refused = []
    good = check(find_recordings([str(tmp_path)]), lambda error: refused.append(str(error)))
    assert [recording.path[-6:] for recording in good] == ["a.opus", "b.aiff"]
    assert len(refused) == len(unread)
    for name, said in zip(unread, refused, strict=True):
        kind = name.partition(".")[2].upper()
        assert f"{name}: {kind} cannot be decoded here: convert it (ffmpeg" in said
