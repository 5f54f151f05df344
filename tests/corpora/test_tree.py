"""The folder tree: names in other cases, stray files, symbolic links and their loops."""

import shutil
from pathlib import Path

import hostile
import pytest

from common.files import UserError
from corpora.source import LEADS_OUT

FORMAT = "recording in a format that is not read: convert it to .wav or .flac"
LOOP = "symbolic link to nothing or to itself"
ABOVE = "symbolic link to a folder above it"


@pytest.fixture
def root(tmp_path):
    """A healthy KEMDy19 corpus; beside it is room for what links lead to."""
    hostile.write(tmp_path / "corpus", "KEMDy19", [])
    return tmp_path / "corpus"


def read(root, follow_links=False):
    """Return the number of utterances, what is ignored as {path: reason}, and the account."""
    utterances, account = hostile.read(root, follow_links)
    return len(utterances), {e["path"]: e["reason"] for e in account.ignored}, account


def dialogue(root, name="Sess02_script01"):
    return root / "wav" / "Session02" / name


@pytest.mark.parametrize("kind", ["KEMDy19", "KEMDy20"])
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_names_in_another_case(tmp_path, kind, change):
    """All of them: folders, files, extensions."""
    root = tmp_path / "corpus"
    hostile.write(root, kind, [])
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(change(path.name)))
    count, ignored, account = read(root)
    assert (count, ignored) == ({"KEMDy19": 150, "KEMDy20": 50}[kind], {})
    assert account.orphans == account.dropped == []


def test_two_files_of_one_name_but_for_its_case(root):
    path = dialogue(root) / "Sess02_script01_F001.wav"
    path.with_suffix(".WAV").write_bytes(b"other")
    count, ignored, _ = read(root)
    assert count == 150
    assert list(ignored.values()) == ["same name as another file but for upper and lower case"]
    twin = root / "annotation" / "session02_f_res.csv"
    twin.write_bytes((root / "annotation" / "Session02_F_res.csv").read_bytes())
    with pytest.raises(UserError, match="Session02_F_res.csv and session02_f_res.csv are for the"):
        read(root)


def test_what_is_no_file_of_the_corpus_is_listed_with_its_reason(root):
    folder = dialogue(root)
    up = "not in the folder of its dialogue"
    expected = {
        "Sess02_script01/Sess02_script01_F001.mp3": FORMAT,
        "Sess02_script01/Sess02_script01_F002.M4A": FORMAT,
        "Sess02_script01/Sess02_script01_F003.ogg": FORMAT,
        "Sess02_script01/notes.docx": "neither recording nor transcript",
        "Sess02_script01/.hidden.wav": "hidden file",
        "Sess02_script01_F001.wav": up,
        "Sess02_script01_F001.txt": up,
        "../Sess02_script01_F001.WAV": up,
    }
    for name in expected:
        (folder.parent / name).write_bytes(b"x")
    (folder / "Sess02_script01_F001.wav").unlink()
    count, ignored, account = read(root)
    found = {path.removeprefix("wav/Session02/"): reason for path, reason in ignored.items()}
    expected["wav/Sess02_script01_F001.WAV"] = expected.pop("../Sess02_script01_F001.WAV")
    assert found == expected
    assert count == 149
    assert [(e["id"], e["reason"]) for e in account.dropped] == [
        ("Sess02_script01_F001", "no recording")
    ]


def move_out(root, name):
    """Put a part of the corpus on another disk, and a link in its place."""
    outside = root.parent / "disk"
    (root / name).rename(outside)
    (root / name).symlink_to(outside)


@pytest.mark.parametrize("name", ["wav", "annotation"])
def test_parts_of_the_corpus_as_links_to_another_disk(root, name):
    move_out(root, name)
    with pytest.raises(UserError, match=r"symbolic link out of .* \(--follow-links yes allows it"):
        read(root)
    assert read(root, follow_links=True)[:2] == (150, {})


def test_a_session_as_a_link_to_another_disk(root):
    move_out(root, "wav/Session02")
    count, ignored, account = read(root)
    assert (count, ignored) == (120, {"wav/Session02": LEADS_OUT})
    assert len(account.dropped) == 30
    assert read(root, follow_links=True)[:2] == (150, {})


@pytest.mark.parametrize("follow_links", [False, True])
def test_loops_are_listed(root, follow_links):
    """Of files and folders, to themselves, to one another, to nothing and upwards."""
    folder = dialogue(root)
    recording = folder / "Sess02_script01_F001.wav"
    recording.unlink()
    links = {
        recording: recording,
        folder / "a.wav": folder / "b.wav",
        folder / "b.wav": folder / "a.wav",
        folder / "c.txt": folder / "nowhere.txt",
        folder.parent / "self": folder.parent / "self",
        folder.parent / "up": root / "wav",
        root / "wav" / "Session99": root,
        folder / "here": folder,
    }
    for link, target in links.items():
        link.symlink_to(target)
    count, ignored, account = read(root, follow_links)
    assert count == 149
    expected = {str(link.relative_to(root)): LOOP for link in links}
    for name in ("Session02/up", "Session99", "Session02/Sess02_script01/here"):
        expected[f"wav/{name}"] = ABOVE
    assert ignored == expected
    assert [entry["id"] for entry in account.dropped] == ["Sess02_script01_F001"]


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("name", ["wav", "annotation", "annotation/Session02_F_res.csv", "."])
def test_loops_in_the_place_of_what_is_needed_end_in_one_line(root, follow_links, name):
    path = root / name
    path.rename(root.parent / "away")
    path.symlink_to(path)
    with pytest.raises(UserError) as caught:
        read(root, follow_links)
    assert "\n" not in str(caught.value)
    assert "to itself" in str(caught.value) or name in ("annotation", ".")


@pytest.mark.parametrize("kind", ["KEMDy19", "KEMDy20"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, r"wav: no recording \(.wav, .flac\) .*; found \d+ transcripts: "),
        (lambda path: path.rename(path.with_suffix(".mp3")), f"transcripts, \\d+ {FORMAT}: a"),
    ],
)
def test_a_release_without_recordings(tmp_path, kind, spoil, words):
    hostile.write(tmp_path, kind, [])
    for path in sorted(tmp_path.glob("wav/**/*.wav")):
        spoil(path)
    with pytest.raises(UserError, match=words):
        hostile.read(tmp_path)
    shutil.rmtree(tmp_path / "wav")
    with pytest.raises(UserError, match="wav is no folder: .* without recordings"):
        hostile.read(tmp_path)
