"""Predict the emotion of recordings, of texts, or of both.

Reads   RECORDINGS, and MODEL: what the training scripts and ensemble.py wrote
Writes  a line for every utterance; MODEL/speakers/ with --speaker

    python predict.py talk.wav --text "정말 기뻐요"
    python predict.py --text "정말 기뻐요"
    python predict.py talk.wav more_recordings/ --asr openai/whisper-small
    python predict.py --manifest list.tsv --tsv answers.tsv
    python predict.py meeting.mp3 --turns meeting.rttm --asr openai/whisper-small --json
    python predict.py --speaker Mina --enrol recordings_of_mina/
    python predict.py recordings/ --embeddings voices.npy
    python predict.py --export handed_on/
    python predict.py talk.wav --model handed_on/ --onnx

Without a transcript the voice alone is judged. A long recording without one is cut where nobody
speaks, each utterance with its times; of a recording in which nobody speaks there is no verdict,
or that of the words alone. Of a speaker without a name nothing but the
utterance is known; a named speaker is known better with every recording. Where models have learned
valence and arousal, an answer has both, in the raters' scale.

--embeddings writes mean and deviation over the utterance of every layer of a run's speech encoder,
float32 (answers, 2 x layers x width), nan without a voice; voices_index.npy says what each row is.

The exit status is 0 where all is answered, 1 where some of several recordings or rows are not,
each said with its reason, and 2 where nothing is.
"""

from common import settings  # first of all: it answers --help

# isort: split

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from common.files import UserError, unwritable, write_array
from predicting import Answer, History, Recording, lists, load_run, predict, recordings
from predicting.answers import as_dict, as_line, as_row, list_columns, one_line, place
from predicting.recordings import Refuse
from predicting.speakers import load_voice, save_voice

# --------------------------------------------------------------------------------------
RECORDINGS = ()  # WAV, FLAC, OGG, OPUS, MP3 files, folders of them: given without a name
MODEL = "outputs"  # a folder of trained models
TEXT = ""  # transcript of the one recording; without a recording the words alone are judged
MANIFEST = ""  # list with a header: path, text, speaker, dialogue, start, end; turns in order
TURNS = ""  # RTTM file of a diariser: the recordings' turns and speakers
ASR = ""  # recogniser for what has no transcript, a hub name or folder: openai/whisper-small ...
SPEAKER = ""  # who speaks in all recordings: remembered in MODEL/speakers
ENROL = ""  # folder of recordings from which SPEAKER is remembered anew, first of all
JSON = False  # one object a line instead of readable lines
TSV = ""  # file for a table instead, as spreadsheets open it; - for the standard output
EMBEDDINGS = ""  # file.npy: what a run's speech encoder makes of each utterance, a row an answer
ONNX = False  # run an exported folder without torch
EXPORT = ""  # new folder to hand on: all that predicting needs, and a model card
# --------------------------------------------------------------------------------------


def main() -> None:
    if EXPORT:
        export_run()
        return
    if hasattr(sys.stdout, "reconfigure"):  # names and words that a terminal's letters lack
        encoding = "utf-8" if JSON or TSV else None
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        answer_all()
    except BrokenPipeError:  # whoever reads has enough, as `head`: end as quietly as any program
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        sys.exit(141)


def answer_all() -> None:
    """Answer what can be answered, and say of the rest why it cannot."""
    failed = []

    def refuse(error: UserError) -> None:
        failed.append(error)
        tqdm.write(f"predict.py: error: {one_line(error)}", file=sys.stderr)

    if ENROL and not SPEAKER:
        raise UserError("--enrol needs --speaker NAME")
    files = recordings.check(list_recordings(refuse), refuse)
    enrolled = recordings.find_recordings([ENROL] if ENROL else [], refuse)
    enrolled = recordings.check([replace(r, speaker=SPEAKER) for r in enrolled], refuse)
    if not files and not enrolled:
        sys.exit(2)
    run = load_run(MODEL, ONNX)
    for remark in run.remarks:
        note(one_line(remark))
    if EMBEDDINGS and not run.embedder:
        raise UserError(
            f"{MODEL} has no speech encoder: audio_train.py --encoder NAME trains with one"
        )
    if run.config["synthetic"]:
        note(run.config["synthetic"])
    transcribe = None
    if ASR:
        from common.transcribing import load_recogniser  # here: takes seconds

        transcribe = load_recogniser(ASR)
    history = History({} if ENROL or not SPEAKER else load_voice(run, SPEAKER))
    count = 0
    for answer in show_progress(predict(run, enrolled, history, transcribe, refuse), len(enrolled)):
        if answer.probabilities is None:
            refuse(UserError(f"{answer.recording.path}: nobody speaks in it: leave it out"))
        else:
            count += 1
    if ENROL and not count:  # what was kept of the voice stays
        sys.exit(2)
    answers = show_progress(predict(run, files, history, transcribe, refuse), len(files))
    rows = []
    count += write(keep_embeddings(answers, rows) if EMBEDDINGS else answers, list_columns(run))
    if not count:
        sys.exit(2)
    if rows:
        write_embeddings(rows, run.embedder)
    if SPEAKER:
        known = history.voices.get(SPEAKER)
        known = 0 if known is None else save_voice(run, SPEAKER, known)
        note(f"{SPEAKER} is known from {known} utterances")
    if failed:
        note(f"answered {count}, not answered {len(failed)}: see above")
        sys.exit(1)


