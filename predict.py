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
    python predict.py talk.wav --every 2
    python predict.py --export handed_on/
    python predict.py --export handed_on/ --push owner/name
    python predict.py talk.wav --model handed_on/ --onnx

Without a transcript the voice alone is judged. A long recording without one is cut where nobody
speaks, each utterance with its times; of a recording in which nobody speaks there is no verdict,
or that of the words alone. Of a speaker without a name nothing but the
utterance is known; a named speaker is known better with every recording. Where models have learned
valence and arousal, an answer has both, in the raters' scale.

--every answers for every window of so many seconds within each utterance, by the voice alone, or
with --asr by the words of each window as well. The windows of an utterance are read together by the
transitions that ensemble.py has learned from turns; one in which nobody speaks has no verdict.

--embeddings writes mean and deviation over the utterance of every layer of a run's speech encoder,
float32 (answers, 2 x layers x width), nan without a voice; voices_index.npy says what each row is.

--jobs answers with several processes, --cluster with those of a Dask cluster (`pip install
distributed`, `dask scheduler` on one machine, `PYTHONPATH=. dask worker tcp://HOST:8786` in this
folder on all; recordings and models under the same paths). The recordings of one speaker or
dialogue are for one process: in a list they are to stand together. Killed, the same command goes
on with --tsv FILE, of which FILE.part has the rows until then.

