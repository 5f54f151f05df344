"""The report of a corpus: counts on screen, and one page with two plots beside it."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.files import LABELS, SAMPLE_RATE, write_text
from corpora.account import Account
from corpora.counts import ALL, count_classes, is_tied
from corpora.several import Corpus
from corpora.source import KNOWN, SUPPOSED, UNKNOWN
from corpora.splits import SPLITS, format_sessions
from corpora.tree import Tree
from corpora.utterances import VOTES

COLOURS = ("#9e9e9e", "#c62828", "#f9a825", "#00838f", "#1565c0", "#6a1b9a", "#2e7d32")
BLUE_GREY = "#546e7a"
MOST_NAMES = 100  # under the bars; more cannot be read
SPEAKERS = {KNOWN: "Speakers", SUPPOSED: "Supposed speakers"}


def print_corpus(corpus: Corpus) -> None:
    """Say which corpus was found."""
    (source,), account = corpus.sources, corpus.account
    ((name, sessions),) = corpus.sessions.items()
    if isinstance(source, Tree):
        print(
            f"read: {source.kind} in {source.root}: {account.annotation_files} annotation files of "
            f"sessions {format_sessions(sessions)}, {account.annotation_rows} rows, "
            f"{account.speaker_rows} of them rate a segment's speaker"
        )
    else:
        print(
            f"read: {source.kind} {name} in {source.root}: {account.annotation_rows} rows, "
            f"{len(corpus.table)} with a recording, sessions {format_sessions(sessions)}"
        )
    for said in (*source.remarks, *source.warnings, *filter(None, [corpus.synthetic])):
        print(said)


def summarise(manifest: dict) -> list[str]:
    """Return utterances per split and class, known counts and repeated transcripts, in Markdown."""
    counts = manifest["counts"]
    splits = pd.DataFrame(
        {
            "split": split,
            "sessions": format_sessions(manifest["sessions"][split]),
            "hours": f"{counts['seconds'][split] / 3600:.2f}",
            "all": counts["split"][split],
            **counts["class"][split],
        }
        for split in SPLITS
    )
    lines = [markdown(splits), say_speakers(manifest)]
    if manifest["known_counts"]:
        known = pd.DataFrame(manifest["known_counts"])
        different = known[known["expected"] != known["found"]]
        lines += [f"{len(different)} of {len(known)} known counts differ from this copy's."]
        lines += [markdown(different)] if len(different) else []
    parts = [
        f"{split} {counts['tied'][split]} of {rows} ({counts['tied'][split] / rows:.1%})"
        for split, rows in counts["split"].items()
        if rows
    ]
    lines += [f"Rows with tied labels: {', '.join(parts)}."]
    classes = counts["class"]
    for label in manifest["labels"]:
        if not classes["train"][label]:
            held = ", ".join(f"{split} {classes[split][label]}" for split in SPLITS[1:])
            lines += [f"No training row is '{escape(label)}' ({held}): it cannot be learnt."]
    for split, kinds in manifest["verbatim"].items():
        parts = [
            f"{escape(kind)} {verbatim['seen'] / verbatim['all']:.1%} of {verbatim['all']}"
            for kind, verbatim in sorted(kinds.items())
        ]
        if parts:
            said = "transcripts that occur word for word in training"
            lines += [f"{split.capitalize()} {said}: {', '.join(parts)}."]
    return lines


def say_speakers(manifest: dict) -> str:
    """Say how many speakers there are, how they are known, and how much each speaks."""
    sizes, how = manifest["counts"]["speakers"], manifest["speakers"]
    if how == UNKNOWN:
        return "The speakers, or some of them, are unknown."
    return (
        f"{SPEAKERS[how]}: {sizes['number']}, each with {sizes['least']} to {sizes['most']} "
        f"utterances, the median {sizes['median']:g}."
    )


def write_report(folder: Path, manifest: dict, used: pd.DataFrame, account: Account) -> None:
    """Write report.md, counts.png and ratings.png."""
    labels, corpus = manifest["labels"], manifest["corpus"]
    draw_all(folder, used, labels)
    lines = [f"# {corpus['kind']}: {corpus['name']}"]
    loud = filter(None, [manifest["synthetic"], *manifest["warnings"]])
    lines += [f"**{said}**" for said in loud]
    lines += [said for part in corpus.get("parts", [corpus]) for said in part["remarks"]]
    lines += ["## Utterances", *summarise(manifest), "![](counts.png)"]
    lines += ["## What was not used as it stands", "Every single case is in manifest.json."]
    reasons = pd.DataFrame(account.count_reasons(), columns=["what", "cases", "reason"])
    lines += [markdown(reasons), "## Ratings", *describe_ratings(used, labels), "![](ratings.png)"]
    for column in ("corpus", "session", "speaker", "scenario"):
        if column in used and (column != "speaker" or manifest["speakers"] != UNKNOWN):
            counts = count_classes(used, column, labels).reset_index()
            lines += [f"## By {column}", markdown(counts.rename(columns={ALL: "all"}))]
    write_text(folder / "report.md", "\n\n".join(lines) + "\n")


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, all columns but the first to the right."""
    align = ("left", *["right"] * (len(table.columns) - 1))
    table = table.set_axis(map(escape, table.columns), axis=1).map(escape)
    return table.to_markdown(index=False, disable_numparse=True, colalign=align)


