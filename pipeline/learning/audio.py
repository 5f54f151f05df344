"""The audio model: ModifiedAlexNet on spectrograms, or a speech encoder on samples.

Shapes: B clips of a batch, T frames, F frequency bins, S samples; a speech encoder's K layers, D
wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common import sound
from common.files import SAMPLE_RATE, naming
from models import check_choice
from models.alexnet import AlexNetConfig, ModifiedAlexNet, TwoVoices
from models.speaker import known_at_each
from models.speech import (
    SpeechClassifier,
    build_speech_encoder,
    encode_alone,
    load_speech_encoder,
)
from pipeline.features.clips import augmented, stretched
from pipeline.features.mel import Mel, add_deltas, log_mel
from pipeline.features.paper import Paper, paper_spectrogram
from pipeline.learning.batches import Step, cut_alike, cut_batches, cut_speaker_batches, pad
from pipeline.learning.checkpoint import read_config
from pipeline.learning.dataset import Utterances
from pipeline.learning.profile import SpeakerProfile
from pipeline.learning.recogniser import Change, Recogniser, to_device
from pipeline.learning.voices import (
    Average,
    known_sums,
    make_profile,
    read_profile,
    sums_of,
    turn_order,
    units_of,
    voices_of,
)

NAME = "audio"
MADE_BY = "audio_train.py"
TEMPOS = (1.0, 0.85, 1.15)  # at which a clip is heard; the logits are averaged; kept with a model
PART = 8  # clips of a training batch that are padded together
SETTLED = 40  # batches on which the norms' averages are measured
SAMPLED = 1000  # recordings by which it is measured what is usual


def create(settings: dict) -> AudioModel:
    """Start with random weights, or from a pretrained speech encoder."""
    if settings["encoder"] != "alexnet":
        return SpeechEncoderModel(*load_speech_encoder(settings["encoder"]), settings)
    check_choice("FEATURES", settings["features"], ("mel", "paper"))
    if settings["features"] == "paper":
        return PaperModel(settings, Paper(), AlexNetConfig())
    check_choice("POOLING (with FEATURES = 'mel')", settings["pooling"], ("statistics",))
    return SpectrogramModel(Mel(), settings, AlexNetConfig(), TEMPOS)


def load(folder: Path) -> AudioModel:
    """Load a trained model."""
    config = read_config(folder, MADE_BY)
    with naming(folder / "config.json", MADE_BY):
        model = build(config)
    model.restore(folder, MADE_BY)
    return model


def build(config: dict) -> AudioModel:
    """Build the model that config.json describes, with random weights."""
    settings = config["settings"]
    if settings["encoder"] != "alexnet":
        encoder = build_speech_encoder(config["encoder"])
        return SpeechEncoderModel(encoder, config["normalise"], settings)
    network = AlexNetConfig(**config["network"])
    if settings["features"] == "paper":
        return PaperModel(settings, Paper(**config["paper"]), network)
    mel, average = Mel(**config["mel"]), Average.from_json(config["average"])
    return SpectrogramModel(mel, settings, network, config["tempos"], average)


def compute_spectrograms(rows: Utterances, mel: Mel) -> list[np.ndarray]:
    """Return the log-mel spectrogram (T, F) of every row."""
    clips = map(rows.samples, range(len(rows)))
    shown = {"unit": " utt", "disable": None, "leave": False, "delay": 1}
    return [log_mel(clip, mel) for clip in tqdm(clips, "spectrograms", len(rows), **shown)]


def compute_encoded(
    rows: Utterances,
    encoder: nn.Module,
    normalise: bool,
    summarise: Callable[[Tensor], Tensor],
) -> list[np.ndarray]:
    """Return `summarise` of a frozen speech encoder's layers (K, T, D) for every row.

    Clip by clip, without dropout: each one's are the same whatever the other rows are.
    """
    device = next(encoder.parameters()).device
    encoder.eval()
    bar = tqdm(range(len(rows)), desc="speech encoder", unit=" utt", disable=None, leave=False)
    with torch.inference_mode():
        clips = (torch.tensor(rows.samples(row), device=device) for row in bar)
        return [summarise(encode_alone(encoder, clip, normalise)).cpu().numpy() for clip in clips]


class AudioModel(Recogniser):
    """What models of the voice share: batches by seconds of audio."""

    BUDGET = "batch_seconds"
    usual: dict[str, list[float]]  # how the recordings learned from sound: common/sound.py

    def describe(self) -> dict:
        return {"usual": self.usual}

    def calibrate(self, rows: Utterances) -> None:
        """Measure how recordings sound, on SAMPLED of them at most."""
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLED)).round().astype(int)
        self.usual = sound.reference_range(sound.measure(rows.samples(row)) for row in chosen)

    def prepare(self, rows: Utterances) -> Utterances:
        return rows

    def batches(
        self, rows: Utterances, seed: int | None, budget: int, size: int
    ) -> list[np.ndarray]:
        return cut_batches(rows.sample_counts, budget * SAMPLE_RATE, size, seed)


class KnownVoice(np.ndarray):
    """The rows of a batch of one speaker, from which the known voice's network learns."""


