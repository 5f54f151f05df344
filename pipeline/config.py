"""The block of UPPER_CASE settings at the top of a script, and its overrides from the command line.

A script ends with

    if __name__ == "__main__":
        config.run(main)

and `--name value` (or `--name=value`) then replaces its constant NAME before main() runs. The block
stands between two ruled lines, `# -----`.
"""

import ast
import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.files import UserError

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_block(namespace: dict) -> tuple[str, int, int]:
    """Return a script's source and the numbers of the first and last ruled line of its block."""
    source = Path(namespace["__file__"]).read_text(encoding="utf-8")
    rules = [i for i, line in enumerate(source.splitlines(), 1) if line.startswith("# ---")]
    return source, rules[0], rules[-1]


def settings(namespace: dict) -> dict:
    """Return the constants of a script's block as {lower-case name: value}, in their order.

    `namespace` is the script's globals().
    """
    source, first, last = read_block(namespace)
    names = [
        node.targets[0].id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and first < node.lineno < last
    ]
    return {name.lower(): namespace[name] for name in names}


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
        kind = type(default).__name__
        raise UserError(f"--{name}: '{text}' is not a {kind} (default: {default})") from None
    return text


def parse(arguments: list[str], defaults: dict) -> dict:
    """Return the overrides {lower-case name: converted value} that the arguments ask for."""
    overrides = {}
    words = iter(arguments)
    for word in words:
        if not word.startswith("--"):
            raise UserError(f"unexpected argument '{word}': settings are given as --name value")
        option, equals, text = word[2:].partition("=")
        name = option.replace("-", "_").lower()
        if name not in defaults:
            nearest = difflib.get_close_matches(name, defaults, n=1, cutoff=0)
            raise UserError(
                f"unknown setting --{option}; did you mean --{nearest[0].replace('_', '-')}? "
                "(--help lists them all)"
            )
        if not equals:
            text = next(words, None)
            if text is None:
                raise UserError(f"--{option} needs a value (default: {defaults[name]})")
        overrides[name] = convert(option, text, defaults[name])
    return overrides


def help_text(namespace: dict) -> str:
    """Return the script's docstring and its block of settings, comments included."""
    source, first, last = read_block(namespace)
    block = source.splitlines()[first - 1 : last]
    title = "Settings (override with --name value):"
    return "\n".join([namespace["__doc__"].strip(), "", title, "", *block])


def run(main: Callable[[], None]) -> None:
    """Run a script's main() under the command line's overrides, a UserError in one line."""
    namespace = main.__globals__
    try:
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(help_text(namespace))
            return
        overrides = parse(sys.argv[1:], settings(namespace))
        for name, value in overrides.items():
            print(f"setting {name.upper()} = {value!r} (was {namespace[name.upper()]!r})")
            namespace[name.upper()] = value
        main()
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(130)
