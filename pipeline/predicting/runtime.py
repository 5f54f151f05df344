"""The networks of an exported run through onnxruntime, without torch.

Shapes: B utterances, L tokens, T frames, F mel bins, K numbers of a speaker's state.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from common.files import LABELS, UserError, check_recorded, naming, read_json
from models.tokenizer import KoBERTTokenizer, find_sentencepiece
from pipeline.features.mel import Mel, log_mel
from pipeline.learning.profile import SpeakerProfile

TOGETHER = 8  # utterances of a batch, alike in length


class Graphs:
    """The graphs of a run's folder, each loaded when it is first needed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.load = cache(self.load)

    def load(self, name: str) -> "Graph":
        return Graph(self.folder / name)

    def recognise(self, name: str, utterances: list, voices: dict) -> np.ndarray:
        """Return a model's logits (N, C), as Networks.recognise does: known voices turn by turn."""
        graph = self.load(name)
        logits = np.empty((len(utterances), len(LABELS)), np.float32)
        named = [bool(graph.state and u.recording.speaker) for u in utterances]
        strangers = [place for place in range(len(utterances)) if not named[place]]
        strangers.sort(key=lambda place: graph.length(utterances[place]))
        for first in range(0, len(strangers), TOGETHER):
            places = strangers[first : first + TOGETHER]
            logits[places], _ = graph.hear([utterances[place] for place in places], None)
        for place in np.flatnonzero(named):
            key = name, utterances[place].recording.speaker
            logits[place], voices[key] = graph.hear([utterances[place]], voices.get(key))
        return logits


class Graph:
    """One network with what turns utterances into its input.

    state: the parts of a speaker's state and their sizes, in order; none for words.
    """

    def __init__(self, folder: Path):
        config = read_json(folder / "config.json", "predict.py --export")
        path = folder / "model.onnx"
        for own in (*folder.glob("*.onnx"), *folder.glob("*.model")):
            check_recorded(own)
        try:
            self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path} cannot be read ({reason}): make it with predict.py --export, or leave "
                "--onnx out"
            ) from None
        self.names = {own.name for own in self.session.get_inputs()}
        with naming(path, "predict.py --export"):
            self.state = json.loads(self.session.get_modelmeta().custom_metadata_map["state"])
        with naming(folder / "config.json", "predict.py --export"):
            if "spectrogram" in self.names:
                self.mel = Mel(**config["mel"])
            if "input_ids" in self.names:
                self.pad_id, longest = config["pad_id"], config["settings"]["max_length"]
        if "input_ids" in self.names:
            self.encode = load_encode(folder, longest)

    def length(self, utterance) -> int:
        """Return what an utterance's cost grows with: samples or letters."""
        return len(utterance.samples if "spectrogram" in self.names else utterance.text)

    def hear(
        self, utterances: list, profile: SpeakerProfile | None
    ) -> tuple[np.ndarray, SpeakerProfile | None]:
        """Return the logits (B, C) of strangers, or of one speaker; what is known then."""
        inputs = {}
        if "input_ids" in self.names:
            ids, counts = pad([self.encode(u.text) for u in utterances], self.pad_id)
            mask = np.arange(ids.shape[1]) < counts[:, None]
            inputs |= {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if "spectrogram" in self.names:
            clips, counts = pad([log_mel(u.samples, self.mel) for u in utterances], 0)
            state = np.zeros((len(utterances), sum(self.state.values())))
            if profile:
                state[0] = np.concatenate([profile.sums[name] for name in self.state])
            inputs |= {"spectrogram": clips, "frame_counts": counts, "state": state}
        logits, *after = self.session.run(None, inputs)
        if not after:
            return logits, None
        parts = np.split(after[0][0], np.cumsum(list(self.state.values()))[:-1])
        return logits, SpeakerProfile(dict(zip(self.state, parts, strict=True)))


def load_encode(folder: Path, max_length: int) -> Callable[[str], list[int]]:
    """Return the tokenizer of a folder as a function: words -> ids."""
    path = find_sentencepiece(folder)
    if path:
        with naming(path, "predict.py --export"):
            tokenizer = KoBERTTokenizer.from_folder(folder)
        return lambda text: tokenizer.encode(text, max_length)
    try:
        other = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise UserError(f"{folder} has no tokenizer that can be read: {error}") from None
    other.enable_truncation(max_length)
    other.no_padding()
    return lambda text: other.encode(text).ids


def pad(sequences: list, value: float) -> tuple[np.ndarray, np.ndarray]:
    """Stack sequences (L, ...) of different lengths, (B, longest, ...); also their lengths (B,)."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    counts = np.array([len(array) for array in arrays])
    padded = np.full((len(arrays), counts.max(), *arrays[0].shape[1:]), value, arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded, counts
