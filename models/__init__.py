"""The networks and the tokenizers, one file a model, and how checkpoints of the hub are loaded.

Nothing here knows a corpus or its files; transformers is imported where it is needed.
"""

import hashlib
import sys
from pathlib import Path

CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt")


class ModelError(ValueError):
    """A setting or a checkpoint that a model cannot use; the message tells the user what to do."""


def identify(name: str) -> str:
    """Return what tells a checkpoint's contents: a hash of its files, or the hub's commit.

    Of one that cannot be found nothing is known, "": whoever loads it says so.
    """
    from huggingface_hub import hf_hub_download

    folder = Path(name)
    if not folder.is_dir():
        try:  # the hub is not asked for what is probably a slip of the pen
            return Path(hf_hub_download(name, "config.json")).parent.name if "/" in name else ""
        except (OSError, ValueError):
            return ""
    digest = hashlib.sha256()
    for path in sorted({path for kind in CHECKPOINT_FILES for path in folder.glob(kind)}):
        digest.update(f"{path.name}\n".encode())
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def unreachable(name: str, what: str, error: Exception) -> ModelError:
    """Return the error for a checkpoint that cannot be loaded, with the reason's first line."""
    reason = first_line(error)
    if "trust_remote_code" in str(error):
        return ModelError(
            f"cannot load the {what} of '{name}': it comes with code of its own, which is never "
            "run; give a checkpoint of a kind that transformers knows"
        )
    place = (
        "a folder here" if Path(name).is_dir() else "no folder here, and the hub has not given it"
    )
    return ModelError(
        f"cannot load the {what} of '{name}' ({place}; {reason}): "
        "give a folder with config.json, weights and tokenizer, or a hub name with the network up"
    )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def read_sizes(config: dict):
    """Return transformers' configuration of an encoder from its dict, without what names code."""
    from transformers import AutoConfig

    passed_over = ("model_type", "auto_map", "attn_implementation", "_attn_implementation")
    options = {key: value for key, value in config.items() if key not in passed_over}
    return AutoConfig.for_model(config["model_type"], **options)


def hide_bars_in_files() -> None:
    """Keep the bars of transformers off a standard error that is no terminal."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
