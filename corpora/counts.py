"""The counts of a corpus, and the published ones to check a full copy against.

A later release may have been repaired, so a difference is information and no error.
"""

import pandas as pd

from common.files import LABELS, SAMPLE_RATE
from corpora.account import Account
from corpora.splits import SPLITS
from corpora.tree import Tree

# KEMDy19's utterances that have both files and one majority label.
KEMDY19_CLASSES = {
    "neutral": 3835,
    "angry": 1844,
    "happy": 1404,
    "surprise": 997,
    "sad": 768,
    "fear": 384,
    "disgust": 395,
}
PAPER_SESSIONS = {"1-16": (8231, range(1, 17)), "17-20": (2025, range(17, 21))}


def count_utterances(used: pd.DataFrame) -> dict:
    """Return utterances in all, by split, class and session, tied ones, and seconds."""
    splits = {split: used[used["split"] == split] for split in SPLITS}
    counts = {
        "used": len(used),
        "split": {split: len(rows) for split, rows in splits.items()},
        "class": {
            split: {label: int((rows["label"] == label).sum()) for label in LABELS}
            for split, rows in splits.items()
        },
        "session": {
            int(s): int(n) for s, n in used["session"].value_counts(sort=False).sort_index().items()
        },
        "tied": {split: int(is_tied(rows).sum()) for split, rows in splits.items()},
        "seconds": {
            split: round(int(rows["sample_count"].sum()) / SAMPLE_RATE, 2)
            for split, rows in splits.items()
        },
    }
    if "corpus" in used:
        counts["corpus"] = used["corpus"].value_counts().to_dict()
    return counts


def is_tied(table: pd.DataFrame) -> pd.Series:
    """Tell of each utterance whether it has several labels."""
    return table["labels"].str.contains(";")


def count_verbatim(used: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Count transcripts of valid and test, and those word for word in training, by scenario."""
    scenario = used["scenario"].str.rstrip("0123456789")
    seen = used["text"].isin(used["text"][used["split"] == "train"])
    return {
        split: {
            kind: {"all": len(group), "seen": int(group.sum())}
            for kind, group in seen[used["split"] == split].groupby(scenario, sort=False)
        }
        for split in ("valid", "test")
    }


def compare_counts(
    tree: Tree, account: Account, matched: pd.DataFrame, used: pd.DataFrame, paper_rules: bool
) -> list[dict] | None:
    """Return {count, expected, found} of a full corpus, None for one that lacks parts.

    matched: utterances with both files.  used: those left after cleaning.  paper_rules: whether
    `used` was made by the paper's rules, ties to the first label and Hangul only.
    """
    sessions = set(tree.annotation)
    if tree.kind == "KEMDy20" and sessions == set(range(1, 41)):
        table = [("annotation files", 40, account.annotation_files)]
        table += [("utterances with recording and transcript", 13462, len(matched))]
    elif tree.kind == "KEMDy19" and sessions == set(range(1, 21)):
        if len(matched[["session", "scenario"]].drop_duplicates()) < 200:
            return None
        table = compare_kemdy19(account, matched, used, paper_rules)
    else:
        return None
    return [{"count": name, "expected": e, "found": f} for name, e, f in table]


def compare_kemdy19(
    account: Account, matched: pd.DataFrame, used: pd.DataFrame, paper_rules: bool
) -> list[tuple[str, int, int]]:
    """Return (count, expected, found); the paper's rows had no repaired IDs."""
    repaired = [entry["id"] for entry in account.repaired]
    as_released = matched[~matched["id"].isin(repaired)]
    single = as_released["label"][~is_tied(as_released)]
    table = [
        ("annotation files", 40, account.annotation_files),
        ("annotation rows", 20566, account.annotation_rows),
        ("rows of a segment's speaker", 10279, account.speaker_rows),
        ("of these with recording and transcript", 10274, len(as_released)),
        ("the same, wrong IDs repaired", 10277, len(matched)),
        ("with one label", 9627, len(single)),
    ]
    for label, expected in KEMDY19_CLASSES.items():
        table.append((f"with one label: {label}", expected, int((single == label).sum())))
    if paper_rules:
        rows = used["session"][~used["id"].isin(repaired)]
        table.append(("the paper's rows", 10256, len(rows)))
        for name, (expected, sessions) in PAPER_SESSIONS.items():
            found = int(rows.isin(sessions).sum())
            table.append((f"the paper's rows, sessions {name}", expected, found))
    return table


def count_classes(used: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return utterances per class of each session, speaker or scenario."""
    counts = pd.crosstab(used[column], used["label"]).reindex(columns=LABELS, fill_value=0)
    counts.insert(0, "all", counts.sum(axis=1))
    return counts
