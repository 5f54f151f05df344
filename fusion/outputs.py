"""The files of one model's predictions: who writes them, what is in them, and whether they fit.

For each model `{name}_truth.npy` (int64, N), `{name}_pred.npy` (int64, N), `{name}_output.npy`
(float32 logits, N x 7), `{name}_index.npy` (segment IDs, N), `{name}_rows.tsv` (FACTS of the rows)
and `{name}_run.json` (data_hash, synthetic, speaker_norm, script, input, settings ...). The last
three may be missing, for all models alike. Valence and arousal: fusion/ratings.py. Rows are counted
from 0.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from common.files import LABELS, UserError, read_json

HELD_OUT = "heldout"  # folder below OUTPUTS: rows that the model was not trained on
CONDITIONS = "conditions"  # as HELD_OUT, with a folder for each: test rows that are heard worse
BASELINES = ("baseline_text", "baseline_audio", "baseline_both")
SCRIPTS = {"cmbert": "run_classifier.py"} | dict.fromkeys(BASELINES, "baseline.py")
# What a model needs of an utterance; of others {name}_run.json says it, or they need both.
NAMED = ("text", "audio")  # whose scripts take a --name
INPUTS = {"text": "text", "audio": "audio", "cmbert": "text+audio"}

# Of the table of preprocess.py. dialogue_number, turn: the place in the order of time of the
# dialogue in its session and of the row in the dialogue; labels: all that are tied, joined by ";".
# Beside them stand the votes for each label, and in some tables OPTIONAL ones.
FACTS = ("id", "session", "speaker", "scenario", "dialogue_number", "turn", "labels")
OPTIONAL = ("gender", "corpus")
# seconds, words: of the utterance, their number; level, noise: of its recording, in dB (see
# common/sound.py), nan where it is silent.  Optional as well.
MEASURES = ("seconds", "words", "level", "noise")


def read_labels(run: dict) -> tuple[str, ...]:
    """Return the labels of {name}_run.json, config.json or fusion.json, KEMDy's if it has none.

    Anything but two different names or more is a ValueError.
    """
    labels = run.get("labels", LABELS)
    names = {label for label in labels if isinstance(label, str) and label}
    if not 1 < len(labels) == len(names):
        raise ValueError("labels: not two different names or more")
    return tuple(labels)


def name_votes(labels: Iterable[str]) -> list[str]:
    """Return the columns of the votes in a table of rows."""
    return [f"votes_{label}" for label in labels]


def check_arrays(folder: Path, model: str, arrays: dict, classes: int) -> None:
    """Check shapes, types and values of one model's arrays (`index` may be absent)."""
    output, ids = arrays["output"], arrays.get("index")
    count = len(output) if output.ndim else 0
    for name, array in arrays.items():
        shape = (count, classes) if name == "output" else (count,)
        is_kind = array.dtype.kind in {"output": "f", "index": "U"}.get(name, "iu")
        if array.shape != shape or count == 0 or not is_kind:
            raise UserError(
                f"{folder / f'{model}_{name}.npy'}: {array.dtype} of shape {array.shape}, where "
                f"{shape} is expected from {model}_output.npy{again(folder, model)}"
            )

    def check(name: str, wrong: np.ndarray, message: str) -> None:
        refuse(folder / f"{model}_{name}.npy", wrong, message + again(folder, model), ids)

    check("output", ~np.isfinite(output).all(axis=1), "not a finite number")
    for name in ("truth", "pred"):
        wrong = (arrays[name] < 0) | (arrays[name] >= classes)
        check(name, wrong, f"not a label id of 0-{classes - 1}")
    chosen = output[np.arange(count), arrays["pred"]]
    message = f"is not the largest column of {model}_output.npy: files of two runs"
    check("pred", chosen != output.max(axis=1), message)
    if ids is not None:
        check("index", pd.Series(ids).duplicated(), "the segment occurs twice")


def refuse(path: Path, wrong: np.ndarray, message: str, ids: np.ndarray | None) -> None:
    """Raise a UserError that names the first row where `wrong` is true, if there is one."""
    for row in np.flatnonzero(wrong)[:1]:
        segment = f" ({ids[row]})" if ids is not None else ""
        raise UserError(f"{path}, row {row}{segment}: {message}")


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return models as they are always listed: text, audio, cmbert, then by name."""
    names = {*names}
    return (*[name for name in INPUTS if name in names], *sorted(names - {*INPUTS}))


def command(script: str, model: str) -> str:
    """Return how a script is started for a model: `audio_test.py --name speech`."""
    kind, _, rest = script.partition("_")
    takes_name = kind in NAMED and rest in ("train.py", "test.py") and model != kind
    return f"{script} --name {model}" if takes_name else script


def script_of(folder: Path, model: str, kind: str = "test") -> str:
    """Return what writes a model's files in a folder; kind "train": what trains the model.

    Of a model of another name, its _run.json files and its config.json tell whether it is one of
    the text or audio scripts'; one of them may be damaged or missing.
    """
    own = SCRIPTS.get(model, f"{model}_{kind}.py")
    if model in INPUTS or model in BASELINES:
        return own
    run = f"{model}_run.json"
    for path in (run, f"{HELD_OUT}/{run}", f"../{run}", f"{model}/config.json"):
        with suppress(UserError, LookupError, TypeError, AttributeError):
            known = read_json(folder / path, "")["script"].partition("_")[0]
            if known in NAMED:
                return command(f"{known}_{kind}.py", model)
    return own


def again(folder: Path, model: str) -> str:
    return f": run {script_of(folder, model)} again"
