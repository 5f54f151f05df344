"""Pretrained speech encoders of the hub, frozen or trained, and a classifier of their layers.

wav2vec 2.0, HuBERT, WavLM, UniSpeech, data2vec-audio, SEW and wav2vec2-conformer read samples,
w2v-BERT 2.0 filter banks, Whisper (its encoder alone) a log-mel spectrogram.
Shapes: B clips, S samples (16 kHz), T frames of 20 ms (SEW: 40 ms), K layers, D width, C classes.
"""

import math
import warnings
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.audio_utils import mel_filter_bank
from transformers.utils import cached_file

from models import ModelError, hide_bars_in_files, read_sizes, unreachable
from models.head import Head
from models.product import speed_up

# WavLM's own masks, which it hands to torch.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")

SAMPLE_RATE = 16_000
LONGEST = 30 * SAMPLE_RATE  # samples; a longer clip is encoded in windows, as Whisper has to be
SHORTEST = SAMPLE_RATE // 10  # samples; a shorter clip is padded with zeros: SEW needs 720
# Of these padding is masked in every layer, so that a clip is the same in any company. The others
# take each clip alone: their convolutions over time, or the group norm in front, hear the padding.
MASKED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-bert", "whisper")
SAMPLES = ("data2vec-audio", "sew", "sew-d", "wav2vec2-conformer", *MASKED[:5])  # what they read
WHISPER = {"n_fft": 400, "hop": 160, "range": 8.0}  # samples, samples, powers of ten
EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")
ABSENT = {"_raise_exceptions_for_missing_entries": False}  # None instead of an error
INSTEAD = (
    "emotion2vec and SenseVoice need FunASR: take openai/whisper-small or "
    "team-lucid/hubert-base-korean in their place"
)
# Weights that transformers has and no layer hears (several processes wait for their gradient), and
# Whisper's fixed sines.
NOT_TRAINED = {
    "whisper": ("embed_positions.",),
    "sew": ("encoder.upsample.",),
    "sew-d": ("encoder.upsample.",),
    "wav2vec2-conformer": ("encoder.pos_conv_embed.",),
}
TOGETHER = 32  # windows, as a long recording has many
LARGE = 200_000_000  # parameters, from which layers are computed again instead of kept in training
# The linear layers of every family that hold most weights. Attention's are left out: WavLM takes
# them past any adapter.
LORA_LAYERS = r".*\.(intermediate_dense|output_dense|(intermediate|output)\.dense|fc1|fc2)"


