"""The text-audio model: CM-BERT, its tokens, and the voice over each of them.

Shapes: B utterances of a batch, L tokens, d audio features per token, T frames; a speech encoder's
K layers, D wide.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from common.files import UserError, naming
from models import check_choice
from models.cmbert import CMBERT, PROJECTION
from models.kobert import build_encoder, check_positions, load_encoder, load_tokenizer
from models.speaker import REGIMES
from models.speech import build_speech_encoder, load_speech_encoder
from pipeline.features.clips import augmented
from pipeline.features.mel import Mel
from pipeline.features.paper import Paper, paper_mfcc
from pipeline.features.tokens import average_over_tokens, describe_voice
from pipeline.learning import processes
from pipeline.learning.audio import compute_encoded, compute_spectrograms
from pipeline.learning.batches import Step
from pipeline.learning.checkpoint import read_config
from pipeline.learning.dataset import Utterances
from pipeline.learning.profile import SpeakerProfile
from pipeline.learning.text import TokenReader, read_tokenizer
from pipeline.learning.voices import (
    Average,
    known_sums,
    make_profile,
    read_profile,
    sums_of,
    units_of,
)

NAME = "cmbert"
MADE_BY = "run_classifier.py"


def create(settings: dict) -> CMBERTModel:
    """Start from the pretrained encoder BERT, and from a speech encoder where AUDIO names one."""
    if settings["scale"] == "batch" and processes.count() > 1:
        raise UserError("SCALE = 'batch' takes a norm over a whole batch: start one process only")
    audio = settings["audio"]
    if "/" not in audio and not Path(audio).is_dir():  # a misspelt word is not asked of the hub
        encoders = "a speech encoder's folder or owner/name on the hub"
        check_choice("AUDIO", audio, ("aligned", "paper", encoders))
    paper = Paper()
    if audio == "paper" and settings["max_length"] > paper.mfcc:
        raise UserError(
            f"MAX_LENGTH = {settings['max_length']}: AUDIO = 'paper' lays a coefficient against "
            f"each token and has {paper.mfcc}: give --max-length {paper.mfcc}, the paper's, or less"
        )
    tokenizer, encoder = load_tokenizer(settings["bert"]), load_encoder(settings["bert"])
    check_positions(encoder, settings["max_length"], settings["bert"])
    pad_id = tokenizer.pad_id if settings["pad_id"] < 0 else settings["pad_id"]
    if audio == "paper":
        model = PaperVoiceModel(encoder, tokenizer, pad_id, paper, settings)
    elif audio == "aligned":
        model = AlignedModel(encoder, tokenizer, pad_id, Mel(), settings)
    else:
        speech, normalise = load_speech_encoder(audio)
        model = EncoderVoiceModel(encoder, tokenizer, pad_id, speech, normalise, settings)
    vocabulary = encoder.config.vocab_size
    if pad_id >= vocabulary:
        raise UserError(f"PAD_ID = {pad_id}: give -1 or one of the encoder's {vocabulary} tokens")
    freeze(model.network, settings["frozen"])
    return model


def freeze(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Take the parameters whose names begin so out of the training; each prefix must fit one."""
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = ", ".join(name for name, _ in network.named_children())
            raise UserError(f"FROZEN = {prefix!r}: no weight's name begins so; there are {parts}")
    for name, parameter in network.named_parameters():
        parameter.requires_grad &= not name.startswith(tuple(prefixes))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"FROZEN = {prefixes!r}: nothing is left to train")


def load(folder: Path) -> CMBERTModel:
    """Load a trained model."""
    config, tokenizer = read_config(folder, MADE_BY), read_tokenizer(folder, MADE_BY)
    with naming(folder / "config.json", MADE_BY):
        model = build(config, tokenizer)
    model.restore(folder, MADE_BY)
    return model


def build(config: dict, tokenizer) -> CMBERTModel:
    """Build the model that config.json describes, with random weights."""
    encoder = build_encoder(config["encoder"])
    settings, pad_id, width = config["settings"], config["pad_id"], config["projection"]
    if settings["audio"] == "paper":
        paper = Paper(**config["paper"])
        return PaperVoiceModel(encoder, tokenizer, pad_id, paper, settings, width)
    if settings["audio"] == "aligned":
        mel, averages = Mel(**config["mel"]), tuple(map(Average.from_json, config["averages"]))
        return AlignedModel(encoder, tokenizer, pad_id, mel, settings, averages, width)
    speech, normalise = build_speech_encoder(config["speech_encoder"]), config["normalise"]
    return EncoderVoiceModel(encoder, tokenizer, pad_id, speech, normalise, settings, width)