The exit status is 0 where all is answered, 1 where some of several recordings or rows are not,
each said with its reason, and 2 where nothing is.
"""

from common import settings  # first of all: it answers --help

# isort: split

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from common.files import UserError
from predicting import Answer, History, Recording, Run, lists, load_run, predict, recordings
from predicting.answers import as_dict, as_line, as_row, list_columns, one_line
from predicting.many import Work, answer_here, answer_side_by_side, cut_blocks
from predicting.recordings import Refuse
from predicting.speakers import load_voice, save_voice
from predicting.tables import Embeddings, Progress, Table, describe
from predicting.windows import check_models, smooths

# --------------------------------------------------------------------------------------
RECORDINGS = ()  # WAV, FLAC, OGG, OPUS, MP3 files, folders of them: given without a name
MODEL = "outputs"  # a folder of trained models
TEXT = ""  # transcript of the one recording; without a recording the words alone are judged
MANIFEST = ""  # list with a header: path, text, speaker, dialogue, start, end; turns in order
TURNS = ""  # RTTM file of a diariser: the recordings' turns and speakers
ASR = ""  # recogniser for what has no transcript, a hub name or folder: openai/whisper-small ...
SPEAKER = ""  # who speaks in all recordings: remembered in MODEL/speakers
ENROL = ""  # folder of recordings from which SPEAKER is remembered anew, first of all
EVERY = 0.0  # seconds: an answer for each window of so many; 0: one for each utterance
JOBS = 1  # processes; -1: one a core
CLUSTER = ""  # address of a Dask scheduler, tcp://host:8786; empty: this machine
JSON = False  # one object a line instead of readable lines
TSV = ""  # file for a table instead, as spreadsheets open it; - for the standard output
EMBEDDINGS = ""  # file.npy: what a run's speech encoder makes of each utterance, a row an answer
ONNX = False  # run an exported folder without torch
EXPORT = ""  # new folder to hand on: all that predicting needs, and a model card
PUSH = ""  # owner/name on the hub of Hugging Face: EXPORT is sent there, private if it is new
# --------------------------------------------------------------------------------------

LONG = 10.0  # seconds from which the pace of printed answers is said


def main() -> None:
    if EXPORT:
        export_run()
        return
    if PUSH:
        raise UserError("--push needs --export FOLDER")
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


class Refused(list):
    """What cannot be answered, each said when it is found."""

    def __call__(self, error: UserError) -> None:
        self.append(str(error))
        tqdm.write(f"predict.py: error: {one_line(error)}", file=sys.stderr)


def answer_all() -> None:
    """Answer what can be answered, and say of the rest why it cannot."""
    refuse = Refused()
    if ENROL and not SPEAKER:
        raise UserError("--enrol needs --speaker NAME")
    files = recordings.check(list_recordings(refuse), refuse)
    enrolled = recordings.find_recordings([ENROL] if ENROL else [], refuse)
    enrolled = recordings.check([replace(r, speaker=SPEAKER) for r in enrolled], refuse)
    if not files and not enrolled:
        sys.exit(2)
    paths = [MANIFEST, TURNS, *(file.path for file in (*files, *enrolled))]
    read = {*map(os.path.realpath, filter(None, paths))}
    for written in filter(None, (TSV, EMBEDDINGS)):
        if os.path.realpath(written) in read:
            raise UserError(f"{written} is what is read: give another file to write")
    run = load_run(MODEL, ONNX)
    for remark in run.remarks:
        note(one_line(remark))
    if EMBEDDINGS and not run.embedder:
        raise UserError(
            f"{MODEL} has no speech encoder: audio_train.py --encoder NAME trains with one"
        )
    if run.config["synthetic"]:
        note(run.config["synthetic"])
    blocks = cut_blocks(files)
    is_many = (JOBS != 1 or bool(CLUSTER)) and len(blocks) > 1
    if (JOBS != 1 or CLUSTER) and not is_many and len(files) > 1:
        note("one process: the recordings are few, or one speaker or dialogue joins them all")
    transcribe = None
    if ASR and (enrolled or not is_many):
        from common.transcribing import load_recogniser  # here: takes seconds

        transcribe = load_recogniser(ASR)
    history = History({} if ENROL or not SPEAKER else load_voice(run, SPEAKER))
    count = enrol(predict(run, enrolled, history, transcribe, refuse), len(enrolled), refuse)
    if ENROL and not count:  # what was kept of the voice stays
        sys.exit(2)
    if EVERY:
        say_of_windows(run, files)
    table = open_table(run, files) if files and TSV not in ("", "-") else None
    blocks = blocks[table.done.blocks :] if table else blocks
    if is_many:
        work = Work(
            MODEL, ONNX, ASR, EVERY, os.getcwd(), 0 if CLUSTER else os.getpid(), time.time_ns()
        )
        answers = answer_side_by_side(work, blocks, JOBS, CLUSTER, refuse)
    else:
        answers = answer_here(run, blocks, EVERY, history if SPEAKER else None, transcribe, refuse)
    count += write(run, answers, len(files), table, refuse)
    if not count:
        sys.exit(2)
    if SPEAKER:
        known = history.voices.get(SPEAKER)
        known = 0 if known is None else save_voice(run, SPEAKER, known)
        note(f"{SPEAKER} is known from {known} utterances")
    if refuse:
        note(f"answered {count}, not answered {len(refuse)}: see above")
        sys.exit(1)


def enrol(answers: Iterator[Answer], total: int, refuse: Refuse) -> int:
    """Hear a speaker's recordings, of which no answer is wanted; return in how many one speaks."""
    count = 0
    with show_progress(total) as bar:
        for answer in answers:
            bar.update()
            if answer.probabilities is None:
                refuse(UserError(f"{answer.recording.path}: nobody speaks in it: leave it out"))
            else:
                count += 1
    return count


def say_of_windows(run: Run, files: list[Recording]) -> None:
    """Say what has no part in the answers for windows."""
    check_models(run, bool(ASR))
    if any(recording.text for recording in files):
        note("--every: the transcripts have no part, as they do not say when something was said")
    if not smooths(run.fusion):
        note(f"{MODEL} has no transitions that help: every window is judged by itself")


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
        or EVERY
        or CLUSTER
        or JOBS != 1
    ):
        raise UserError("--export takes --model and --push alone")
    from extras.export.export import export  # here: onnx takes seconds
    from extras.export.hub import check_token, push

    if PUSH:
        check_token()
    run = load_run(MODEL)
    for remark in run.remarks:
        note(one_line(remark))
    without = export(run, EXPORT)
    reasons = ", ".join(f"{model}: {why}" for model, why in without.items())
    graphs = f" (no ONNX graph of {reasons})" if without else ""
    print(f"wrote {EXPORT}{graphs}: look at {EXPORT}/README.md")
    if PUSH:
        print(f"sent to {push(EXPORT, PUSH)}")


