"""The counts of a corpus, and the published ones to check a full copy against.

A later release may have been repaired, so a difference is information and no error.
"""

import pandas as pd

from common.files import SAMPLE_RATE
from corpora.aihub import AIHub
from corpora.kesdy import ACTORS, KESDy
from corpora.source import Source
from corpora.splits import SPLITS
from corpora.tree import Tree

RELEASES = 3  # of AI Hub's data set
ALL = "all\0"  # the column of sums: no label is called so
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


def is_tied(table: pd.DataFrame) -> pd.Series:
    """Tell of each utterance whether it has several labels."""
    return table["labels"].str.contains(";")


def count_classes(used: pd.DataFrame, column: str, labels: list[str]) -> pd.DataFrame:
    """Return utterances in all and per class of each split, session, speaker or scenario."""
    counts = pd.crosstab(used[column], used["label"]).reindex(columns=labels, fill_value=0)
    counts.insert(0, ALL, counts.sum(axis=1))
    return counts


def count_utterances(used: pd.DataFrame, labels: list[str]) -> dict:
    """Return utterances in all, by split, class and session, tied ones, seconds, and speakers'."""
    classes = count_classes(used, "split", labels).reindex(SPLITS, fill_value=0)
    measures = used.assign(tied=is_tied(used), seconds=used["sample_count"] / SAMPLE_RATE)
    sums = measures.groupby("split")[["tied", "seconds"]].sum().reindex(SPLITS, fill_value=0)
    sizes = used["speaker"].value_counts()
    counts = {
        "used": len(used),
        "split": classes.pop(ALL).to_dict(),
        "class": classes.T.to_dict(),
        "session": used["session"].value_counts().sort_index().to_dict(),
        "tied": sums["tied"].to_dict(),
        "seconds": sums["seconds"].round(2).to_dict(),
        "speakers": {
            **{"number": len(sizes), "least": int(sizes.min()), "most": int(sizes.max())},
            "median": float(sizes.median()),
        },
    }
    if "corpus" in used:
        counts["corpus"] = used["corpus"].value_counts().to_dict()
    return counts


def count_verbatim(used: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Count transcripts of valid and test, and those word for word in training, by scenario."""
    used = used[used["text"] != ""]
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
    source: Source, matched: pd.DataFrame, used: pd.DataFrame, paper_rules: bool
) -> list[dict] | None:
    """Return {count, expected, found} of a full corpus, None for one that lacks parts.

    matched: utterances with both files.  used: those left after cleaning.  paper_rules: whether
    `used` was made by the paper's rules, ties to the first label and Hangul only, on KEMDy's own
    labels.
    """
    table = None
    if isinstance(source, Tree):
        table = compare_tree(source, matched, used, paper_rules)
    elif isinstance(source, AIHub) and len(source.sheets) == RELEASES:
        table = [("rows of the three releases", 43991, source.account.annotation_rows)]
        if "4차년도" in source.sheets:
            table.append(("rows of 4차년도", 14606, len(source.sheets["4차년도"])))
    elif isinstance(source, KESDy):
        table = [("rows", 2880, source.account.annotation_rows)]
        table.append(("actors", ACTORS, matched["speaker"][matched["is_known"]].nunique()))
    return table and [{"count": name, "expected": e, "found": f} for name, e, f in table]


def compare_tree(
    tree: Tree, matched: pd.DataFrame, used: pd.DataFrame, paper_rules: bool
) -> list[tuple[str, int, int]] | None:
    """Return (count, expected, found) of a full copy of KEMDy, None for another.

    The paper's rows had no repaired IDs.
    """
    last, dialogues = {"KEMDy19": (20, 200), "KEMDy20": (40, 0)}[tree.kind]
    found = len(matched[["session", "scenario"]].drop_duplicates())
    if set(tree.annotation) != set(range(1, last + 1)) or found < dialogues:
        return None
    account = tree.account
    table = [("annotation files", 40, account.annotation_files)]
    if tree.kind == "KEMDy20":
        table += [("utterances with recording and transcript", 13462, len(matched))]
    else:
        repaired = [entry["id"] for entry in account.repaired]
        as_released = matched[~matched["id"].isin(repaired)]
        single = as_released["label"][~is_tied(as_released)]
        table += [
            ("annotation rows", 20566, account.annotation_rows),
            ("rows of a segment's speaker", 10279, account.speaker_rows),
            ("of these with recording and transcript", 10274, len(as_released)),
            ("the same, wrong IDs repaired", 10277, len(matched)),
            ("with one label", 9627, len(single)),
        ]
        for label, count in KEMDY19_CLASSES.items():
            table.append((f"with one label: {label}", count, int((single == label).sum())))
        if paper_rules:
            sessions = used["session"][~used["id"].isin(repaired)]
            table += [
                ("the paper's rows", 10256, len(sessions)),
                ("the paper's rows, sessions 1-16", 8231, int((sessions <= 16).sum())),
                ("the paper's rows, sessions 17-20", 2025, int((sessions > 16).sum())),
            ]
    return table