def export_run() -> None:
    """Write MODEL to the folder EXPORT."""
    if (
        RECORDINGS
        or TEXT
        or MANIFEST
        or TURNS
        or ASR
        or SPEAKER
        or ENROL
        or JSON
        or TSV
        or ONNX
        or EMBEDDINGS
    ):
        raise UserError("--export takes --model alone")
    from extras.export.export import export  # here: onnx takes seconds

    run = load_run(MODEL)
    for remark in run.remarks:
        note(one_line(remark))
    without = export(run, EXPORT)
    reasons = ", ".join(f"{model}: {why}" for model, why in without.items())
    graphs = f" (no ONNX graph of {reasons})" if without else ""
    print(f"wrote {EXPORT}{graphs}: look at {EXPORT}/README.md")


def list_recordings(refuse: Refuse) -> list[Recording]:
    """Return what is to be predicted; UserError for settings that exclude each other."""
    if MANIFEST and (RECORDINGS or TEXT or TURNS or SPEAKER):
        raise UserError("--manifest has paths, texts and speakers itself: give nothing beside it")
    if JSON and TSV:
        raise UserError("--json or --tsv: give one of them")
    if os.path.exists(TSV) and not os.path.isfile(TSV):
        raise UserError(f"--tsv {TSV} is no file: give a file, or - for the standard output")
    if EMBEDDINGS and not (EMBEDDINGS.endswith(".npy") and Path(EMBEDDINGS).parent.is_dir()):
        raise UserError(f"--embeddings {EMBEDDINGS}: give a file.npy in a folder that is there")
    if MANIFEST:
        return lists.read_manifest(MANIFEST, refuse)
    if TEXT and not RECORDINGS:
        return [Recording(text=TEXT)]
    if not RECORDINGS and not ENROL:
        raise UserError("nothing to predict: give recordings, --text or --manifest (--help)")
    files = recordings.find_recordings(RECORDINGS, refuse)
    if TEXT and (len(files) > 1 or TURNS):
        raise UserError("--text is for one recording: with several use --manifest")
    if TURNS:
        if SPEAKER:
            raise UserError("--turns names the speakers itself: leave --speaker out")
        return lists.read_turns(TURNS, files, refuse)
    return [replace(recording, text=TEXT, speaker=SPEAKER) for recording in files]


def show_progress(answers: Iterator[Answer], total: int) -> Iterator[Answer]:
    """Yield the answers behind a bar, unless their lines are to be seen themselves."""
    seen = sys.stdout.isatty() and TSV in ("", "-")
    yield from tqdm(answers, total=total, unit=" utt", disable=True if seen else None, delay=1)


def keep_embeddings(answers: Iterator[Answer], rows: list) -> Iterator[Answer]:
    """Yield the answers, and add to `rows` what each of them is and its embedding."""
    for answer in answers:
        rows.append((place(answer.recording), answer.embedding))
        yield answer


def write_embeddings(rows: list[tuple[str, np.ndarray | None]], model: str) -> None:
    """Write EMBEDDINGS, by the speech encoder of a model, and beside it what each row is."""
    width = max((len(embedding) for _, embedding in rows if embedding is not None), default=0)
    array = np.full((len(rows), width), np.nan, np.float32)
    for row, (_, embedding) in zip(array, rows, strict=True):
        if embedding is not None:
            row[:] = embedding
    path = Path(EMBEDDINGS)
    write_array(path, array)
    write_array(path.with_name(f"{path.stem}_index.npy"), np.array([name for name, _ in rows]))
    note(f"wrote {path}: {len(rows)} rows of {width} numbers by the speech encoder of {model}")


def write(answers: Iterator[Answer], columns: tuple[str, ...]) -> int:
    """Print the answers one by one, or write them to the table TSV; return how many.

    columns: of the table.

    Until a table is whole it stands under another name, row by row: whatever ends this program,
    what was answered is kept there.
    """
    first = next(answers, None)
    if first is None:  # a table that stands there stays
        return 0
    answers = chain([first], answers)
    if TSV in ("", "-"):
        return print_lines(answers, columns, sys.stdout)
    path = Path(TSV)
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", encoding="utf-8-sig", newline="\n") as stream:  # as spreadsheets ask
            count = print_lines(answers, columns, stream)
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error.strerror) from None
    finally:
        if part.exists():
            note(f"{part} has what was answered until then")
    note(f"wrote {path}: {count} utterances")
    return count


def print_lines(answers: Iterator[Answer], columns: tuple[str, ...], stream: TextIO) -> int:
    """Print an answer a line, in the form that is asked for; return how many."""
    if TSV:
        print("\t".join(columns), file=stream)
    count = 0
    for answer in answers:
        count += 1
        if JSON:
            line = json.dumps(as_dict(answer), ensure_ascii=False)
        else:
            line = as_row(answer, columns) if TSV else as_line(answer)
        print(line, file=stream, flush=True)
    return count


def note(text: str) -> None:
    """Print for people, apart from the answers."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    settings.run(main, words="recordings")
