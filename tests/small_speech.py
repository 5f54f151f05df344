"""Tiny speech encoders and recognisers with random weights, as folders of the hub's kind."""

import json

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
)

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SEW = {"squeeze_factor": 2, "conv_dim": (16,) * 13}
BANKS = {"feature_projection_input_dim": 160, "position_embeddings_type": "relative_key"}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "max_source_positions": 100,  # two seconds
    "vocab_size": 20,
    **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")},
}
FAMILIES = {  # name: model_type, how it differs from others
    "wav2vec2": ("wav2vec2", {"feat_extract_norm": "layer"}),
    "wav2vec2 base": ("wav2vec2", {"feat_extract_norm": "group"}),
    "wav2vec2 stable": ("wav2vec2", STABLE),
    "hubert": ("hubert", STABLE),
    "wavlm": ("wavlm", STABLE),
    "unispeech": ("unispeech", STABLE),
    "unispeech-sat": ("unispeech-sat", STABLE),
    "data2vec": ("data2vec-audio", {"num_conv_pos_embeddings": 2}),
    "sew": ("sew", SEW),
    "conformer": ("wav2vec2-conformer", {"feat_extract_norm": "layer"}),
    "w2v-bert": ("wav2vec2-bert", BANKS),
    "whisper": ("whisper", WHISPER),
}


def save_checkpoint(folder, family="wav2vec2", extractor=True, **changes):
    """Write a checkpoint, two layers of width 32, changes of its settings; return its folder.

    extractor: whether preprocessor_config.json is there.
    """
    kind, own = FAMILIES[family]
    sizes = {} if kind == "whisper" else TINY
    torch.manual_seed(0)
    network = AutoModel.from_config(AutoConfig.for_model(kind, **{**sizes, **own, **changes}))
    for name, weight in network.named_parameters():
        if "norm" in name:  # away from 1 and 0, where mistakes would cancel
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    network.save_pretrained(folder)
    if extractor:
        kinds = {"whisper": WhisperFeatureExtractor, "wav2vec2-bert": SeamlessM4TFeatureExtractor}
        kinds.get(kind, Wav2Vec2FeatureExtractor)().save_pretrained(folder)
    return str(folder)


def save_recogniser(folder):
    """Write a recogniser that writes Hangul; return its folder."""
    letters = {letter: number for number, letter in enumerate(["[PAD]", "[UNK]", "|", *"오늘말"])}
    (folder / "vocab.json").write_text(json.dumps(letters))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **names)
    torch.manual_seed(0)
    Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=6, pad_token_id=0, **TINY)).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    return str(folder)
