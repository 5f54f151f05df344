"""Start demo.py, judge a short conversation in it by Chromium, and take a picture of the page.

    python -m extras.demo.picture

Reads   what demo.py reads; its examples are the conversation
Writes  PICTURE
"""

from common import settings  # first of all: it answers --help

# isort: split

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from common.files import UserError, write_bytes
from extras.demo.conversation import find_examples

# --------------------------------------------------------------------------------------
OUTPUTS = "outputs"  # a folder of trained models
EXAMPLES = "data/sample"  # whose examples are spoken
TURNS = 6  # of the conversation
PICTURE = "docs/demo.png"
# --------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 120  # seconds until the page is there, and for an answer
SIZE = 1280, 900  # pixels of the window, which grows with the page
MARGIN = 150  # pixels of a window that are not its page
SETTLED = 2  # seconds until bars have grown and pictures are loaded
WIDTH = 900  # pixels of the picture
COLOURS = 256  # of the picture: few make it small


def main() -> None:
    browser, driver = find_browser()
    if not (browser and driver):
        raise UserError("no chromium or no chromedriver on this computer: install both")
    examples = find_examples(Path(EXAMPLES), TURNS)
    if not examples:
        raise UserError(f"{EXAMPLES} has no examples: run sample_corpus.py first")
    with serve("--outputs", OUTPUTS) as address, browse() as page:
        page.get(address)
        for turn, (path, words, speaker) in enumerate(examples, start=1):
            speak(page, path, words, speaker)
            wait_for_turns(page, turn)
        height = page.execute_script("return document.documentElement.scrollHeight")
        page.set_window_size(SIZE[0], height + MARGIN)
        time.sleep(SETTLED)
        picture = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")
    content = io.BytesIO()
    picture.thumbnail((WIDTH, picture.height))
    picture.quantize(COLOURS, kmeans=3).save(content, "PNG", optimize=True)
    write_bytes(PICTURE, content.getvalue())
    print(f"wrote {PICTURE}, {len(content.getvalue()) // 1000} kB")


def find_browser() -> tuple[str | None, str | None]:
    """Return where Chromium and its chromedriver are, None for what is missing."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found, shutil.which("chromedriver")


@contextmanager
def serve(*arguments: str) -> Iterator[str]:
    """Run demo.py on a free port as long as the block lasts; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "demo.py", "--port", str(port), *arguments]
    with tempfile.TemporaryDirectory() as copies:
        environment = {**os.environ, "GRADIO_TEMP_DIR": copies}
        demo = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            if not any(line.startswith("open http") for line in demo.stdout):
                raise UserError("demo.py does not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            demo.terminate()
            demo.wait()


@contextmanager
def browse() -> Iterator[WebDriver]:
    """Start Chromium without a window, which keeps its console and every request in its logs."""
    browser, driver = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size={},{}".format(*SIZE)):
            options.add_argument(flag)
        page = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            yield page
        finally:
            page.quit()


def speak(page: WebDriver, path: str, words: str = "", speaker: str = "") -> None:
    """Give the page a recording ("": none), its words and speaker, and ask for the verdict."""
    for button in page.find_elements(By.CSS_SELECTOR, "#recording [aria-label='Clear']"):
        button.click()
    if path:
        chosen = wait_for(page, "#recording input[type=file]")
        chosen.send_keys(str(Path(path).resolve()))
        wait_for(page, "#recording [aria-label='Clear']")
    for name, text in (("words", words), ("speaker", speaker)):
        field = wait_for(page, f"#{name} textarea")
        field.clear()
        field.send_keys(text)
    wait_for(page, "#judge").click()


def wait_for(page: WebDriver, selector: str) -> WebElement:
    """Return the first element that a CSS selector finds, as soon as there is one."""
    found = WebDriverWait(page, PATIENCE).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, selector), f"no {selector} in the page"
    )
    return found[0]


def wait_for_turns(page: WebDriver, count: int) -> None:
    """Wait until the page shows so many turns of the conversation."""
    wait_for(page, f"#turns [data-testid='cell-{count - 1}-0']")


if __name__ == "__main__":
    settings.run(main)
