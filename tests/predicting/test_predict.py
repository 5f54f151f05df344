"""predict.py as a user runs it: what it prints, writes and refuses."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import numpy as np
import pytest
import soundfile
import torch
from small_speech import save_recogniser

from common.files import LABELS
from common.labels import KOREAN
from predicting import load_run


@pytest.fixture
def ask(run_script, trained):
    """Run predict.py on the trained run, which must succeed; return what it printed."""

    def ask(*arguments):
        done = run_script("predict.py", *arguments, "--model", trained.outputs)
        assert done.status == 0, done.stderr
        assert "tones of a test" in done.stderr  # what the run was trained on is said
        return done.stdout

    return ask


def manifest(path, talk, *columns):
    """Write the talk as a manifest with these columns."""
    lines = ["\t".join(columns), *("\t".join(row[name] for name in columns) for row in talk)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_recording_is_one_readable_line(ask, talk):
    (line,) = ask(talk[0]["path"], "--text", talk[0]["text"]).splitlines()
    assert line.startswith(f"{talk[0]['path']}: ")
    assert any(f"{ko} {en} 0." in line for en, ko in KOREAN.items())
    for model in ("text", "audio", "cmbert"):
        assert f"{model} " in line
    (line,) = ask(talk[0]["path"]).splitlines()
    assert "[voice alone, no transcript]" in line and "cmbert" not in line
    (line,) = ask("--text", talk[0]["text"]).splitlines()
    assert line.startswith(f"'{talk[0]['text']}': ") and "audio" not in line


def test_json_and_tables_say_the_same(ask, talk, tmp_path):
    folder = talk[0]["path"].rpartition("/")[0]
    objects = [json.loads(line) for line in ask(folder, "--json").splitlines()]
    printed = ask(folder, "--tsv", "-")
    ask(folder, "--tsv", tmp_path / "answers.tsv")
    table = (tmp_path / "answers.tsv").read_bytes()
    assert table.startswith(b"\xef\xbb\xbf")  # else a Korean spreadsheet takes it for cp949
    assert table.decode("utf-8-sig") == printed and not printed.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(printed), delimiter="\t"))
    assert [row["path"] for row in rows] == sorted(row["path"] for row in talk)
    for row, answer in zip(rows, objects, strict=True):
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        best = max(answer["probabilities"], key=answer["probabilities"].get)
        assert answer["emotion"] == row["emotion"] == best
        assert answer["emotion_ko"] == KOREAN[best]
        assert float(row["confidence"]) == pytest.approx(answer["probabilities"][best], rel=1e-5)
        assert float(row["audio_sad"]) == pytest.approx(answer["models"]["audio"]["sad"], rel=1e-5)
        assert row["text_sad"] == ""  # no words, no part of the text model
        assert row["remarks"] == "voice alone, no transcript"


def test_a_fourth_model_is_in_every_form_of_the_answer(run_script, of_encoders, talk):
    command = ("predict.py", talk[0]["path"], "--text", talk[0]["text"], "--model", of_encoders)
    line, printed, table = (
        run_script(*command, *form).stdout for form in ((), ("--json",), ("--tsv", "-"))
    )
    answer = json.loads(printed)
    assert list(answer["models"]) == ["text", "audio", "cmbert", "speech"]
    (row,) = csv.DictReader(io.StringIO(table), delimiter="\t")
    assert list(row)[-7:] == [f"speech_{label}" for label in LABELS]
    for label, value in answer["models"]["speech"].items():
        assert float(row[f"speech_{label}"]) == pytest.approx(value, rel=1e-5)
    assert re.search(r", cmbert \S+ \w+ 0\.\d\d, speech \S+ \w+ 0\.\d\d", line)


def test_embeddings_are_the_speech_encoders_layers_over_each_clip(
    run_script, of_encoders, trained, talk, tmp_path
):
    """A row an answer: of a voice what it is in any company, of words alone nothing."""
    rows = [*talk[:3], {"path": "", "text": talk[0]["text"]}]
    listed, path = manifest(tmp_path / "list.tsv", rows, "path", "text"), tmp_path / "all.npy"
    command = ("predict.py", "--model", of_encoders, "--embeddings")
    done = run_script(*command, path, "--manifest", listed)
    assert "4 rows of 192 numbers by the speech encoder of speech" in done.stderr
    found, names = (np.load(tmp_path / name) for name in ("all.npy", "all_index.npy"))
    assert found.shape == (4, 192) and found.dtype == np.float32
    assert all(row["path"] in name for row, name in zip(talk[:3], names, strict=False))
    encoder = load_run(of_encoders).load("speech").encoder.network
    samples, _ = soundfile.read(talk[1]["path"], dtype="int16")
    with torch.inference_mode():
        (layers,) = encoder([torch.from_numpy(samples)])
    expected = torch.cat([layers.mean(1), layers.std(1, correction=0)]).flatten()
    np.testing.assert_allclose(found[1], expected, atol=4e-3)  # of half precision
    assert np.isnan(found[3]).all() and np.isfinite(found[:3]).all()
    for wrong in (tmp_path / "no" / "a.npy", tmp_path):
        refused(run_script(*command, wrong, talk[0]["path"]), "--embeddings")
    none = ("predict.py", talk[0]["path"], "--model", trained.outputs, "--embeddings", path)
    assert "has no speech encoder" in run_script(*none).stderr


def test_a_kept_voice_is_known_the_better_the_more_was_heard(run_script, trained, talk, tmp_path):
    """Turn by turn through files, each call a new process, as one manifest with a speaker."""
    model = copytree(trained.outputs, tmp_path / "outputs")
    mine = [row for row in talk if row["speaker"] == talk[0]["speaker"]]
    found = []
    for number, row in enumerate(mine, start=1):
        arguments = ("--text", row["text"], "--speaker", "미나", "--json", "--model", model)
        done = run_script("predict.py", row["path"], *arguments)
        assert f"미나 is known from {number} utterance" in done.stderr
        found.append(json.loads(done.stdout)["probabilities"])
    table = manifest(tmp_path / "list.tsv", mine, "path", "text", "speaker")
    done = run_script("predict.py", "--manifest", table, "--json", "--model", model)
    for one, line in zip(found, done.stdout.splitlines(), strict=True):
        assert one == pytest.approx(json.loads(line)["probabilities"], abs=1e-5)


def refused(done, words):
    assert done.status == 2, done.stdout
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "error: " in done.stderr and words in done.stderr


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "x\n", "~/x", "\0"])
def test_a_speakers_name_is_no_path(run_script, trained, talk, name):
    arguments = (talk[0]["path"], f"--speaker={name}", "--model", trained.outputs)
    done = run_script("predict.py", *arguments)
    assert done.status == 2 and "letters, digits, blanks" in done.stderr
    assert not (trained.outputs / "speakers").exists()


def test_a_voice_of_another_spectrogram_or_damaged_is_refused(run_script, trained, talk, tmp_path):
    model = copytree(trained.outputs, tmp_path / "outputs", ignore=ignore_patterns("records"))
    arguments = (talk[0]["path"], "--speaker", "Mina", "--model", model)
    assert run_script("predict.py", *arguments).status == 0
    for name in ("audio", "cmbert"):  # as if trained again with another feature
        path = model / name / "config.json"
        config = json.loads(path.read_text())
        config["network"]["mel"]["range"] = 30.0
        path.write_text(json.dumps(config))
    done = run_script("predict.py", *arguments)
    assert done.status == 2 and "of models that hear other features" in done.stderr
    kept = model / "speakers" / "Mina.safetensors"
    content = bytearray(kept.read_bytes())
    content[-9] ^= 1
    kept.write_bytes(content)
    done = run_script("predict.py", *arguments)
    assert done.status == 2 and f"{kept} is damaged" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to predict: give recordings, --text or --manifest"),
        (("nope.wav",), "nope.wav is missing"),
        (("{wav}", "{wav}", "--text", "둘"), "--text is for one recording"),
        (("{wav}", "--manifest", "x.tsv"), "give nothing beside it"),
        (("{wav}", "--json", "--tsv", "-"), "--json or --tsv"),
        (("{wav}", "--enrol", "{wav}"), "--enrol needs --speaker"),
        (("{wav}", "--turns", "x.rttm", "--speaker", "Mina"), "leave --speaker out"),
        (("{wav}", "--speker", "Mina"), "did you mean --speaker?"),
        (("--manifest", "nope.tsv"), "nope.tsv cannot be read"),
    ],
)
def test_a_mistake_is_one_line(run_script, trained, talk, arguments, words):
    arguments = [word.format(wav=talk[0]["path"]) for word in arguments]
    refused(run_script("predict.py", *arguments, "--model", trained.outputs), words)


# --- rows that cannot be answered among rows that can


@pytest.fixture
def many(talk, tmp_path):
    """A folder of three recordings, the second of them broken."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number, row in enumerate(talk[:3]):
        copy(row["path"], folder / f"{number}.wav")
    (folder / "1.wav").write_bytes(Path(talk[0]["path"]).read_bytes()[:3000])
    return folder


