"""The networks and the tokenizer, one file a model; nothing here knows a corpus or its files."""

from collections.abc import Collection


class ModelError(ValueError):
    """A setting or a checkpoint that a model cannot use; the message tells the user what to do."""


def check_choice(setting: str, value: str, choices: Collection[str]) -> None:
    """Refuse a word that a setting does not know."""
    if value not in choices:
        raise ModelError(f"{setting} = '{value}': give {' or '.join(choices)}")
