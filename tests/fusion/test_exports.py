"""ensemble.tex and ensemble.csv: the same scores as elsewhere, for a paper and for programs."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from fusion_files import NOTICE, read_json, write_everything

from fusion import exports
from fusion.cells import Table

ORIGIN = {"Date": "2026-11-29", "Command": "python ensemble.py\n\\input{secrets}"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, run_script):
    """The results of a small ensemble with dimensions, votes and parts."""
    folder = tmp_path_factory.mktemp("outputs")
    write_everything(folder)
    done = run_script("ensemble.py", "--outputs", folder, "--data", folder / "data")
    assert (done.status, done.stderr) == (0, "")
    return folder


def read_csv(outputs):
    table = pd.read_csv(outputs / "ensemble.csv")
    table = table.set_index(["table", "row", "score"]).sort_index()
    assert table.index.is_unique
    return table


def test_the_csv_has_the_scores_of_the_results_each_once(outputs):
    table = read_csv(outputs)
    assert [*table.columns] == ["value", "low", "high", "rows", "groups"]
    for row in read_json(outputs / "ensemble.json"):
        for score in ("accuracy", "macro_f1", "uar", "ece"):
            if row[score] is None:
                assert ("scores", row["method"], score) not in table.index
                continue
            line = table.loc["scores", row["method"], score]
            assert [*line] == [row[score], *row[f"{score}_ci"], 140, 4]
        if row["ccc_arousal"] is not None:
            line = table.loc["dimensions", row["method"], "ccc_arousal"]
            assert line["value"] == row["ccc_arousal"]
    area = read_json(outputs / "ensemble_details.json")["certainty"]["stacking"]
    assert table.loc["certainty", "stacking", "aurc"]["value"] == area["aurc"]
    paper = table.loc["paper"].index.get_level_values(0)
    assert "stacking_in_sample" in paper and "stacking" not in paper
    assert "stacking_in_sample" not in table.loc["scores"].index.get_level_values(0)
    votes = read_json(outputs / "ensemble_details.json")["votes"]
    line, people = table.loc["votes", "one rater", "three"], votes["people"]
    assert [*line[:4]] == [people["three"], *people["three_ci"], votes["people_rows"]]


def test_the_csv_has_parts_classes_and_differences(outputs):
    table, truth = read_csv(outputs), np.load(outputs / "text_truth.npy")
    pred = np.load(outputs / "ensemble_stacking_pred.npy")
    details = read_json(outputs / "ensemble_details.json")
    place = np.bincount(truth).argmax()
    of_class = table.loc[f"class {details['labels'][place]}", "stacking", "recall"]
    assert of_class["value"] == pytest.approx((pred == truth)[truth == place].mean())
    assert of_class["rows"] == (truth == place).sum()
    sexes = [table.loc[f"gender {sex}", "stacking", "accuracy"] for sex in "FM"]
    assert sum(part["rows"] for part in sexes) == 140
    hits = sum(part["value"] * part["rows"] for part in sexes)
    assert hits == pytest.approx((pred == truth).sum())
    session = table.loc["session 17", "stacking", "accuracy"]
    assert session["groups"] == session["rows"]  # within one session over its rows
    pair = table.loc["comparisons", "stacking - text"]
    scores = table.loc["scores"]
    gain = scores.loc["stacking", "accuracy"]["value"] - scores.loc["text", "accuracy"]["value"]
    assert pair.loc["accuracy"]["value"] == pytest.approx(gain)
    assert 0 <= pair.loc["accuracy_p"]["value"] <= 1 and np.isnan(pair.loc["accuracy_p"]["low"])


def test_every_latex_table_says_that_the_data_are_synthetic(outputs):
    text = (outputs / "ensemble.tex").read_text(encoding="utf-8")
    captions = re.findall(r"\\caption\{(.*)\}\n\\label\{tab:([a-z0-9-]+)\}", text)
    assert len(captions) == text.count(r"\begin{table}") > 8
    assert all(NOTICE in caption for caption, _ in captions)
    said = {name: caption for caption, name in captions}
    assert "in-sample" in said["paper"] and "in-sample" not in said["scores"]
    tables = dict(zip(said, text.split(r"\begin{table}")[1:], strict=True))
    assert "in-sample as published" in tables["paper"] and "0.7269" not in tables["scores"]
    assert "in-sample" not in tables["scores"]
    row = next(row for row in read_json(outputs / "ensemble.json") if row["method"] == "stacking")
    low, high = row["uar_ci"]
    assert f"{row['uar']:.3f} ({low:.2f}\u2013{high:.2f})" in tables["scores"]


ODD = Table(
    "Scores of 100 % & more",
    "Of C:\\data_new, {a} # ~ ^ $x$ < 5",
    ["", "기쁨_1", "F1 & p"],
    [
        ["50 % \\input{secrets}", "-0.10 (-0.30--0.02)", "< 0.001"],
        ["화남 #1", "-", "0.5 (0.4-0.6)"],
    ],
)


def test_whatever_a_label_holds_is_text():
    text = exports.write_latex({"synthetic": None, "origin": ORIGIN}, {"odd_one": ODD})
    assert r"\input" not in re.sub(r"(?m)^%.*", "", text)
    assert "\\label{tab:odd-one}" in text and r"기쁨\_1" in text
    assert "\u22120.10 (\u22120.30\u2013\u22120.02)" in text and "0.5 (0.4\u20130.6)" in text
    assert r"Scores of 100 \% \& more. Of C:\textbackslash{}data\_new, \{a\} \# " in text
    bare = re.sub(r"\\[\\{}]|(?m:^%.*)|%$", "", text)
    assert bare.count("{") == bare.count("}")


def has_package(name):
    found = shutil.which("kpsewhich")
    return bool(found and subprocess.run([found, f"{name}.sty"], capture_output=True).stdout)


@pytest.mark.skipif(not has_package("booktabs"), reason="no LaTeX with booktabs here")
def test_latex_sets_the_tables(outputs, tmp_path):
    korean = has_package("kotex")
    tables = (outputs / "ensemble.tex").read_text(encoding="utf-8")
    odd = exports.write_latex({"synthetic": None, "origin": ORIGIN}, {"odd": ODD})
    odd = odd if korean else re.sub(r"[가-힣]", "", odd)
    page = (
        r"\documentclass{article}\usepackage{booktabs,graphicx%s}\begin{document}%s\end{document}"
    )
    text = page % (",kotex" * korean, f"\n{tables}\n{odd}\n")
    (tmp_path / "page.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "Overfull" not in said


def test_every_plot_is_a_pdf_as_well(outputs):
    plots = [*(outputs / "plots").glob("*.png")]
    assert len(plots) > 4
    for path in plots:
        written = path.with_suffix(".pdf").read_bytes()
        assert written.startswith(b"%PDF-") and written.rstrip().endswith(b"%%EOF")
        assert b"/Type3" not in written.replace(b" ", b"")
