"""Predict the test rows, and the rows held out of training, with the trained text model.

Reads   DATA/*.tsv (preprocess.py), OUTPUTS/NAME/ (text_train.py)
Writes  OUTPUTS/NAME_{truth,pred,output,index}.npy, _rows.tsv, _run.json;
        the same under OUTPUTS/heldout/; with CONDITION those of the test rows alone, under
        OUTPUTS/conditions/

    python text_test.py
    python text_test.py --condition asr:openai/whisper-small
"""

from common import settings  # first of all: it answers --help

# isort: split

from functools import partial
from pathlib import Path

import numpy as np

from common.checkpoint import load_weights
from common.conditions import in_condition
from common.data import Dataset, cut_batches
from common.stages import read_config
from common.testing import begin_test, write_predictions
from common.tokens import token_batches
from common.training import predict, start
from corpora.transcripts import clean
from models.kobert import build_text_network, load_tokenizer

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
NAME = "text"  # of the model that text_train.py trained
RESTART = False  # yes: also if an earlier run left all of this
CONDITION = ""  # words:.2: of the syllables misheard; asr:NAME: words of a recogniser (hub, folder)
BATCH_TOKENS = 4096  # padded tokens of a batch; changes the speed, not the result
BATCH_SIZE = 64
# --------------------------------------------------------------------------------------


def main() -> None:
    stage = begin_test("text_test.py", NAME, "text_train.py", settings.read(globals()))
    if not stage.is_done():
        change = partial(in_condition, condition=CONDITION, clean=clean)
        write_predictions(stage, NAME, "text_train.py", predict_rows, None, change)
        stage.publish()


def predict_rows(data: Dataset, folder: Path, title: str) -> np.ndarray:
    """Return the outputs (N, C) or (N, C + 2) of rows by the model in a folder."""
    config = read_config(folder, "text_train.py")["network"]
    network = load_weights(build_text_network(config), folder, "text_train.py")
    lengths, make_batch = token_batches(data, load_tokenizer(folder), config)
    batches = cut_batches(lengths, BATCH_TOKENS, BATCH_SIZE, 0)
    accelerator = start()
    network.to(accelerator.device)
    return predict(accelerator, network, batches, make_batch, data, title, workers=0)


if __name__ == "__main__":
    settings.run(main)
