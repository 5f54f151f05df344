"""A pretrained speech encoder (wav2vec 2.0, HuBERT, WavLM ...) and a classifier of its layers.

Layer-weighted sum and mean pooling follow SUPERB (Yang et al., Interspeech 2021).
Shapes: B clips, S samples (padding included), T frames of 20 ms, D width, K layers, C classes.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoFeatureExtractor, AutoModel

from models import ModelError, hide_bars_in_files, read_sizes, unreachable


class SpeechEncoder(nn.Module):
    """An encoder of the hub that reads samples; a batch gives what each clip gives alone.

    normalise: whether it wants each clip with mean 0 and variance 1.
    """

    def __init__(self, encoder: nn.Module, normalise: bool):
        super().__init__()
        # Masked frames and dropped layers belong to pretraining; the mixture needs every layer.
        encoder.config.apply_spec_augment, encoder.config.layerdrop = False, 0.0
        if getattr(encoder, "masked_spec_embed", None) is not None:
            encoder.masked_spec_embed.requires_grad = False
        self.encoder, self.normalise = encoder, normalise
        self.layers, self.width = encoder.config.num_hidden_layers + 1, encoder.config.hidden_size
        # A group norm in front runs over time: padding would leak in, so clips pass one by one.
        self.one_by_one = encoder.config.feat_extract_norm == "group"

    def to_json(self) -> dict:
        """Return what `build_speech_encoder` builds it from."""
        return {"encoder": self.encoder.config.to_dict(), "normalise": self.normalise}

    def forward(self, clips: list[Tensor]) -> list[Tensor]:
        """Return every layer's frames (K, T, D) of each clip (S,) int16."""
        clips = [self.prepare(clip) for clip in clips]
        groups = [[clip] for clip in clips] if self.one_by_one else [clips]
        return [frames for group in groups for frames in self.encode(group)]

    def encode(self, clips: list[Tensor]) -> list[Tensor]:
        counts = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
        samples = nn.utils.rnn.pad_sequence(clips, batch_first=True)
        mask = torch.arange(samples.shape[1], device=samples.device) < counts[:, None]
        output = self.encoder(samples, attention_mask=mask.long(), output_hidden_states=True)
        layers = torch.stack(output.hidden_states, dim=1)
        frames = self.encoder._get_feat_extract_output_lengths(counts)
        return [clip[:, :count] for clip, count in zip(layers, frames, strict=True)]

    def prepare(self, clip: Tensor) -> Tensor:
        """Return a clip (S,) int16 as float32 in [-1, 1), or with mean 0 and variance 1."""
        clip = clip.float() / 32_768
        if self.normalise:
            clip = (clip - clip.mean()) / torch.sqrt(clip.var(unbiased=False) + 1e-7)
        return functional.pad(clip, (0, max(0, self.receptive_field() - len(clip))))

    def receptive_field(self) -> int:
        """Return how many samples the first frame hears, 400 of wav2vec 2.0's."""
        samples, config = 1, self.encoder.config
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    @torch.inference_mode()
    def layer_means(self, samples: np.ndarray) -> np.ndarray:
        """Return every layer's mean over one clip (S,) int16, (K, D) float32."""
        return self.eval()([self.to_clip(samples)])[0].mean(1).cpu().numpy()

    @torch.inference_mode()
    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Return the mean of the layers of one clip (S,) int16, (T, D) float16.

        The last layer tells what pretraining had to predict, emotion is told best somewhere below:
        all count alike. For that each is normalised, as the upper ones are many times larger in
        some encoders.
        """
        layers = self.eval()([self.to_clip(samples)])[0]
        return functional.layer_norm(layers, layers.shape[-1:]).mean(0).half().cpu().numpy()

    def to_clip(self, samples: np.ndarray) -> Tensor:
        return torch.from_numpy(samples).to(next(self.parameters()).device)


def load_speech_encoder(name: str) -> SpeechEncoder:
    """Load a pretrained speech encoder by hub name or folder; ModelError for what is none."""
    hide_bars_in_files()
    try:
        encoder, report = AutoModel.from_pretrained(
            name, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        )
        extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
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
    return SpeechEncoder(encoder, extractor.do_normalize)


def build_speech_encoder(config: dict) -> SpeechEncoder:
    """Build an encoder with random weights from another's `to_json()`."""
    return SpeechEncoder(AutoModel.from_config(read_sizes(config["encoder"])), config["normalise"])


class SpeechClassifier(nn.Module):
    """Logits of the emotions from a speech encoder's layers.

    The layers' means over the clip are mixed by learned weights and classified. encoder: None where
    it is frozen, in training: what it makes of each clip is then computed once, and handed in.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        encoder: SpeechEncoder | None,
        dropout: float = 0.3,
        classes: int = 7,
    ):
        super().__init__()
        self.encoder = encoder
        self.layer_weights = nn.Parameter(torch.zeros(layers))
        self.hidden = nn.Linear(width, 256)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, classes)

    def forward(
        self,
        samples: Tensor | None = None,
        sample_counts: Tensor | None = None,
        layer_means: Tensor | None = None,
    ) -> Tensor:
        """samples (B, S) int16, sample_counts (B,), or layer_means (B, K, D) of them -> (B, C)."""
        if layer_means is None:
            clips = [clip[:count] for clip, count in zip(samples, sample_counts, strict=True)]
            layer_means = torch.stack([layers.mean(1) for layers in self.encoder(clips)])
        mixed = (self.layer_weights.softmax(0)[:, None] * layer_means).sum(1)
        return self.classifier(self.dropout(torch.relu(self.hidden(mixed))))
