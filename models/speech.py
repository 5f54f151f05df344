"""A self-supervised speech encoder (wav2vec 2.0, HuBERT, WavLM ...) as the audio model.

Layer-weighted sum and mean pooling follow SUPERB (Yang et al., Interspeech 2021).
Shapes: B clips, S samples (padding included), T frames of 20 ms, D width, K layers, C classes.
"""

import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModel

from models import ModelError
from models.kobert import hide_bars_in_files, read_sizes, unreachable


def load_speech_encoder(name: str) -> tuple[nn.Module, bool]:
    """Load a speech encoder by hub name or folder; also whether it wants each clip normalised."""
    hide_bars_in_files()
    try:
        encoder, report = AutoModel.from_pretrained(
            name, output_loading_info=True, dtype=torch.float32
        )
        extractor = AutoFeatureExtractor.from_pretrained(name)
    except Exception as error:  # of a damaged file each library has its own
        raise unreachable(name, "speech encoder", error) from None
    if not hasattr(encoder.config, "feat_extract_norm"):
        raise ModelError(
            f"{name} is a {encoder.config.model_type}: a speech encoder must read samples, as "
            "wav2vec2, hubert and wavlm do"
        )
    # Only pretraining masks frames; its embedding is missing from fine-tuned checkpoints.
    missing = sorted(set(report["missing_keys"]) - {"masked_spec_embed"})
    if missing:
        raise ModelError(f"{len(missing)} weights are missing from {name}, the first: {missing[0]}")
    return encoder, extractor.do_normalize


def build_speech_encoder(config: dict) -> nn.Module:
    """Build an encoder with random weights from `encoder.config.to_dict()` of another."""
    return AutoModel.from_config(read_sizes(config))


def encode(encoder: nn.Module, clips: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return every layer's frames (B, K, T, D) of prepared clips; which are real, (B, T) bool."""
    counts = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
    samples = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    mask = torch.arange(samples.shape[1], device=samples.device) < counts[:, None]
    output = encoder(samples, attention_mask=mask.long(), output_hidden_states=True)
    layers = torch.stack(output.hidden_states, dim=1)
    frames = encoder._get_feat_extract_output_lengths(counts)
    return layers, torch.arange(layers.shape[2], device=samples.device) < frames[:, None]


def encode_alone(encoder: nn.Module, clip: Tensor, normalise: bool) -> Tensor:
    """Return every layer's frames (K, T, D) of one clip (S,) int16."""
    return encode(encoder, [prepare_clip(clip, normalise, receptive_field(encoder))])[0][0]


class SpeechClassifier(nn.Module):
    """Logits of the emotions from samples, through a pretrained encoder.

    The encoder's layers are mixed by learned weights, averaged over the clip's own frames, and
    classified. A batch gives what each clip gives alone. frozen: the encoder is not trained.
    """

    def __init__(
        self,
        encoder: nn.Module,
        normalise: bool,
        frozen: bool,
        dropout: float = 0.3,
        classes: int = 7,
    ):
        super().__init__()
        config = encoder.config
        # Masked frames and dropped layers belong to pretraining; the mixture needs every layer.
        config.apply_spec_augment, config.layerdrop = False, 0.0
        self.encoder, self.normalise, self.frozen = encoder, normalise, frozen
        encoder.requires_grad_(not frozen)
        if getattr(encoder, "masked_spec_embed", None) is not None:
            encoder.masked_spec_embed.requires_grad = False
        self.layer_weights = nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
        self.hidden = nn.Linear(config.hidden_size, 256)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, classes)

    def train(self, mode: bool = True) -> "SpeechClassifier":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(
        self,
        samples: Tensor | None = None,
        sample_counts: Tensor | None = None,
        pooled: Tensor | None = None,
    ) -> Tensor:
        """samples (B, S) int16, sample_counts (B,), or what `pool` makes of them -> (B, C)."""
        if pooled is None:
            pooled = self.pool(samples, sample_counts)
        mixed = (self.layer_weights.softmax(0)[None, :, None] * pooled).sum(1)
        return self.classifier(self.dropout(torch.relu(self.hidden(mixed))))

    def pool(self, samples: Tensor, sample_counts: Tensor) -> Tensor:
        """Return every layer's mean over each clip's own frames, (B, K, D)."""
        clips = [clip[:count] for clip, count in zip(samples, sample_counts, strict=True)]
        shortest = receptive_field(self.encoder)
        clips = [prepare_clip(clip, self.normalise, shortest) for clip in clips]
        # A group norm in front runs over time: padding would leak in, so clips pass one by one.
        alone = self.encoder.config.feat_extract_norm == "group"
        groups = [[clip] for clip in clips] if alone else [clips]
        return torch.cat([mean_of_frames(*encode(self.encoder, group)) for group in groups])


def mean_of_frames(layers: Tensor, real: Tensor) -> Tensor:
    """Average (B, K, T, D) over the frames that are real, (B, T) -> (B, K, D)."""
    weights = real[:, None, :, None]
    return (layers * weights).sum(2) / weights.sum(2)


def receptive_field(encoder: nn.Module) -> int:
    """Return how many samples an encoder's first frame hears: 400 of wav2vec 2.0's."""
    samples, config = 1, encoder.config
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def prepare_clip(clip: Tensor, normalise: bool, shortest: int) -> Tensor:
    """Return a clip (S,) int16 as float32 in [-1, 1), or with mean 0 and variance 1.

    shortest: samples; a shorter clip has no frame, so zeros are appended.
    """
    clip = clip.float() / 32_768
    if normalise:
        clip = (clip - clip.mean()) / torch.sqrt(clip.var(unbiased=False) + 1e-7)
    return nn.functional.pad(clip, (0, max(0, shortest - len(clip))))
