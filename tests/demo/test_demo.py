"""demo.py in a browser, with a real file; without Gradio it says what to install."""

import json
import os
import re
import socket
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from common.files import LABELS
from common.labels import KOREAN
from extras.demo.conversation import Conversation, Turn, listen
from predicting import Recording, load_run, predict
from predicting.answers import NO_VERDICT
from predicting.predicting import answer
from predicting.utterances import find_utterances


def test_without_gradio_it_says_what_to_install(run_script, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "extras.demo.page", raising=False)
    done = run_script("demo.py", "--outputs", trained.outputs)
    assert done.status == 2
    assert done.stderr == (
        "demo.py: error: gradio is missing: pip install -r requirements-demo.txt\n"
    )


def test_words_are_no_markup_on_the_page():
    gradio = pytest.importorskip("gradio")
    from extras.demo import page

    with gradio.Blocks():
        table = page.show_turns()
    assert table.datatype == "str"  # and not "markdown" or "html"
    shown = {"emotion": "sad", "confidence": 0.5, "probabilities": (0.5,), "uncertain": False}
    shown["dimensions"] = {}
    own = SimpleNamespace(text="<b>x</b>", remarks=(), **shown)
    assert own.text not in page.write_verdict(SimpleNamespace(answer=own))  # which is Markdown


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg"])
def test_a_recording_reaches_the_models_as_it_came(tmp_path, monkeypatch, suffix):
    """Gradio would convert it by ffmpeg, which is not everywhere."""
    gradio = pytest.importorskip("gradio")
    from extras.demo import page

    monkeypatch.setenv("PATH", str(tmp_path))
    soundfile.write(tmp_path / f"a.{suffix}", 0.1 * np.sin(np.arange(16_000) / 9), 16_000)
    with gradio.Blocks():
        (recording, *_), *_ = page.ask(60, "", [])
    given = gradio.FileData(path=str(tmp_path / f"a.{suffix}"))
    assert recording.preprocess(given) == given.path


def test_every_model_of_the_run_has_its_bars(trained, of_encoders, talk):
    pytest.importorskip("gradio")
    from extras.demo import page

    run, spoken = load_run(of_encoders), Conversation()
    titles = ["fusion", "both (CM-BERT)", "words (KoBERT)", "voice (AlexNet)", "voice (speech)"]
    assert [title.partition(" · ")[2] for title in page.name_bars(run).values()] == titles
    assert len(page.name_bars(load_run(trained.outputs))) == 4
    page.make_page(run, 60, None, "", [])
    nothing = page.show(run, spoken)
    listen(run, spoken, Recording(talk[0]["path"]), 60)
    _, _, fusion, both, words, voice, speech, *rest = page.show(run, spoken)
    # Spectrogram, attention, conversation, valence and arousal, and the table.
    assert both is words is None and len(rest) == 5 and len(nothing) == 12
    own = spoken.turns[0].answer
    for bars, values in ((fusion, own.probabilities), (speech, own.models["speech"])):
        assert list(bars.values()) == values.tolist()
    assert voice != speech
    assert rest[3].ndim == 3 and "valence" in page.write_verdict(spoken.turns[0])


def test_a_turn_in_which_nobody_speaks_is_shown_without_a_verdict(trained, talk):
    pytest.importorskip("gradio")
    from extras.demo import page

    run, spoken = load_run(trained.outputs), Conversation()
    for recording in (Recording(samples=np.zeros(16_000, np.int16)), Recording(text="왜 그래")):
        for utterance in find_utterances(recording, run.config):
            (own,) = answer(run, [utterance], spoken.history)
            spoken.turns.append(Turn(own, utterance.samples, 0, [], {}))
        *_, shown = page.show(run, spoken)
        assert NO_VERDICT in shown[0] and shown[0][-1] == ""
    verdict = page.write_verdict(spoken.turns[0])
    assert NO_VERDICT in verdict and "nobody speaks" in verdict
    assert NO_VERDICT not in page.write_verdict(spoken.turns[1])


