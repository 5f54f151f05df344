"""What a corpus is like: counts on screen, and one page that shows the plots beside it."""

from collections import Counter
from pathlib import Path

import numpy as np

from corpora.account import ENTRIES, Account
from corpora.matching import Utterance
from corpora.source import Source
from corpora.splits import SPLITS, format_sessions
from pipeline.files import write_text
from pipeline.labels import LABELS


def print_corpus(source: Source) -> None:
    """Say which corpus was found."""
    (tree,), account = source.trees, source.account
    print(
        f"read: {tree.kind} in {tree.root}: {account.annotation_files} annotation files of "
        f"sessions {format_sessions(tree.annotation)}, {account.annotation_rows} rows, "
        f"{account.speaker_rows} of them rate a segment's speaker"
    )
    if source.synthetic:
        print(source.synthetic)


def count_reasons(account: Account) -> list[tuple[str, str, int]]:
    """Return (what was done, reason, number of entries)."""
    return [
        (title, reason, count)
        for title in ENTRIES
        for reason, count in Counter(e["reason"] for e in getattr(account, title)).most_common()
    ]


def print_account(account: Account) -> None:
    """Say how many utterances were repaired, dropped or noted, by reason."""
    for title, reason, count in count_reasons(account):
        print(f"{title + ':':9} {count:5d}  {reason}")


def split_rows(manifest: dict) -> list[list[str]]:
    """Return the table of utterances per split and class, header first."""
    counts = manifest["counts"]
    rows = [["split", "sessions", "hours", "all", *LABELS]]
    for split in SPLITS:
        hours = f"{counts['seconds'][split] / 3600:.2f}"
        classes = [str(counts["class"][split][label]) for label in LABELS]
        sessions = format_sessions(manifest["sessions"][split])
        rows.append([split, sessions, hours, str(counts["split"][split]), *classes])
    return rows


def known_rows(manifest: dict) -> list[list[str]]:
    """Return the table of known counts that differ, header first; none if all agree."""
    different = [e for e in manifest["known_counts"] or [] if e["expected"] != e["found"]]
    cells = [[e["count"], f"{e['expected']:,}", f"{e['found']:,}"] for e in different]
    return [["count", "published", "this copy"], *cells] if different else []


def print_summary(manifest: dict) -> None:
    """Print utterances per split and class, known counts and repeated transcripts."""
    print_table(split_rows(manifest))
    if manifest["known_counts"] is not None:
        table = known_rows(manifest)
        total = len(manifest["known_counts"])
        print(f"{max(0, len(table) - 1)} of {total} known counts differ from this copy's")
        print_table(table)
    print("\n".join([describe_tied(manifest), *describe_verbatim(manifest["verbatim"])]))


