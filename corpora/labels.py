"""The labels of a corpus: which there are, their order, and those that the user maps or chooses."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from common.files import DIMENSIONS, LABELS, UserError, sha256
from corpora.account import Account, print_account
from corpora.sheets import read_sheet
from corpora.source import normal
from corpora.utterances import VOTES

DROP, DROPPED = "drop", "\0"  # in LABEL_MAP, and as no label can be called
FEWEST, MOST = 2, 30  # classes
NO_NAME = re.compile(r"[;,]|[^ \S]|[\x00-\x1f\x7f]")  # no part of a column's name or of a list
# The columns beside the labels' own in the tables of predict.py.
TAKEN = ("path", "start", "end", "speaker", "dialogue", "text", "emotion", "emotion_ko")
TAKEN += ("confidence", "uncertain", "method", "remarks", *DIMENSIONS)


def check_name(label: str) -> str:
    """Return a label's name; ValueError for one that cannot name a column of a table."""
    if NO_NAME.search(label):
        raise ValueError(f"label '{' '.join(label.split())}' has a ';', ',', tab or line break")
    return label


def parse_map(text: str) -> dict[str, str]:
    """Read LABEL_MAP: "excited=happy,boredom=drop", or a file of two columns, old and new."""
    if not text.strip():
        return {}
    if is_file(text):
        rows = read_sheet(Path(text))
        pairs = [(f"{text} row {number}", [c for c in cells if c]) for number, cells in rows]
    elif "=" in text:
        pairs = [(part.strip(), part.split("=")) for part in text.split(",") if part.strip()]
    else:
        raise UserError(
            f"LABEL_MAP: '{text[:100]}' is no file that is there: write \"old=new\", or give "
            "a file of two columns"
        )
    mapping: dict[str, str] = {}
    for where, pair in pairs:
        names = [normal(name).strip() for name in pair]
        if len(names) != 2 or not all(names):
            raise UserError(
                f'LABEL_MAP: {where}: give two names a row, in the setting "old=new,other=drop"'
            )
        old, new = names
        if mapping.setdefault(old, new) != new:
            raise UserError(f"LABEL_MAP: {where}: '{old}' is also mapped to '{mapping[old]}'")
        try:
            check_name(new)
        except ValueError as error:
            raise UserError(f"LABEL_MAP: {where}: {error}: choose another name") from None
    return {old: DROPPED if new == DROP else new for old, new in mapping.items()}


def is_file(text: str) -> bool:
    """Tell whether LABEL_MAP is a file's path; a long list of names is none."""
    with suppress(OSError):
        return Path(text).is_file()
    return False


def hash_map(text: str) -> str:
    """Return a hash of what LABEL_MAP says, its file's content if it is one."""
    return sha256(text) if is_file(text) else text


def parse_chosen(text: str) -> list[str]:
    """Read LABELS, "angry,happy"."""
    chosen = [normal(name).strip() for name in text.split(",") if name.strip()]
    if len(set(chosen)) < len(chosen):
        raise UserError(f"LABELS = {text!r} names a label twice")
    return chosen


