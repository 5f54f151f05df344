"""CM-BERT: a BERT whose last layer attends to itself under the weight of text and voice.

Yang, Xu & Gao, "CM-BERT: Cross-Modal BERT for Text-Audio Sentiment Analysis", ACM MM 2020,
section 3.3 (masked multimodal attention), as adapted in 2023 to seven emotions.
Shapes: B utterances, L tokens, D width of the encoder, d audio features per token, P projection.
"""

import math

import torch
from torch import Tensor, nn

from models.head import Head
from models.kobert import build_encoder, mean_of_tokens

PROJECTION = 30  # the article's common width of text and audio
MASKED = -10_000.0
# A speech encoder's frames come in units of what is pooled over a clip, which moves less than they.
LAYER_SCALE = 0.2


class MaskedMultimodalAttention(nn.Module):
    """Attention of tokens to tokens, its weights from the similarity in words and in voice.

    scale: "utterance" divides the projections X by sqrt(||X||) over the utterance's real tokens;
        "batch" is the published code: text only, one norm over the whole batch with its padding.
    voice: "weights" is the published unit (the voice only re-weights words); "values" also adds the
        projected audio to what is attended to, so that the voice itself reaches the classifier.
    """

    def __init__(self, width: int, config: dict, dropout: float):
        super().__init__()
        self.scale, self.voice = config["scale"], config["voice"]
        audio_width, projection = config["width"] * config.get("layers", 1), config["projection"]
        self.project_text = nn.Linear(width, projection, bias=False)
        self.project_audio = nn.Linear(audio_width, projection, bias=False)
        self.text_weight = nn.Parameter(torch.ones(()))
        self.audio_weight = nn.Parameter(torch.ones(()))
        # b of the article: the same for every weight, so softmax drops it and no gradient moves it.
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.dropout = nn.Dropout(dropout)
        if self.voice == "values":
            self.voice_values = nn.Sequential(
                nn.Linear(audio_width, width), nn.GELU(), nn.Linear(width, width)
            )

    def forward(self, hidden: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, dict]:
        """hidden (B, L, D), audio (B, L, d), mask (B, L) -> (B, L, D) and attention maps (B, L, L).

        Rows are what attends, columns what is attended to; "text" and "audio" are the similarities
        alpha and beta before they are mixed, "fused" the attention (equations 4 to 8).
        """
        real = mask.unsqueeze(-1).to(hidden.dtype)
        text, voice = self.project_text(hidden), self.project_audio(audio)
        if self.scale == "batch":
            text = text / text.detach().norm().sqrt()
        else:
            text, voice = scale_utterance(text, real), scale_utterance(voice, real)
        alpha = torch.relu(text @ text.transpose(1, 2))
        beta = torch.relu(voice @ voice.transpose(1, 2))
        mixed = self.text_weight * alpha + self.audio_weight * beta + self.bias
        # M + M^T of the article: padding is attended to by nobody and attends to nobody.
        padding = MASKED * (1 - real)
        fused = (mixed + padding + padding.transpose(1, 2)).softmax(-1)
        values = hidden + self.voice_values(audio) * real if self.voice == "values" else hidden
        attended = self.dropout(fused) @ values
        return attended, {"text": alpha, "audio": beta, "fused": fused}


def scale_utterance(projected: Tensor, real: Tensor) -> Tensor:
    """Divide (B, L, P) by the square root of each utterance's norm over its real tokens."""
    norm = (projected * real).flatten(1).norm(dim=1)
    return projected / norm.clamp(min=1e-6).sqrt()[:, None, None]


class CMBERT(nn.Module):
    """Logits of the emotions from tokens and the voice over each token.

    config: `width` d of what is heard over a token, of a speech encoder `layers` of it, each with a
        learned weight, times `layer_scale`; `scale`, `voice`, `projection` of the
        attention; `pooling`; `classes` and `dimensions`, see models/head.py.
    pooling: "cls" classifies position 0, as published; where no voice is laid over [CLS] (a zero
        vector, article and default), its similarity in voice to every token is 0, and the voice has
        no part in the result. "mean" classifies the mean over the real tokens.
    """

    def __init__(
        self,
        encoder: nn.Module,
        config: dict,
        attention_dropout: float = 0.3,
        dropout: float = 0.1,
    ):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder, self.pooling = encoder, config["pooling"]
        self.attention = MaskedMultimodalAttention(width, config, attention_dropout)
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = Head(width, config.get("classes", 7), config.get("dimensions"))
        self.layer_weights = None
        self.layer_scale = config.get("layer_scale")
        if "layers" in config:
            self.layer_weights = nn.Parameter(torch.zeros(config["layers"]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, audio: Tensor) -> Tensor:
        """Token ids (B, L), mask (B, L), audio features per token (B, L, d) -> logits (B, C)."""
        return self.explain(input_ids, attention_mask, audio)[0]

    def explain(
        self, input_ids: Tensor, attention_mask: Tensor, audio: Tensor
    ) -> tuple[Tensor, dict]:
        """Return logits (B, C) and the attention maps (B, L, L) behind them."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        if self.layer_weights is not None:
            weights = self.layer_weights.softmax(0) * math.sqrt(len(self.layer_weights))
            layers = audio.unflatten(-1, (len(weights), -1)) * weights[:, None] * self.layer_scale
            audio = layers.flatten(-2)
        attended, maps = self.attention(hidden, audio, attention_mask)
        fused = self.norm(self.dropout(self.dense(attended + hidden)))
        is_cls = self.pooling == "cls"
        utterance = fused[:, 0] if is_cls else mean_of_tokens(fused, attention_mask)
        return self.classifier(self.dropout(utterance)), maps


def build_cmbert(config: dict) -> CMBERT:
    """Build the network of a trained model's configuration, with random weights."""
    return CMBERT(build_encoder(config["encoder"]), config)