def print_table(rows: list[list[str]]) -> None:
    """Print rows in columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))


def describe_tied(manifest: dict) -> str:
    """Say how many rows of each split have several labels."""
    counts = manifest["counts"]
    parts = [
        f"{split} {counts['tied'][split]} of {rows} ({counts['tied'][split] / rows:.1%})"
        for split, rows in counts["split"].items()
        if rows
    ]
    return f"rows with tied labels: {', '.join(parts)}"


def measure_verbatim(splits: dict[str, list[Utterance]]) -> dict[str, dict[str, dict[str, int]]]:
    """Count transcripts of valid and test, and those word for word in training, by scenario."""
    known = {utterance.text for utterance in splits["train"]}
    verbatim: dict[str, dict[str, dict[str, int]]] = {"valid": {}, "test": {}}
    for split, kinds in verbatim.items():
        for utterance in splits[split]:
            kind = utterance.scenario.rstrip("0123456789")
            counts = kinds.setdefault(kind, {"all": 0, "seen": 0})
            counts["all"] += 1
            counts["seen"] += utterance.text in known
    return verbatim


def describe_verbatim(verbatim: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """Say which share of the validation and test transcripts training has seen, a line each."""
    lines = []
    for split, name in (("valid", "validation"), ("test", "test")):
        parts = [
            f"{kind} {counts['seen'] / counts['all']:.1%} of {counts['all']}"
            for kind, counts in sorted(verbatim[split].items())
        ]
        if parts:
            lines.append(
                f"{name} transcripts that occur word for word in training: {', '.join(parts)}"
            )
    return lines


def fleiss_kappa(votes: np.ndarray) -> float:
    """Return Fleiss' kappa of votes, shape (utterances, labels); nan if it is not defined.

    Fleiss (1971), each item with its own number of raters, at least two.
    """
    votes = votes[votes.sum(1) >= 2].astype(float)
    raters = votes.sum(1)
    if not len(votes):
        return float("nan")
    observed = ((votes**2).sum(1) - raters) / (raters * (raters - 1))
    expected = ((votes.sum(0) / raters.sum()) ** 2).sum()
    return float((observed.mean() - expected) / (1 - expected)) if expected < 1 else float("nan")


def write_report(folder: Path, manifest: dict, used: list[Utterance], account: Account) -> None:
    """Write report.md; counts.png and ratings.png are drawn elsewhere."""
    lines = [f"# {manifest['corpus']['kind']}: {manifest['corpus']['name']}", ""]
    if manifest["synthetic"]:
        lines += [f"**{manifest['synthetic']}**", ""]
    lines += ["## Utterances", "", *markdown(split_rows(manifest)), "", "![](counts.png)", ""]
    if known_rows(manifest):
        lines += ["Known counts that differ:", "", *markdown(known_rows(manifest)), ""]
    for line in (describe_tied(manifest), *describe_verbatim(manifest["verbatim"])):
        lines += [line[0].upper() + line[1:] + ".", ""]
    lines += ["## What was not used as it stands", ""]
    lines += ["Every single case is in manifest.json.", ""]
    reasons = [[title, str(count), reason] for title, reason, count in count_reasons(account)]
    lines += [*markdown([["what", "cases", "reason"], *reasons]), ""]
    lines += ["## Ratings", "", *describe_ratings(used), "", "![](ratings.png)", ""]
    if "corpus" in manifest["counts"]:
        lines += ["## Corpora", "", *markdown(group_rows(used, "corpus")), ""]
    lines += ["## Sessions", "", *markdown(group_rows(used, "session")), ""]
    lines += ["## Speakers", "", *markdown(group_rows(used, "speaker")), ""]
    lines += ["## Scenarios", "", *markdown(group_rows(used, "scenario")), ""]
    write_text(folder / "report.md", "\n".join(lines))


def markdown(rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown, the first row being its header."""
    rule = ["---"] + ["---:"] * (len(rows[0]) - 1)
    return ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]


def group_rows(used: list[Utterance], attribute: str) -> list[list[str]]:
    """Return utterances per class of each session, speaker or scenario, header first."""
    counts: dict = {}
    for utterance in used:
        counts.setdefault(getattr(utterance, attribute), Counter())[utterance.label] += 1
    return [
        [attribute, "all", *LABELS],
        *(
            [str(group), str(counts[group].total()), *(str(counts[group][x]) for x in LABELS)]
            for group in sorted(counts)
        ),
    ]


def describe_ratings(used: list[Utterance]) -> list[str]:
    """Say how far the raters agree, and what ties there are."""
    votes = np.array([utterance.votes for utterance in used])
    rated = votes[votes.sum(1) > 0]
    tied = Counter(";".join(u.labels) for u in used if len(u.labels) > 1)
    first = Counter(combination.split(";")[0] for combination in tied.elements())
    lines = [f"{tied.total()} of {len(used)} utterances are tied."]
    if len(rated):
        share = (rated.max(1) / rated.sum(1)).mean()
        lines[0] += f" Fleiss' kappa {fleiss_kappa(votes):.3f}; the commonest label has on average"
        lines[0] += f" {share:.0%} of the votes."
    if tied:
        lines += ["", "Tied utterances by the label that comes first, and the commonest ties:", ""]
        lines += markdown([["first label", "utterances"], *table(first)])
        lines += ["", *markdown([["tie", "utterances"], *table(tied)])]
    return lines


def table(counts: Counter) -> list[list[str]]:
    """Return the ten largest counts as rows of cells."""
    return [[name, str(count)] for name, count in counts.most_common(10)]