def choose_labels(
    table: pd.DataFrame, account: Account, has_seven: bool, chosen: str, mapping: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the utterances with the labels that count, and those labels in their order.

    has_seven: whether KEMDy's seven are classes in any case.  chosen, mapping: LABELS, LABEL_MAP.
    Votes are mapped too, and decide where a row has no label. Rows without a label that counts are
    dropped.
    """
    renamed, wanted = parse_map(mapping), parse_chosen(chosen)
    columns = [column for column in table if column.startswith(VOTES)]
    votes = table[columns].fillna(0).astype(int).rename(columns=lambda c: c.removeprefix(VOTES))
    met = {label for labels in table["labels"].unique() for label in labels.split(";") if label}
    votes = votes[[label for label in votes if label in met or votes[label].any()]]
    for old in sorted(renamed.keys() - met - {*votes}):
        print(f"LABEL_MAP: no row has the label '{old}'")
    names = {old: renamed.get(old, old) for old in (*(LABELS if has_seven else ()), *votes, *met)}
    seven = [names[label] for label in LABELS if has_seven]
    is_theirs = {*names.values()} - {DROPPED} == {*LABELS}  # in another corpus
    every = order_labels({*names.values()}, wanted or seven or [*LABELS] * is_theirs)
    votes = votes.T.groupby(names).sum().T.reindex(columns=every, fill_value=0)
    labels = [
        tuple(dict.fromkeys(map(names.get, text.split(";")))) if text else elect(every, counts)
        for text, counts in zip(table["labels"], votes.to_numpy(), strict=True)
    ]
    wrong = find_wrong(every)
    for label in wrong:
        for place in np.flatnonzero(votes[label]):
            labels[place] = (label,)
    have = {label for found in labels for label in found}.union(seven)
    known = [label for label in every if label in have and label not in {DROPPED, *wrong}]
    if strange := [label for label in wanted if label not in known]:
        raise UserError(f"LABELS: no row has '{strange[0]}'; the labels are {', '.join(known)}")
    kept = wanted or known
    say_left_out(votes, have)
    table = table.drop(columns=columns).join(votes[kept].add_prefix(VOTES))
    table = keep_rows(table, labels, kept, wrong, account)
    if len(kept) < FEWEST:
        print_account(account)
    if not FEWEST <= len(kept) <= MOST:
        raise UserError(
            f"{len(kept)} labels ({', '.join(kept)[:200]}): {FEWEST} to {MOST} can be told apart; "
            "LABELS and LABEL_MAP choose and join them"
        )
    if taken := [label for label in kept if label in TAKEN]:
        raise UserError(
            f"label '{taken[0]}' is called like a column of predict.py's tables: give it another "
            "name by LABEL_MAP"
        )
    return table, kept


def find_wrong(labels: Iterable[str]) -> dict[str, str]:
    """Return the labels that cannot name a column, with what is wrong with each."""
    wrong = {}
    for label in {*labels} - {DROPPED}:
        try:
            check_name(label)
        except ValueError as error:
            wrong[label] = str(error)
    return wrong


def order_labels(labels: set[str], first: list[str]) -> list[str]:
    """Return these labels in their order, then all others by the alphabet."""
    first = [label for label in dict.fromkeys(first) if label != DROPPED]
    return [*first, *sorted(labels - {*first}, key=lambda label: (label.casefold(), label))]


def say_left_out(votes: pd.DataFrame, have: set[str]) -> None:
    """Name the labels that have votes and no row, and those that are perhaps one."""
    for label, count in votes.sum().items():
        if count and label not in {*have, DROPPED}:
            print(f"labels: no row is '{label}', its {count} votes are left out")
    for same in differ_in_case(have):
        print(f"labels: {same} differ in case only: LABEL_MAP can join them")


def differ_in_case(names: Iterable[str]) -> list[str]:
    """Return the names that are perhaps one, as "Angry and angry"."""
    spelt: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        spelt.setdefault(name.casefold(), []).append(name)
    return [" and ".join(same) for same in spelt.values() if len(same) > 1]


def elect(labels: list[str], votes: np.ndarray) -> tuple[str, ...]:
    """Return the labels with most votes, in their order; none where nobody voted."""
    return tuple(labels[c] for c in np.flatnonzero(votes == votes.max())) if votes.any() else ()


def keep_rows(
    table: pd.DataFrame,
    labels: list[tuple[str, ...]],
    kept: list[str],
    wrong: dict[str, str],
    account: Account,
) -> pd.DataFrame:
    """Return the rows that have a label that is kept; labels: of each row all that are tied.

    wrong: labels of which no row is kept, with the reason.
    """
    chosen = [
        [label for label in found if label in kept and not wrong.keys() & {*found}]
        for found in labels
    ]
    for row, found, own in zip(table.itertuples(), labels, chosen, strict=True):
        if own:
            continue
        reason = f"label '{found[0]}' is not in LABELS" if found else "no majority label"
        reason = next((wrong[label] for label in found if label in wrong), reason)
        is_dropped = found and found[0] == DROPPED
        account.drop(row.id, "LABEL_MAP drops the label" if is_dropped else reason, row.where)
    first = [own[0] if own else "" for own in chosen]
    table = table.assign(label=first, labels=[";".join(own) for own in chosen])
    return table[table["label"] != ""].reset_index(drop=True)