def list_recordings(refuse: Refuse) -> list[Recording]:
    """Return what is to be predicted; UserError for settings that exclude each other."""
    if MANIFEST and (RECORDINGS or TEXT or TURNS or SPEAKER):
        raise UserError("--manifest has paths, texts and speakers itself: give nothing beside it")
    if EVERY and TEXT:
        raise UserError("--every: when the words of --text were said is not known: leave one out")
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


def show_progress(total: int, done: int = 0) -> tqdm:
    """Return a bar, which is not seen where lines of answers are to be seen themselves."""
    seen = sys.stdout.isatty() and TSV in ("", "-")
    return tqdm(total=total, initial=done, unit=" utt", disable=True if seen else None, delay=1)


def open_table(run: Run, files: list[Recording]) -> Table:
    """Open TSV, or go on with what an earlier call has left of it."""
    inputs = {"recordings", "manifest", "turns", "text", "model", "tsv", "jobs", "cluster"}
    given = {name: value for name, value in settings.read(globals()).items() if name not in inputs}
    # Embeddings are not kept from one call to the next.
    made_of = None if EMBEDDINGS else describe(given, run, ASR, files)
    return Table(Path(TSV), list_columns(run), made_of, note)


def write(
    run: Run,
    answers: Iterator[Iterable[Answer]],
    total: int,
    table: Table | None,
    refuse: Refused,
) -> int:
    """Write the answers of each block to the table, or print them; return how many there are.

    total: recordings.  Until a table is whole it stands under another name, row by row: whatever
    ends this program, what was answered is kept there, and the same command goes on with it.
    """
    done = table.done if table else Progress()
    for reason in done.refused:
        refuse(UserError(reason))
    embeddings = Embeddings(Path(EMBEDDINGS)) if EMBEDDINGS else None
    columns = list_columns(run)
    begun, count, said = time.monotonic(), done.rows, len(refuse)
    with table or nullcontext(), show_progress(total, done.rows) as bar:
        for block in answers:
            for answer in block:
                if table:
                    table.add(answer)
                else:
                    print_answer(answer, columns, is_first=not count)
                if embeddings:
                    embeddings.add(answer)
                count += 1
                bar.update()
            if table:
                table.end_block(refuse[said:])
            said = len(refuse)
    seconds = max(time.monotonic() - begun, 1e-3)  # some clocks stand still for long
    pace = f"{(count - done.rows) / seconds:.3g} a second"
    pace = f"{count} {'windows' if EVERY else 'utterances'}, {pace}"
    if count and (table or seconds > LONG):
        note(f"wrote {table.path}: {pace}" if table else pace)
    if count and embeddings:
        embeddings.write()
        size = f"{count} rows of {embeddings.width} numbers"
        note(f"wrote {EMBEDDINGS}: {size} by the speech encoder of {run.embedder}")
    return count


def print_answer(answer: Answer, columns: tuple[str, ...], is_first: bool) -> None:
    """Print an answer in a line, in the form that is asked for; of a table, its header first."""
    if TSV and is_first:
        print("\t".join(columns))
    if JSON:
        line = json.dumps(as_dict(answer), ensure_ascii=False)
    else:
        line = as_row(answer, columns) if TSV else as_line(answer)
    print(line, flush=True)


def note(text: str) -> None:
    """Print for people, apart from the answers."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    settings.run(main, words="recordings")
