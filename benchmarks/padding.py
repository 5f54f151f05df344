"""How much of a training batch is padding, and how many clips it holds, at KEMDy19's lengths.

    python -m benchmarks.padding

Draws UTTERANCES lengths (log-normal, median 4.2 s, 95 % under 15.5 s) of SPEAKERS speakers, cuts
them as training does, and prints padded over real seconds and the sizes of the batches.
"""

from common import settings  # first of all: it answers --help

# isort: split

import numpy as np
from pipeline.learning.audio import PART
from pipeline.learning.batches import cut_alike, cut_batches, cut_speaker_batches

import audio_train
from common.files import SAMPLE_RATE

# ----------------------------------------------------------------------------------------------
UTTERANCES = 8000
SPEAKERS = 32
SEED = 1
# ----------------------------------------------------------------------------------------------

MEDIAN, P95 = 4.2, 15.5  # seconds
SHORTEST, LONGEST = 0.26, 78.0


def main() -> None:
    random = np.random.default_rng(SEED)
    seconds = random.lognormal(np.log(MEDIAN), np.log(P95 / MEDIAN) / 1.645, UTTERANCES)
    lengths = (np.clip(seconds, SHORTEST, LONGEST) * SAMPLE_RATE).astype(np.int64)
    speakers = np.arange(UTTERANCES) % SPEAKERS
    budget, size = audio_train.BATCH_SECONDS * SAMPLE_RATE, audio_train.BATCH_SIZE
    known = cut_speaker_batches(speakers, lengths, budget, size, SEED)
    mixed = cut_batches(lengths, budget, size, SEED)
    for name, batches in (("one speaker a batch", known), ("whoever speaks", mixed)):
        batches = [np.sort(lengths[batch]) for batch in batches]
        whole = sum(len(batch) * batch[-1] for batch in batches)
        parts = [batch[part] for batch in batches for part in cut_alike(batch, PART)]
        padded = sum(len(part) * part[-1] for part in parts)
        sizes = np.percentile([len(batch) for batch in batches], [0, 5, 50, 100]).astype(int)
        print(
            f"{name}: {len(batches)} batches of {sizes[0]} to {sizes[3]} clips (5 %: {sizes[1]}, "
            f"median {sizes[2]}); padded / real {padded / lengths.sum():.2f}, were batches padded "
            f"whole {whole / lengths.sum():.2f}"
        )


if __name__ == "__main__":
    settings.run(main)
