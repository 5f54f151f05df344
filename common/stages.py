"""What a finished stage is, and what is read of one.

A stage writes to a folder of its own, `unfinished-{script}`. When all is there, its files are moved
to their places and the record, `records/{script}.json`, follows last: settings, hashes of what was
read and of what was written. Killed anywhere, the same command goes on; an earlier run's results
stand until then.
"""

import errno
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import warnings
from functools import cache
from pathlib import Path

from common.files import UserError, hash_data, naming, read_json, sha256, write_json

ROOT = Path(__file__).resolve().parents[1]
RECORDS = "records"
RECORD = "record.json"  # in an unfinished folder: what is being published
MARKER = "made_of.json"  # in an unfinished folder: whose it is
# Settings that do not change what is written: places, whose contents are compared, and the pace.
PASSED_OVER = ("corpus", "data", "outputs", "results", "restart", "save_minutes", "log", "jobs")
PASSED_OVER += ("cluster",)
HELD = {}  # locks of this process, by file


class Stage:
    """One run of a script in a folder: `is_done`, or write to `unfinished` and `publish`.

    settings: the script's block.  inputs: what it reads -> a hash; a setting of the same name is
    compared by that hash.  resumable: whether the stage has the folder to itself, goes on with what
    an unfinished run of the same settings and inputs left, and refuses that of another; otherwise
    it begins anew.  name: of the record, by default the script's.
    Of several processes the first one alone writes.
    """

    def __init__(
        self,
        script: str,
        folder: Path,
        settings: dict,
        inputs: dict[str, str],
        resumable: bool = False,
        name: str = "",
    ):
        self.script, self.folder, self.settings = script, folder, settings
        name = name or Path(script).stem
        self.record = folder / RECORDS / f"{name}.json"
        self.unfinished = folder / f"unfinished-{name}"
        compared = {k: v for k, v in settings.items() if k not in (*PASSED_OVER, *inputs)}
        self.made_of = json.loads(json.dumps({"settings": compared, "inputs": inputs}))
        self.restart, self.resumable = settings["restart"], resumable
        self.is_main = os.environ.get("RANK", "0") == "0"
        others = (folder / RECORDS).glob("*.json") if resumable else ()
        for other in [path.stem for path in others if path != self.record]:
            raise UserError(f"{folder} has what {other}.py has made: give another --name")
        if self.is_main:
            hold(folder / RECORDS / f"{name}.lock", folder, script)
            if self.restart:
                shutil.rmtree(self.unfinished, ignore_errors=True)
            elif (self.unfinished / RECORD).is_file():  # killed while it was published
                self.publish_files()

    def is_done(self) -> bool:
        """Tell whether an earlier run left all of this; say so, or why it is done again."""
        why = "" if self.restart else self.find_difference()
        if not self.restart and not why:
            print(
                f"nothing to do: {self.folder} has all of {self.script} with these settings "
                "(--restart starts over)"
            )
            return True
        if why and self.record.is_file():
            print(f"{self.folder}: {self.script} again: {why}")
        if self.is_main:
            self.begin()
        return False

    def begin(self) -> None:
        """Make the unfinished folder, or find that of the same run."""
        marker = self.unfinished / MARKER
        if self.resumable and marker.is_file():
            with naming(marker, f"{self.script}, with --restart,"):
                why = differences(read_json(marker, self.script), self.made_of)
            if why:
                raise UserError(
                    f"{self.unfinished} is of an unfinished run with other settings ({why}): give "
                    "the same to go on with it, or --restart to start over"
                )
            return
        shutil.rmtree(self.unfinished, ignore_errors=True)
        write_json(marker, self.made_of)

    def find_difference(self) -> str:
        """Say why the record is not that of this run with all its outputs whole; "" if it is."""
        if not self.record.is_file():
            return "not yet done"
        try:
            record = read_json(self.record, self.script)
            why = differences(record, self.made_of) or find_damage(self.record)
        except (UserError, KeyError, TypeError, AttributeError):
            return f"{self.record} is damaged"
        commit = describe_machine()["commit"]
        if not why and record["commit"] != commit:
            print(f"{self.folder}: made by the code of {record['commit']}, which now is {commit}")
        return why

    def publish(self) -> None:
        """Move all files of the unfinished folder to their places, the record last.

        What only an earlier run has on record is removed.
        """
        outputs = {
            path.relative_to(self.unfinished).as_posix(): sha256(path)
            for path in sorted(self.unfinished.rglob("*"))
            if path.is_file() and not path.name.startswith((".partial-", MARKER, RECORD))
        }
        content = {**self.made_of, **describe_machine(), "outputs": outputs}
        write_json(self.unfinished / RECORD, content)
        self.publish_files()

    def publish_files(self) -> None:
        new = read_json(self.unfinished / RECORD, self.script)
        for name in new["outputs"]:
            if (self.unfinished / name).is_file():  # else moved before the run was killed
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.unfinished / name).replace(self.folder / name)
        for name in read_outputs(self.record).keys() - new["outputs"].keys():
            if ".." not in Path(name).parts and not Path(name).is_absolute():
                (self.folder / name).unlink(missing_ok=True)
        (self.unfinished / RECORD).replace(self.record)
        shutil.rmtree(self.unfinished)


