"""Predict the test rows, and the rows held out of training, with the trained text model.

Reads   DATA/*.tsv (preprocess.py), OUTPUTS/text/ (text_train.py)
Writes  OUTPUTS/text_{truth,pred,output,index}.npy and the same under OUTPUTS/heldout/

    python text_test.py
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from models.speaker import DEFAULT_REGIME
from pipeline.learning import text
from pipeline.learning.testing import begin, dump

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: also if an earlier run left all of this
BATCH_TOKENS = 4096  # padded tokens of a batch; changes the speed, not the result
BATCH_SIZE = 64
# --------------------------------------------------------------------------------------


def main() -> None:
    work = begin(text, config.settings(globals()))
    if not work.is_done():
        dump(text, DATA, OUTPUTS, DEFAULT_REGIME, (BATCH_TOKENS, BATCH_SIZE))
        work.finish()


if __name__ == "__main__":
    config.run(main)
