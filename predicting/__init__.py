"""A trained run and recordings -> emotions: load_run, then predict."""

from predicting.predicting import Answer, History, Run, load_run, predict
from predicting.recordings import Recording
from predicting.windows import predict_windows

__all__ = ["Answer", "History", "Recording", "Run", "load_run", "predict", "predict_windows"]