class CMBERTModel(TokenReader):
    """What all kinds of CM-BERT share: the network, width d of what it hears over a token."""

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer,
        pad_id: int,
        width: int,
        settings: dict,
        projection: int = PROJECTION,
    ):
        self.settings, self.tokenizer, self.pad_id = settings, tokenizer, pad_id
        self.width = width
        self.network = CMBERT(
            encoder,
            width,
            settings["scale"],
            settings["voice"],
            settings["pooling"],
            settings["attention_dropout"],
            settings["dropout"],
            projection=projection,
        )

    def describe(self) -> dict:
        encoder = self.network.encoder.config.to_dict()
        projection = self.network.attention.project_text.out_features
        return {"encoder": encoder, "pad_id": self.pad_id, "projection": projection}

    def mask_words(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch with [MASK] in the place of every word."""
        ids, tokenizer = batch["input_ids"], self.tokenizer
        kept = (ids == tokenizer.cls_id) | (ids == tokenizer.sep_id) | (ids == self.pad_id)
        return {**batch, "input_ids": torch.where(kept, ids, tokenizer.mask_id)}


class TokenVoiceModel(CMBERTModel):
    """Every token hears its share of the clip."""

    @abstractmethod
    def voice(self, rows: Utterances, row: int, random: np.random.Generator | None) -> np.ndarray:
        """Return what is heard over a row's clip, (T, ...) with d features a frame.

        random: where what varies while learning draws.
        """

    def inputs(
        self, rows: Utterances, chosen: np.ndarray, step: Step | None = None
    ) -> dict[str, Tensor]:
        """Return tokens and audio (B, L, d), zero at [CLS], [SEP] and padding.

        Each token gets its share of the clip in proportion to time. While learning, in a share
        HIDE_WORDS of the utterances all words are replaced by [MASK]: words are learned so fast
        that the voice would not be listened to.
        """
        batch = self.tokens(rows, chosen)
        audio = torch.zeros(*batch["input_ids"].shape, self.width)
        for row, ids, place in zip(chosen, batch["input_ids"], audio, strict=True):
            random = step.random(row) if step else None
            voice = self.voice(rows, row, random)
            tokens = len(rows.features["token_ids"][row]) - 2
            if random and random.random() < self.settings["hide_words"]:
                ids[1 : tokens + 1] = self.tokenizer.mask_id
            heard = average_over_tokens(voice, tokens).reshape(tokens, self.width)
            place[1 : tokens + 1] = torch.from_numpy(heard)
        return {**batch, "audio": audio}


class AlignedModel(TokenVoiceModel):
    """Every token hears its share of the clip: level, its square and movement of the mel bins.

    All in units of what is known of the speaker.  averages: the average training speaker, in the
    spectrogram and in what is described of it.
    """

    LEARNED = REGIMES

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer,
        pad_id: int,
        mel: Mel,
        settings: dict,
        averages: tuple[Average, Average] | None = None,
        projection: int = PROJECTION,
    ):
        super().__init__(encoder, tokenizer, pad_id, 3 * mel.bins, settings, projection)
        self.mel, self.averages = mel, averages

    def describe(self) -> dict:
        averages = [average.to_json() for average in self.averages]
        return {**super().describe(), "mel": asdict(self.mel), "averages": averages}

    def prepare(self, rows: Utterances) -> Utterances:
        spectrograms = compute_spectrograms(rows, self.mel)
        sums = [sums_of(clip) for clip in spectrograms]
        return super().prepare(rows).with_features(spectrograms=spectrograms, sums=sums)

    def calibrate(self, rows: Utterances) -> None:
        level = Average.of(torch.stack(rows.features["sums"]))
        voice = Average.of(self.describe_rows(rows, self.level_units(rows, level, "all")))
        self.averages = level, voice

    def level_units(
        self, rows: Utterances, average: Average, regime: str, before: Tensor | None = None
    ) -> list[tuple]:
        """Return mean and deviation (F,) of the spectrograms at every row."""
        known = known_sums(rows, torch.stack(rows.features["sums"]), regime, before)
        return list(zip(*units_of(known, average, self.mel.deviation_floor), strict=True))

    def describe_rows(self, rows: Utterances, units: list[tuple]) -> Tensor:
        """Return each row's sums of its description, in these units of the spectrogram."""
        clips = zip(rows.features["spectrograms"], units, strict=True)
        described = (describe_voice((clip - m) / d, self.mel) for clip, (m, d) in clips)
        return torch.stack([sums_of(voice.reshape(len(voice), -1)) for voice in described])

    def meet(self, rows: Utterances, *regimes: str) -> Utterances:
        """Return the rows with their units under each regime: of spectrogram and description."""
        met = [self.units(rows, regime, {})[0] for regime in regimes]
        return rows.with_features(units=list(zip(*met, strict=True)))

    def units(
        self, rows: Utterances, regime: str, before: dict[str, Tensor]
    ) -> tuple[list[tuple], dict[str, Tensor]]:
        """Return each row's units of spectrogram and description, and all sums after the rows.

        before: the sums of what was heard earlier, where all rows are of one speaker.
        """
        level, voice = self.averages
        units = self.level_units(rows, level, regime, before.get("spectrogram"))
        sums = self.describe_rows(rows, units)
        known = known_sums(rows, sums, regime, before.get("description"))
        mean, deviation = units_of(known, voice, self.mel.deviation_floor)
        shape = len(rows), 3, self.mel.bins
        described = zip(mean.reshape(shape), deviation.reshape(shape), strict=True)
        own = {"spectrogram": torch.stack(rows.features["sums"]), "description": sums}
        after = {name: each.sum(0) + before.get(name, 0) for name, each in own.items()}
        return list(zip(units, described, strict=True)), after

    def hear(
        self,
        rows: Utterances,
        company: list[np.ndarray],
        regime: str,
        profile: SpeakerProfile | None = None,
    ) -> tuple[Tensor, SpeakerProfile]:
        """Return the logits of one speaker's clips, and what is known of the speaker after them.

        rows: all of one speaker.  company, profile: as SpectrogramModel.hear has them.
        """
        units, after = self.units(rows, regime, read_profile(profile))
        rows = rows.with_features(units=[(unit,) for unit in units])
        logits = self.recognise(rows, company, regime, lambda inputs: inputs)
        return logits, make_profile(after)

    def voice(self, rows: Utterances, row: int, random: np.random.Generator | None) -> np.ndarray:
        """Return the description (T, 3, F) in the speaker's units.

        While learning, one of the regimes is drawn, and the description is augmented.
        """
        regimes = rows.features["units"][row]
        level, described = regimes[random.integers(len(regimes)) if random else 0]
        clip = (rows.features["spectrograms"][row] - level[0]) / level[1]
        voice = (describe_voice(clip, self.mel) - described[0]) / described[1]
        return augmented(voice, self.settings["augment"], random) if random else voice


class EncoderVoiceModel(TokenVoiceModel):
    """Every token hears its share of a frozen speech encoder's frames, each clip by itself."""

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer,
        pad_id: int,
        speech: nn.Module,
        normalise: bool,
        settings: dict,
        projection: int = PROJECTION,
    ):
        width = speech.config.hidden_size
        super().__init__(encoder, tokenizer, pad_id, width, settings, projection)
        self.normalise = normalise
        # The network does not call it; as a part of it, it is saved, restored and moved with it.
        self.network.speech = speech.requires_grad_(False)

    def describe(self) -> dict:
        speech = {"speech_encoder": self.network.speech.config.to_dict()}
        return {**super().describe(), **speech, "normalise": self.normalise}

    def prepare(self, rows: Utterances) -> Utterances:
        frames = compute_encoded(rows, self.network.speech, self.normalise, mean_of_layers)
        return super().prepare(rows).with_features(frames=frames)

    def voice(self, rows: Utterances, row: int, random: np.random.Generator | None) -> np.ndarray:
        """Return the frames (T, D); nothing in them is varied."""
        return rows.features["frames"][row]


