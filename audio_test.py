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
from models.speech import SpeechClassifier, build_speech_encoder
from pipeline import config
from pipeline.features.clips import (
    compute_frames,
    paper_inputs,
    speaker_batches,
    spectrogram_batches,
    spectrogram_inputs,
)
from pipeline.features.mel import PAPER_BINS, Mel
from pipeline.learning import testing, training
from pipeline.learning.dataset import Utterances, audio_inputs

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
    if settings["encoder"] != "alexnet":
        encoder = build_speech_encoder(trained["encoder"])
        model, inputs = SpeechClassifier(encoder, trained["normalise"], frozen=True), audio_inputs
    elif settings["features"] == "paper":
        inputs = paper_inputs
        model = ModifiedAlexNet(settings["pooling"], PAPER_BINS)
    else:
        mel = Mel(**trained["mel"])
        model = ModifiedAlexNet(settings["pooling"], mel.bins)
        inputs = partial(spectrogram_inputs, mel=mel, augment=0.0)
        compute_frames(rows, mel)
    model.load_state_dict(weights)
    cut = speaker_batches if model.by_speaker else spectrogram_batches
    return training.predict(
        model.to(Accelerator().device),
        rows,
        partial(cut, budget=BATCH_SECONDS, size=BATCH_SIZE),
        inputs,
        f"test {folder.name}",
    )


if __name__ == "__main__":
    config.run(main)
