"""A stage's trainings: one model, or one a fold and one of all sessions, each resumable."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import transformers

from pipeline.files import read_json, write_json
from pipeline.labels import LABELS
from pipeline.learning import processes
from pipeline.learning.checkpoint import save_weights, write_files
from pipeline.learning.dataset import Training, load_utterances, plan_trainings
from pipeline.learning.recogniser import Recogniser

PLACES = ("data", "outputs")
RESULTS = ("config.json", "model.safetensors", "history.json", "state.pt")


class Run:
    """The results folder of a stage while it trains, so that a killed stage can go on.

    stage: the model's file in pipeline/learning (text, audio, cmbert).  settings: the script's.
    `running.json` names the settings and the data; it stands until the stage is finished. A stage
    that finds its own goes on where the other stopped; anything else is cleared away first.
    """

    def __init__(self, stage: ModuleType, settings: dict):
        self.stage, self.settings = stage, settings
        self.folder = Path(settings["outputs"]) / stage.NAME
        self.marker = self.folder / "running.json"
        self.rows = load_utterances(settings["data"], "train", "valid")
        plan_trainings(self.rows, settings["folds"], self.folder)  # refused before work is lost
        # DATA and OUTPUTS may spell the same place in many ways: the data hash identifies the data.
        identity = {name: value for name, value in settings.items() if name not in PLACES}
        self.config = {
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in identity.items()},
            "labels": list(LABELS),
            "data_hash": self.rows.data_hash,
            "source": self.rows.source,
            "synthetic": self.rows.synthetic,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "numpy": np.__version__,
            },
        }
        self.device = processes.join()
        if processes.is_first():
            self.begin()
        processes.wait()

    def begin(self) -> None:
        """Find the unfinished run of the same settings, or clear away what is there."""
        if self.marker.is_file():
            if read_json(self.marker, "the training") == self.config:
                print(f"{self.folder}: going on with the unfinished run of these settings")
                return
            print(f"{self.folder}: clearing away an unfinished run of other settings or data")
        for folder in (self.folder, *self.folder.glob("fold*")):
            for name in RESULTS:
                (folder / name).unlink(missing_ok=True)
        write_json(self.marker, self.config)

    def trainings(self) -> Iterator[tuple[Training, Recogniser]]:
        """Yield what is still to be trained, each with a new model.

        Features are computed once and shared by all trainings.
        """
        is_prepared = False
        for number in range(self.settings["folds"] + 1):
            part = plan_trainings(self.rows, self.settings["folds"], self.folder)[number]
            if (part.folder / "config.json").is_file():
                print(f"{part.folder}: already trained in this run")
                continue
            torch.manual_seed(self.settings["seed"])
            model = self.stage.create(self.settings)
            if not is_prepared:
                model.network.to(self.device)  # a frozen speech encoder is part of preparing
                self.rows, is_prepared = model.prepare(self.rows), True
                part = plan_trainings(self.rows, self.settings["folds"], self.folder)[number]
            name = "model" if part.folder == self.folder else part.folder.name
            print(f"{self.stage.NAME} {name}: {part}{model.inspect(part.fit)}")
            yield part, model

    def save(self, part: Training, model: Recogniser) -> None:
        """Write model.safetensors, the tokenizer and, last, config.json of a training.

        config.json names the sessions held out of training, and what the model needs to be loaded.
        """
        if not processes.is_first():
            return
        save_weights(model.network, part.folder / "model.safetensors")
        write_files(part.folder, model.files())
        sessions = sorted(int(session) for session in set(part.held_out.table["session"]))
        config = {**self.config, "held_out": sessions, **model.describe()}
        write_json(part.folder / "config.json", config)
        (part.folder / "state.pt").unlink(missing_ok=True)
        print(f"wrote {part.folder}/model.safetensors, config.json, history.json")

    def finish(self) -> None:
        """Mark the whole stage as finished; only the first process goes on."""
        if processes.is_first():
            self.marker.unlink()
        processes.leave()
