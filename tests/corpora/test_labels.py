"""LABELS and LABEL_MAP: on tables and on KEMDy."""

from functools import partial

import hostile
import own_table
import pytest
from own_table import make_rows, write_table

from common.files import DIMENSIONS, LABELS, UserError
from corpora.labels import TAKEN
from predicting import answers


@pytest.fixture
def run(tmp_path, monkeypatch):
    return partial(own_table.run, monkeypatch, tmp_path)


def test_labels_chooses_and_orders(run, tmp_path):
    rows = make_rows(40, labels=("sad", "bored", "angry", "happy"))
    path = write_table(tmp_path / "mine", rows)
    data = run(path, labels="happy, angry")
    assert data.manifest["labels"] == ["happy", "angry"]
    columns = [name for name in data.of(rows[10]["path"]) if name.startswith("votes_")]
    assert columns == ["votes_happy", "votes_angry"]
    dropped = [reason for _, reason in data.reasons()]
    assert dropped.count("label 'bored' is not in LABELS") == 10
    assert dropped.count("label 'sad' is not in LABELS") == 10
    assert len([*data]) == 20
    for wrong, message in (
        ("happy,angri", "no row has 'angri'; the labels are happy"),
        ("happy,happy", "names a label twice"),
        ("happy", "1 labels"),
    ):
        with pytest.raises(UserError, match=message):
            run(path, labels=wrong)


def test_a_map_joins_and_drops_labels_and_votes(run, tmp_path, capsys):
    """In the setting and in a file; excited and happy together outvote sad."""
    rows = [{k: v for k, v in row.items() if k != "label"} for row in make_rows(30)]
    votes = [(3, 2, 4, 0), (0, 0, 2, 2), (0, 0, 1, 5)] * 10
    names = ("votes_happy", "votes_excited", "votes_sad", "votes_bored")
    rows = [r | dict(zip(names, n, strict=True)) for r, n in zip(rows, sorted(votes), strict=True)]
    path = write_table(tmp_path / "mine", rows)
    (tmp_path / "map.csv").write_bytes("excited;happy\r\nbored;drop\r\nangry;x\r\n".encode("cp949"))
    of_file = run(path, label_map=str(tmp_path / "map.csv"))
    data = run(path, label_map="excited=happy, bored=drop")
    assert of_file.manifest["files"] == data.manifest["files"]
    assert "LABEL_MAP: no row has the label 'angry'" in capsys.readouterr().out
    assert data.manifest["labels"] == ["happy", "sad"]
    assert [r for _, r in data.reasons()] == ["LABEL_MAP drops the label"] * 10
    for row in rows:
        if row["votes_bored"] != 5:
            written = data.of(row["path"])
            assert written["labels"] == ("happy" if row["votes_happy"] else "sad")
            assert written["votes_happy"] == str(row["votes_happy"] + row["votes_excited"])


def test_a_map_mends_names_that_cannot_stand_in_tables(run, tmp_path, capsys):
    """Of labels and of votes; a setting of any length is no file."""
    names = ("a,b", "happy", "c\td")
    rows = [row | {"votes_a,b": "", "votes_c\td": 1} for row in make_rows(30, labels=names)]
    path = write_table(tmp_path / "mine", rows)
    (tmp_path / "map.csv").write_text('"a,b",ab\n"c\td",cd\n', "utf-8")
    data = run(path, label_map=str(tmp_path / "map.csv"))
    assert data.manifest["labels"] == ["ab", "cd", "happy"] and len([*data]) == 30
    assert {data.of(row["path"])["votes_cd"] for row in rows} == {"1"}
    plain = write_table(tmp_path / "plain", make_rows(30, labels=(*names, "sad")))
    data = run(plain, label_map="happy=" + "glad" * 80)
    assert {reason for _, reason in data.reasons()} == {
        "label 'a,b' has a ';', ',', tab or line break",
        "label 'c d' has a ';', ',', tab or line break",
    }
    capsys.readouterr()
    with pytest.raises(UserError, match="1 labels"):
        run(plain, label_map="sad=drop")
    printed = capsys.readouterr().out
    for said in ("5  LABEL_MAP drops the label", "10  label 'a,b' has", "5  label 'c d' has"):
        assert said in printed


