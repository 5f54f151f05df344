"""Which part of the project may import which: the data's way, and no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

LOOSE = {"config", "files", "labels", "record", "settings"}
NO_TORCH = ()
LEAVES = {
    "pretraining": "text_pretrain.py",
}
TORCH = {"torch", "transformers", "accelerate", "safetensors"}


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides the room"
            # `from pipeline import labels` names a module, `from common.files import X` does not
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms_of(names: set[str]) -> set[str]:
    """Return which rooms and loose files of pipeline/ are among the modules."""
    return {name.split(".")[1] for name in names if name.startswith("pipeline.")}


def files(folder: str) -> dict[Path, set[str]]:
    found = {path: imported(path) for path in sorted((ROOT / folder).glob("*.py"))}
    assert found, folder
    return found


ROOMS = sorted(
    path.name for path in (ROOT / "pipeline").iterdir() if (path / "__init__.py").exists()
)
DOORS = {
    room: set().union(*map(rooms_of, files(f"pipeline/{room}").values())) - {room} for room in ROOMS
}


def test_nothing_lies_loose_but_what_everyone_needs():
    assert {path.stem for path in files("pipeline")} == LOOSE | {"__init__"}
    assert set().union(*DOORS.values()) <= {*ROOMS, *LOOSE}


def test_imports_form_no_circle_between_rooms():
    order = list(TopologicalSorter(DOORS).static_order())  # CycleError names the circle
    assert order.index("features") < order.index("learning") < order.index("pretraining")


def test_reading_a_corpus_and_judging_need_no_torch_and_no_other_room():
    for path, names in files("corpora").items():
        assert not {name.split(".")[0] for name in names} & (TORCH | {"models", "extras"}), path
        assert rooms_of(names) <= {*LOOSE, "figures"}, path
    for room in NO_TORCH:
        assert DOORS[room] <= LOOSE, room
        for path, names in files(f"pipeline/{room}").items():
            assert not {name.split(".")[0] for name in names} & (TORCH | {"models"}), path


def test_the_fusion_needs_no_torch_and_no_other_room():
    for path, names in files("fusion").items():
        assert rooms_of(names) <= {*LOOSE, "figures"}, path
        assert not {name.split(".")[0] for name in names} & (TORCH | {"models"}), path


def test_features_and_loose_files_know_no_torch():
    for folder in ("pipeline", "pipeline/features", "pipeline/figures"):
        for path, names in files(folder).items():
            assert not {name.split(".")[0] for name in names} & TORCH, path


def test_predicting_uses_every_room_of_the_datas_way_and_serves_the_demo_alone():
    assert DOORS["predicting"] <= {"features", "learning", *LOOSE}
    assert {room for room, doors in DOORS.items() if "predicting" in doors} == {"demo"}
    assert not any("demo" in doors for doors in DOORS.values())


def test_leaves_are_imported_by_their_one_script():
    users = {
        path: names for folder in (".", "models", "runs") for path, names in files(folder).items()
    }
    for room, script in LEAVES.items():
        found = {path.name for path, names in users.items() if room in rooms_of(names)}
        assert found == {script}
        assert not any(room in doors for other, doors in DOORS.items() if other != room)


def test_models_know_nothing_of_ours_but_labels():
    scripts = {path.stem for path in files(".")}
    for path, names in files("models").items():
        assert rooms_of(names) <= {"labels"}, path
        assert not {name.split(".")[0] for name in names} & scripts, path


def test_no_room_imports_a_script():
    scripts = {path.stem for path in files(".")}
    for room in ROOMS:
        for path, names in files(f"pipeline/{room}").items():
            assert not {name.split(".")[0] for name in names} & scripts, path