LIST = "path\ttext\n0.wav\t네\n1.wav\t네\nnope.wav\t\n\t...\n\t🙂🙂\n\t좋아요\n"
TURNS = """\
SPEAKER 0 1 0 0.1 <NA> <NA> A
SPEAKER 2 1 0 99 <NA> <NA> A
SPEAKER 0 1 0.1 0.1 <NA> <NA> A
SPEAKER 2 1 0 0.1 <NA> <NA> A
SPEAKER 2 1
"""


@pytest.mark.parametrize(
    ("arguments", "count", "said"),
    [
        (["."], 2, ["1.wav: recording truncated"]),
        (["0.wav", "nope.wav", "2.wav"], 2, ["nope.wav is missing"]),
        (
            ["--manifest", "list.tsv"],
            2,
            [
                "list.tsv, line 3: 1.wav: recording truncated",
                "list.tsv, line 4: nope.wav is missing",
                "list.tsv, line 5: '...': nothing was said",
                "list.tsv, line 6: '🙂🙂': nothing was said",
            ],
        ),
        (
            ["0.wav", "2.wav", "--turns", "x.rttm"],
            3,
            ["x.rttm, line 2: 2.wav: no turn from 0 to 99 s", "x.rttm, line 5: no turn of"],
        ),
    ],
)
@pytest.mark.parametrize("form", [(), ("--tsv", "answers.tsv")])
def test_a_bad_row_costs_itself_alone(
    run_script, trained, many, monkeypatch, arguments, count, said, form
):
    monkeypatch.chdir(many)
    Path("list.tsv").write_text(LIST)
    Path("x.rttm").write_text(TURNS)
    done = run_script("predict.py", *arguments, *form, "--model", trained.outputs)
    assert done.status == 1, done.stderr
    assert [words for words in said if f"error: {words}" not in done.stderr] == []
    assert f"not answered {len(said)}" in done.stderr
    rows = Path("answers.tsv").read_text().splitlines()[1:] if form else done.stdout.splitlines()
    assert len(rows) == count


