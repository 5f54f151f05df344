"""What a stage leaves on record, so that it is done once and damage is noticed.

`records/{script}.json` in the folder that a stage writes to, written last: the script's settings,
the code that it reaches, hashes of what it read ("inputs") and of every file that it wrote
("outputs", paths from that folder), the commit and the environment. A stage that finds its own
record with the same settings and inputs, and all outputs whole, has nothing to do; of code that has
changed since it says so, no more. Whoever reads an output compares its hash
(`files.check_recorded`).
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from common import files, settings
from common.files import RECORDS, UserError, hold, read_json, sha256, write_json

ROOT = Path(__file__).resolve().parents[1]
# Settings that do not change what is written: places, whose contents are compared, and the pace.
PLACES = ("corpus", "data", "outputs", "results", "restart")
PLACES += ("save_minutes", "save_steps", "jobs", "cluster")
MARKER = "running.json"  # of an unfinished run: what it is made of
ROOMS = "models|pipeline|common|corpora|extras|fusion"
IMPORT = re.compile(rf"^\s*from ((?:{ROOMS})[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


class Work:
    """What a stage does in one folder: one run at a time, left alone if it is done already.

    script: its file's name.  settings: its block.  inputs: what it reads -> a hash; a setting that
    is a name here is compared by that hash.  lock: a place that one run at a time may write to.
    """

    def __init__(self, script: str, folder: Path, settings: dict, inputs: dict, lock: Path):
        self.folder, self.restart = folder, settings["restart"]
        self.path = self.folder / RECORDS / f"{Path(script).stem}.json"
        self.first = len(files.WRITTEN)
        compared = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
            if name not in (*PLACES, *inputs)
        }
        self.made_of = {"settings": compared, "inputs": inputs}
        self.code = {"code": code_of(script)}
        if os.environ.get("RANK", "0") == "0":
            hold(lock)

    def is_done(self) -> bool:
        """Tell whether an earlier run left all of this; say so, or why it is done again."""
        if self.restart or not self.path.is_file():
            return False
        try:
            record = read_json(self.path, "")
            why = differences(record, self.made_of) or self.find_damage(record["outputs"])
            other_code = differences(record, self.code)
        except (UserError, KeyError, TypeError, AttributeError):
            why = f"{self.path} is damaged"
        if why:
            print(f"{self.folder}: done again: {why}")
        else:
            print(
                f"nothing to do: {self.folder} is whole and of these settings"
                f"{other_code and f', made by {other_code}'} (--restart starts over)"
            )
        return not why

    def find_damage(self, outputs: dict[str, str]) -> str:
        """Name the first output that is missing or has changed; "" if all are whole."""
        for name, digest in outputs.items():
            path = self.folder / name
            if not path.is_file():
                return f"{path} is missing"
            if sha256(path) != digest:
                return f"{path} has changed"
        return ""

    def finish(self) -> None:
        """Put on record what this process has written since the work was begun."""
        written = (path for path in dict.fromkeys(files.WRITTEN[self.first :]) if path.is_file())
        self.write(self.folder, {os.path.relpath(path, self.folder): path for path in written})

    def take_up(self, unfinished: Path) -> None:
        """Clear an unfinished run away if all is to start over; put a finished one in its place."""
        if self.restart:
            shutil.rmtree(unfinished, ignore_errors=True)
        if any((unfinished / RECORDS).glob("*.json")):
            publish(unfinished, self.folder)

    def complete(self, unfinished: Path, hashes: dict[str, str] | None = None) -> None:
        """Put on record what lies in the folder of the unfinished run, and move it to its place."""
        found = (path for path in unfinished.rglob("*") if path.is_file() and path.name != MARKER)
        paths = {str(path.relative_to(unfinished)): path for path in found}
        self.write(unfinished, paths, hashes)
        publish(unfinished, self.folder)

    def write(
        self, folder: Path, paths: dict[str, Path], hashes: dict[str, str] | None = None
    ) -> None:
        """Write the record of files, by their places below the work's folder, to a folder.

        hashes: those that are known already, by the same places.
        """
        known = hashes or {}
        outputs = {
            Path(name).as_posix(): known.get(name) or sha256(paths[name]) for name in sorted(paths)
        }
        content = {**self.made_of, **self.code, **describe_machine(), "outputs": outputs}
        write_json(folder / RECORDS / self.path.name, content)


def differences(old: dict, new: dict) -> str:
    """Name the settings, the inputs and the code in which two runs differ; "" if in nothing."""
    found = []
    for kind in new:
        before, now = old[kind], new[kind]
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if kind == "settings":
            names = [
                f"{name.upper()} = {now.get(name)!r}, was {before.get(name)!r}" for name in names
            ]
        if names:
            more = f" and {len(names) - 3} more" * (len(names) > 3)
            found.append(f"other {kind} ({', '.join(names[:3])}{more})")
    return "; ".join(found)


@cache
def code_of(script: str) -> dict[str, str]:
    """Return the hash of every file of this project that a script can import, by its path.

    The script's block of settings is left out: settings are compared by value.
    """
    waiting, found = [ROOT / script], {}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if name in found or not path.is_file():
            continue
        source = path.read_text(encoding="utf-8")
        for module, names in IMPORT.findall(source):
            for ending in ("", *re.findall(r"\w+", names)):
                place = ROOT / module.replace(".", "/") / ending
                waiting += [place.with_suffix(".py"), place / "__init__.py"]
        if path == ROOT / script:
            source = source.replace("\n".join(settings.read_block(path)[0]), "")
        found[name] = hashlib.sha256(source.encode()).hexdigest()
    return dict(sorted(found.items()))


def hash_files(paths: Iterable[Path]) -> str:
    """Return one hash of several files, their names included; those that are missing are not."""
    found = sorted(path for path in paths if path.is_file())
    lines = "".join(f"{sha256(path)} {path.name}\n" for path in found)
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_outputs(folder: Path, script: str) -> str:
    """Return one hash of what a script has on record in a folder; without one, of its model."""
    names = read_outputs(folder / RECORDS / f"{Path(script).stem}.json")
    names = names or ("config.json", "model.safetensors")
    return hash_files(folder / name for name in names)


@cache
def describe_machine() -> dict:
    """Return the commit of the code and the environment: Python, system, versions of packages."""
    names = re.findall(r"^[\w-]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # what the stages of this installation do without
    return {
        "commit": find_commit(),
        "environment": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            **versions,
        },
    }


def find_commit() -> str:
    """Return the commit of this project's code and whether it was changed; "unknown" without git.

    Another repository around the project's folder is not asked.
    """
    command = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", "describe"]
    try:
        done = subprocess.run(
            [*command, "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown"
    if done.returncode:
        return "unknown"
    name = done.stdout.strip()
    changed = name.endswith("-dirty")
    return name.removesuffix("-dirty") + (", with changes" if changed else ", unchanged")


def publish(unfinished: Path, folder: Path) -> None:
    """Move what is finished in one folder to its place in another, its record last.

    Killed on the way, it can be called again. What only an earlier run has on record is removed.
    """
    (unfinished / MARKER).unlink(missing_ok=True)
    new = next((unfinished / RECORDS).glob("*.json"))
    old = folder / RECORDS / new.name
    kept, gone = read_json(new, f"{new.stem}.py")["outputs"], read_outputs(old)
    for path in sorted(unfinished.rglob("*")):
        name = path.relative_to(unfinished)
        if name.as_posix() in kept:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(folder / name)
    for name in gone.keys() - kept.keys():
        if ".." not in Path(name).parts and not Path(name).is_absolute():
            (folder / name).unlink(missing_ok=True)
    old.parent.mkdir(exist_ok=True)
    new.replace(old)
    shutil.rmtree(unfinished)


def read_outputs(path: Path) -> dict[str, str]:
    """Return the outputs on a record; none if it is missing or damaged."""
    try:
        return read_json(path, "")["outputs"]
    except (UserError, KeyError, TypeError):
        return {}