def escape(cell: object) -> object:
    """Return a cell as text of a Markdown table, whatever names the corpus has."""
    if not isinstance(cell, str):
        return cell
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


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


def describe_ratings(used: pd.DataFrame, labels: list[str]) -> list[str]:
    """Say how far the raters agree, and what ties there are, a paragraph or table each."""
    votes = used[[f"{VOTES}{label}" for label in labels]].to_numpy()
    rated = votes[votes.sum(1) > 0]
    tied = used[is_tied(used)]
    said = f"{len(tied)} of {len(used)} utterances are tied."
    if votes.sum(1).max(initial=0) > 1:  # else there was one rater, or none
        share = (rated.max(1) / rated.sum(1)).mean()
        said += f" Fleiss' kappa {fleiss_kappa(votes):.3f}; the commonest label has on average"
        said += f" {share:.0%} of the votes."
    tables = [
        tied[column].value_counts().head(10).rename_axis(title).reset_index(name="utterances")
        for column, title in (("label", "first label"), ("labels", "tie"))
    ]
    title = "Tied utterances by the label that comes first, and the commonest ties:"
    return [said, title, *map(markdown, tables)] if len(tied) else [said]


def draw_all(folder: Path, used: pd.DataFrame, labels: list[str]) -> None:
    """Write counts.png and ratings.png."""
    from matplotlib import rc_context  # here: importing matplotlib takes a second

    from common import plots

    with rc_context({"text.parse_math": False}):  # a name may have a $
        plots.save(folder / "counts.png", draw_counts, used, labels)
        plots.save(folder / "ratings.png", draw_ratings, used, labels)


def choose_colours(labels: list[str]) -> list:
    """Return a colour for each label: the seven have their own."""
    from matplotlib import colormaps

    own = dict(zip(LABELS, COLOURS, strict=True))
    if {*labels} <= {*LABELS}:
        return [own[label] for label in labels]
    return list(colormaps["nipy_spectral"](np.linspace(0.05, 0.95, len(labels))))


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple:
    """Return a figure and its axes in one list, placed by hand: a solver takes a second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="none")
    axes = list(figure.subplots(rows, columns).flat)
    figure.subplots_adjust(left=0.05, right=0.98, top=0.94, bottom=0.11, hspace=0.4, wspace=0.15)
    return figure, axes


def draw_counts(used: pd.DataFrame, labels: list[str]):
    """Draw utterances by class, whose colours are the legend, scenario, session and speaker."""
    figure, axes = new_figure(2, 2, (12, 7))
    for axis, attribute in zip(axes, ("label", "scenario", "session", "speaker"), strict=True):
        classes = count_classes(used, attribute, labels)[labels]
        groups = list(map(str, classes.index))
        # Bars as steps up and down again: one artist a class draws much faster than one a bar.
        steps = np.repeat(np.arange(len(groups)), 2) + np.tile([-0.4, 0.4], len(groups))
        heights = np.kron(classes.to_numpy(float).T, [1, 0])
        axis.stackplot(steps, heights, colors=choose_colours(labels), step="post")
        axis.set(title=f"utterances by {attribute}")
        shown = groups if len(groups) <= MOST_NAMES else []
        axis.set_xticks(range(len(shown)), shown, rotation=90)
        axis.tick_params(axis="x", labelsize=6 if len(groups) > 25 else 8)
    return figure


def draw_ratings(used: pd.DataFrame, labels: list[str]):
    """Draw the recordings' lengths, the raters' agreement, valence and arousal by class."""
    figure, (lengths, agreement, ratings) = new_figure(1, 3, (15, 5))
    seconds = used["sample_count"].to_numpy() / SAMPLE_RATE
    lengths.hist(seconds, bins=60, color=BLUE_GREY)
    lengths.set(title=f"length (median {np.median(seconds):.1f} s)", xlabel="seconds")
    votes = used[[f"{VOTES}{label}" for label in labels]].to_numpy()
    most = max(1, votes.sum(1).max())
    bins = np.linspace(0.5, most + 0.5, min(most, 60) + 1)  # one a rater, if they are not too many
    agreement.hist(votes.max(1), bins=bins, color=BLUE_GREY)
    agreement.set(title="raters who gave the commonest label", xlabel="votes")
    random = np.random.default_rng(0)  # means of ten whole numbers lie on a grid: scatter them
    for label, colour in zip(labels, choose_colours(labels), strict=True):
        rows = used[used["label"] == label]
        points = rows[["valence", "arousal"]].dropna().to_numpy()
        if len(points):
            moved = points + random.uniform(-0.05, 0.05, points.shape)
            ratings.plot(*moved.T, ".", color=colour, markersize=2, alpha=0.5)
            ratings.plot(*points.mean(0), "o", color=colour, markeredgecolor="k", label=label)
    ratings.set(title="ratings and mean per class", xlabel="valence", ylabel="arousal")
    if ratings.get_legend_handles_labels()[0]:
        ratings.legend(fontsize=8)
    return figure
