"""Show a trained run on a local page: speak, and see what each model makes of it.

Reads   OUTPUTS: what the training scripts and ensemble.py wrote; EXAMPLES, if they are there
Writes  nothing: a visitor's conversation lives in memory, Gradio's copies are deleted

    pip install -r requirements-demo.txt
    python demo.py
    python demo.py --asr openai/whisper-small

The page needs no network, and tells nobody anything.
"""

from common import settings  # first of all: it answers --help

# isort: split

import os
from importlib.util import find_spec
from pathlib import Path

from common.files import UserError
from predicting import load_run

# --------------------------------------------------------------------------------------
OUTPUTS = "outputs"  # a folder of trained models
EXAMPLES = "data/sample"  # corpus whose last session can be tried; "": no examples
HOST = "127.0.0.1"  # this computer alone; 0.0.0.0: whoever reaches it (a microphone needs https)
PORT = 7860
MOST_SECONDS = 60.0  # of a recording
MOST_MEGABYTES = 20.0
ASR = ""  # recogniser for what has no transcript, a hub name or folder: openai/whisper-small ...
# --------------------------------------------------------------------------------------

# What Gradio could do beside showing the page, whatever the environment says. It asks its own
# address whether it answers, which no proxy can tell.
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": "*", "no_proxy": "*"}
PRIVATE = ("share", "ssr_mode", "mcp_server", "run_history", "enable_monitoring")


def main() -> None:
    if find_spec("gradio") is None:
        raise UserError("gradio is missing: pip install -r requirements-demo.txt")
    run = load_run(OUTPUTS)
    for model in run.models:  # now, so that the first visitor neither waits nor meets a broken one
        run.load(model)
    transcribe = None
    if ASR:
        from common.transcribing import load_recogniser  # here: takes seconds

        transcribe = load_recogniser(ASR)
    os.environ.update(OFFLINE)
    from extras.demo import page
    from extras.demo.conversation import find_examples

    examples = find_examples(Path(EXAMPLES)) if EXAMPLES else []
    made = page.make_page(run, MOST_SECONDS, transcribe, ASR, examples)
    try:
        made.launch(
            server_name=HOST,
            server_port=PORT,
            max_file_size=round(MOST_MEGABYTES * 1e6),
            theme=page.THEME,
            css=page.CSS,
            js=page.JS,
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
            **dict.fromkeys(PRIVATE, False),
        )
    except OSError:
        raise UserError(f"port {PORT} of {HOST} cannot be used: give another --port") from None
    print(f"open http://{HOST}:{PORT} in a browser; Ctrl+C ends it", flush=True)
    made.block_thread()


if __name__ == "__main__":
    settings.run(main)
