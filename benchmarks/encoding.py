"""How fast a frozen Whisper of base's size encodes recordings, against transformers' own way.

That is the feature extractor, which pads each recording to 30 s, and the encoder, one recording at
a time. Recordings of KEMDy19's lengths; the weights are random.
"""

import tempfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from benchmarks.measure import alternate, draw_clips, row
from common.cache import compute_rows
from common.encoding import BLOCK, encode
from common.files import FULL_SCALE, SAMPLE_RATE
from models.speech import load_speech_encoder

THREADS = (0, 1)
CLIPS, THEIR_CLIPS = 64, 8
BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_layers": 1,  # the decoder is not used
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 64,
}


def rows() -> list[dict]:
    clips, extract = draw_clips(CLIPS), WhisperFeatureExtractor()
    model = WhisperModel(WhisperConfig(**BASE)).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        extract.save_pretrained(folder)
        encoder = load_speech_encoder(folder)
    counts = np.array([len(clip) for clip in clips])
    data = SimpleNamespace(sample_counts=counts, samples=clips.__getitem__)

    def ours() -> None:
        compute_rows(data, np.arange(CLIPS), partial(encode, encoder, block=BLOCK))

    @torch.no_grad()
    def theirs() -> None:
        for clip in clips[:THEIR_CLIPS]:
            samples = clip.astype(np.float32) / FULL_SCALE
            inputs = extract(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            model.encoder(inputs.input_features)

    seconds = alternate(ours, theirs, rounds=3)
    heard = counts.sum() / SAMPLE_RATE, counts[:THEIR_CLIPS].sum() / SAMPLE_RATE
    rates = (float(audio / spent) for audio, spent in zip(heard, seconds, strict=True))
    return [row("encoding by Whisper base", "s of audio / s", *rates, least=6)]