@pytest.mark.parametrize(
    "arguments", [("nope.wav",), ("--text", "..."), ("--text", "🙂"), ("--manifest", "one.tsv")]
)
def test_one_that_cannot_be_answered_is_a_mistake(
    run_script, trained, tmp_path, monkeypatch, arguments
):
    """And a table that stood there stays."""
    monkeypatch.chdir(tmp_path)
    Path("one.tsv").write_text("path\nnope.wav\n")
    Path("answers.tsv").write_text("of yesterday")
    done = run_script("predict.py", *arguments, "--tsv", "answers.tsv", "--model", trained.outputs)
    assert done.status == 2
    assert done.stderr.count("error: ") == 1 and done.stdout == ""
    assert Path("answers.tsv").read_text() == "of yesterday"
    assert sorted(os.listdir()) == ["answers.tsv", "one.tsv"]


def test_a_voice_is_enrolled_from_what_can_be_heard(run_script, trained, many, tmp_path):
    """Each time anew; where nothing can be heard, what was kept stays."""
    model = copytree(trained.outputs, tmp_path / "outputs")
    kept = model / "speakers" / "Mina.safetensors"
    soundfile.write(many / "silent.wav", np.zeros(16_000, np.int16), 16_000)
    enrol = ("predict.py", "--speaker", "Mina", "--model", model, "--enrol", many)
    for _ in range(2):
        done = run_script(*enrol)
        assert (done.status, done.stdout) == (1, "")
        assert "1.wav: recording truncated" in done.stderr
        assert "silent.wav: nobody speaks in it" in done.stderr
        assert "Mina is known from 2 utterances" in done.stderr
    arguments = ("predict.py", many / "0.wav", "--json", "--model", model)
    answers = [run_script(*arguments, *own).stdout for own in ((), ("--speaker", "Mina"))]
    stranger, known = (json.loads(answer)["logits"]["audio"] for answer in answers)
    assert stranger != known
    before = kept.read_bytes()
    for name in ("0.wav", "2.wav"):
        (many / name).unlink()
    assert run_script(*enrol).status == 2 and kept.read_bytes() == before


