"""A conversation of the demo: the same answers as predict's, turn by turn; attention; limits."""

from pathlib import Path

import hostile
import numpy as np
import pytest
import soundfile

from common.files import UserError
from extras.demo.conversation import EVERY, Conversation, find_examples, listen
from predicting import History, Recording, load_run, predict, predict_windows

LONGEST = 60  # seconds


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained.outputs)


def turn(row, **changes):
    return Recording(**{"path": row["path"], "text": row["text"], **changes})


def test_turn_by_turn_is_all_at_once(run, talk):
    """Speakers are known as predict knows them, and strangers stay strangers."""
    names = [row["speaker"] for row in talk[:4]] + [""]
    recordings = [turn(row, speaker=who) for row, who in zip(talk, names, strict=False)]
    spoken = Conversation()
    for recording in recordings:
        listen(run, spoken, recording, LONGEST)
    assert [each.known for each in spoken.turns] == [1, 1, 2, 2, 0]
    other = Conversation()  # of somebody else
    listen(run, other, recordings[0], LONGEST)
    assert other.turns[0].known == 1
    for one, other in zip(spoken.turns, predict(run, recordings), strict=True):
        assert one.answer.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.answer.remarks == other.remarks
        assert one.answer.dimensions == pytest.approx(other.dimensions, abs=1e-4)


def test_attention_is_over_the_words_of_the_turn(run, talk):
    spoken = Conversation()
    listen(run, spoken, turn(talk[0], text="오늘은 밥은 먹었니"), LONGEST)
    listen(run, spoken, turn(talk[1], text="왜"), LONGEST)
    for own, text in zip(spoken.turns, ("오늘은밥은먹었니", "왜"), strict=True):
        assert "".join(own.pieces).replace("▁", "") == f"[CLS]{text}[SEP]"
        assert own.maps["fused"].shape == (len(own.pieces),) * 2
        assert own.maps["fused"].sum(1) == pytest.approx(1, abs=1e-5)
    listen(run, spoken, Recording(talk[0]["path"]), LONGEST)  # CM-BERT has no words to attend to
    listen(run, spoken, Recording(text="왜"), LONGEST)  # nor a voice
    assert all(not own.pieces and not own.maps for own in spoken.turns[2:])
    assert spoken.turns[3].samples is None


def test_what_is_not_typed_is_recognised(run, talk):
    spoken = Conversation()
    for text in ("", "왜"):
        recording = turn(talk[0], text=text)
        listen(run, spoken, recording, LONGEST, transcribe=lambda samples: f"밥은 {len(samples)}")
    count = len(talk[0]["samples"])
    assert [each.answer.text for each in spoken.turns] == [f"밥은 {count}", "왜"]


def test_a_long_recording_is_several_turns(run, talk, tmp_path):
    pause = np.zeros(32_000, np.int16)
    pieces = [part for row in talk for part in (row["samples"], pause)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(pieces), 16_000)
    spoken = Conversation()
    listen(run, spoken, Recording(str(tmp_path / "long.wav"), speaker="Mina"), LONGEST)
    assert [each.known for each in spoken.turns] == list(range(1, len(talk) + 1))


@pytest.mark.parametrize("speaker", ["", "Mina"])
def test_each_turns_voice_is_followed_as_predict_does_and_counts_once(run, talk, tmp_path, speaker):
    spoken, files = Conversation(), []
    for name in ("one", "two"):
        samples = np.resize(np.concatenate([row["samples"] for row in talk]), 100_000)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
        files.append(Recording(str(tmp_path / f"{name}.wav"), "왜 그래", speaker))
        listen(run, spoken, files[-1], LONGEST)
    assert [each.known for each in spoken.turns] == ([1, 2] if speaker else [0, 0])
    expected = list(predict_windows(run, files, EVERY, History()))
    found = [window for each in spoken.turns for window in each.windows]
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        assert (one.recording.start, one.recording.end) == (
            other.recording.start,
            other.recording.end,
        )
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    listen(run, spoken, Recording(text="왜"), LONGEST)
    assert spoken.turns[-1].windows == ()


@pytest.mark.parametrize(
    ("recording", "longest", "words"),
    [
        (Recording(), LONGEST, "nothing to judge"),
        (Recording(text="가" * 501), LONGEST, "501 letters: give at most 500"),
        (Recording("{}"), 0.5, r"^talk.wav is 2 s long: give at most 0.5 s"),
    ],
)
def test_what_is_too_much_is_refused_and_nothing_kept(run, tmp_path, recording, longest, words):
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(32_000), 16_000)
    spoken = Conversation()
    recording = Recording(recording.path.format(path), recording.text)
    with pytest.raises(UserError, match=words):
        listen(run, spoken, recording, longest)
    assert spoken == Conversation()


def test_a_file_of_something_else_is_named_without_its_folder(run, tmp_path):
    (tmp_path / "talk.wav").write_bytes(b"no recording")
    with pytest.raises(UserError, match="^talk.wav: recording unreadable: damaged"):
        listen(run, Conversation(), Recording(str(tmp_path / "talk.wav")), LONGEST)


def test_examples_are_of_the_dialogue_that_the_annotation_has_first(tmp_path):
    """script01 before impro01, and a turn of the man before the woman's."""

    def swap(sessions):
        segments = sessions[-1].segments
        segments[0], segments[1] = segments[1], segments[0]

    wrong = hostile.edit_row("Sess05_script01_F002", "F", id="Sess05_script01_M002")
    hostile.write(tmp_path, "KEMDy19", [hostile.Change("", edit=edit) for edit in (wrong, swap)])
    found = find_examples(tmp_path)
    names = [f"Sess05_script01_{name}" for name in ("M001", "F001", "F002", "M002", "F003", "M003")]
    assert [Path(path).stem for path, _, _ in found] == names
    assert [who for _, _, who in found] == list("MFFMFM")
    assert found[0][1] and find_examples(tmp_path / "nowhere") == []