def test_another_map_in_the_same_file_is_another_run(run, tmp_path):
    path = write_table(tmp_path / "mine", make_rows())
    for new in ("glad", "merry"):
        (tmp_path / "map.csv").write_text(f"happy,{new}\n", "utf-8")
        data = run(path, label_map=str(tmp_path / "map.csv"), data=str(tmp_path / "same"))
        assert data.manifest["labels"] == ["angry", new]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("excited", "'excited' is no file that is there: write \"old=new\""),
        ("angry=text", "label 'text' is called like a column of predict.py's tables"),
        ("a=b=c", "LABEL_MAP: a=b=c: give two names"),
        ("a=", "LABEL_MAP: a=: give two names"),
        ("a=b,a=c", "'a' is also mapped to 'b'"),
        ("a=x;y", "label 'x;y' has a ';'"),
    ],
)
def test_a_wrong_map(run, tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        run(write_table(tmp_path / "mine", make_rows()), label_map=text)


def test_labels_like_columns_of_predict_are_refused(run, tmp_path):
    assert {*TAKEN} == {*answers.COLUMNS, *DIMENSIONS}
    path = write_table(tmp_path / "mine", make_rows(30, labels=("happy", "text", "sad")))
    with pytest.raises(UserError, match="label 'text' is called like .* by LABEL_MAP"):
        run(path)
    assert run(path, labels="happy,sad").manifest["labels"] == ["happy", "sad"]
    assert run(path, label_map="text=words").manifest["labels"] == ["happy", "sad", "words"]


def test_labels_without_a_training_row(run, tmp_path, capsys):
    """One is said; only one in training is refused."""
    rows = make_rows()
    for row in rows:
        if row["speaker"] == "화자 4" and row["label"] == "happy":
            row["label"] = "rare"
    run(write_table(tmp_path / "mine", rows))
    said = "No training row is 'rare' (valid 0, test 2)"
    report = (tmp_path / "outputs" / "corpus" / "report.md").read_text("utf-8")
    assert said in capsys.readouterr().out and said in report and "'happy' (" not in report
    rows = [row | {"label": "rare" if row["speaker"] == "화자 4" else "sad"} for row in rows]
    with pytest.raises(UserError, match="all training rows are 'sad'"):
        run(write_table(tmp_path / "mine", rows))


def test_labels_are_ordered_by_the_alphabet_whatever_their_case(run, tmp_path, capsys):
    rows = make_rows(30, labels=("zeal", "Bored", "angry", "Angry", "분노", "가"))
    data = run(write_table(tmp_path / "mine", rows))
    assert data.manifest["labels"] == ["Angry", "angry", "Bored", "zeal", "가", "분노"]
    assert "labels: Angry and angry differ in case only" in capsys.readouterr().out


def test_votes_for_what_is_no_rows_label_are_left_out_and_said(run, tmp_path, capsys):
    rows = [row | {f"votes_{row['label']}": 2} for row in make_rows()]
    rows = [{"votes_angry": 0, "votes_happy": 0, "votes_calm": 1} | row for row in rows]
    data = run(write_table(tmp_path / "mine", rows))
    assert data.manifest["labels"] == ["angry", "happy"]
    assert "no row is 'calm', its 20 votes are left out" in capsys.readouterr().out


def test_kemdys_labels_are_the_seven_unless_the_user_says_so(run, tmp_path):
    hostile.write(tmp_path / "KEMDy20", "KEMDy20", [])
    root = tmp_path / "KEMDy20"
    assert run(root).manifest["labels"] == list(LABELS)
    data = run(root, label_map="fear=negative,disgust=negative,surprise=drop")
    assert data.manifest["labels"] == ["neutral", "angry", "happy", "sad", "negative"]
    data = run(root, labels="sad,happy")
    assert data.manifest["labels"] == ["sad", "happy"]
    assert {row["label"] for row in data} == {"sad", "happy"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "상황"}, "LABEL_COLUMN = '상황': no table has that column"),
        ({"speakers": "unknown"}, "SPEAKERS = 'unknown' is for tables without a column 'speaker'"),
    ],
)
def test_settings_without_effect_are_refused(run, tmp_path, settings, message):
    hostile.write(tmp_path / "KEMDy20", "KEMDy20", [])
    with pytest.raises(UserError, match=message):
        run(tmp_path / "KEMDy20", **settings)


def test_the_label_may_stand_in_another_column(run, tmp_path):
    rows = [row | {"Felt": "ab"[n // 10]} for n, row in enumerate(make_rows())]
    path = write_table(tmp_path / "mine", rows)
    data = run(path, label_column="felt")
    assert data.manifest["labels"] == ["a", "b"]
    assert data.reasons("noted") == [("row 1", "column 'label' is not read")]
    with pytest.raises(UserError, match="'meant': no table has that column"):
        run(path, label_column="meant")
    plain = write_table(tmp_path / "plain", make_rows(), "plain.csv")
    both = run(f"{path},{plain}", label_column="felt")
    assert both.manifest["labels"] == ["a", "angry", "b", "happy"]
    assert {row["label"] for row in both if row["corpus"] == "plain"} == {"angry", "happy"}