def start(trained, *arguments, **streams):
    """Start predict.py as a process of its own, on so many texts that it takes a while."""
    script = Path(__file__).resolve().parents[2] / "predict.py"
    command = [sys.executable, script, *arguments, "--model", trained.outputs]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, **streams)


@pytest.fixture
def long_list(tmp_path):
    path = tmp_path / "long.tsv"
    path.write_text("text\n" + "".join(f"오늘은 {number}\n" for number in range(100_000)))
    return path


def test_what_was_answered_is_kept_and_no_half_table_has_the_name(trained, long_list, tmp_path):
    table, part = tmp_path / "answers.tsv", tmp_path / "answers.tsv.part"
    table.write_text("of yesterday")
    running = start(trained, "--manifest", long_list, "--tsv", table)
    while not (part.exists() and part.read_bytes().count(b"\n") > 10):  # kept while it goes on
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1].decode()
    rows = part.read_text(encoding="utf-8-sig").splitlines()
    assert table.read_text() == "of yesterday"
    assert rows[1].split("\t")[5] == "오늘은 0" and len({row.count("\t") for row in rows}) == 1
    assert running.returncode == 130 and "Traceback" not in said
    assert f"{part} has what was answered until then" in said


def test_whoever_has_read_enough_hears_no_complaint(trained, long_list):
    running = start(trained, "--manifest", long_list, stdout=subprocess.PIPE)
    assert running.stdout.readline()
    running.stdout.close()
    said = running.communicate()[1].decode()
    assert running.returncode == 141 and said == "tones of a test\n"


ODD = {
    "셋째.wav".encode("cp949"): "셋째.wav",
    b"no code \xff.wav": "no code \\udcff.wav",
    b'two\nlines\tand "marks.wav': 'two lines and "marks.wav',
    b"\x1b[2J.wav": "[2J.wav",
}


