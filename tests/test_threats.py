"""Files from strangers: what they must not be able to do. docs/THREATS.md lists the other tests."""

import ast
import pickle
import re
import socket
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT

from common.checkpoint import load_weights, read_state
from common.data import load_data, read_table
from common.files import UserError, read_array, read_json
from corpora import reading, recordings
from corpora.recordings import RecordingError
from extras.pretraining.lines import read_lines
from fusion import stored as fusion
from fusion.cells import Table
from fusion.page import write_markdown
from models import ModelError, kobert, speech
from predicting.answers import write_cell
from predicting.recordings import LONGEST, Recording, check

SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", ".venv", "data", "outputs")
)


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


READERS = {
    "array.npy": lambda path: read_array(path, "a script"),
    "audio.npy": lambda path: read_array(path, "a script", mmap=True),
    "numbers.json": lambda path: read_json(path, "a script"),
    "fusion.json": fusion.load,
    "table.tsv": read_table,
    "manifest.json": lambda path: load_data(path.parent, "train"),
    "model.safetensors": lambda path: load_weights(torch.nn.Linear(1, 1), path.parent, "a script"),
    "state.pt": lambda path: read_state(path, {}),
    "spiece.model": lambda path: kobert.load_tokenizer(str(path.parent)),
    "pytorch_model.bin": lambda path: kobert.load_encoder(str(path.parent)),
    "config.json": lambda path: speech.load_speech_encoder(str(path.parent)),
    "lines.txt": read_lines,
    "lines.txt.xz": read_lines,
    "talk.wav": lambda path: check([Recording(str(path))]),
}


def plain_pickle(evil: Evil, path: Path) -> None:
    path.write_bytes(pickle.dumps(evil))


def torch_pickle(evil: Evil, path: Path) -> None:
    torch.save({"network": evil, "state_dict": evil}, path)


def array_of_objects(evil: Evil, path: Path) -> None:
    with open(path, "wb") as stream:
        np.save(stream, np.array([evil], object))


def archive_of_objects(evil: Evil, path: Path) -> None:
    with open(path, "wb") as stream:
        np.savez(stream, weight=np.array([evil], object))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "write", [plain_pickle, torch_pickle, array_of_objects, archive_of_objects]
)
def test_no_file_of_any_kind_is_unpickled(name, write, tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "folder" / name
    path.parent.mkdir()
    if name == "pytorch_model.bin":
        (path.parent / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    write(Evil(trace), path)
    with pytest.raises((UserError, ModelError)):
        READERS[name](path)
    assert not trace.exists()


def test_what_the_files_above_carry_does_leave_a_trace(tmp_path):
    """Else that none was left would prove nothing. Called as unpickling would, without a pickle."""
    function, arguments = Evil(tmp_path / "ran").__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    function(*arguments)
    assert (tmp_path / "ran").exists()


def test_no_source_calls_what_runs_a_files_code():
    """Nor passes what would allow it to a library. Benchmarks read files of their own alone."""
    forbidden = {"eval", "exec", "compile", "__import__", "loads_pickle"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "cloudpickle", "shelve"} & set(names), path
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in forbidden | {"joblib.load", "yaml.load"}, (path, called)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert given.get("trust_remote_code", "False") == "False", path
            assert given.get("allow_pickle", "False") == "False", path
            assert given.get("shell", "False") == "False", path
            if called == "torch.load":
                assert given["weights_only"] == "True", path
            if called == "np.load":
                assert given["allow_pickle"] == "False", path


def test_a_trained_folder_asks_the_hub_for_nothing(tmp_path, bert, monkeypatch):
    """Whatever names its configuration has: only what the user wrote is looked for there."""
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *names, **_: asked.append(names))
    folder = tmp_path / "text"
    folder.mkdir()
    for path in bert.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = read_json(folder / "config.json", "")
    config |= {"_name_or_path": "stranger/model", "auto_map": {"AutoModel": "stranger/model--x.Y"}}
    kobert.build_encoder(config)
    kobert.load_tokenizer(str(folder))
    assert asked == []


# --- cells that are more than text


@pytest.mark.parametrize(
    "words", ['=HYPERLINK("http://x")', "+1", "-1+cmd|'/c calc'!A0", "@SUM(1)"]
)
def test_a_formula_in_a_table_of_answers_is_text(words):
    assert write_cell(words) == f"'{words}"
    assert write_cell(f" \t{words}\n") == f"'{words}"
    assert write_cell(-1.5) == "-1.5"  # numbers stay numbers


def test_markup_in_a_markdown_table_is_text():
    evil = "| a <script>x</script> `b` [c](javascript:d) ![](http://e)"
    page = write_markdown(None, [Table("", "", ["Segment", "said"], [["S1", evil]])])
    row = page.splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert not re.search(r"(?<!\\)[<`]", row) and "](" not in row


# --- recordings that promise more than they hold


def wav_of(frames: int, channels: int = 1, bits: int = 16, rate: int = 16_000) -> bytes:
    """Return a WAV file whose header promises `frames`; it holds a hundred bytes."""
    size = min(frames * channels * bits // 8, 2**32 - 1)
    block = channels * bits // 8
    layout = struct.pack("<HHIIHH", 1, channels, rate, min(rate * block, 2**32 - 1), block, bits)
    return (
        b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVEfmt " + struct.pack("<I", 16) + layout
        + b"data" + struct.pack("<I", size) + bytes(100)
    )  # fmt: skip


def flac_of(frames: int, channels: int = 8, rate: int = 655_350) -> bytes:
    """Return a FLAC file that has a header and no frames."""
    numbers = (rate << 44) | ((channels - 1) << 41) | (15 << 36) | frames
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + numbers.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info


PROMISES = {
    "2^31 samples": wav_of(2**31),
    "2^31 bytes": wav_of(2**30),
    "255 channels": wav_of(2**23, channels=255),
    "4 GiB in a second": wav_of(2**30, bits=32, rate=2**31 - 1),
    "FLAC": flac_of(2**35),
    "FLAC of 8 channels and ten minutes": flac_of(600 * 655_350 - 1),
}


@pytest.mark.parametrize("name", PROMISES)
def test_a_header_that_promises_much_allocates_nothing(name, tmp_path):
    path = str(tmp_path / "a.wav")
    Path(path).write_bytes(PROMISES[name])
    tracemalloc.start()
    try:
        for longest in (recordings.LONGEST, LONGEST):
            try:
                samples, _ = recordings.read(path, recordings.measure(path, longest))
                assert len(samples) <= 100
            except RecordingError:
                pass
        (tmp_path / "a.txt").write_text("네")
        reading.read_text_and_length(str(tmp_path / "a.txt"), path, "spoken")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_ordinary_recordings_are_not_taken_for_a_threat(tmp_path):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros((96_000, 2)), 96_000, "PCM_24")
    assert recordings.measure(path) == 16_000


# --- the list


def test_the_list_of_threats_names_tests_that_are_there():
    said = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/THREATS.md").read_text())
    assert len(said) > 15
    for file, name in said:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{file}::{name}"