class PaperVoiceModel(CMBERTModel):
    """MFCC as published: coefficient number l lies against token number l, no alignment in time."""

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer,
        pad_id: int,
        paper: Paper,
        settings: dict,
        projection: int = PROJECTION,
    ):
        super().__init__(encoder, tokenizer, pad_id, paper.mfcc_frames, settings, projection)
        self.paper = paper

    def describe(self) -> dict:
        return {**super().describe(), "paper": asdict(self.paper)}

    def prepare(self, rows: Utterances) -> Utterances:
        bar = tqdm(range(len(rows)), "MFCC", unit=" utt", disable=None, leave=False, delay=1)
        length = self.settings["max_length"]
        mfcc = [paper_mfcc(rows.samples(row), self.paper)[:length] for row in bar]
        return super().prepare(rows).with_features(mfcc=mfcc)

    def inputs(
        self, rows: Utterances, chosen: np.ndarray, step: Step | None = None
    ) -> dict[str, Tensor]:
        """Return tokens and audio (B, MAX_LENGTH, 465); MAX_LENGTH is always padded to."""
        length = self.settings["max_length"]
        audio = np.stack([rows.features["mfcc"][row] for row in chosen])
        return {**self.tokens(rows, chosen, length), "audio": torch.from_numpy(audio)}


def mean_of_layers(layers: Tensor) -> Tensor:
    """Return frames (T, D) float16 of a speech encoder's layers (K, T, D)."""
    # The last layer tells what pretraining had to predict, emotion is told best somewhere below:
    # all count alike. For that each is normalised, as the upper ones are many times larger in some
    # encoders; it also keeps all values within float16, which halves the memory.
    return functional.layer_norm(layers, layers.shape[-1:]).mean(0).half()