def test_behind_a_proxy_the_page_opens(trained):
    """Gradio asks its own address whether it answers."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}
    here |= dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    here |= dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks5://127.0.0.1:9")
    command = [sys.executable, "demo.py", "--outputs", trained.outputs, "--examples", ""]
    command += ["--port", port]
    with subprocess.Popen(
        command, cwd=ROOT, env=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        opened = any(line.startswith(f"open http://127.0.0.1:{port} ") for line in process.stdout)
        process.terminate()
        assert opened, process.stderr.read()


needed = all(map(find_spec, ("gradio", "selenium")))
if needed:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    from extras.demo.picture import browse, find_browser, serve, speak, wait_for, wait_for_turns

    needed = all(find_browser())
in_browser = pytest.mark.skipif(not needed, reason="gradio, selenium or chromium is missing")


@pytest.fixture(scope="module")
def page(trained):
    """The page of the trained run in a browser."""
    arguments = ["--outputs", str(trained.outputs), "--examples", ""]
    arguments += ["--most-seconds", "10", "--most-megabytes", "0.5"]
    with serve(*arguments) as address, browse() as page:
        page.get(address)
        wait_for(page, "#judge")
        yield page


def wait_for_text(page, selector, words):
    """Wait until an element says some words; return all that it says."""

    def said(page):
        text = page.find_element("css selector", selector).text
        return text if words in text else None

    return WebDriverWait(page, 60).until(said, f"{selector} does not say {words}")


@in_browser
def test_a_recording_gets_its_verdict(page, trained, talk):
    run = load_run(trained.outputs)
    spoken = [Recording(row["path"], row["text"], "Mina") for row in talk[:2]]
    for turn, own in enumerate(predict(run, spoken), start=1):
        speak(page, own.recording.path, own.recording.text, "Mina")
        wait_for_turns(page, turn)
        verdict = wait_for_text(page, "#verdict", f"{own.confidence:.0%}")
        assert f"{KOREAN[own.emotion]} {own.emotion}" in verdict
        assert ("불확실 uncertain" in verdict) == own.uncertain
    cells = [wait_for(page, f"#turns [data-testid='cell-1-{column}']").text for column in range(4)]
    assert cells == ["2", "Mina", "2", talk[1]["text"]]
    bars = [
        bar.text for bar in page.find_elements("css selector", "[data-testid$='confidence-set']")
    ]
    assert len(bars) == 4 * len(LABELS)
    assert len(page.find_elements("css selector", ".picture img")) == 4
    assert "tones of a test" in page.find_element("css selector", ".banner").text


@in_browser
def test_the_keyboard_alone_leads_from_the_verdict_back_to_a_turn(page, trained, talk):
    """After the two turns above: no bar is a stop on the way to the table."""
    (first, _) = predict(
        load_run(trained.outputs), [Recording(r["path"], r["text"], "Mina") for r in talk[:2]]
    )
    wait_for(page, "#judge").send_keys("")
    for _ in range(20):
        ActionChains(page).send_keys(Keys.TAB).perform()
        if page.switch_to.active_element.get_attribute("role") == "gridcell":
            break
    ActionChains(page).send_keys(Keys.DOWN, Keys.UP, Keys.ENTER).perform()
    wait_for_text(page, "#verdict", f"{first.confidence:.0%}")


@in_browser
def test_a_phone_shows_all_without_moving_the_page_sideways(page):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        of_page = "document.documentElement.scrollWidth"
        assert page.execute_script(f"return {of_page}") == 390
        of_picture = "document.querySelector('.wide img').getBoundingClientRect()"
        left, width = page.execute_script(f"const r = {of_picture}; return [r.left, r.width]")
        assert width > 600 and left >= 0  # legible; its beginning can be reached
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@in_browser
def test_too_long_or_large_a_recording_is_refused_clearly(page, tmp_path):
    soundfile.write(tmp_path / "long.wav", [0.0] * 176_000, 16_000)
    speak(page, str(tmp_path / "long.wav"))
    wait_for_text(page, ".toast-wrap", "long.wav is 11 s long: give at most 10 s")
    soundfile.write(tmp_path / "large.wav", [0.0] * 300_000, 16_000)
    page.get(page.current_url)  # anew, with no recording in it
    wait_for(page, "#recording input[type=file]").send_keys(str(tmp_path / "large.wav"))
    wait_for_text(page, ".toast-wrap", "exceed the maximum allowed size of 488")


@in_browser
def test_nothing_is_wrong_and_nobody_else_is_asked(page):
    """After all that the other tests did."""
    errors = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = {
        message["params"].get("request", message["params"]).get("url", "")
        for message in messages
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
    }
    hosts = {
        found[1] for found in map(re.compile(r"(?:http|ws)s?://([^/:]+)").match, sent) if found
    }
    assert hosts == {"127.0.0.1"}
