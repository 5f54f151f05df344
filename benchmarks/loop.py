"""A training script's own loop, watched for some of its steps, and data for it."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from transformers import BertConfig, BertModel

from benchmarks.measure import ROOT, run_script, write_corpus
from common import checkpoint
from common.stages import let_go

KOBERT = {"vocab_size": 8002, "type_vocab_size": 2}  # else as BertConfig has it: 92 M weights
TOKENIZER = ROOT / "models/kobert-mini/spiece.model"
BATCHES = 20_000  # at least, an epoch's again and again: the watcher ends the training

Watch = Callable[[checkpoint.Checkpoint, Iterator], Iterator]


class Enough(Exception):
    """The watcher has seen what it wanted."""


def run_loop(script: str, settings: dict, watch: Watch) -> None:
    """Run a training script's main() until `watch` ends it.

    watch: gets the run and the iterator over its steps, rows and batches, and yields them: what it
    does between two of them comes behind a step and before the next one's batch is made.
    """

    class Watched(checkpoint.Checkpoint):
        def batches(self, plan: list, *arguments: object, **named: object) -> Iterator:
            repeated = plan * -(-BATCHES // len(plan))
            yield from watch(self, super().batches(repeated, *arguments, **named))
            raise Enough

    module = import_module(script)
    try:
        with patch.multiple(module, Checkpoint=Watched, PATIENCE=0, **settings):
            module.main()
    except Enough:
        pass
    finally:
        let_go()


def write_data(folder: Path, utterances: int) -> dict:
    """Write a corpus of KEMDy19's lengths and preprocess it; return the settings DATA, OUTPUTS."""
    write_corpus(folder / "corpus", utterances)
    places = {"data": str(folder / "data"), "outputs": str(folder / "outputs")}
    options = [word for name, place in places.items() for word in (f"--{name}", place)]
    run_script("preprocess.py", "--corpus", folder / "corpus", *options)
    return {name.upper(): place for name, place in places.items()}


def write_bert(folder: Path, sizes: dict) -> str:
    """Write a BERT of random weights with the tokenizer of kobert-mini; return its folder."""
    torch.manual_seed(0)
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    (folder / TOKENIZER.name).write_bytes(TOKENIZER.read_bytes())
    return str(folder)


def read_train(settings: dict) -> pd.DataFrame:
    """Return the table of the training rows."""
    return pd.read_csv(Path(settings["DATA"]) / "train.tsv", sep="\t", keep_default_na=False)
