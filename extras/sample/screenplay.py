"""Who says what with which emotion in the sample corpus, from our own sentences.

Every sentence belongs to one script or to one session. The lines of the six scripts recur word for
word in the sessions that play them, at the default size about as often as KEMDy19's. Whatever else
a session says, every improvised utterance among it, is made of sentences of its own, and of openers
that all share: whichever sessions are held out, training has none of these sentences. They repeat
within their session, the more so the more utterances it has. There are enough for 56 sessions;
beyond that, sessions share them.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpora.counts import KEMDY19_CLASSES

SENTENCES = Path(__file__).with_name("sentences.tsv")
SCRIPTS = tuple(f"script{number:02d}" for number in range(1, 7))
IMPROS = tuple(f"impro{number:02d}" for number in range(1, 5))
# How many sentences of an emotion (and of `any`) a script has: as many as will be said again.
SCRIPT_LINES = {"any": 3, "neutral": 3, "angry": 2}  # and 1 of every other
# Of KEMDy19's scripted utterances 34 % recur; a rare emotion's line now and then is said only once.
SCRIPT_SHARE = (True,) * 4 + (False,) * 7
# How much likelier an emotion (column) is than usual after the speaker's own last one (row), and
# after the other speaker's, in the order of KEMDY19_CLASSES: counted over the two-person dialogues
# of MELD's training part (Poria et al., 2019).
AFTER_OWN = np.array(
    [
        (1.29, 0.70, 0.74, 0.82, 0.73, 0.82, 0.69),
        (0.54, 3.71, 0.53, 0.70, 1.21, 0.78, 1.23),
        (0.83, 0.44, 2.02, 0.87, 0.73, 1.00, 0.84),
        (0.73, 0.98, 0.95, 2.18, 0.86, 1.09, 1.30),
        (0.72, 0.99, 0.54, 0.69, 4.33, 1.92, 0.93),
        (0.66, 1.65, 0.46, 0.86, 1.83, 6.52, 0.67),
        (0.62, 1.62, 0.66, 0.94, 0.62, 0.93, 8.07),
    ]
)
AFTER_OTHER = np.array(
    [
        (1.08, 0.87, 0.92, 1.08, 0.80, 0.95, 0.90),
        (0.88, 2.15, 0.67, 0.89, 0.88, 1.39, 0.69),
        (0.89, 0.70, 1.58, 0.94, 0.88, 0.94, 0.87),
        (1.02, 1.01, 0.82, 1.03, 1.18, 1.08, 1.09),
        (0.84, 0.97, 0.88, 1.17, 2.22, 0.66, 1.24),
        (1.01, 1.23, 0.84, 1.03, 0.72, 1.56, 0.90),
        (0.87, 1.22, 0.55, 1.11, 1.46, 1.16, 3.37),
    ]
)
CHANNELS = ("voice", "words", "both")
POLITE = re.compile(r"(요|니다|니까|죠)[.?!]*$")
OPENERS = {
    True: ("저기요,", "그런데", "저,", "음,", "그러니까", "그게,", "아,", "있잖아요,", "그리고"),
    False: ("저기,", "근데", "있잖아,", "음,", "그러니까", "그게,", "아,", "야,", "그리고", "자,"),
}


@dataclass(frozen=True)
class Line:
    """One planned utterance; channel: whether the voice, the words or both show the emotion."""

    dialogue: str
    gender: str
    emotion: str
    channel: str
    text: str


class Deck:
    """Cards dealt in random order, shuffled again whenever all are dealt."""

    def __init__(self, cards: Sequence, rng: np.random.Generator):
        self.cards, self.rng, self.left = list(cards), rng, []

    def draw(self):
        if not self.left:
            self.left = [self.cards[i] for i in self.rng.permutation(len(self.cards))]
        return self.left.pop()


def write_screenplay(sessions: int, utterances: int, rng: np.random.Generator) -> list[list[Line]]:
    """Return so many lines for each session, in the order of their dialogues.

    A session plays three scripts and two improvisations of KEMDy19's ten dialogues.
    """
    decks = deal_sentences(sessions, rng)
    channels = {emotion: Deck(CHANNELS, rng) for emotion in KEMDY19_CLASSES}
    as_scripted = Deck(SCRIPT_SHARE, rng)
    labels = apportion(sessions * utterances)
    screenplay = []
    for index in range(sessions):
        turns = take_turns(utterances, rng)
        # Every session has its share of every class, as far as the counts divide.
        emotions = deal_emotions(labels[index::sessions], turns, rng)
        lines = []
        for (dialogue, gender), emotion in zip(turns, emotions, strict=True):
            channel = channels[emotion].draw()
            words = "any" if channel == "voice" else emotion
            if dialogue in SCRIPTS and as_scripted.draw():
                text = decks[words, dialogue].draw()
            else:
                text = vary(decks[words, index].draw(), decks["any", index], rng)
            lines.append(Line(dialogue, gender, emotion, channel, text))
        screenplay.append(lines)
    return screenplay


def take_turns(utterances: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return the dialogue and the speaker's gender of a session's turns."""
    dialogues = sorted(rng.choice(SCRIPTS, 3, replace=False).tolist())
    dialogues += sorted(rng.choice(IMPROS, 2, replace=False).tolist())
    gender, turns = str(rng.choice(["F", "M"])), []
    for number in range(utterances):
        turns.append((dialogues[number * len(dialogues) // utterances], gender))
        if rng.random() < 0.85:
            gender = "M" if gender == "F" else "F"
    return turns


def deal_emotions(
    labels: list[str], turns: list[tuple[str, str]], rng: np.random.Generator
) -> list[str]:
    """Return a session's labels in an order in which emotions last and infect the other speaker."""
    names = list(KEMDY19_CLASSES)
    left = np.array([labels.count(name) for name in names])
    order, last = [], {}
    for dialogue, gender in turns:
        weights = left.astype(float)
        for (where, speaker), emotion in last.items():
            if where == dialogue:
                weights *= (AFTER_OWN if speaker == gender else AFTER_OTHER)[emotion]
        emotion = rng.choice(len(names), p=weights / weights.sum())
        left[emotion] -= 1
        last[dialogue, gender] = emotion
        order.append(names[emotion])
    return order


def apportion(total: int) -> list[str]:
    """Return `total` labels in KEMDy19's proportions (largest remainders), class after class."""
    quotas = np.array(list(KEMDY19_CLASSES.values())) * total / sum(KEMDY19_CLASSES.values())
    counts = np.floor(quotas).astype(int)
    counts[np.argsort(counts - quotas, kind="stable")[: total - counts.sum()]] += 1
    return np.repeat(list(KEMDY19_CLASSES), counts).tolist()


def read_sentences() -> dict[str, list[str]]:
    """Return our sentences by emotion; `any` are those whose words fit every emotion."""
    sentences = {}
    with open(SENTENCES, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
            sentences.setdefault(row["emotion"], []).append(row["text"])
    return sentences


def deal_sentences(sessions: int, rng: np.random.Generator) -> dict[tuple[str, str | int], Deck]:
    """Return a deck for every emotion (and `any`) in every script and every session (from 0)."""
    decks = {}
    for emotion, sentences in read_sentences().items():
        shuffled = [sentences[i] for i in rng.permutation(len(sentences))]
        scripted = SCRIPT_LINES.get(emotion, 1) * len(SCRIPTS)
        for i, script in enumerate(SCRIPTS):
            decks[emotion, script] = Deck(shuffled[:scripted][i :: len(SCRIPTS)], rng)
        own = shuffled[scripted:]
        parts = min(sessions, len(own))
        for index in range(sessions):
            decks[emotion, index] = Deck(own[index % parts :: parts], rng)
    return decks


def vary(text: str, extras: Deck, rng: np.random.Generator) -> str:
    """Return the sentence, often with an opener or an extra sentence of the same politeness."""
    polite = bool(POLITE.search(text))
    chance = rng.random()
    if chance < 0.5 and not text.split()[0].endswith((",", "!", "?")):
        text = f"{rng.choice(OPENERS[polite])} {text}"
    if 0.3 < chance < 0.9:
        extra = extras.draw()
        if bool(POLITE.search(extra)) == polite and extra not in text:
            text = f"{text} {extra}" if rng.random() < 0.5 else f"{extra} {text}"
    return text
