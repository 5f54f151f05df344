"""A stage's trainings: one model, or one a fold and one of all sessions, each resumable."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import transformers

from common.files import LABELS, UserError, naming, read_json, write_json
from models.kobert import identify
from models.processes import total
from pipeline.learning import processes
from pipeline.learning.checkpoint import save_weights, write_files
from pipeline.learning.dataset import Training, load_utterances, plan_trainings
from pipeline.learning.recogniser import Recogniser
from pipeline.record import MARKER, Work, describe_machine, differences

PLACES = ("data", "outputs", "restart")
PRETRAINED = ("bert", "encoder", "audio")  # settings that may name a checkpoint
OWN = ("alexnet", "aligned", "paper")  # what else they may say


class Run:
    """The results folder of a stage while it trains, so that a killed stage can go on.

    stage: the model's file in pipeline/learning (text, audio, cmbert).  settings: the script's.
    All is written to `unfinished/` below it, whose `running.json` names the settings and the data,
    and moved to its place when the stage is finished: until then an earlier run's model stands. A
    stage that finds an unfinished run of its own goes on where that stopped, and refuses another's;
    where there is nothing to do, it is left alone.
    """

    def __init__(self, stage: ModuleType, settings: dict):
        self.stage, self.settings = stage, settings
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        if settings["deterministic"] != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(settings["deterministic"])  # takes a second
        self.device = processes.join()
        self.folder = Path(settings["outputs"]) / stage.NAME
        self.unfinished = self.folder / "unfinished"
        self.marker = self.unfinished / MARKER
        self.rows = load_utterances(settings["data"], "train", "valid")
        self.plan()  # refused before work is lost
        inputs = {"data_hash": self.rows.data_hash}
        for name in PRETRAINED:
            if settings.get(name, OWN[0]) not in OWN:
                inputs[name] = identify(settings[name])
        self.work = Work(stage.MADE_BY, self.folder, settings, inputs, self.folder)
        settings = self.work.made_of["settings"] | {"processes": processes.count()}
        self.identity = self.work.made_of | {"settings": settings}
        self.config = self.describe()
        is_done = processes.is_first() and self.begin()
        self.is_done = bool(total(torch.tensor(float(is_done), device=self.device)))

    def plan(self) -> list[Training]:
        return plan_trainings(self.rows, self.settings["folds"], self.unfinished)

    def describe(self) -> dict:
        """Return what config.json says of every training of the stage."""
        settings = {k: v for k, v in self.settings.items() if k not in PLACES}
        return {
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()},
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
            **describe_machine(),
        }

    def begin(self) -> bool:
        """Find the unfinished run of the same settings, or prepare for a new one.

        Returns whether an earlier run has done everything.
        """
        self.work.take_up(self.unfinished)
        if self.work.is_done():
            return True
        learned = [*self.unfinished.rglob("state.pt"), *self.unfinished.rglob("config.json")]
        if self.marker.is_file() and learned:
            before = read_json(self.marker, "with --restart")
            with naming(self.marker, "with --restart"):
                why = differences(before, self.identity)
                other_code = differences(before, self.work.code)
            if why:
                raise UserError(
                    f"{self.unfinished} is a run of {why}: give the same to go on with it, or "
                    "--restart to start over"
                )
            begun = other_code and f", begun by {other_code}"
            print(f"{self.folder}: going on with the unfinished run of these settings{begun}")
        else:
            shutil.rmtree(self.unfinished, ignore_errors=True)
            write_json(self.marker, self.identity | self.work.code)
        return False

    def trainings(self) -> Iterator[tuple[Training, Recogniser]]:
        """Yield what is still to be trained, each with a new model.

        Features are computed once and shared by all trainings.
        """
        is_prepared = False
        for number in range(0 if self.is_done else self.settings["folds"] + 1):
            part = self.plan()[number]
            if (part.folder / "config.json").is_file():
                print(f"{part.folder}: already trained in this run")
                continue
            torch.manual_seed(self.settings["seed"])
            model = self.stage.create(self.settings)
            if not is_prepared:
                model.network.to(self.device)  # a frozen speech encoder is part of preparing
                self.rows, is_prepared = model.prepare(self.rows), True
                part = self.plan()[number]
            name = "model" if part.folder == self.unfinished else part.folder.name
            part.identity = self.identity | {"training": {"number": number}}
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

    def finish(self) -> None:
        """Put the trained models and their record in place of an earlier run's.

        Only the first process goes on.
        """
        if processes.is_first() and not self.is_done:
            self.work.complete(self.unfinished)
            print(f"wrote {self.folder}: model.safetensors, config.json, history.json")
        processes.leave()
