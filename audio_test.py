"""Predict the test rows, and the rows held out of training, with the trained audio model.

Reads   DATA/*.tsv, *_audio.npy (preprocess.py), OUTPUTS/audio/ (audio_train.py)
Writes  OUTPUTS/audio_{truth,pred,output,index}.npy and the same under OUTPUTS/valid/

    python audio_test.py
"""

from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from models.alexnet import ModifiedAlexNet
from pipeline import config, testing, training
from pipeline.dataset import Utterances
from pipeline.spectrograms import (
    compute_frames,
    paper_inputs,
    spectrogram_batches,
    spectrogram_inputs,
)

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
BATCH_SECONDS = 240  # seconds of audio in a batch; changes the speed, not the result
BATCH_SIZE = 32
# --------------------------------------------------------------------------------------


def main() -> None:
    testing.dump("audio", "audio_train.py", DATA, OUTPUTS, predict)


def predict(folder: Path, trained: dict, weights: dict, rows: Utterances) -> Tensor:
    """Return the logits (N, 7) of rows under one training."""
    settings = trained["settings"]
    model = ModifiedAlexNet(settings["pooling"])
    model.load_state_dict(weights)
    inputs = paper_inputs
    if settings["features"] == "mel":
        compute_frames(rows)
        inputs = partial(spectrogram_inputs, augment=0.0)
    return training.predict(
        model.to(Accelerator().device),
        rows,
        partial(spectrogram_batches, budget=BATCH_SECONDS, size=BATCH_SIZE),
        inputs,
        f"test {folder.name}",
    )


if __name__ == "__main__":
    config.run(main)