def hold(path: Path, folder: Path, script: str) -> None:
    """Keep other runs from a place until the process ends, however it ends, or lets go."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        open(path, "a").close()
        if path not in HELD and (lock := take_lock(path, blocking=False)):
            HELD[path] = lock
    except TimeoutError:
        raise UserError(
            f"{folder}: another run of {script} is writing there: wait until it ends, or "
            "give another --outputs"
        ) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror})") from None


def take_lock(path: Path, blocking: bool = True):
    """Return a lock that has a `release`; None where the file system has none, which is said.

    It ends with its process, however that ends. TimeoutError: another process has it, and it was
    not to be waited for.
    """
    with warnings.catch_warnings():  # which is said below
        warnings.simplefilter("ignore")
        from filelock import FileLock, SoftFileLock  # here: only who writes waits for it

    lock = FileLock(path, blocking=blocking, fallback_to_soft=False)
    try:
        if isinstance(lock, SoftFileLock):  # a file that a killed process would leave behind
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        lock.acquire()
        return lock
    except TimeoutError:
        raise
    except OSError as error:
        say_no_locks(error.strerror)
        return None


@cache
def say_no_locks(reason: str) -> None:
    """Say it once."""
    print(f"no locks on this file system ({reason}): start no second run beside this one")


def let_go() -> None:
    """Give up all locks of this process."""
    while HELD:
        HELD.popitem()[1].release()


def differences(old: dict, new: dict) -> str:
    """Name the settings and the inputs in which two runs differ; "" if in nothing."""
    found = []
    for kind in new:
        for name in {**old[kind], **new[kind]}:
            before, now = old[kind].get(name), new[kind].get(name)
            if before != now:
                is_setting = kind == "settings"
                found.append(
                    f"{name.upper()} = {now!r}, was {before!r}" if is_setting else f"other {name}"
                )
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def read_outputs(record: Path) -> dict[str, str]:
    """Return the files on a record with their hashes; none if it is missing or damaged."""
    try:
        return dict(read_json(record, "")["outputs"])
    except (UserError, KeyError, TypeError, ValueError):
        return {}


def find_damage(record: Path) -> str:
    """Name the first file on a record that is missing or has changed; "" if all are whole."""
    for name, digest in read_outputs(record).items():
        path = record.parent.parent / name
        if not path.is_file():
            return f"{path} is missing"
        if sha256(path) != digest:
            return f"{path} has changed"
    return ""


def check_whole(folder: Path, script: str, record: str = "") -> str:
    """Refuse results of a script that are not as on record; return one hash of them all.

    script: as it is started.  record: the record's name, where it is not the script's.
    """
    record = folder / RECORDS / f"{record or Path(script).stem}.json"
    damage = find_damage(record)
    if damage:
        raise UserError(f"{damage} since {script} wrote it: run {script} again")
    return "".join(sorted(read_outputs(record).values()))


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
    environment = {"python": platform.python_version(), "system": platform.platform(), **versions}
    return {"commit": find_commit(), "environment": environment}


def find_commit() -> str:
    """Return the commit of this project's code and whether it was changed; "unknown" without git.

    Another repository around the project's folder is not asked.
    """
    command = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", "describe"]
    try:
        done = subprocess.run(
            [*command, "--always", "--dirty=, with changes", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def read_recorded(folder: Path | str, name: str, script: str) -> dict:
    """Read a JSON file of a stage's folder; refuse one that is not as on the stage's record."""
    path = Path(folder) / name
    content = read_json(path, script)
    recorded = read_outputs(path.parent / RECORDS / f"{Path(script).stem}.json").get(name)
    if recorded and recorded != sha256(path):
        raise UserError(f"{path} has changed since {script} wrote it: run {script} again")
    return content


def read_data_hash(data: Path | str) -> str:
    """Return the hash of the preprocessed data in a folder, by its manifest."""
    manifest = read_recorded(data, "manifest.json", "preprocess.py")
    with naming(Path(data) / "manifest.json", "preprocess.py"):
        return hash_data(manifest["files"])


def read_config(folder: Path, script: str) -> dict:
    """Return config.json of a finished training; `script` trains it."""
    path = folder / "config.json"
    if not path.is_file() and any(folder.glob("unfinished-*")):
        raise UserError(f"{folder}: its training is unfinished: run {script} again, it goes on")
    return read_json(path, script)
