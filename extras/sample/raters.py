"""Ten invented raters for the sample corpus: votes whose majority is what the screenplay wants."""

import numpy as np

from corpora.counts import KEMDY19_CLASSES
from extras.sample.speech import Delivery
from extras.sample.writer import RATERS, TIE_ORDER, Row, Vote, row_of_votes

TIED = 0.063  # share of KEMDy19's rows with two labels
AGREEMENT = 0.7  # chance that a rater votes for what was meant rather than at random
LABELS = tuple(KEMDY19_CLASSES)
PRIOR = np.array(list(KEMDY19_CLASSES.values())) / sum(KEMDY19_CLASSES.values())
# Valence and arousal, 1-5, that a rater sees in each emotion where neither the words nor the voice
# say more.
AFFECT = {
    "neutral": (3.0, 2.5),
    "angry": (2.2, 3.4),
    "happy": (3.8, 3.3),
    "surprise": (3.2, 3.8),
    "sad": (2.3, 2.8),
    "fear": (2.4, 3.8),
    "disgust": (2.3, 3.3),
}
# Whether an emotion's sentences (sentences.tsv) are positive or negative; all others are neither.
POLARITY = {"happy": 1, "angry": -1, "sad": -1, "fear": -1, "disgust": -1}
OF_WORDS = 0.6  # valence of positive words
OF_LEVEL = 0.7 / 6  # arousal by dB above the speaker's neutral voice
OF_SPEED = 0.7 / 0.4  # arousal by the logarithm of how much faster it is
UNMOVED = (0.0, 0.0)


def move(words: str, delivery: Delivery) -> tuple[float, float]:
    """Return by how much valence and arousal differ from AFFECT.

    words: whose sentence is said, an emotion or "any".  delivery: how it is spoken.
    """
    valence = OF_WORDS * POLARITY.get(words, 0)
    return valence, OF_LEVEL * delivery.level + OF_SPEED * delivery.speed


def rate(emotion: str, rng: np.random.Generator, moved: tuple[float, float] = UNMOVED) -> Row:
    """Return ten votes for a person who shows `emotion`, tied as often as KEMDy19's are.

    moved: see `move`; it changes no label.
    """
    wanted = {emotion}
    if rng.random() < TIED:
        wanted.add(another(emotion, rng))
    joined = ";".join(label for label in TIE_ORDER if label in wanted)
    chances = (1 - AGREEMENT) * PRIOR
    chances[[LABELS.index(label) for label in joined.split(";")]] += AGREEMENT / len(wanted)
    while True:
        emotions = rng.choice(LABELS, len(RATERS), p=chances).tolist()
        row = row_of_votes(cast_votes(emotions, rng, moved))
        if row.emotion == joined:
            return row


def another(emotion: str, rng: np.random.Generator) -> str:
    """Return a random label other than this one."""
    chances = np.where(np.array(LABELS) == emotion, 0, PRIOR)
    return str(rng.choice(LABELS, p=chances / chances.sum()))


def cast_votes(
    emotions: list[str], rng: np.random.Generator, moved: tuple[float, float]
) -> tuple[Vote, ...]:
    """Return votes for these emotions with the valence and arousal that go with them."""
    centres = np.array([AFFECT[emotion] for emotion in emotions]) + moved
    values = np.clip(np.round(rng.normal(centres, 0.6)), 1, 5).astype(int).tolist()
    return tuple(Vote(e, *pair) for e, pair in zip(emotions, values, strict=True))


def listener_emotion(speaker_emotion: str, rng: np.random.Generator) -> str:
    """Return what the other one of the pair shows meanwhile: mostly nothing, sometimes the same."""
    chance = rng.random()
    if chance < 0.6:
        return "neutral"
    return speaker_emotion if chance < 0.85 else str(rng.choice(LABELS, p=PRIOR))
