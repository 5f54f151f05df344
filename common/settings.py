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
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from common.files import UserError, let_go
from common.ranges import check_command, with_kinds
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
    """Return the lines of a script's block, ruled lines included, and what it assigns by name.

    None stands for a value that is not written out.
    """
    source = Path(script).read_text(encoding="utf-8")
    lines = source.splitlines()
    rules = [number for number, line in enumerate(lines, 1) if line.startswith("# ---")]
    first, last = rules[0], rules[-1]
    assigned = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and first < node.lineno < last:
            with suppress(ValueError):
                assigned[node.targets[0].id] = None
                assigned[node.targets[0].id] = ast.literal_eval(node.value)
    return lines[first - 1 : last], assigned


def read(namespace: dict) -> dict:
    """Return the constants of a script's block as {lower-case name: value}, in their order.

    `namespace` is the script's globals().
    """
    return {name.lower(): namespace[name] for name in read_block(namespace["__file__"])[1]}


def read_stage(script: Path) -> dict:
    """Return another script's settings as its block has them, {lower-case name: value}."""
    return {name.lower(): value for name, value in read_block(script)[1].items()}


def convert(name: str, text: str, default: object) -> object:
    """Convert the text of an override to the type of the default; tuples are comma-separated."""
    try:
        if isinstance(default, bool):
            return BOOLEANS[text.lower()]
        if isinstance(default, tuple):
            items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
            kind = default[0] if default else ""
            return tuple(convert(name, item, kind) for item in items)
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except (KeyError, ValueError):
        raise UserError(f"--{name}: {text!r} is not {KINDS[type(default)]}") from None
    return text


def option_name(word: str) -> str:
    """Return the setting that an argument --name or --name=value is of, in lower case."""
    return word[2:].partition("=")[0].replace("-", "_").lower()


def parse(
    arguments: list[str],
    defaults: dict,
    elsewhere: Mapping[str, object] = MappingProxyType({}),
    stage: str = "",
    words: str = "",
) -> dict:
    """Return the overrides {lower-case name: converted value} that the arguments ask for.

    elsewhere: defaults of other stages of the same command, by `name` and by `stage.name`, which
    are passed over.  stage: this one's name.  words: the tuple that takes what has no name.
    """
    overrides, waiting = {}, list(reversed(arguments))
    while waiting:
        word = waiting.pop()
        if not word.startswith("--"):
            if not words:
                raise UserError(f"unexpected argument '{word}': settings are given as --name value")
            overrides[words] = (*overrides.get(words, ()), word)
            continue
        option, equals, text = word[2:].partition("=")
        full_name = option_name(word)
        name = full_name.removeprefix(f"{stage}.")
        if name not in defaults and full_name not in elsewhere:
            nearest = difflib.get_close_matches(full_name, [*defaults, *elsewhere], n=1, cutoff=0)
            raise UserError(
                f"unknown setting --{option}; did you mean --{nearest[0].replace('_', '-')}? "
                "(--help lists them all)"
            )
        if not equals:
            following = waiting[-1] if waiting else "--"
            is_word = bool(words) and following.lower() not in BOOLEANS
            is_flag = isinstance(defaults.get(name, elsewhere.get(full_name)), bool)
            if is_flag and (is_word or following.startswith("--")):
                text = "yes"
            elif waiting:
                text = waiting.pop()
            else:
                raise UserError(f"--{option} needs a value")
        if name in defaults:
            overrides[name] = convert(option, text, defaults[name])
    return overrides


def take_overrides(arguments: list[str], blocks: dict[str, dict], own: str, words: str) -> dict:
    """Return a script's overrides, after all settings of the command have been checked.

    blocks: the settings of each stage of the command, by its name.  own: this script's.
    """
    defaults = {stage: with_kinds(stage, block) for stage, block in blocks.items()}
    every = {}
    for stage, block in defaults.items() if len(blocks) > 1 else ():
        every |= block | {f"{stage}.{name}": value for name, value in block.items()}
    taken = {
        stage: parse(arguments, block, every, stage, words if stage == own else "")
        for stage, block in defaults.items()
    }
    asked = {option_name(word) for word in arguments if word.startswith("--")}
    check_command(blocks, taken, own, asked)
    return taken[own]


def help_text(namespace: dict) -> str:
    """Return the script's docstring and its block of settings, comments included."""
    block, _ = read_block(namespace["__file__"])
    title = "Settings (override with --name value):"
    return "\n".join([namespace["__doc__"].strip(), "", title, "", *block])


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
            blocks.setdefault(Path(stage).stem, read_stage(script.parent / stage))
        overrides = take_overrides(sys.argv[1:], blocks, script.stem, words)
        for name, value in overrides.items():
            if not words:
                print(f"setting {name.upper()} = {value!r} (was {namespace[name.upper()]!r})")
            namespace[name.upper()] = value
        main()
    except (UserError, ModelError) as error:
        if not is_first:
            time.sleep(GRACE)  # what the first process meets as well, it says, and all are ended
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"{Path(sys.argv[0]).name}: error: {place}{error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        how = str(stop) or "the same command does this stage again"
        print(f"{Path(sys.argv[0]).name}: interrupted; {how}", file=sys.stderr)
        sys.exit(130)
    finally:
        let_go()


answer_help()
