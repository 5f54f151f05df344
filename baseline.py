"""Recognise emotions with classic tools, so that it is seen whether the networks pay.

Reads   DATA/{train,valid,test}.tsv, *_audio.npy, manifest.json (preprocess.py)
Writes  OUTPUTS/baseline_{text,audio,both}_{truth,pred,output,index}.npy, _rows.tsv, _run.json of
        the test rows, and the same under OUTPUTS/valid/ of the validation rows

    python baseline.py

baseline_text: TF-IDF of characters and logistic regression.  baseline_audio: statistics of the
spectrum, the level and the pitch, and a support vector machine.  baseline_both: the mean of their
probabilities. All learn from the training rows alone, their settings included (cross-validation by
session); `_output` is the logarithm of probabilities.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import platform
from pathlib import Path

import numpy as np
import sklearn

from pipeline.classics.classifiers import VoiceClassifier, WordClassifier, deal_sessions
from pipeline.files import read_data_hash, together
from pipeline.learning.dataset import Utterances, load_utterances
from pipeline.learning.testing import write
from pipeline.record import Work

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: also if an earlier run left all of this
SEED = 1  # of the dealing of sessions in the cross-validation
KNOWN = "past"  # of a speaker: past (earlier turns), alone (the utterance), all (transductive)
# --------------------------------------------------------------------------------------

LEAST = 1e-6  # probability, so that the logarithm is finite


def main() -> None:
    inputs = {"data_hash": read_data_hash(DATA)}
    work = Work(
        "baseline.py", Path(OUTPUTS), config.settings(globals()), inputs, Path(OUTPUTS) / "baseline"
    )
    if work.is_done():
        return
    fit, held_out, test = (load_utterances(DATA, split) for split in ("train", "valid", "test"))
    print(f"baseline: {fit} to learn from")
    splits = deal_sessions(fit, SEED)
    words, voice = WordClassifier(fit, splits), VoiceClassifier(fit, KNOWN, splits)
    print(f"chosen on them: words {words.chosen}, voice {voice.chosen}")
    with together():
        write_all(Path(OUTPUTS), "test", test, words, voice)
        if len(held_out):
            write_all(Path(OUTPUTS) / "valid", "held-out", held_out, words, voice)
    if not len(held_out):
        for path in (Path(OUTPUTS) / "valid").glob("baseline_*"):
            path.unlink()  # of an earlier run
    work.finish()


def write_all(
    folder: Path, kind: str, rows: Utterances, words: WordClassifier, voice: VoiceClassifier
) -> None:
    """Write the predictions of the words, of the voice and of their mean; print the scores."""
    by_words, by_voice = words.recognise(rows), voice.recognise(rows)
    run = {
        "data_hash": rows.data_hash,
        "synthetic": rows.synthetic,
        "settings": {"seed": SEED, "words": words.chosen, "voice": voice.chosen},
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    for name, probabilities, known in (
        ("baseline_text", by_words, None),
        ("baseline_audio", by_voice, KNOWN),
        ("baseline_both", (by_words + by_voice) / 2, KNOWN),
    ):
        logits = np.log(probabilities.clip(LEAST))
        write(folder, name, kind, rows, logits, run | {"known": known})


if __name__ == "__main__":
    config.run(main)
