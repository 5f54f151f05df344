"""The report page: self-contained, complete, rendered by a real browser; plots without boxes."""

import json
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from fusion_files import write_data, write_history, write_models

from fusion import metrics, plots, predictions
from fusion.origin import Corpus
from fusion.page import embed_font, show_mistakes, show_rows
from fusion.tables import Table
from pipeline.figures import style
from pipeline.labels import LABELS, LABELS_KO

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)

# Run in the page once it is loaded; the answers stand in the title.
QUESTIONS = """<script>
addEventListener("load", async () => {
  await document.fonts.ready;
  const images = [...document.images];
  document.title = JSON.stringify({
    images: images.length,
    broken: images.filter((image) => image.naturalWidth === 0).length,
    tables: document.querySelectorAll("table").length,
    fonts: [...document.fonts].map((font) => font.status),
    bold: document.getElementsByTagName("b").length,
    wide: document.documentElement.scrollWidth > innerWidth,
    loaded: performance.getEntriesByType("resource").filter(
      (entry) => !entry.name.startsWith("data:")).length,
  });
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, run_script):
    """The report page of a small ensemble with everything that it can show."""
    outputs = tmp_path_factory.mktemp("outputs")
    write_models(outputs, range(17, 21), 140, seed=1)
    write_models(outputs / "heldout", range(11, 17), 120, seed=2)
    write_data(outputs / "data", outputs)
    write_history(outputs)
    arguments = ("--outputs", outputs, "--data", outputs / "data")
    done = run_script("ensemble.py", *arguments)
    assert done.status == 0, done.stderr
    return outputs / "report.html"


def test_the_page_needs_nothing_but_itself(page):
    html = page.read_text(encoding="utf-8")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    sources = re.findall(r'(?:src|href)="?([^" >]{1,20})', html)
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_the_page_has_every_part(page):
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 8
    for part in (
        "SYNTHETIC", "Always majority", "Stacking", "95 % intervals", "McNemar", "in-sample",
        "By speaker: Accuracy", "Transcripts seen and unseen in training", "hash ",
        "python ensemble.py --outputs",
        "Worst mistakes", "KEMDy19_v1_3", "2 annotated utterances dropped and 1 repaired",
        "<td>epochs</td>",
    ):  # fmt: skip
        assert part in html, part
    assert html.index("SYNTHETIC") < html.index("Always majority")


def test_the_cards_say_the_scores_and_what_was_chosen(page):
    html = page.read_text(encoding="utf-8")
    results = json.loads((page.parent / "ensemble_details.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    best = max(MODELS, key=lambda model: rows[model]["accuracy"])
    cards = re.findall(r'<div class="card ?(\w*)"><b>([^<]*)</b>([^<]*)', html)
    assert [(kind, value) for kind, value, _ in cards] == [
        ("main", f"{rows['stacking']['accuracy']:.4f}"),
        ("", f"{rows[best]['accuracy']:.4f}"),
        ("", f"{rows['majority']['accuracy']:.4f}"),
        ("", f"{results['paper']['stacking_in_sample']['accuracy']:.4f}"),
    ]
    assert f"{results['learned']['stacking']['winner']}, chosen by session" in cards[0][2]
    low, high = rows["stacking"]["accuracy_ci"]
    assert f"{low:.2f}" in cards[0][2] and f"{high:.2f}" in cards[0][2]


def test_every_link_of_the_page_has_its_place(page):
    html = page.read_text(encoding="utf-8")
    links = re.findall(r'href="?#([\w-]+)', html)
    assert len(links) > 5 and set(links) <= set(re.findall(r' id="?([\w-]+)', html))


def test_the_page_names_the_data_of_its_scores(page):
    run = json.loads((page.parent / "text_run.json").read_text())
    assert f"hash {run['data_hash'][:12]}" in page.read_text(encoding="utf-8")


def test_transcripts_are_shown_as_text(page):
    html = page.read_text(encoding="utf-8")
    assert "<b>그럼" not in html
    assert "&lt;b&gt;그럼 &quot;" in html and "&amp; 슬픔&lt;/b&gt;" in html


def test_the_worst_mistakes_are_the_surest_wrong_rows(tmp_path):
    write_models(tmp_path, range(17, 21), 60, seed=1)
    test = predictions.load(tmp_path)
    corpus = Corpus(transcripts=np.array([f'그럼 "{row}"' for row in range(60)]))
    pred = {model: labels.copy() for model, labels in zip(MODELS, test.pred, strict=True)}
    pred["stacking"] = test.truth.copy()
    probabilities = np.full((60, 7), 0.01)
    for row, confidence in ((3, 0.8), (41, 0.9)):
        pred["stacking"][row] = (test.truth[row] + 1) % 7
        probabilities[row, pred["stacking"][row]] = confidence
    html = show_mistakes(test, pred, probabilities, corpus)
    shown = re.findall(r"<tr><td>(Sess\w+)</td><td>([^<]*)</td>", html)
    assert [segment for segment, _ in shown] == [test.ids[41], test.ids[3]]
    assert "그럼 &quot;41&quot;" in shown[0][1]
    assert "2 of 60 test rows are wrong" in html
    other = show_mistakes(test, pred, probabilities, Corpus(missing="no transcripts"))
    assert "no transcripts." in other and str(test.ids[41]) in other


def test_bold_is_who_is_best_beyond_doubt_alone(page):
    table = Table("Scores", "", ["", "Accuracy", "UAR"], [["A", ".7", ".5"], ["B", ".7", ".6"]])
    assert "class=best" not in show_rows(table)
    html = show_rows(table._replace(best={"Accuracy": "A"}))
    assert html.count("class=best") == 1 and "<td>A</td><td class=best>.7</td>" in html
    assert "Bold: better than every other row beyond doubt" in page.read_text(encoding="utf-8")


def draw_everything(folder):
    """Draw each plot with labels of all classes; a glyph that the font lacks is an error."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 7, 60)
    probabilities = {m: random.dirichlet(np.ones(7), 60) for m in plots.COLOURS if m != "hard"}
    pred = {method: random.integers(0, 7, 60) for method in plots.COLOURS}
    logits = np.log(np.stack([probabilities[model] for model in MODELS]))
    test = predictions.Predictions(folder, truth, logits, None, None, {})
    scored = {method: metrics.scores(truth, labels) for method, labels in pred.items()}
    rows = [
        {"method": method, **row, **{f"{name}_ci": [0.1, 0.9] for name in row}}
        for method, row in scored.items()
    ]
    per_class = {m: metrics.class_scores(metrics.confusion(truth, p)) for m, p in pred.items()}
    agreement = [
        {"right": (), "rows": 0, "stacking": 0},
        {"right": ("text",), "rows": 3, "stacking": 1},
    ]
    single = {"title": "By session", "parts": {"17": {"scores": {r["method"]: r for r in rows}}}}
    talk = {name: random.normal(size=(8, 7)).tolist() for name in ("own", "other")}
    results = {"rows": rows, "per_class": per_class, "agreement": agreement, "parts": [single]}
    results["learned"] = {"conversation": talk}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return plots.draw_all(folder, results, test, pred, probabilities)


def test_plots_have_korean_names_without_boxes(tmp_path):
    if style.find_font() is None:
        pytest.skip("koreanize-matplotlib is not installed: plots fall back to English names")
    assert style.class_names() == LABELS_KO
    assert len(draw_everything(tmp_path)) == 7


def test_plots_fall_back_to_english_names(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "find_font", lambda: None)
    assert style.class_names() == LABELS
    assert len(draw_everything(tmp_path)) == 7
    assert embed_font(None, "슬픔") == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: page not rendered")
def test_a_browser_renders_the_page_without_network(page, tmp_path):
    asking = tmp_path / "page.html"
    asking.write_text(page.read_text(encoding="utf-8") + QUESTIONS, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}/profile"]
    command += ["--virtual-time-budget=10000", "--dump-dom", asking.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title, done.stderr
    seen = json.loads(title[1])
    # Tables: 2 of scores, 3 on the fusion, 2 on the conversation, 2 by class, 4 x 2 + 3 on parts,
    # paper, mistakes, corpus, origin, 3 settings.
    expected = {"images": 8, "broken": 0, "tables": 27, "bold": 4, "wide": False, "loaded": 0}
    assert seen == expected | {"fonts": ["loaded"] if style.find_font() else []}
