"""Utterances -> CM-BERT's batches: tokens, and the voice over each token.

Shapes: B utterances, L tokens (padding included), d audio features per token.
"""

from functools import partial

import numpy as np
import torch

from pipeline.features.clips import augmented, compute_frames, per_speaker, training_random
from pipeline.features.mel import (
    PAPER_MFCC_FRAMES,
    Mel,
    average_over_tokens,
    describe_voice,
    paper_mfcc,
)
from pipeline.learning.dataset import Utterances, text_inputs


def audio_width(mel: Mel | None) -> int:
    """Return d of the aligned features, or without `mel` of the paper's."""
    return 3 * mel.bins if mel else PAPER_MFCC_FRAMES


def compute_voice(utterances: Utterances, mel: Mel) -> None:
    """Set utterances.frames: what describe_voice makes of each row's spectrogram, (T, d)."""
    compute_frames(utterances, mel)
    describe = partial(describe_voice, mel=mel)
    utterances.frames = per_speaker(utterances, utterances.frames, describe)


def aligned_inputs(
    utterances: Utterances,
    rows: np.ndarray,
    training: bool,
    pad_id: int,
    augment: float,
    mask_id: int,
    hide_words: float,
) -> dict:
    """Return token ids, mask and audio (B, L, d): the means of compute_voice's frames.

    Each token gets its share of the clip in proportion to time; [CLS], [SEP] and padding get zeros.
    In training, audio is augmented, and in a share `hide_words` of the utterances all words are
    replaced by [MASK]: words are learned so fast that the voice would not be listened to.
    """
    batch = text_inputs(utterances, rows, training, pad_id)
    random = training_random() if training else None
    audio = torch.zeros(*batch["input_ids"].shape, utterances.frames[0].shape[1])
    for row, ids, place in zip(rows, batch["input_ids"], audio, strict=True):
        frames = utterances.frames[row]
        tokens = len(utterances.token_ids[row]) - 2
        if training:
            frames = augmented(frames, augment, random)
            if random.random() < hide_words:
                ids[1 : tokens + 1] = mask_id
        place[1 : tokens + 1] = torch.from_numpy(average_over_tokens(frames, tokens))
    return {**batch, "audio": audio}


def paper_token_inputs(
    utterances: Utterances, rows: np.ndarray, training: bool, pad_id: int, length: int
) -> dict:
    """Return token ids, mask and the paper's audio (B, length, 465).

    As published, MFCC coefficient number l lies against token number l and the 465 frames are its
    features; `length` tokens are always padded to.
    """
    batch = text_inputs(utterances, rows, training, pad_id, length)
    audio = np.stack([paper_mfcc(utterances.samples(row))[:length] for row in rows])
    return {**batch, "audio": torch.from_numpy(audio)}
