"""Published sizes of the corpora, to check a full copy against.

A later release may have been repaired, so a difference is information and no error.
"""

from corpora.account import Account
from corpora.matching import Utterance
from corpora.tree import Tree

# label -> utterances of KEMDy19 that have both files and one majority label
ONE_LABEL = {
    "neutral": 3835,
    "angry": 1844,
    "happy": 1404,
    "surprise": 997,
    "sad": 768,
    "fear": 384,
    "disgust": 395,
}
PAPER_SESSIONS = {"1-16": (8231, range(1, 17)), "17-20": (2025, range(17, 21))}


def is_full(tree: Tree, matched: list[Utterance]) -> bool:
    """Tell whether a corpus has every session, and KEMDy19's every dialogue."""
    if tree.kind == "KEMDy20":
        return set(tree.annotation) == set(range(1, 41))
    dialogues = {(utterance.session, utterance.scenario) for utterance in matched}
    return set(tree.annotation) == set(range(1, 21)) and len(dialogues) == 200


def compare(
    tree: Tree, account: Account, matched: list[Utterance], used: list[Utterance], paper_rules: bool
) -> list[dict]:
    """Return {count, expected, found} of a full corpus.

    matched: utterances with both files.  used: those left after cleaning.  paper_rules: whether
    `used` was made by the paper's rules, ties to the first label and Hangul only.
    """
    if tree.kind == "KEMDy20":
        table = [("annotation files", 40, account.annotation_files)]
        table += [("utterances with recording and transcript", 13462, len(matched))]
    else:
        table = compare_kemdy19(account, matched, used, paper_rules)
    return [{"count": name, "expected": e, "found": f} for name, e, f in table]


def compare_kemdy19(
    account: Account, matched: list[Utterance], used: list[Utterance], paper_rules: bool
) -> list[tuple[str, int, int]]:
    """Return (count, expected, found); what the paper used had no repaired IDs."""
    repaired = {entry["id"] for entry in account.repaired}
    as_released = [u for u in matched if u.id not in repaired]
    single = [u.label for u in as_released if len(u.labels) == 1]
    table = [
        ("annotation files", 40, account.annotation_files),
        ("annotation rows", 20566, account.annotation_rows),
        ("rows of a segment's speaker", 10279, account.speaker_rows),
        ("of these with recording and transcript", 10274, len(as_released)),
        ("the same, wrong IDs repaired", 10277, len(matched)),
        ("with one label", 9627, len(single)),
        *((f"with one label: {name}", n, single.count(name)) for name, n in ONE_LABEL.items()),
    ]
    if paper_rules:
        rows = [utterance for utterance in used if utterance.id not in repaired]
        table.append(("the paper's rows", 10256, len(rows)))
        for name, (expected, sessions) in PAPER_SESSIONS.items():
            found = sum(utterance.session in sessions for utterance in rows)
            table.append((f"the paper's rows, sessions {name}", expected, found))
    return table
