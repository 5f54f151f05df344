"""A trained run and recordings -> emotions: load_run, then predict."""

from pipeline.predicting.predicting import Answer, Heard, load_run, predict
from pipeline.predicting.recordings import Recording

__all__ = ["Answer", "Heard", "Recording", "load_run", "predict"]
