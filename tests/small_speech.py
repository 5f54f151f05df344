"""Tiny speech encoders and recognisers with random weights, as folders of the hub's kind."""

import json

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMModel,
)

KINDS = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def save_checkpoint(folder, kind="wav2vec2", norm="layer", **changes):
    """Write a checkpoint, two layers of width 32, changes of its settings; return its folder."""
    configuration, network = KINDS[kind]
    torch.manual_seed(0)
    network(configuration(feat_extract_norm=norm, **{**TINY, **changes})).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
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
