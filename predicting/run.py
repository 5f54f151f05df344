"""A trained run: the models in a folder that can predict, and the fusion of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common.features import Mel
from common.files import DIMENSIONS, UserError, naming, read_json
from common.stages import check_whole
from corpora.transcripts import STYLES
from fusion import stored as fusion
from fusion.outputs import command, in_order, read_labels, script_of
from predicting.batches import Model
from predicting.utterances import NEEDED

NAME = re.compile(r"\w[\w-]*")  # of a model's folder: it is printed, and stands in tables


@dataclass(frozen=True)
class Run:
    """Trained models that predict, and the fusion of them.

    configs: model -> its config.json.  load: loads a model by its name when it is first needed.
    remarks: for people, of models that have no part.
    """

    folder: Path
    configs: dict[str, dict]
    load: Callable[[str], Model]
    fusion: fusion.Fusion
    remarks: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.configs)

    def needed(self, model: str) -> str:
        """Return what a model needs of an utterance, one of NEEDED."""
        return NEEDED[self.configs[model]["script"]]

    @property
    def config(self) -> dict:
        """The configuration of any model: all were trained on the same data."""
        return next(iter(self.configs.values()))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """DIMENSIONS, which some model has learned and the fusion fuses; none otherwise."""
        learned = any(has_dimensions(config) for config in self.configs.values())
        return DIMENSIONS if learned and self.fusion.dimensions else ()

    @property
    def dimension_scale(self) -> tuple[float, float]:
        """The lowest and the highest valence or arousal that a rater could give."""
        return next(iter(self.fusion.dimensions.values())).scale

    @property
    def embedder(self) -> str:
        """The model, of the voice if possible, whose speech encoder embeds utterances; "": none."""
        found = [name for name, config in self.configs.items() if "speech" in config["network"]]
        return min(found, key=lambda name: self.needed(name) != "audio", default="")


def load_run(folder: Path | str = "outputs", onnx: bool = False) -> Run:
    """Load what the training scripts and ensemble.py left in a folder; some models may be missing.

    No file in it can run code: weights are safetensors, the rest is JSON and a tokenizer's model.
    onnx: run the graphs of an exported folder, without torch.
    """
    folder = Path(folder)
    check_whole(folder, "predict.py")  # of an exported run
    found = find_models(folder)
    if not found:
        raise UserError(f"{folder} has no trained model: run {', '.join(NEEDED)} and ensemble.py")
    fitted = fusion.load(folder / "fusion.json")
    configs = {name: config for name, config in found.items() if name in fitted.temperatures}
    remarks = [
        f"{folder}/{name} has no part until {script_of(folder, name)} and ensemble.py are run"
        for name in found
        if name not in configs
    ]
    if not configs:
        raise UserError(f"{folder}: no model of fusion.json is there, {'; '.join(remarks)}")
    if missing := [name for name in fitted.temperatures if name not in configs]:
        missing = " and no ".join(missing)
        remarks.append(f"{folder} has no {missing} model: the fusion of the others")
    if any(map(has_dimensions, configs.values())) and not fitted.dimensions:
        remarks.append(f"no valence and arousal until {folder}/fusion.json is made by ensemble.py")
    for name, config in configs.items():
        check_whole(folder / name, command(config["script"], name))
    if any(tuple(config["labels"]) != fitted.labels for config in configs.values()):
        raise UserError(
            f"{folder}: other emotions in fusion.json than in its models: run ensemble.py"
        )
    if len({config["data_hash"] for config in configs.values()}) > 1:
        names = ", ".join(configs)
        raise UserError(f"{folder}: {names} were trained on different data: train them again")
    if onnx:  # each of the two is imported where it is used: torch takes seconds
        from predicting.runtime import load_model
    else:
        from predicting.networks import load_model
    encoders = {}
    load = cache(lambda name: load_model(folder / name, configs[name], encoders))
    return Run(folder, configs, load, fitted, tuple(remarks))


def find_models(folder: Path) -> dict[str, dict]:
    """Return the config.json of every model in a folder that a script of NEEDED has trained."""
    found = {}
    names = [path.parent.name for path in folder.glob("*/config.json")]
    for name in in_order(name for name in names if NAME.fullmatch(name)):
        path, script = folder / name / "config.json", script_of(folder, name, "train")
        config = read_json(path, script)
        with naming(path, script):
            config.setdefault("script", script)  # of before it was said: text, audio, cmbert
            if config["script"] in NEEDED:
                check_config(config)
                found[name] = config
    return found


def has_dimensions(config: dict) -> bool:
    """Tell whether the model of a config.json has learned valence and arousal."""
    return bool(config["network"].get("dimensions"))


def check_config(config: dict) -> None:
    """Refuse a config.json without what predicting asks of it, by a ValueError or the like."""
    read_labels(config)
    if config["text_style"] not in STYLES:
        raise ValueError("does not say which emotions the model knows or how it reads words")
    words = config["data_hash"], config["synthetic"] or ""
    pairs = map(len, config["reference_range"].values())
    if not all(isinstance(word, str) for word in words) or {*pairs} - {2}:
        raise ValueError("does not say what the model was trained on")
    Mel(**config["network"].get("mel", {}))
    if has_dimensions(config):
        low, high = config["network"]["dimensions"]["scale"]
        if not low < high:
            raise ValueError("does not say how valence and arousal were rated")
