"""The page of demo.py: what is asked of the visitor, and how a conversation is shown."""

import html
from collections.abc import Callable
from functools import partial

import gradio as gr
import numpy as np

from common.features import Mel, log_mel
from common.files import DIMENSIONS, UserError
from common.labels import both_names
from common.plots import draw_attention, paint
from extras.demo.conversation import EVERY, LETTERS, Conversation, Turn, listen
from extras.demo.pictures import draw_path, draw_turns, draw_voice
from predicting import Recording, Run
from predicting.answers import NO_VERDICT, clock, write_dimensions

TITLE = "한국어 음성 감정 인식 · Korean emotion recognition"
HEARD = {"text": "말 · words", "audio": "목소리 · voice", "text+audio": "둘 다 · both"}
VOICE = f"목소리, {EVERY:g}초마다 · voice, every {EVERY:g} s; 스펙트로그램 · spectrogram (log-mel)"
NETWORKS = {"text": "KoBERT", "audio": "AlexNet", "cmbert": "CM-BERT"}
COLUMNS = ("차례 turn", "화자 speaker", "들은 발화 heard", "말 words", "판정 verdict", "확률 p")
FORGET = 3600  # seconds after which Gradio's copies of recordings and pictures are deleted
# The reader's own fonts: Gradio's theme would fetch some.
THEME = gr.themes.Default(
    primary_hue="blue", font=("system-ui", "sans-serif"), font_mono=("monospace",)
)
CSS = """
.banner {background: #fff3cd; color: #533f03; border-left: 4px solid #e0a800;
         padding: .6em 1em; border-radius: 4px}
#verdict {min-height: 4.5em}
.picture img {padding-top: 2.2em}
.picture:not(.fullscreen) img {max-height: 360px; object-fit: contain}
footer {display: none !important}
@media (max-width: 640px) {  /* a phone: what would be too small to read is moved sideways */
  .wide .image-frame {overflow-x: auto; justify-content: flex-start}
  .picture img {padding-top: 3.4em}  /* of two lines of a label */
  .wide:not(.fullscreen) img {width: 640px; max-width: none}
  #turns th, #turns td {min-width: 6em; word-break: keep-all}
}
"""
# Gradio makes a button of every bar: thirty stops of the Tab key on the way to the conversation.
JS = """
() => new MutationObserver(
  () => document.querySelectorAll(".bars button").forEach(bar => {bar.tabIndex = -1})
).observe(document.body, {childList: true, subtree: true})
"""


