"""The report page: self-contained, complete, everything escaped; plots without boxes."""

import json
import re
import warnings

import numpy as np
import pytest
from fusion_files import MODELS, write_dimensions, write_everything, write_models

from common import plots as style
from common.files import LABELS, UserError
from common.labels import KOREAN
from fusion import certainty, metrics, plots, predictions
from fusion.corpus import Corpus
from fusion.tables import tabulate_mistakes


def write_history(outputs):
    """Write the training curves of two models; the third was trained without validation rows."""
    for model in MODELS:
        epochs = [{"epoch": 1, "loss": 1.9}, {"epoch": 2, "loss": 1.2}]
        if model != "cmbert":
            epochs = [entry | {"valid_loss": 1.5, "macro_f1": 0.3, "uar": 0.4} for entry in epochs]
        history = {"epochs": epochs, "best_epoch": None if model == "cmbert" else 2}
        (outputs / model).mkdir(parents=True)
        (outputs / model / "history.json").write_text(json.dumps(history), encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory, run_script):
    """The report page of a small ensemble with everything that it can show."""
    outputs = tmp_path_factory.mktemp("outputs")
    write_everything(outputs)
    write_history(outputs)
    scores = metrics.measure(*np.zeros((2, 9), int), None, np.arange(9))
    ablation = [{"input": "voice zeroed", "speaker_norm": "past", **scores}]
    (outputs / "cmbert_ablation.json").write_text(json.dumps(ablation))
    done = run_script("ensemble.py", "--outputs", outputs, "--data", outputs / "data")
    assert done.status == 0, done.stderr
    return outputs / "report.html"


def test_the_page_needs_nothing_but_itself(page):
    html = page.read_text(encoding="utf-8")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    sources = re.findall(r'(?:src|href)="?([^" >]{1,20})', html)
    assert all(source.startswith(("data:", "#")) for source in sources)
    links = {source[1:] for source in sources if source.startswith("#")}
    assert len(links) > 5 and links <= set(re.findall(r' id="?([\w-]+)', html))


def test_the_page_has_every_part(page):
    html = " ".join(page.read_text(encoding="utf-8").split())
    data_hash = json.loads((page.parent / "text_run.json").read_text())["data_hash"][:12]
    assert html.count("data:image/png;base64,") == 8
    for part in (
        "Always majority", "Who is better?", "in-sample", "Choice of the stacker", "KEMDy19_v1_3",
        "voice zeroed, past", "speaker Sess17F (", "transcript unseen (", data_hash,
        "python ensemble.py --outputs", "Dialogue (past)", "Worst mistakes", "<td>epochs</td>",
        "CCC, arousal", "Fusion against Mean of the models", "Centres of the emotions",
        "class fear (", "Arousal by class", "gender F (", "One rater against the others",
        "valence: chosen", "length over 8 s (", "words 0 to 2 (", "level middle (", "noise high (",
        "known turns 5 or more (", "Largest gaps in stacking", "Risk and coverage",
    ):  # fmt: skip
        assert part in html, part
    assert html.index("SYNTHETIC") < html.index("Always majority")
    results = json.loads((page.parent / "ensemble_details.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    cards = re.findall(r'<div class="card ?(\w*)"><b>([^<]*)</b>([^<]*)', html)
    single, paper = rows[results["best_single"]], results["paper"]["stacking_in_sample"]
    shown = [row["accuracy"] for row in (rows["stacking"], single, rows["majority"], paper)]
    assert [value for _, value, _ in cards] == [f"{value:.4f}" for value in shown]
    assert results["learned"]["stacking"]["winner"] in cards[0][2]


def test_transcripts_are_shown_as_text(page):
    html = page.read_text(encoding="utf-8")
    assert "<b>그럼" not in html
    assert "&lt;b&gt;그럼 &#34;" in html and "&amp; 슬픔&lt;/b&gt;" in html


def test_the_worst_mistakes_are_the_surest_wrong_rows(tmp_path):
    write_models(tmp_path, range(17, 21), 60, seed=1)
    test = predictions.load(tmp_path)
    corpus = Corpus(transcripts=np.array([f"그럼 {row}" for row in range(60)]))
    pred = dict(zip(MODELS, test.logits.argmax(2), strict=True))
    pred["stacking"], confidence = test.truth.copy(), np.full(60, 0.99)
    for row, wrongly in ((3, 0.8), (41, 0.9)):
        pred["stacking"][row], confidence[row] = (test.truth[row] + 1) % 7, wrongly
    table = tabulate_mistakes(test, pred, confidence, corpus)
    assert [row[:2] for row in table.rows] == [[test.ids[41], "그럼 41"], [test.ids[3], "그럼 3"]]
    assert "2 of 60 test rows are wrong" in table.note
    other = tabulate_mistakes(test, pred, confidence, Corpus(missing="no transcripts"))
    assert "no transcripts." in other.note and other.rows[0][0] == str(test.ids[41])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"epochs": [{"loss": 1}], "best_epoch": 1}', "cannot be read"),
        ('{"epochs": [{"epoch": 1, "loss": "much"}], "best_epoch": 1}', "cannot be read"),
        ('{"epochs": [], "best_epoch": null}', "has changed since text_train.py wrote it"),
    ],
)
def test_damaged_training_curves_end_in_one_line(content, said, tmp_path):
    path = tmp_path / "text" / "history.json"
    path.parent.mkdir()
    path.write_text(content)
    if "changed" in said:
        assert plots.read_histories(tmp_path, MODELS)["text"]["epochs"] == []
        record = path.parent / "records" / "text_train.json"
        record.parent.mkdir()
        record.write_text(json.dumps({"outputs": {"history.json": "another hash"}}))
    with pytest.raises(UserError, match=rf"text/history.json {said}.*run text_train.py again"):
        plots.read_histories(tmp_path, MODELS)


@pytest.mark.parametrize("has_font", [True, False])
def test_plots_have_korean_names_without_boxes_or_english_ones(has_font, tmp_path, monkeypatch):
    """A glyph that the font lacks is a warning, here an error."""
    if has_font and style.find_font() is None:
        pytest.skip("koreanize-matplotlib is not installed: plots fall back to English names")
    if not has_font:
        monkeypatch.setattr(style, "find_font", lambda: None)
    expected = [KOREAN[label] if has_font else label for label in LABELS]
    assert style.class_names(LABELS) == expected
    random = np.random.default_rng(0)
    write_models(tmp_path, range(17, 21), 60, seed=1)
    write_dimensions(tmp_path, seed=1, blank=range(9))
    test = predictions.load(tmp_path)
    truth, pred = test.truth, {"stacking": random.integers(0, 7, 60)}
    rated = {"stacking": test.ratings.predicted["text"]}
    rows = [{"method": "stacking", **metrics.measure(truth, pred["stacking"], None, truth)}]
    learned = {"dialogue": {name: random.normal(size=(8, 7)) for name in ("own", "other")}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        parts = {"gender F": {"rows": 30, "scores": {"stacking": rows[0]}}}
        results = {"rows": rows, "learned": learned, "test": {"models": MODELS}, "parts": parts}
        confidence = {"stacking": random.random((60, 2))}
        results["certainty"] = certainty.evaluate(test, pred, confidence)
        assert len(plots.draw_all(tmp_path, results, test, pred, rated, confidence, {})) == 7
