"""A trained run and recordings -> emotions: load_run, then predict."""

from pipeline.predicting.predicting import Answer, Heard, Run, load_run, predict
from pipeline.predicting.recordings import Recording

__all__ = ["Answer", "Heard", "Recording", "Run", "load_run", "predict"]
