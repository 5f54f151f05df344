"""The epochs of a training in TensorBoard or Weights & Biases, beside history.json.

They lie in OUTPUTS/logs, apart from the model: no model is made of them, so they may be deleted.
"""

from importlib.util import find_spec

from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker

from common.data import Training
from common.files import UserError, remove
from common.stages import Stage

PROJECT = "korean-emotion"  # at Weights & Biases


def check_trackers(log: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is missing."""
    for name in log:
        if find_spec(name) is None:
            raise UserError(f"LOG = {name!r}: pip install {name} first, or leave --log out")


class Trackers:
    """What is told of every epoch of one training; each fold is a run of its own.

    log: names out of "tensorboard" and "wandb", or none.
    """

    def __init__(self, log: tuple[str, ...], stage: Stage, training: Training):
        self.log, self.settings = log if stage.is_main else (), stage.settings
        self.folder = stage.folder.parent / "logs"
        self.run = (stage.folder.name / training.folder.relative_to(stage.unfinished)).as_posix()
        self.started: list[GeneralTracker] = []

    def start(self, history: list[dict], run_id: str) -> None:
        """Begin with the epochs that are done: history.json and curves are the same after a stop.

        run_id: of the training, so that Weights & Biases goes on in the run that it has.
        """
        for name in dict.fromkeys(self.log):
            try:
                tracker = self.make(name, run_id)
                tracker.start()
            except Exception as error:  # of packages that are not ours: no login, no connection
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"LOG = {name!r} does not start ({reason}): mend it, or leave --log out"
                ) from None
            self.started.append(tracker)
        for record in history:
            self.add(record)

    def make(self, name: str, run_id: str) -> GeneralTracker:
        self.folder.mkdir(parents=True, exist_ok=True)
        if name == "tensorboard":
            for path in (self.folder / self.run).glob("events.out.tfevents.*"):
                remove(path)
            return TensorBoardTracker(self.run, self.folder)
        return WandBTracker(
            PROJECT,
            name=self.run,
            id=run_id,
            resume="allow",
            dir=self.folder,
            config=self.settings,
        )

    def add(self, record: dict) -> None:
        """Add an epoch's record of history.json."""
        values = {name: value for name, value in record.items() if name != "epoch"}
        for group, lr in values.pop("learning_rate").items():
            values[f"learning_rate/{group}".rstrip("/")] = lr
        for tracker in self.started:
            tracker.log(values, step=record["epoch"])

    def finish(self) -> None:
        while self.started:
            self.started.pop().finish()
