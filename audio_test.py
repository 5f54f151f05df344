"""Predict the test rows, and the rows held out of training, with the trained audio model.

Reads   DATA/*.tsv, *_audio.npy (preprocess.py), OUTPUTS/audio/ (audio_train.py)
Writes  OUTPUTS/audio_{truth,pred,output,index}.npy and the same under OUTPUTS/heldout/

    python audio_test.py
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from pipeline.learning import audio
from pipeline.learning.testing import begin, dump

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: also if an earlier run left all of this
SPEAKER_NORM = (
    "past"  # past: of the speaker's earlier turns and this one; utterance; all (transductive)
)
BATCH_SECONDS = 240  # seconds of audio in a batch; changes the speed, not the result
BATCH_SIZE = 32
# --------------------------------------------------------------------------------------


def main() -> None:
    work = begin(audio, config.settings(globals()))
    if not work.is_done():
        dump(audio, DATA, OUTPUTS, SPEAKER_NORM, (BATCH_SECONDS, BATCH_SIZE))
        work.finish()


if __name__ == "__main__":
    config.run(main)