class SpectrogramModel(AudioModel):
    """ModifiedAlexNet in its default setting: log-mel and deltas, for strangers and known voices.

    tempos: at which a clip is heard.  average: the average training speaker, in the spectrogram.
    """

    LEARNED = ("all",)

    def __init__(
        self,
        mel: Mel,
        settings: dict,
        network: AlexNetConfig,
        tempos: Sequence[float],
        average: Average | None = None,
    ):
        self.mel, self.settings, self.tempos, self.average = mel, settings, tempos, average
        self.network = TwoVoices(mel.bins, settings["dropout"], config=network)

    def describe(self) -> dict:
        return {
            **super().describe(),
            "mel": asdict(self.mel),
            "average": self.average.to_json(),
            "tempos": list(self.tempos),
            "network": asdict(self.network.config),
        }

    def prepare(self, rows: Utterances) -> Utterances:
        spectrograms = compute_spectrograms(rows, self.mel)
        sums = [sums_of(clip) for clip in spectrograms]
        return rows.with_features(spectrograms=spectrograms, sums=sums)

    def calibrate(self, rows: Utterances) -> None:
        super().calibrate(rows)
        self.average = Average.of(torch.stack(rows.features["sums"]))

    def meet(self, rows: Utterances, *regimes: str) -> Utterances:
        """Return the rows with the speaker's units; needed to learn, else `hear` finds its own."""
        (regime,) = regimes
        known = known_sums(rows, torch.stack(rows.features["sums"]), regime)
        return rows.with_features(units=self.units(known))

    def units(self, known: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return mean and deviation (F,) of the spectrogram from each row of what is known."""
        found = units_of(known, self.average, self.mel.deviation_floor)
        return list(zip(*found, strict=True))

    def batches(
        self, rows: Utterances, seed: int | None, budget: int, size: int
    ) -> list[np.ndarray]:
        """Cut the rows twice, the longest last in a batch; without a seed always alike.

        Once whoever speaks, and once with a speaker a batch, whose voice then is a known one. In
        the file's order nearly every batch would be of one speaker.
        """
        seed = seed or 0
        mixed = super().batches(rows, seed, budget, size)
        known = cut_speaker_batches(
            rows.speakers, rows.sample_counts, budget * SAMPLE_RATE, size, seed
        )
        known = [batch.view(KnownVoice) if len(batch) > 1 else batch for batch in known]
        batches = [
            batch[np.argsort(rows.sample_counts[batch], kind="stable")] for batch in mixed + known
        ]
        return [batches[i] for i in np.random.default_rng(seed).permutation(len(batches))]

    def inputs(self, rows: Utterances, chosen: np.ndarray, step: Step | None = None) -> dict:
        """Return a batch to learn from: features, frame counts, whether it is of a KnownVoice."""
        known = isinstance(step.rows if step else chosen, KnownVoice)
        varied = step if self.settings["augment"] else None
        units = rows.features["units"] if known else None
        parts = [
            self.part(rows, chosen[places], units, varied)
            for places in cut_alike(rows.sample_counts[chosen], PART)
        ]
        features, counts = zip(*parts, strict=True)
        return {"features": list(features), "frame_counts": list(counts), "known": known}

    def settle(self, rows: Utterances, batches: list[np.ndarray]) -> None:
        """Measure the average training speaker of both networks on SETTLED batches at most."""
        heard = Counter()
        for batch in batches[:SETTLED]:
            made = to_device(self.inputs(rows, batch), self.device)
            heard[made["known"]] += 1
            network = self.network.known if made["known"] else self.network.stranger
            parts = list(zip(made["features"], made["frame_counts"], strict=True))
            network.settle(parts, 1 / heard[made["known"]])

    def part(
        self,
        rows: Utterances,
        chosen: np.ndarray,
        units: Sequence | Mapping | None,
        step: Step | None = None,
        tempo: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Return features (B, 3, T, F) and frame counts.

        units: of the speaker, by row; None: the corpus'.  step: in which the clips are varied.
        """
        clips, corpus = [], self.average.units(self.mel.deviation_floor)
        for row in chosen:
            mean, deviation = corpus if units is None else units[row]
            clip = (rows.features["spectrograms"][row] - mean) / deviation
            if step:
                clip = augmented(clip, self.settings["augment"], step.random(row))
            elif tempo != 1:
                clip = stretched(clip, tempo)
            clips.append(add_deltas(clip, self.mel))
        return frame_batch(clips)

    def companies(
        self, rows: Utterances, regime: str, budget: int, size: int
    ) -> list[list[np.ndarray]]:
        """Return each voice's batches (`voices_of`), clips of like length together."""
        voices, lengths = voices_of(rows, regime), rows.sample_counts
        companies = []
        for voice in np.unique(voices):
            own = np.flatnonzero(voices == voice)
            own = own[np.argsort(lengths[own], kind="stable")]
            companies.append(
                [own[b] for b in cut_batches(lengths[own], budget * SAMPLE_RATE, size)]
            )
        return companies

    def recognise(
        self, rows: Utterances, company: list[np.ndarray], regime: str, change: Change
    ) -> Tensor:
        """Return the logits of one speaker's clips; change: sees a whole company at a time."""
        return self.hear(rows, company, regime, change=change)[0]

    def hear(
        self,
        rows: Utterances,
        company: list[np.ndarray],
        regime: str,
        profile: SpeakerProfile | None = None,
        change: Change = lambda inputs: inputs,
    ) -> tuple[Tensor, SpeakerProfile]:
        """Return the logits of one speaker's clips, and what is known of the speaker after them.

        company: batches of one speaker's rows, under `past` of one session.  profile: what was
        known before them.  change: is applied to what `inputs` returns of the company, in either
        unit and at every tempo.
        """

        def heard_as(units: Mapping | None, tempo: float) -> list[tuple[Tensor, Tensor]]:
            parts = [self.part(rows, batch, units, tempo=tempo) for batch in company]
            features, counts = map(list, zip(*parts, strict=True))
            known = units is not None
            made = change({"features": features, "frame_counts": counts, "known": known})
            made = to_device(made, self.device)
            return list(zip(made["features"], made["frame_counts"], strict=True))

        before = read_profile(profile)
        chosen = np.concatenate(company)
        order = torch.from_numpy(turn_order(rows, chosen))
        own = torch.stack([rows.features["sums"][row] for row in chosen])
        known = torch.empty_like(own)
        known[order] = known_at_each(own[order], regime, before.get("spectrogram"))
        units = dict(zip(chosen, self.units(known), strict=True))
        clips = known[:, 0].float().to(self.device)
        heard = {"spectrogram": own.sum(0) + before.get("spectrogram", 0)}
        logits, depth = [], len(self.network.known.norms)
        for tempo in self.tempos:
            names = [f"{tempo} layer{number}" for number in range(depth)]
            layers = [before[name] for name in names] if before else []
            parts = [heard_as(by_row, tempo) for by_row in (None, units)]
            found, after = self.network.classify_speaker(*parts, order, clips, regime, layers)
            logits.append(found)
            heard |= dict(zip(names, after, strict=True))
        return torch.stack(logits).mean(0), make_profile(heard)


class PaperModel(AudioModel):
    """ModifiedAlexNet on the published spectrograms."""

    def __init__(self, settings: dict, paper: Paper, network: AlexNetConfig):
        self.settings, self.paper = settings, paper
        pooling, dropout = settings["pooling"], settings["dropout"]
        self.network = ModifiedAlexNet(pooling, paper.bins, dropout, config=network)

    def describe(self) -> dict:
        own = {"paper": asdict(self.paper), "network": asdict(self.network.config)}
        return {**super().describe(), **own}

    def inputs(
        self, rows: Utterances, chosen: np.ndarray, step: Step | None = None
    ) -> dict[str, Tensor]:
        """Return the paper's features (B, 3, T, 321) and frame counts."""
        clips = [paper_spectrogram(rows.samples(row), self.paper) for row in chosen]
        features, counts = frame_batch([clip.transpose(1, 0, 2) for clip in clips])
        return {"features": features, "frame_counts": counts}


class SpeechEncoderModel(AudioModel):
    """A self-supervised speech encoder; each clip is classified without the speaker's others.

    A frozen encoder hears every row once, before training; one that is trained hears the samples
    in every epoch.
    """

    def __init__(self, encoder: nn.Module, normalise: bool, settings: dict):
        self.settings, self.normalise = settings, normalise
        self.frozen = settings["encoder_rate"] == 0
        self.network = SpeechClassifier(encoder, normalise, self.frozen, settings["dropout"])

    def describe(self) -> dict:
        encoder = self.network.encoder.config.to_dict()
        return {**super().describe(), "encoder": encoder, "normalise": self.normalise}

    def prepare(self, rows: Utterances) -> Utterances:
        """Return the rows; where the encoder is frozen, with each layer's mean over the clip."""
        if not self.frozen:
            return rows
        pooled = compute_encoded(
            rows, self.network.encoder, self.normalise, lambda layers: layers.mean(1)
        )
        return rows.with_features(pooled=pooled)

    def inputs(
        self, rows: Utterances, chosen: np.ndarray, step: Step | None = None
    ) -> dict[str, Tensor]:
        """Return the layers' means (B, K, D) of a frozen encoder.

        Of one that is trained: samples (B, S) int16, zero after each clip's end, and their counts.
        """
        if self.frozen:
            pooled = [rows.features["pooled"][row] for row in chosen]
            return {"pooled": torch.from_numpy(np.stack(pooled))}
        clips = [rows.samples(row) for row in chosen]
        counts = torch.tensor([len(clip) for clip in clips])
        return {"samples": pad(clips, 0), "sample_counts": counts}


def frame_batch(clips: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return features (B, 3, T, F) of clips (T, 3, F), zero after each clip's end, and counts."""
    return pad(clips, 0).transpose(1, 2), torch.tensor([len(clip) for clip in clips])
