"""Many recordings: blocks of them that are answered by themselves, by one process or by several."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import joblib

from common.files import UserError
from corpora.reading import start_workers
from predicting.predicting import TOGETHER, Answer, History, predict
from predicting.recordings import Recording, Refuse
from predicting.run import Run, load_run
from predicting.utterances import Transcribe
from predicting.windows import predict_windows

KEPT = threading.local()  # of a worker's thread: what it has loaded, and for which Work


class Work(NamedTuple):
    """What a worker has to know: the run's folder, whether without torch, and the recogniser.

    every: seconds of a window, 0 for none.  place: the folder that relative paths begin in.
    parent: the process without which a worker ends, 0 on a cluster.  started: of this call: the
    workers of a cluster outlive it, and a run may be trained again.
    """

    model: str
    onnx: bool
    asr: str
    every: float
    place: str
    parent: int
    started: int


def cut_blocks(files: Sequence[Recording]) -> list[Sequence[Recording]]:
    """Return blocks of TOGETHER consecutive recordings, or more: none parts a speaker or dialogue.

    So the answers to a block depend on no other, and the blocks on the list alone.
    """
    last = {name: number for number, file in enumerate(files) for name in names_of(file)}
    blocks, first, reach = [], 0, 0
    for number, file in enumerate(files):
        reach = max([reach, *(last[name] for name in names_of(file))])
        is_whole = reach <= number and number + 1 - first >= TOGETHER
        if is_whole or number + 1 == len(files):
            blocks.append(files[first : number + 1])
            first = number + 1
    return blocks


def names_of(file: Recording) -> list[tuple[str, str]]:
    """Return what joins a recording to others: its speaker and its dialogue, those that it has."""
    names = ("speaker", file.speaker), ("dialogue", file.dialogue)
    return [(kind, name) for kind, name in names if name]


def answer_here(
    run: Run,
    blocks: Iterable[Sequence[Recording]],
    every: float,
    history: History | None,
    transcribe: Transcribe | None,
    refuse: Refuse,
) -> Iterator[Iterable[Answer]]:
    """Yield the answers to each block, in order, by this process.

    every: seconds of a window, 0 for none.  history: of the one block there is, of a speaker who is
    remembered.
    """
    for block in blocks:
        yield answer_all(run, block, every, history or History(), transcribe, refuse)


def answer_side_by_side(
    work: Work,
    blocks: Iterable[Sequence[Recording]],
    jobs: int,
    cluster: str,
    refuse: Refuse,
) -> Iterator[Iterable[Answer]]:
    """Yield the answers to each block, in order, by processes of this machine or of a cluster."""
    with start_workers(jobs, cluster, processes=True) as parallel:
        tasks = (joblib.delayed(answer_block)(work, block) for block in blocks)
        try:
            for answers, refused in parallel(tasks):
                for error in refused:
                    refuse(error)
                yield answers
        except BrokenProcessPool:
            raise UserError(
                "a process of --jobs was ended from outside, mostly for want of memory: give fewer"
            ) from None


def answer_block(work: Work, block: Sequence[Recording]) -> tuple[list[Answer], list[UserError]]:
    """Return the answers to a block, and what is wrong with the others of its recordings."""
    os.chdir(work.place)  # a cluster's workers were started elsewhere
    if getattr(KEPT, "work", None) != work:
        KEPT.loaded, KEPT.work = load(work), work
    (run, transcribe), refused = KEPT.loaded, []
    answers = answer_all(run, block, work.every, History(), transcribe, refused.append)
    return list(answers), refused


def answer_all(run: Run, files: Sequence[Recording], every: float, *others) -> Iterator[Answer]:
    """Yield the answers to recordings, or to windows of them; others: see `predict`."""
    return predict_windows(run, files, every, *others) if every else predict(run, files, *others)


def load(work: Work) -> tuple[Run, Callable | None]:
    """Load a run and its recogniser."""
    if work.parent:
        threading.Thread(target=end_with, args=[work.parent], daemon=True).start()
    if work.asr or not work.onnx:
        import torch  # here: an exported run may do without

        torch.set_num_threads(1)
    run, transcribe = load_run(work.model, work.onnx), None
    if work.asr:
        from common.transcribing import load_recogniser

        transcribe = load_recogniser(work.asr)
    return run, transcribe


def end_with(parent: int) -> None:
    """End this process when its parent was killed: nobody would ask it anything any more."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
