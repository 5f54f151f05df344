"""The report page: self-contained, complete, rendered by a real browser; plots without boxes."""

import json
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from fusion_files import MODELS, write_data, write_history, write_models

from common import plots as style
from common.files import LABELS, LABELS_KO
from fusion import metrics, plots, predictions
from fusion.origin import Corpus
from fusion.page import embed_font, tabulate_mistakes

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
    data_hash = json.loads((page.parent / "text_run.json").read_text())["data_hash"][:12]
    assert html.count("data:image/png;base64,") == 7
    for part in (
        "SYNTHETIC", "Always majority", "Stacking", "95 % intervals", "McNemar", "in-sample",
        "By speaker: Accuracy", "Transcripts seen and unseen in training", data_hash,
        "python ensemble.py --outputs",
        "Worst mistakes", "KEMDy19_v1_3", "2 annotated utterances dropped and 1 repaired",
        "<td>epochs</td>",
    ):  # fmt: skip
        assert part in " ".join(html.split()), part
    assert html.index("SYNTHETIC") < html.index("Always majority")
    results = json.loads((page.parent / "ensemble_details.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    cards = re.findall(r'<div class="card ?(\w*)"><b>([^<]*)</b>([^<]*)', html)
    single, paper = rows[results["best_single"]], results["paper"]["stacking_in_sample"]
    shown = [row["accuracy"] for row in (rows["stacking"], single, rows["majority"], paper)]
    assert [value for _, value, _ in cards] == [f"{value:.4f}" for value in shown]
    assert results["learned"]["stacking"]["winner"] in cards[0][2]
    best = sum(method is not None for method in results["best"].values())
    assert html.count("class=best") == best


def test_every_link_of_the_page_has_its_place(page):
    html = page.read_text(encoding="utf-8")
    links = re.findall(r'href="?#([\w-]+)', html)
    assert len(links) > 5 and set(links) <= set(re.findall(r' id="?([\w-]+)', html))


def test_transcripts_are_shown_as_text(page):
    html = page.read_text(encoding="utf-8")
    assert "<b>그럼" not in html
    assert "&lt;b&gt;그럼 &#34;" in html and "&amp; 슬픔&lt;/b&gt;" in html


def test_the_worst_mistakes_are_the_surest_wrong_rows(tmp_path):
    write_models(tmp_path, range(17, 21), 60, seed=1)
    test = predictions.load(tmp_path)
    corpus = Corpus(transcripts=np.array([f"그럼 {row}" for row in range(60)]))
    pred = dict(zip(MODELS, test.logits.argmax(2), strict=True))
    pred["stacking"], probabilities = test.truth.copy(), np.full((60, 7), 0.01)
    for row, confidence in ((3, 0.8), (41, 0.9)):
        pred["stacking"][row] = (test.truth[row] + 1) % 7
        probabilities[row, pred["stacking"][row]] = confidence
    table = tabulate_mistakes(test, pred, probabilities, corpus)
    assert [row[:2] for row in table.rows] == [[test.ids[41], "그럼 41"], [test.ids[3], "그럼 3"]]
    assert "2 of 60 test rows are wrong" in table.note
    other = tabulate_mistakes(test, pred, probabilities, Corpus(missing="no transcripts"))
    assert "no transcripts." in other.note and other.rows[0][0] == str(test.ids[41])


def draw_everything(folder):
    """Draw each plot, of an unknown model too; a glyph that the font lacks is an error."""
    random, models = np.random.default_rng(0), (*MODELS, "speech_large")
    truth, methods = random.integers(0, 7, 60), (*plots.COLOURS, "speech_large")
    probabilities = {m: random.dirichlet(np.ones(7), 60) for m in methods if m != "hard"}
    pred = {method: random.integers(0, 7, 60) for method in methods}
    test = predictions.Predictions(folder, models, truth, None, None, None, {})
    rows = [{"method": m, **metrics.measure(truth, p, None, truth)} for m, p in pred.items()]
    agreement = [{"right": right, "rows": 3, "stacking": 1} for right in ([], ["text"], None)]
    results = {
        "rows": rows,
        "agreement": agreement,
        "parts": [
            {"title": "By session", "parts": {"17": {"scores": {r["method"]: r for r in rows}}}}
        ],
        "learned": {"conversation": {n: random.normal(size=(8, 7)) for n in ("own", "other")}},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return plots.draw_all(folder, results, test, pred, probabilities, {})


def test_plots_have_korean_names_without_boxes(tmp_path):
    if style.find_font() is None:
        pytest.skip("koreanize-matplotlib is not installed: plots fall back to English names")
    assert style.class_names() == LABELS_KO
    assert len(draw_everything(tmp_path)) == 6


def test_plots_fall_back_to_english_names(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "find_font", lambda: None)
    assert style.class_names() == LABELS
    assert len(draw_everything(tmp_path)) == 6
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
    expected = {"images": 7, "broken": 0, "tables": 26, "bold": 4, "wide": False, "loaded": 0}
    assert seen == expected | {"fonts": ["loaded"] if style.find_font() else []}