def make_page(
    run: Run, longest: float, transcribe: Callable | None, asr: str, examples: list
) -> gr.Blocks:
    """Build the page. A visitor's conversation lives in memory alone."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(FORGET, FORGET)) as page:
        gr.Markdown(f"# {TITLE}")
        notice = run.config["synthetic"]
        if notice:
            show_banner(f"합성 데이터로 학습 · SYNTHETIC. {notice}")
        for remark in run.remarks:
            show_banner(f"없는 모델 · missing: {remark}")
        talk = gr.State()
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                asked, judge, anew = ask(longest, asr, examples)
            with gr.Column(scale=3, min_width=420):
                shown = [gr.Markdown(elem_id="verdict")]
                bars = [*name_bars(run).values()]
                for first in range(0, len(bars), 2):
                    with gr.Row():
                        for title in bars[first : first + 2]:
                            shown.append(
                                gr.Label(label=title, show_heading=False, elem_classes="bars")
                            )
                shown.append(picture(VOICE, "wide"))
        shown.append(picture("CM-BERT가 주목한 말 · what CM-BERT attends to", "wide"))
        with gr.Row():
            with gr.Column(scale=3, min_width=420):
                shown.append(picture("대화 · conversation", "wide"))
            if run.dimensions:
                with gr.Column(scale=1, min_width=300):
                    shown.append(picture("정서가와 각성도 · valence and arousal"))
        shown.append(table := show_turns())
        # One at a time: neither matplotlib's style nor the watched network is for two threads.
        quiet = {"api_visibility": "private", "concurrency_id": "models", "concurrency_limit": 1}
        outputs = [talk, *shown]
        speak = partial(hear, run, longest, transcribe)

        def look_back(talk: Conversation, chosen: gr.SelectData) -> list:
            return show(run, talk, chosen.index[0])

        judge.click(speak, [talk, *asked], outputs, **quiet)
        table.select(look_back, [talk], outputs, show_progress="hidden", **quiet)
        anew.click(lambda: show(run, Conversation()), None, outputs, **quiet)
    return page


def name_bars(run: Run) -> dict[str, str]:
    """Return the titles of the bars, of the fusion and of each model: those of both come first."""
    bars = {"fusion": "융합 · fusion"}
    for model in sorted(run.models, key=lambda model: run.needed(model) != "text+audio"):
        is_encoder = run.configs[model]["network"].get("kind") == "SpeechClassifier"
        name = model if is_encoder else NETWORKS.get(model, model)
        bars[model] = f"{HEARD[run.needed(model)]} ({name})"
    return bars


def show_banner(remark: str) -> None:
    """Lay out what a visitor has to know of the models first."""
    gr.HTML(f"<div class=banner>{html.escape(remark)}</div>")


def ask(longest: float, asr: str, examples: list) -> tuple[list, gr.Button, gr.Button]:
    """Lay out what a visitor gives: recording, words, speaker, and the two buttons."""
    recording = gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",  # as it came: converting would need ffmpeg
        label=f"목소리 · voice (≤ {longest:g} s)",
        buttons=[],
        elem_id="recording",
    )
    unsaid = (
        f"비우면 {asr} · empty: {asr} listens" if asr else "비우면 목소리만 · empty: voice alone"
    )
    words = gr.Textbox(
        label="말 · words", placeholder=unsaid, lines=2, max_length=LETTERS, elem_id="words"
    )
    speaker = gr.Textbox(
        label="화자 · speaker",
        info="이름이 있으면 목소리를 기억 · a named voice is remembered",
        max_length=40,
        elem_id="speaker",
    )
    with gr.Row():
        judge = gr.Button("판정 · Judge", variant="primary", elem_id="judge")
        anew = gr.Button("새 대화 · New talk")
    asked = [recording, words, speaker]
    if examples:
        labels = [f"{who}: {said}" for _, said, who in examples]
        title = "예 (합성 음성) · examples (synthetic voices)"
        gr.Examples(examples, asked, label=title, example_labels=labels)
    return asked, judge, anew


def picture(label: str, *classes: str) -> gr.Image:
    """Lay out a picture, which stands below its label."""
    classes = ["picture", *classes]
    return gr.Image(label=label, buttons=["fullscreen"], interactive=False, elem_classes=classes)


def show_turns() -> gr.Dataframe:
    """Lay out the conversation as a table."""
    return gr.Dataframe(
        headers=list(COLUMNS),
        label="줄을 누르면 그 차례를 다시 봅니다 · select a row to see its turn again",
        interactive=False,
        wrap=True,
        elem_id="turns",
    )


def hear(run: Run, longest: float, transcribe, talk, path, words, speaker) -> list:
    """Take what a visitor gave into the conversation, None for a new one, and show it."""
    talk = talk or Conversation()
    try:
        recording = Recording(path or "", words.strip(), speaker.strip())
        listen(run, talk, recording, longest, transcribe)
    except UserError as error:
        raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from None
    return show(run, talk)


def show(run: Run, talk: Conversation, number: int = -1) -> list:
    """Return what the page shows of a conversation, with one turn in full."""
    names = name_bars(run)
    if not talk.turns:
        # verdict, bars, three pictures or four, table
        return [talk, *[None] * (5 + len(names) + bool(run.dimensions))]
    turn = talk.turns[number]
    own = turn.answer
    bars = {"fusion": own.probabilities, **own.models}
    labels = run.fusion.labels
    nothing = np.zeros(len(labels))
    mel = Mel()
    voice = None
    if turn.samples is not None:
        voice = paint(draw_voice, log_mel(turn.samples, mel), mel, turn.windows)
    attention = paint(draw_attention, turn.pieces, turn.maps, own.text) if turn.pieces else None
    speakers = [each.answer.recording.speaker for each in talk.turns]
    each = [turn.answer.probabilities for turn in talk.turns]
    each = np.stack([nothing if one is None else one for one in each])
    turns = paint(draw_turns, each, speakers, labels)
    path = [paint_path(run, talk, number)] if run.dimensions else []
    return [
        talk,
        write_verdict(turn),
        *(by_name(bars.get(name), labels) for name in names),
        voice,
        attention,
        turns,
        *path,
        [write_row(place, each) for place, each in enumerate(talk.turns, start=1)],
    ]


def paint_path(run: Run, talk: Conversation, number: int) -> np.ndarray:
    """Return a picture of every turn's valence and arousal, with one of them marked."""
    each = [[turn.answer.dimensions[name] for name in DIMENSIONS] for turn in talk.turns]
    points = np.array(each, float)  # None is nan
    return paint(draw_path, points, range(len(points))[number], run.dimension_scale)


def by_name(probabilities: np.ndarray | None, labels: tuple[str, ...]) -> dict[str, float] | None:
    """Return probabilities (C,) by the name of their emotion."""
    if probabilities is None:
        return None
    return dict(zip(map(both_names, labels), probabilities.tolist(), strict=True))


def write_verdict(turn: Turn) -> str:
    """Write the verdict, how sure it is, and what is to be remarked."""
    own = turn.answer
    if own.probabilities is None:
        return "  \n".join([f"## {NO_VERDICT}", *own.remarks])
    likely = both_names(own.emotion)
    sure = f"{own.confidence:.0%}"
    headline = f"## 불확실 uncertain\n{likely}? {sure}" if own.uncertain else f"## {likely}\n{sure}"
    return "  \n".join(filter(None, [headline, write_dimensions(own), *own.remarks]))


def write_row(place: int, turn: Turn) -> list:
    """Write a turn's cells of COLUMNS."""
    own, recording = turn.answer, turn.answer.recording
    heard = turn.known if recording.speaker else ""
    times = "" if recording.end is None else f" {clock(recording.start)}-{clock(recording.end)}"
    verdict, sure = NO_VERDICT, ""
    if own.probabilities is not None:
        verdict = f"{both_names(own.emotion)}{'?' if own.uncertain else ''}"
        sure = f"{own.confidence:.2f}"
    return [f"{place}{times}", recording.speaker, heard, own.text, verdict, sure]
