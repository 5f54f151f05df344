"""How fast predicting is on one core, by a run of the three models, and one recording at a time.

The models are trained for one epoch, as their speed does not depend on it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.loop import write_data
from benchmarks.measure import WORDS, alternate, row, run_script
from common.files import SAMPLE_RATE
from extras.sample.speech import Delivery, random_voice, say
from predicting import Recording, load_run, predict

THREADS = (1,)
UTTERANCES = 200  # of the corpus that the models learn from
COUNT = 96  # recordings, of some 3 s
STAGES = (
    ("text_train.py", "--epochs", 1),
    ("text_test.py",),
    ("audio_train.py", "--epochs", 1),
    ("audio_test.py",),
    ("run_classifier.py", "--epochs", 1),
    ("ensemble.py",),
)


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        places = write_data(folder, UTTERANCES)
        for script, *settings in STAGES:
            options = "--data", places["DATA"], "--outputs", places["OUTPUTS"]
            run_script(script, *settings, *options)
        run = load_run(places["OUTPUTS"])
        files = write_recordings(folder)
        silent = [replace(each, text="") for each in files]
        written = [Recording(text=each.text) for each in files]
        found = []
        for name, chosen in (("speech and words", files), ("speech", silent), ("words", written)):
            seconds = alternate(
                lambda chosen=chosen: list(predict(run, chosen)),
                lambda chosen=chosen: [list(predict(run, [each])) for each in chosen],
                rounds=3,
            )
            rates = [COUNT / spent for spent in seconds]
            title = f"predicting from {name}, against one recording at a time"
            found.append(row(title, "utterances / s", *rates))
    return found


def write_recordings(folder: Path) -> list[Recording]:
    """Write invented sentences as a synthesised voice says them; return them with their words."""
    random, files = np.random.default_rng(1), []
    voice = random_voice("F", "f1", random)
    for number in range(COUNT):
        path, text = folder / f"{number}.wav", " ".join(random.choice(WORDS, random.integers(4, 9)))
        soundfile.write(path, say(text, voice, Delivery(), random), SAMPLE_RATE)
        files.append(Recording(str(path), text))
    return files
