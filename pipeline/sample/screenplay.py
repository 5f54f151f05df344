"""Who says what with which emotion in the sample corpus, from our own sentences.

Every emotion's sentences are divided: a third belongs to the six scripts, which several sessions
play word for word, the rest to five groups of sessions, so that a fifth of the sessions held out of
training also holds sentences that training never saw.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SENTENCES = Path(__file__).with_name("sentences.tsv")
SCRIPTS = tuple(f"script{number:02d}" for number in range(1, 7))
IMPROS = tuple(f"impro{number:02d}" for number in range(1, 5))
GROUPS = 5
# KEMDy19's utterances with one label.
CLASS_COUNTS = {
    "neutral": 3835,
    "angry": 1844,
    "happy": 1404,
    "surprise": 997,
    "sad": 768,
    "fear": 384,
    "disgust": 395,
}
TOLD_BY = ("voice", "words", "both")
POLITE = re.compile(r"(요|니다|니까|죠)[.?!]*$")
OPENERS = {
    True: ("저기요,", "그런데", "저,", "음,", "그러니까", "그게,", "아,", "있잖아요,", "그리고"),
    False: ("저기,", "근데", "있잖아,", "음,", "그러니까", "그게,", "아,", "야,", "그리고", "자,"),
}


@dataclass(frozen=True)
class Line:
    """One planned utterance; `told_by` says whether voice, words or both show the emotion."""

    dialogue: str
    gender: str
    emotion: str
    told_by: str
    text: str


class Deck:
    """Cards dealt in random order, shuffled again whenever all are dealt."""

    def __init__(self, cards: list[str], rng: np.random.Generator):
        self.cards, self.rng, self.left = list(cards), rng, []

    def draw(self) -> str:
        if not self.left:
            self.left = [self.cards[i] for i in self.rng.permutation(len(self.cards))]
        return self.left.pop()


def write_screenplay(sessions: int, utterances: int, rng: np.random.Generator) -> list[list[Line]]:
    """Return so many lines for each session, in the order of their dialogues.

    A session plays three scripts and two improvisations of KEMDy19's ten dialogues.
    """
    decks = deal_sentences(rng)
    told_by = {emotion: Deck(TOLD_BY, rng) for emotion in CLASS_COUNTS}
    labels = apportion(sessions * utterances)
    screenplay = []
    for index in range(sessions):
        # Every session has its share of every class, as far as the counts divide.
        emotions = rng.permutation(labels[index::sessions]).tolist()
        dialogues = [*sorted(rng.choice(SCRIPTS, 3, replace=False).tolist())]
        dialogues += sorted(rng.choice(IMPROS, 2, replace=False).tolist())
        gender, lines = str(rng.choice(["F", "M"])), []
        for number, emotion in enumerate(emotions):
            dialogue = dialogues[number * len(dialogues) // utterances]
            channel = told_by[emotion].draw()
            text = write_line(decks, emotion, channel, dialogue, index * GROUPS // sessions, rng)
            lines.append(Line(dialogue, gender, emotion, channel, text))
            if rng.random() < 0.85:
                gender = "M" if gender == "F" else "F"
        screenplay.append(lines)
    return screenplay


def apportion(total: int) -> list[str]:
    """Return `total` labels in KEMDy19's proportions (largest remainders), class after class."""
    quotas = np.array(list(CLASS_COUNTS.values())) * total / sum(CLASS_COUNTS.values())
    counts = np.floor(quotas).astype(int)
    counts[np.argsort(counts - quotas, kind="stable")[: total - counts.sum()]] += 1
    return np.repeat(list(CLASS_COUNTS), counts).tolist()


def read_sentences() -> dict[str, list[str]]:
    """Return our sentences by emotion; `any` are those whose words fit every emotion."""
    sentences = {}
    with open(SENTENCES, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
            sentences.setdefault(row["emotion"], []).append(row["text"])
    return sentences


def deal_sentences(rng: np.random.Generator) -> dict[tuple[str, str | int], Deck]:
    """Return a deck for every emotion (and `any`) at every place: the scripts and the groups."""
    decks = {}
    for emotion, sentences in read_sentences().items():
        shuffled = [sentences[i] for i in rng.permutation(len(sentences))]
        third = len(shuffled) // 3
        for i, script in enumerate(SCRIPTS):
            decks[emotion, script] = Deck(shuffled[:third][i :: len(SCRIPTS)], rng)
        for group in range(GROUPS):
            decks[emotion, group] = Deck(shuffled[third:][group::GROUPS], rng)
    return decks


def write_line(
    decks: dict, emotion: str, told_by: str, dialogue: str, group: int, rng: np.random.Generator
) -> str:
    """Return an utterance's words: a sentence of the script, or one of the group's own, varied."""
    words = "any" if told_by == "voice" else emotion
    if dialogue in SCRIPTS and rng.random() < 0.33:
        return decks[words, dialogue].draw()
    text = decks[words, group].draw()
    polite = bool(POLITE.search(text))
    chance = rng.random()
    if chance < 0.5 and not text.split()[0].endswith((",", "!", "?")):
        text = f"{rng.choice(OPENERS[polite])} {text}"
    if 0.3 < chance < 0.9:
        extra = decks["any", group].draw()
        if bool(POLITE.search(extra)) == polite and extra not in text:
            text = f"{text} {extra}" if rng.random() < 0.5 else f"{extra} {text}"
    return text
