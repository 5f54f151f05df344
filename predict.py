"""Predict the emotion of recordings, of texts, or of both.

Reads   RECORDINGS, and MODEL: what the training scripts and ensemble.py wrote
Writes  a line for every utterance; MODEL/speakers/ with --speaker

    python predict.py talk.wav --text "정말 기뻐요"
    python predict.py --text "정말 기뻐요"
    python predict.py talk.wav more_recordings/ --asr openai/whisper-small
    python predict.py --manifest list.tsv --tsv answers.tsv
    python predict.py meeting.mp3 --turns meeting.rttm --asr openai/whisper-small --json
    python predict.py --speaker Mina --enrol recordings_of_mina/
    python predict.py --export handed_on/
    python predict.py talk.wav --model handed_on/ --onnx

Without a transcript the voice alone is judged. A long recording without one is cut where it is
silent, each utterance with its times. Whoever has no name is a stranger, of whom nothing but the
utterance is known; a named speaker is known better with every recording.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.files import UserError, write_text
from pipeline.predicting import Answer, Heard, Recording, Run, load_run, predict, recordings
from pipeline.predicting.answers import COLUMNS, MODELS, as_dict, as_line, as_row
from pipeline.predicting.speakers import load_voice, save_voice

# --------------------------------------------------------------------------------------
RECORDINGS = ()  # WAV, FLAC, OGG, MP3 files, folders of them: given without a name
MODEL = "outputs"  # a folder of trained models
TEXT = ""  # transcript of the one recording; without a recording the words alone are judged
MANIFEST = ""  # TSV with a header: path, text, speaker, dialogue, start, end, turns in order
TURNS = ""  # RTTM file of a diariser: the recordings' turns and speakers
ASR = ""  # recogniser for what has no transcript, a hub name or folder: openai/whisper-small ...
SPEAKER = ""  # who speaks in all recordings: remembered in MODEL/speakers
ENROL = ""  # folder of recordings from which SPEAKER is remembered anew, first of all
JSON = False  # one object a line instead of readable lines
TSV = ""  # file for a table instead, - for the standard output
ONNX = False  # run an exported folder without torch
EXPORT = ""  # new folder to hand on: all that predicting needs, and a model card
# --------------------------------------------------------------------------------------


def main() -> None:
    if EXPORT:
        hand_on()
        return
    files, enrolled = list_recordings(), list_enrolled()
    recordings.check([*files, *enrolled])
    run = load_run(MODEL, ONNX)
    introduce(run)
    transcribe = None
    if ASR:
        from pipeline.predicting.transcribing import load_recogniser  # here: takes seconds

        transcribe = load_recogniser(ASR)
    heard = Heard() if ENROL or not SPEAKER else load_voice(run, SPEAKER)
    for _ in show_progress(predict(run, enrolled, heard, transcribe), len(enrolled)):
        pass
    write(show_progress(predict(run, files, heard, transcribe), len(files)))
    if SPEAKER:
        note(f"{SPEAKER} is known from {save_voice(run, SPEAKER, heard)} utterances")


def hand_on() -> None:
    """Write MODEL to the folder EXPORT."""
    if RECORDINGS or TEXT or MANIFEST or TURNS or ASR or SPEAKER or ENROL or JSON or TSV or ONNX:
        raise UserError("--export takes --model alone")
    from pipeline.predicting.export import export  # here: onnx takes seconds

    without = export(load_run(MODEL), EXPORT)
    graphs = f" (no ONNX graph of {', '.join(without)})" if without else ""
    print(f"wrote {EXPORT}{graphs}: look at {EXPORT}/README.md")


def introduce(run: Run) -> None:
    """Say what the answers rest on, where it is not all that it could be."""
    missing = [model for model in MODELS if model not in run.models]
    if missing:
        note(f"{MODEL} has no {' and no '.join(missing)} model: the fusion of the others")
    if run.synthetic:
        note(run.synthetic)


def list_recordings() -> list[Recording]:
    """Return what is to be predicted; UserError for settings that exclude each other."""
    if MANIFEST and (RECORDINGS or TEXT or TURNS or SPEAKER):
        raise UserError("--manifest has paths, texts and speakers itself: give nothing beside it")
    if JSON and TSV:
        raise UserError("--json or --tsv: give one of them")
    if MANIFEST:
        return recordings.read_manifest(MANIFEST)
    files = recordings.find_recordings(RECORDINGS)
    if TEXT and not files:
        return [Recording(text=TEXT)]
    if TEXT and (len(files) > 1 or TURNS):
        raise UserError("--text is for one recording: with several use --manifest")
    if not files and not ENROL:
        raise UserError("nothing to predict: give recordings, --text or --manifest (--help)")
    if TURNS:
        if SPEAKER:
            raise UserError("--turns names the speakers itself: leave --speaker out")
        return recordings.read_turns(TURNS, files)
    return [replace(recording, text=TEXT, speaker=SPEAKER) for recording in files]


def list_enrolled() -> list[Recording]:
    """Return the recordings to remember the speaker from."""
    if ENROL and not SPEAKER:
        raise UserError("--enrol needs --speaker NAME")
    files = recordings.find_recordings([ENROL] if ENROL else [])
    return [replace(recording, speaker=SPEAKER) for recording in files]


def show_progress(answers: Iterator[Answer], total: int) -> Iterator[Answer]:
    """Yield the answers behind a bar, unless their lines are to be seen themselves."""
    seen = sys.stdout.isatty() and TSV in ("", "-")
    yield from tqdm(answers, total=total, unit=" utt", disable=True if seen else None, delay=1)


def write(answers: Iterator[Answer]) -> None:
    """Print the answers one by one, or write them to the table TSV."""
    if TSV and TSV != "-":
        rows = ["\t".join(COLUMNS), *map(as_row, answers)]
        write_text(Path(TSV), "\n".join(rows) + "\n")
        note(f"wrote {TSV}: {len(rows) - 1} utterances")
        return
    if TSV:
        print("\t".join(COLUMNS))
    for answer in answers:
        if JSON:
            print(json.dumps(as_dict(answer), ensure_ascii=False), flush=True)
        else:
            print(as_row(answer) if TSV else as_line(answer), flush=True)


def note(text: str) -> None:
    """Print for people, apart from the answers."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    config.run(main, words="recordings")
