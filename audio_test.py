"""Predict the test rows, and the rows held out of training, with the trained audio model.

Reads   DATA/*.tsv, *_audio.npy (preprocess.py), OUTPUTS/NAME/ (audio_train.py)
Writes  OUTPUTS/NAME_{truth,pred,output,index}.npy, _rows.tsv, _run.json;
        the same under OUTPUTS/heldout/; with CONDITION those of the test rows alone, under
        OUTPUTS/conditions/

    python audio_test.py
    python audio_test.py --speaker-norm utterance
    python audio_test.py --condition noise:10
"""

from common import settings  # first of all: it answers --help

# isort: split

from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from common.checkpoint import load_frozen, load_weights
from common.conditions import in_condition
from common.data import Dataset, cut_batches
from common.encoding import encode_later
from common.files import SAMPLE_RATE
from common.speakers import PRIOR_CLIPS
from common.stages import read_config
from common.testing import begin_test, write_predictions
from common.training import load_batches, predict, start, to_device
from common.voice import audio_batches
from fusion.outputs import command
from models.alexnet import adapt_batch_norm, build_audio_network

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
NAME = "audio"  # of the model that audio_train.py trained
RESTART = False  # yes: also if an earlier run left all of this
CONDITION = ""  # noise:10, telephone, room, mp3:32, clipping, level:-20, tempo:1.1
SPEAKER_NORM = "past"  # normalise by the speaker's past turns, this utterance, or all
BATCH_SECONDS = 240  # seconds of audio in a batch; changes the speed, not the result
BATCH_SIZE = 32
# --------------------------------------------------------------------------------------


def main() -> None:
    stage = begin_test("audio_test.py", NAME, "audio_train.py", settings.read(globals()))
    if not stage.is_done():
        change = partial(in_condition, condition=CONDITION)
        write_predictions(stage, NAME, "audio_train.py", predict_rows, SPEAKER_NORM, change)
        stage.publish()


def predict_rows(data: Dataset, folder: Path, title: str) -> np.ndarray:
    """Return the outputs (N, C) or (N, C + 2) of rows by the model in a folder.

    Where all of a speaker's utterances are known, batch normalisation is adapted to them too.
    """
    accelerator, script = start(), command("audio_train.py", NAME)
    config = read_config(folder, script)["network"]

    def find_encoder() -> nn.Module:
        from models.speech import build_speech_encoder  # takes seconds

        encoder = load_frozen(build_speech_encoder(config["speech"]), folder, script)
        return encoder.to(accelerator.device)

    encode = encode_later(find_encoder)
    make_batch = audio_batches(data, config, [SPEAKER_NORM], encode=encode)
    is_adapted = SPEAKER_NORM == "all" and config["kind"] == "ModifiedAlexNet"
    voices = data.speakers if is_adapted else np.zeros(len(data))
    outputs = 0
    for voice in np.unique(voices):
        network = load_weights(build_audio_network(config), folder, script)
        network.to(accelerator.device)
        rows = np.flatnonzero(voices == voice)
        lengths = data.sample_counts[rows]
        batches = cut_batches(lengths, BATCH_SECONDS * SAMPLE_RATE, BATCH_SIZE, 0)
        batches = [rows[batch] for batch in batches]
        if is_adapted:
            own = load_batches([(batch,) for batch in batches], make_batch)
            on_device = (to_device(batch, accelerator.device) for batch in own)
            adapt_batch_norm(network, on_device, len(rows) / (len(rows) + PRIOR_CLIPS))
        # Of all rows, zero but for those of the batches.
        outputs = outputs + predict(accelerator, network, batches, make_batch, data, title)
    return outputs


if __name__ == "__main__":
    settings.run(main)
