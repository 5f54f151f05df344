"""Which part of the project may import which: the data's way, and no circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT

FILES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] not in (".venv", "tests", "data", "outputs")
}
SCRIPTS = {name.removesuffix(".py") for name in FILES if "/" not in name}
# What a folder may import of the others, beside itself; scripts may import any of them.
MAY = {
    "models": set(),
    "common": {"models", "fusion"},  # testing.py prints intervals
    "corpora": {"common"},
    "fusion": {"common"},
    "predicting": {"common", "corpora", "fusion", "models"},
    "extras": {"common", "corpora", "fusion", "models", "predicting"},
    "runs": {"common", "fusion", "predicting"},
    "benchmarks": {"common", "corpora", "fusion", "models", "predicting", "extras"},
}
OWN = {  # of extras: the scripts that use them
    "sample": {"sample_corpus.py", "benchmarks/measure.py", "benchmarks/predicting.py"},
    "export": {"predict.py"},
    "demo": {"demo.py"},
    "pretraining": {"text_pretrain.py"},
    "jobs": set(),
}


def imported(name: str) -> set[str]:
    """Return every module that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(FILES[name]):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import hides the folder"
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


IMPORTED = {name: imported(name) for name in FILES}


@pytest.mark.parametrize("folder", MAY)
def test_a_folder_imports_what_it_may(folder):
    for name, modules in IMPORTED.items():
        if name.startswith(f"{folder}/"):
            used = {module.partition(".")[0] for module in modules} & (MAY.keys() | SCRIPTS)
            assert used <= MAY[folder] | {folder}, name


def test_imports_form_no_circle():
    modules = {
        name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): name for name in FILES
    }
    graph = {
        module: {other for other in IMPORTED[name] if other in modules and other != module}
        for module, name in modules.items()
    }
    packages = {module for module in modules if any(m.startswith(f"{module}.") for m in modules)}
    plain = {m: others - packages for m, others in graph.items() if m not in packages}
    TopologicalSorter(plain).prepare()  # CycleError names the circle


def test_an_extra_is_imported_by_its_own_script_alone():
    for extra, scripts in OWN.items():
        users = {
            name
            for name, modules in IMPORTED.items()
            if any(module.startswith(f"extras.{extra}") for module in modules)
        }
        assert {name for name in users if not name.startswith(f"extras/{extra}/")} == scripts
        assert (ROOT / "extras" / extra / "README.md").is_file()


WITHOUT = """
import sys
for name in sys.argv[1:]:
    __import__(name)
print(sorted({"torch", "transformers"} & set(sys.modules)))
"""


def test_reading_a_corpus_features_and_fusing_need_no_torch():
    common = ("settings", "ranges", "files", "data", "cache", "features", "speakers", "voice")
    names = [f"common.{name}" for name in common]
    names += [
        name.removesuffix(".py").replace("/", ".")
        for name in FILES
        if name.startswith(("corpora/", "fusion/")) and not name.endswith("__init__.py")
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