class SpeechEncoder(nn.Module):
    """An encoder of the hub: a batch of clips gives what each clip gives alone.

    inputs: what it reads: {"kind": "samples", "normalise": whether a clip has mean 0 and variance
        1}, {"kind": "whisper"}, or {"kind": "filter banks", "extractor": its settings}.
    window: samples to which a shorter clip is padded, and that are encoded at once.
    """

    def __init__(self, encoder: nn.Module, inputs: dict, window: Sequence[int]):
        super().__init__()
        config = encoder.config
        # Masked frames and dropped layers belong to pretraining; the mixture needs every layer.
        config.apply_spec_augment, config.layerdrop = False, 0.0
        fixed = ("masked_spec_embed", *NOT_TRAINED.get(config.model_type, ()))
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad &= not name.startswith(fixed)
        if getattr(encoder, "adapter", None) is not None:  # a translator's: it thins out the frames
            encoder.adapter, config.add_adapter = None, False
        self.encoder, self.inputs = speed_up(encoder), inputs
        self.layers, self.width = config.num_hidden_layers + 1, config.hidden_size
        has_group_norm = getattr(config, "feat_extract_norm", "layer") == "group"
        self.one_by_one = config.model_type not in MASKED or has_group_norm
        self.shortest, self.longest = window
        if inputs["kind"] == "whisper":
            self.log_mel = WhisperSpectrogram(config.num_mel_bins)
        if inputs["kind"] == "filter banks":
            from transformers import SeamlessM4TFeatureExtractor

            self.extractor = SeamlessM4TFeatureExtractor(**inputs["extractor"])

    def train(self, mode: bool = True) -> nn.Module:
        """Begin or end the training; batch normalisation stays as pretraining has left it."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm1d):  # wav2vec2-conformer's: one clip is no batch
                module.eval()
        return self

    def to_json(self) -> dict:
        """Return what `build_speech_encoder` builds it from."""
        window = [self.shortest, self.longest]
        return {"encoder": self.encoder.config.to_dict(), "inputs": self.inputs, "window": window}

    def forward(self, clips: list[Tensor]) -> list[Tensor]:
        """Return every layer's frames (K, T, D) of each clip (S,) int16, normalised.

        Each frame of each layer has mean 0 and variance 1: in some encoders the upper layers are
        many times larger than the lower.
        """
        windows = [clip.tensor_split(math.ceil(len(clip) / self.longest)) for clip in clips]
        with (  # a spectrogram needs all its bits
            torch.autocast(clips[0].device.type, enabled=False),
            torch.backends.cudnn.flags(allow_tf32=False),
        ):
            inputs = [self.prepare(window) for clip in windows for window in clip]
        if self.one_by_one or len(inputs) == 1:
            layers = map(self.encode_alone, inputs)
        else:
            groups = [inputs[n : n + TOGETHER] for n in range(0, len(inputs), TOGETHER)]
            layers = chain.from_iterable(map(self.encode, groups))
        found = [torch.cat([next(layers) for _ in clip], dim=1) for clip in windows]
        return [normalise(each.float()) for each in found]

    def prepare(self, clip: Tensor) -> Tensor:
        """Return what the encoder reads of a clip (S,) int16: samples (S,) or frames (T, F)."""
        clip = clip.float() / 32_768
        clip = functional.pad(clip, (0, max(0, self.shortest - len(clip))))
        return self.prepare_samples(clip)

    def prepare_samples(self, clip: Tensor) -> Tensor:
        """Return what the encoder reads of samples (S,) in [-1, 1), no shorter than the window."""
        if self.inputs["kind"] == "whisper":
            return self.log_mel(clip)
        if self.inputs["kind"] == "filter banks":
            found = self.extractor(clip.cpu().numpy(), sampling_rate=SAMPLE_RATE, padding=False)
            return torch.as_tensor(found["input_features"][0], device=clip.device)
        if self.inputs["normalise"]:
            clip = (clip - clip.mean()) / torch.sqrt(clip.var(unbiased=False) + 1e-7)
        return clip

    def encode(self, inputs: list[Tensor]) -> list[Tensor]:
        """Return the layers (K, T, D) of what `prepare` returned."""
        counts = torch.tensor([len(each) for each in inputs], device=inputs[0].device)
        padded = pad_sequence(inputs, batch_first=True)
        mask = torch.arange(padded.shape[1], device=padded.device) < counts[:, None]
        if self.inputs["kind"] == "whisper":
            layers, counts = self.encode_spectrogram(padded, mask), (counts + 1) // 2
        else:
            layers = self.encode_samples(padded, mask)
            if self.inputs["kind"] == "samples":
                counts = self.encoder._get_feat_extract_output_lengths(counts)
        return [clip[:, :count] for clip, count in zip(layers, counts.tolist(), strict=True)]

    def encode_alone(self, clip: Tensor) -> Tensor:
        """Return the layers (K, T, D) of one clip that `prepare` returned, without any mask."""
        if self.inputs["kind"] == "whisper":
            return self.encode_spectrogram(clip[None], None)[0]
        return self.encode_samples(clip[None], None)[0]

    def encode_samples(self, padded: Tensor, mask: Tensor | None) -> Tensor:
        """Return the layers (B, K, T, D) of samples (B, S) or filter banks (B, T, F)."""
        mask = mask if mask is None else mask.long()
        output = self.encoder(padded, attention_mask=mask, output_hidden_states=True)
        layers, last = list(output.hidden_states), output.last_hidden_state
        if last.shape == layers[-1].shape:
            layers[-1] = last  # behind the final norm, which some families have
        return torch.stack(layers, dim=1)

    def encode_spectrogram(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Return Whisper's layers (B, K, T / 2, D) of spectrograms (B, T, F).

        mask (B, T): which frames are a clip's own. transformers' own forward takes 30 seconds at a
        time, most of them silence.
        """
        encoder, attended = self.encoder, None
        hidden = functional.gelu(encoder.conv1(frames.transpose(1, 2)))
        if mask is not None:
            hidden = hidden * mask[:, None]
            ignored = torch.finfo(hidden.dtype).min
            attended = torch.where(mask[:, None, None, ::2], 0.0, ignored).to(hidden.dtype)
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        layers = [functional.dropout(hidden, encoder.dropout, self.training)]
        for layer in encoder.layers:
            layers.append(layer(layers[-1], attended))
        return torch.stack([*layers[:-1], encoder.layer_norm(layers[-1])], dim=1)

    def begin_training(self, rank: int) -> None:
        """Prepare for a training of all weights, or of low-rank adapters beside frozen ones.

        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
        """
        if sum(parameter.numel() for parameter in self.parameters()) >= LARGE:
            self.encoder.gradient_checkpointing_enable({"use_reentrant": False})
        if rank:
            from peft import LoraConfig, inject_adapter_in_model  # here: takes seconds

            options = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_LAYERS)
            self.encoder.requires_grad_(False)
            inject_adapter_in_model(options, self.encoder)

    def merge_adapters(self) -> None:
        """Add what low-rank adapters have learned to the weights beside them."""
        from peft.tuners.lora import LoraLayer

        for name, module in list(self.encoder.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()
                parent, _, own = name.rpartition(".")
                setattr(self.encoder.get_submodule(parent), own, module.get_base_layer())


class WhisperSpectrogram(nn.Module):
    """Whisper's log-mel spectrogram of a clip's own samples: (S,) in [-1, 1) -> (T, bins)."""

    def __init__(self, bins: int):
        super().__init__()
        size = WHISPER["n_fft"]
        highest, slaney = SAMPLE_RATE / 2, {"norm": "slaney", "mel_scale": "slaney"}
        filters = mel_filter_bank(size // 2 + 1, bins, 0.0, highest, SAMPLE_RATE, **slaney)
        # The Fourier transform as a convolution: ONNX has no complex numbers.
        turns = torch.arange(size // 2 + 1)[:, None] * torch.arange(size) % size
        angles = turns.double() * (2 * math.pi / size)
        waves = torch.cat([angles.cos(), angles.sin()]) * torch.hann_window(size).double()
        self.register_buffer("filters", torch.tensor(filters).float(), persistent=False)
        self.register_buffer("waves", waves[:, None].float(), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        around = WHISPER["n_fft"] // 2
        padded = functional.pad(clip[None, None], (around, around), mode="reflect")
        real, imaginary = functional.conv1d(padded, self.waves, stride=WHISPER["hop"])[0].chunk(2)
        power = (real.square() + imaginary.square())[:, :-1]  # the last frame belongs to nobody
        levels = (power.T @ self.filters).clamp(min=1e-10).log10()
        return (torch.maximum(levels, levels.max() - WHISPER["range"]) + 4) / 4


def load_speech_encoder(name: str) -> SpeechEncoder:
    """Load a pretrained speech encoder by hub name or folder; ModelError for what is none."""
    from transformers import AutoConfig, AutoModel  # here: its classes take a third of a second

    hide_bars_in_files()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # of a damaged file each library has its own
        raise ModelError(f"{unreachable(name, 'speech encoder', error)}; {INSTEAD}") from None
    kind = config.model_type
    if kind not in (*SAMPLES, *MASKED):
        kinds = ", ".join(sorted({*SAMPLES, *MASKED}))
        raise ModelError(f"{name} is a {kind}, not one of {kinds}; {INSTEAD}")
    try:
        encoder, report = AutoModel.from_pretrained(
            name, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:
        raise unreachable(name, "speech encoder", error) from None
    missing = set(report["missing_keys"])
    if kind == "whisper":
        encoder = encoder.encoder
        missing = {name for name in missing if name.startswith("encoder.")}
    # Only pretraining masks frames; its embedding is missing from fine-tuned checkpoints.
    missing = sorted(missing - {"masked_spec_embed"})
    if missing:
        raise ModelError(f"{len(missing)} weights are missing from {name}, the first: {missing[0]}")
    is_whisper = kind == "whisper"
    longest = 2 * WHISPER["hop"] * config.max_source_positions if is_whisper else LONGEST
    return SpeechEncoder(encoder, choose_inputs(name, kind), (SHORTEST, longest))


def choose_inputs(name: str, kind: str) -> dict:
    """Return what an encoder reads, by its preprocessor_config.json or as its family does."""
    from transformers import (
        AutoFeatureExtractor,
        SeamlessM4TFeatureExtractor,
        Wav2Vec2FeatureExtractor,
    )

    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        if any(cached_file(name, file, **ABSENT) for file in EXTRACTOR_FILES):
            raise unreachable(name, "feature extractor", error) from None
        is_bert = kind == "wav2vec2-bert"
        extractor = SeamlessM4TFeatureExtractor() if is_bert else Wav2Vec2FeatureExtractor()
        print(f"{name} has no preprocessor_config.json: {kind}'s default is taken")
    rate = extractor.sampling_rate
    if rate != SAMPLE_RATE:
        raise ModelError(
            f"{name} reads {rate} samples a second, the recordings have {SAMPLE_RATE}: give another"
        )
    if kind == "whisper":
        return {"kind": "whisper"}
    if kind == "wav2vec2-bert":
        names = ("feature_size", "num_mel_bins", "padding_value", "stride")
        settings = {each: getattr(extractor, each) for each in names}
        return {"kind": "filter banks", "extractor": settings}
    return {"kind": "samples", "normalise": extractor.do_normalize}


def build_speech_encoder(config: dict) -> SpeechEncoder:
    """Build an encoder with random weights from another's `to_json()`."""
    sizes = read_sizes(config["encoder"])
    if config["inputs"]["kind"] == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder  # takes seconds

        encoder = WhisperEncoder(sizes)
    else:
        from transformers import AutoModel

        encoder = AutoModel.from_config(sizes)
    return SpeechEncoder(encoder, config["inputs"], config["window"])


class SpeechClassifier(nn.Module):
    """Logits of the emotions from mean and deviation of every layer over the clip.

    They come in units of the speaker; every layer has a learned weight, all are laid side by side
    and classified. encoder: which is trained as well, in units of the corpus, its mean and its
    deviation (2, 2 K D); None for a frozen one, of which each clip's `pooled` is computed once.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        dropout: float = 0.5,
        encoder: SpeechEncoder | None = None,
        units: Tensor | None = None,
        classes: int = 7,
        dimensions: dict | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        if encoder is not None:
            self.register_buffer("units", units.reshape(2, 2, layers, width), persistent=False)
        self.layer_weights = nn.Parameter(torch.zeros(layers))
        self.dropout = nn.Dropout(dropout)
        self.classifier = Head(2 * layers * width, classes, dimensions)

    def forward(
        self,
        samples: Tensor | None = None,
        sample_counts: Tensor | None = None,
        pooled: Tensor | None = None,
    ) -> Tensor:
        """samples (B, S) int16, sample_counts (B,), or pooled (B, 2, K, D) of them -> (B, C)."""
        if pooled is None:
            clips = [clip[:count] for clip, count in zip(samples, sample_counts, strict=True)]
            pooled = torch.stack([pool(layers) for layers in self.encoder(clips)])
            pooled = (pooled - self.units[0]) / self.units[1]
        weights = self.layer_weights.softmax(0) * math.sqrt(len(self.layer_weights))
        return self.classifier(self.dropout((pooled * weights[:, None]).flatten(1)))


def normalise(layers: Tensor) -> Tensor:
    """Return layers (K, T, D) with mean 0 and variance 1 in each frame of each."""
    return functional.layer_norm(layers, layers.shape[-1:])


def pool(layers: Tensor) -> Tensor:
    """Return mean and deviation of (K, T, D) over the frames, (2, K, D)."""
    variance = layers.var(1, unbiased=False)
    return torch.stack([layers.mean(1), variance.clamp(min=1e-8).sqrt()])
