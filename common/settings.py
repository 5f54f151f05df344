"""The block of UPPER_CASE settings at the top of a script, and its overrides from the command line.

A script ends with

    if __name__ == "__main__":
        settings.run(main)

and `--name value` (or `--name=value`) then replaces its constant NAME before main() runs;
`--script.name value` is for one of several scripts that get the same command line; a yes/no setting
alone, `--name`, means yes. The block stands between two ruled lines, `# -----`.

A script imports this file before all that takes seconds to import, because whoever asks for
`--help` is answered at once: the docstring and the block are read from the script's text.
"""

import ast
import difflib
import errno
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Before numpy: the features' products are small, and its threads would take the cores from torch.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from common.files import UserError
from common.ranges import check_command, with_kinds
from common.stages import let_go
from models import ModelError

GRACE = 30.0  # seconds
# What a disk or a folder refuses: the user's to mend, unlike a file that our code mislaid.
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EIO),
)
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
KINDS = {bool: "yes or no", int: "a whole number", float: "a number"}


def read_block(script: str | Path) -> tuple[list[str], dict[str, object]]:
    """Return the lines of a script's block, ruled lines included, and its settings.

    Those are {lower-case name: value}, None for a value that is not written out.
    """
    source = Path(script).read_text(encoding="utf-8")
    lines = source.splitlines()
    rules = [number for number, line in enumerate(lines, 1) if line.startswith("# ---")]
    first, last = rules[0], rules[-1]
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and first < node.lineno < last:
            name = node.targets[0].id.lower()
            found[name] = None
            with suppress(ValueError):
                found[name] = ast.literal_eval(node.value)
    return lines[first - 1 : last], found


def read(namespace: dict) -> dict:
    """Return the settings of a script, whose globals() these are: {lower-case name: value}."""
    return {name: namespace[name.upper()] for name in read_block(namespace["__file__"])[1]}


def convert(name: str, text: str, default: object) -> object:
    """Convert the text of an override to the type of the default; tuples are comma-separated."""
    try:
        if isinstance(default, bool):
            return BOOLEANS[text.lower()]
        if isinstance(default, tuple):
            items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
            return tuple(convert(name, item, default[0] if default else "") for item in items)
        return type(default)(text)
    except (KeyError, ValueError):
        raise UserError(f"--{name}: {text!r} is not {KINDS[type(default)]}") from None


def take_overrides(arguments: list[str], blocks: dict[str, dict], own: str, words: str) -> dict:
    """Return a script's overrides {lower-case name: value} after the whole command was checked.

    blocks: the settings of each stage of the command, by its name.  own: this script's.  words:
    the setting, a tuple, that takes what has no name.
    """
    kinds = {stage: with_kinds(stage, block) for stage, block in blocks.items()}
    known = dict(kinds[own])
    for stage, block in kinds.items():
        known |= {f"{stage}.{name}": value for name, value in block.items()}
        known = block | known
    taken = {stage: {} for stage in blocks}
    asked, waiting = set(), list(reversed(arguments))
    while waiting:
        word = waiting.pop()
        if not word.startswith("--"):
            if not words:
                raise UserError(f"unexpected argument '{word}': settings are given as --name value")
            taken[own][words] = (*taken[own].get(words, ()), word)
            continue
        option, equals, text = word[2:].partition("=")
        name = option.replace("-", "_").lower()
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0].replace("_", "-")
            said = f"unknown setting --{option}; did you mean --{nearest}? (--help lists them all)"
            raise UserError(said)
        if not equals:
            following = waiting[-1] if waiting else "--"
            is_word = bool(words) and following.lower() not in BOOLEANS
            if isinstance(known[name], bool) and (is_word or following.startswith("--")):
                text = "yes"
            elif not waiting:
                raise UserError(f"--{option} needs a value")
            else:
                text = waiting.pop()
        asked.add(name)
        for stage, block in kinds.items():
            setting = name.removeprefix(f"{stage}.")
            if setting in block:
                taken[stage][setting] = convert(option, text, block[setting])
    check_command(blocks, taken, own, asked)
    return taken[own]


def help_text(namespace: dict) -> str:
    """Return the script's docstring and its block of settings, comments included."""
    title = "Settings (override with --name value):"
    return "\n".join(
        [namespace["__doc__"].strip(), "", title, "", *read_block(namespace["__file__"])[0]]
    )


def answer_help() -> None:
    """Print the help of the script that is being started, and exit, if the command line asks."""
    script = vars(sys.modules["__main__"])
    if not {"-h", "--help"} & set(sys.argv[1:]) or "__file__" not in script:
        return
    if "settings.run(main" in Path(script["__file__"]).read_text("utf-8", "replace"):
        print(help_text(script))
        sys.exit()


def run(main: Callable[[], None], words: str = "") -> None:
    """Run a script's main() under the command line's overrides, a UserError in one line.

    words: the setting, a tuple, that takes the command line's words without a name. A script that
    has one answers what it is asked: its overrides are not echoed.

    The environment's STAGES lists the scripts that get the same overrides (run_all.sh): a setting
    that this script lacks but one of them has is no error here.
    """
    namespace = main.__globals__
    is_first = os.environ.get("RANK", "0") == "0"
    if not is_first:  # of several processes, the first one speaks
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        script = Path(namespace["__file__"])
        blocks = {script.stem: read(namespace)}
        stages = os.environ.get("STAGES", "").split()
        for stage in stages if script.name in stages else ():
            blocks.setdefault(Path(stage).stem, read_block(script.parent / stage)[1])
        overrides = take_overrides(sys.argv[1:], blocks, script.stem, words)
        for name, value in overrides.items():
            if not words:
                print(f"setting {name.upper()} = {value!r} (was {namespace[name.upper()]!r})")
            namespace[name.upper()] = value
        main()
    except (UserError, ModelError) as error:
        if not is_first:
            time.sleep(GRACE)  # what the first process meets as well, it says, and all are ended
        leave(f"error: {error}", 2)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        leave(f"error: {place}{error.strerror}", 2)
    except KeyboardInterrupt as stop:
        leave(f"interrupted; {str(stop) or 'the same command does this stage again'}", 130)
    finally:
        let_go()


def leave(said: str, status: int) -> None:
    """End the program with one line on the standard error."""
    print(f"{Path(sys.argv[0]).name}: {said}", file=sys.stderr)
    sys.exit(status)


answer_help()
