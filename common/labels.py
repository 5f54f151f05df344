"""The names of emotions in two languages."""

# The usual ones of corpora of emotional speech; any other label has one name in both languages.
KOREAN = {
    "neutral": "중립",
    "angry": "분노",
    "happy": "기쁨",
    "surprise": "놀람",
    "sad": "슬픔",
    "fear": "공포",
    "disgust": "혐오",
    "calm": "평온",
    "excited": "흥분",
    "frustrated": "좌절",
    "boredom": "지루함",
    "contempt": "경멸",
    "anxious": "불안",
    "embarrassed": "당황",
    "hurt": "상처",
    "positive": "긍정",
    "negative": "부정",
}
ENGLISH = {korean: english for english, korean in KOREAN.items()}


def korean(label: str) -> str:
    """Return the Korean name of a label, or the label."""
    return KOREAN.get(label, label)


def english(label: str) -> str:
    """Return the English name of a label, or the label."""
    return ENGLISH.get(label, label)


def both_names(label: str) -> str:
    """Return the Korean and the English name of a label, "기쁨 happy"."""
    return " ".join(dict.fromkeys([korean(label), english(label)]))
