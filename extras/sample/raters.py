"""Ten invented raters for the sample corpus: votes whose majority is what the screenplay wants."""

import numpy as np

from corpora.counts import KEMDY19_CLASSES
from extras.sample.writer import RATERS, TIE_ORDER, Row, Vote, row_of_votes

TIED = 0.063  # share of KEMDy19's rows with two labels
AGREEMENT = 0.7  # chance that a rater votes for what was meant rather than at random
LABELS = tuple(KEMDY19_CLASSES)
PRIOR = np.array(list(KEMDY19_CLASSES.values())) / sum(KEMDY19_CLASSES.values())
# Valence and arousal that a rater sees in each emotion, 1-5.
AFFECT = {
    "neutral": (3.0, 2.5),
    "angry": (1.8, 4.1),
    "happy": (4.2, 3.7),
    "surprise": (3.2, 4.0),
    "sad": (1.9, 2.3),
    "fear": (2.0, 3.8),
    "disgust": (1.9, 3.2),
}


def rate(emotion: str, rng: np.random.Generator) -> Row:
    """Return ten votes for a person who shows `emotion`, tied as often as KEMDy19's are."""
    wanted = {emotion}
    if rng.random() < TIED:
        wanted.add(another(emotion, rng))
    joined = ";".join(label for label in TIE_ORDER if label in wanted)
    chances = (1 - AGREEMENT) * PRIOR
    chances[[LABELS.index(label) for label in joined.split(";")]] += AGREEMENT / len(wanted)
    while True:
        row = row_of_votes(cast_votes(rng.choice(LABELS, len(RATERS), p=chances).tolist(), rng))
        if row.emotion == joined:
            return row


def another(emotion: str, rng: np.random.Generator) -> str:
    """Return a random label other than this one."""
    chances = np.where(np.array(LABELS) == emotion, 0, PRIOR)
    return str(rng.choice(LABELS, p=chances / chances.sum()))


def cast_votes(emotions: list[str], rng: np.random.Generator) -> tuple[Vote, ...]:
    """Return votes for these emotions with the valence and arousal that go with them."""
    centres = np.array([AFFECT[emotion] for emotion in emotions])
    values = np.clip(np.round(rng.normal(centres, 0.6)), 1, 5).astype(int).tolist()
    return tuple(Vote(e, *pair) for e, pair in zip(emotions, values, strict=True))


def listener_emotion(speaker_emotion: str, rng: np.random.Generator) -> str:
    """Return what the other one of the pair shows meanwhile: mostly nothing, sometimes the same."""
    chance = rng.random()
    if chance < 0.6:
        return "neutral"
    return speaker_emotion if chance < 0.85 else str(rng.choice(LABELS, p=PRIOR))