def test_any_name_is_answered_and_can_be_written(run_script, trained, talk, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD:
        copy(talk[0]["path"], os.fsencode(folder) + b"/" + name)
    (folder / os.fsdecode("깨짐.wav".encode("cp949"))).touch()
    names = sorted(ODD.values())
    table = tmp_path / "answers.tsv"
    for form in ((), ("--json",), ("--tsv", table)):
        done = run_script("predict.py", folder, *form, "--model", trained.outputs)
        assert done.status == 1 and "깨짐.wav: recording unreadable" in done.stderr
        done.stdout.encode("utf-8")  # as the terminal has it
        if not form:
            paths = [line.partition(": ")[0] for line in done.stdout.splitlines()]
            assert sorted(path.rpartition("/")[2].strip() for path in paths) == names
    with open(table, encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert sorted(row["path"].rpartition("/")[2].strip() for row in rows) == names
    assert {len(row) for row in rows} == {len(rows[0])} and None not in rows[0]


def test_letters_that_a_terminal_lacks_stop_nothing(trained, talk, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    path = copy(talk[0]["path"], tmp_path / "웃음 🙂.wav")
    printed, said = start(trained, path, "--json", stdout=subprocess.PIPE).communicate()
    assert json.loads(printed)["path"] == str(path), said  # JSON is UTF-8


# --- long recordings, diarisers, recognisers


@pytest.fixture(scope="module")
def meeting(talk, tmp_path_factory):
    """The talk as one recording with two seconds of silence between turns; each turn's times."""
    pieces, turns, clock = [], [], 0
    for row in talk:
        pieces += [row["samples"], np.zeros(32_000, np.int16)]
        turns.append((clock / 16_000, (clock + len(row["samples"])) / 16_000))
        clock += len(row["samples"]) + 32_000
    path = tmp_path_factory.mktemp("meeting") / "meeting.flac"
    soundfile.write(path, np.concatenate(pieces), 16_000)
    return path, turns


def test_every_utterance_of_a_long_recording_has_its_line_and_times(ask, meeting):
    path, turns = meeting
    answers = [json.loads(line) for line in ask(path, "--json").splitlines()]
    assert len(answers) == len(turns)
    for answer, (start, end) in zip(answers, turns, strict=True):
        assert (answer["start"], answer["end"]) == pytest.approx((start, end), abs=0.35)
    first = ask(path).splitlines()[1]
    minutes, rest = divmod(answers[1]["start"], 60)
    assert first.startswith(f"{path} {minutes:.0f}:{rest:04.1f}-")
    (line,) = ask(path, "--text", "오늘은 정말 좋아요").splitlines()
    assert "[one verdict for " in line


def test_turns_of_a_diariser_are_known_voices(ask, meeting, talk, expected, tmp_path):
    """With the true turns, a recording of the talk is the talk: the voice as the test heard it."""
    path, turns = meeting
    lines = [
        f"SPEAKER meeting 1 {start:.6f} {end - start:.6f} <NA> <NA> {row['speaker']} <NA> <NA>"
        for (start, end), row in zip(turns, talk, strict=True)
    ]
    (tmp_path / "meeting.rttm").write_text("\n".join(lines))
    printed = ask(path, "--turns", tmp_path / "meeting.rttm", "--json")
    for line, row in zip(printed.splitlines(), talk, strict=True):
        answer = json.loads(line)
        assert answer["speaker"] == f"meeting/{row['speaker']}"
        found = [answer["logits"]["audio"][label] for label in LABELS]
        np.testing.assert_allclose(found, expected["past", "audio"][row["id"]], atol=1e-5)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return save_recogniser(tmp_path_factory.mktemp("recogniser"))


def test_a_recogniser_gives_the_words(ask, talk, meeting, recogniser):
    answer = json.loads(ask(talk[0]["path"], "--asr", recogniser, "--json"))
    assert set(answer["text"]) <= set("오늘말 [UNK]") and answer["text"].strip()
    assert set(answer["models"]) == {"text", "audio", "cmbert"}
    same = json.loads(ask(talk[0]["path"], "--text", answer["text"], "--json"))
    assert same["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
    given = json.loads(ask(talk[0]["path"], "--asr", recogniser, "--text", "네", "--json"))
    assert given["text"] == "네"  # a transcript is not recognised again
    printed = ask(meeting[0], "--asr", recogniser, "--json")
    texts = [json.loads(line)["text"] for line in printed.splitlines()]
    assert len(texts) == len(talk) and len(set(texts)) > 1  # each utterance its own words


def test_a_recogniser_runs_no_code_and_no_pickle(run_script, trained, talk, recogniser, tmp_path):
    """Its code: tests/models/test_foreign_code.py."""
    pickled = copytree(recogniser, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(torch.nn.Linear(1, 1), pickled / "pytorch_model.bin")
    for name in (pickled, tmp_path / "nothing"):
        arguments = (talk[0]["path"], "--model", trained.outputs, "--asr", name)
        done = run_script("predict.py", *arguments)
        assert done.status == 2 and "cannot load the recogniser" in done.stderr
