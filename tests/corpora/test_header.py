"""Header rows of an annotation file -> columns: found for certain, or refused."""

import pytest

from common.files import UserError
from corpora.annotation import find_columns

FIELDS = ["Emotion", "Valence", "Arousal"]
TOP = ["Numb", "Wav", "", "ECG", "", "E4-EDA", "", "E4-TEMP", "", "Segment ID"]
TOP += ["Total Evaluation", "", "", "Eval01F", "", "", "Eval02M", "", ""]
SECOND = ["", *["start", "end"] * 4, "", *FIELDS * 3]


def find(*header, identifier=9):
    """Return (columns of the total's ratings, columns of the votes, columns of the times)."""
    columns = find_columns(list(header), identifier, "a.csv")
    total = (columns.emotion, columns.valence, columns.arousal)
    return total, columns.votes, (columns.start, columns.end)


EXPECTED = ((10, 11, 12), (13, 16), (1, 2))


def changed(row, **cells):
    """Return a header row with other cells: _10="..." is the one of column 10."""
    row = list(row)
    for name, value in cells.items():
        row[int(name[1:])] = value
    return row


@pytest.mark.parametrize("named", [10, 11, 12])
@pytest.mark.parametrize("rater", [13, 14, 15])
@pytest.mark.parametrize("wav", [1, 2])
def test_group_names_stand_over_any_of_their_columns(named, rater, wav):
    """The blanks beside a name may come before it."""
    top = list(TOP)
    for place, other in ((10, named), (13, rater), (1, wav)):
        top[place], top[other] = top[other], top[place]
    assert find(top, SECOND) == EXPECTED


@pytest.mark.parametrize(
    "header",
    [
        (TOP, SECOND),
        ([cell.upper() for cell in TOP], [cell.lower() for cell in SECOND]),
        (changed(TOP, _10="Total Eval."), SECOND),
        (changed(TOP, _11="Total Emotion", _10=""), SECOND),  # the lower row says Valence there
        (changed(TOP, _10="Total Emotion"), changed(SECOND, _10="")),
        (
            changed(TOP, _10=""),
            changed(SECOND, _10="Total Emotion", _11="Total Valence", _12="Total Arousal"),
        ),
        (["KEMDy19 emotion annotation, session 1"], TOP, SECOND),
        (TOP, ["Nr.", *["s"] * 18], SECOND),
        (
            [
                *("Numb", "Wav start", "Wav end", *[""] * 6, "Segment ID"),
                *(f"{name} {field}" for name in ("Total", "Eval1F", "Eval2M") for field in FIELDS),
            ],
        ),
    ],
)
def test_the_same_columns_however_the_header_says_it(header):
    assert find(*header) == EXPECTED


def test_index_column_sensors_behind_and_any_number_of_raters():
    """KEMDy20's later releases have the sensors behind the raters."""
    top = ["", "Numb", "Wav", "", "Segment ID", "Total Evaluation", "", ""]
    second = ["index", "", "start", "end", "", *FIELDS]
    for number in range(12):
        top += [f"Eval{number:02d}M", "", ""]
        second += FIELDS
    top, second = [*top, "E4-EDA", "", "E4-TEMP", ""], [*second, *["start", "end"] * 2]
    votes = tuple(range(8, 8 + 36, 3))
    assert find(top, second, identifier=4) == ((5, 6, 7), votes, (2, 3))


def test_total_behind_the_raters_and_other_orders_within_a_group():
    top = ["Segment ID", "Eval1", "", "", "Total", "", ""]
    second = ["", "Emotion", "Arousal", "Valence", "Emotion", "Arousal", "Valence"]
    assert find(top, second, identifier=0) == ((4, 6, 5), (1,), (None, None))


@pytest.mark.parametrize(
    "top, second, message",
    [
        # the case that made the first rater's votes the labels
        (TOP, changed(SECOND, _10=""), "'total evaluation' of column 11 is in no group of 'Emo"),
        (changed(TOP, _10="", _11="Total Emotion"), changed(SECOND, _10=""), "'total emotion' of"),
        (TOP, changed(SECOND, _13=""), "'eval01f' of column 14 is in no group of 'Emotion'"),
        (changed(TOP, _10=""), SECOND, "no groups of columns are named 'Total'"),
        (changed(TOP, _16="Total Evaluation"), SECOND, "2 groups of columns are named 'Total'"),
        (changed(TOP, _10="", _13="Total", _14="Eval01F"), SECOND, "'eval01f' and 'total' share"),
        (changed(TOP, _16=""), SECOND, "the 'Emotion' of column 17 is under no rater's name"),
        (TOP, changed(SECOND, _12=""), "the total evaluation lacks 'Valence' or 'Arousal'"),
        (  # another order: the rater's valence and arousal follow the total's emotion
            changed(
                TOP, _10="", _12="Total Evaluation", _13="", _15="Eval01F", _16="", _18="Eval2"
            ),
            [*SECOND[:10], *["Valence", "Arousal", "Emotion"] * 3],
            "'valence' of column 11 is in no group of 'Emotion'",
        ),
        (changed(TOP, _9="Total Evaluation"), SECOND, "'total evaluation' of column 10"),
    ],
)
def test_what_is_not_certain_is_refused(top, second, message):
    with pytest.raises(UserError, match=message) as caught:
        find(top, second)
    line = str(caught.value)
    assert line.startswith("a.csv: ") and "\n" not in line and len(line) < 500
    assert f"[{' | '.join(top[9:17])}] / [{' | '.join(second[9:17])}]" in line


def test_by_position_only_where_the_header_says_nothing_of_ratings():
    for header in ((), ([" "] * 43, [""] * 43), (["Numb", "Wav", *[""] * 7, "Segment ID"],)):
        columns = find_columns(list(header), 9, "a.csv")
        assert (columns.emotion, columns.votes) == (10, tuple(range(13, 43, 3)))
        assert not columns.named
    with pytest.raises(UserError, match="'valence' of column 21 is in no group"):
        find_columns([changed([""] * 43, _20="Valence")], 9, "a.csv")
