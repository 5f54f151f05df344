"""A trained run and recordings -> emotions: load_run, then predict."""

from predicting.predicting import Answer, History, predict
from predicting.recordings import Recording
from predicting.run import Run, load_run
from predicting.windows import predict_windows

__all__ = ["Answer", "History", "Recording", "Run", "load_run", "predict", "predict_windows"]
