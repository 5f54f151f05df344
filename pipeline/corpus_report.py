"""What a corpus is like: on screen, and as a page with plots."""

from collections import Counter

from pipeline.corpus_tree import Account, Tree
from pipeline.labels import LABELS
from pipeline.splits import SPLITS, format_sessions


def print_corpus(tree: Tree, account: Account) -> None:
    """Say which corpus was found."""
    print(
        f"read: {tree.kind} in {tree.root}: {account.annotation_files} annotation files of "
        f"sessions {format_sessions(tree.annotation)}, {account.annotation_rows} rows, "
        f"{account.speaker_rows} of them rate a segment's speaker"
    )


def print_account(account: Account) -> None:
    """Say how many utterances were repaired, dropped or noted, by reason."""
    for title in ("repaired", "dropped", "orphans", "ignored", "noted"):
        entries = getattr(account, title)
        for reason, count in Counter(entry["reason"] for entry in entries).most_common():
            print(f"{title}: {count:5d}  {reason}")


def print_splits(manifest: dict) -> None:
    """Print utterances per split and class."""
    counts = manifest["counts"]
    print(f"{'':6} {'sessions':>10} {'hours':>6} {'all':>6} " + " ".join(f"{x:>8}" for x in LABELS))
    for split in SPLITS:
        sessions = format_sessions(manifest["sessions"][split])
        classes = " ".join(f"{counts['class'][split][label]:8d}" for label in LABELS)
        hours = counts["seconds"][split] / 3600
        print(f"{split:6} {sessions:>10} {hours:6.2f} {counts['split'][split]:6d} {classes}")
