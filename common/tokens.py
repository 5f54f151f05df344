"""Words as tokens, in batches; in a training a share of them as a recogniser would hear them.

Shapes: N utterances, B of a batch, L tokens.
"""

import numpy as np

from common.conditions import NOTHING, TrainConditions, is_of_words
from common.data import Batch, Dataset, MakeBatch, pad, random_of


def token_batches(
    data: Dataset,
    tokenizer,
    config: dict,
    train_conditions: TrainConditions = NOTHING,
    seed: int = -1,
) -> tuple[np.ndarray, MakeBatch]:
    """Return each row's number of tokens, (N,), and the function that makes batches of them.

    config: max_length and pad_id.  A batch has input_ids and attention_mask, (B, L) int64.
    train_conditions, seed: of a training, in which a row may have the words of a condition
    (`add_words`); its number of tokens is then the largest that it can have.
    """
    tokens = {
        name: [tokenizer.encode(text, config["max_length"]) for text in data.table[name]]
        for name in ("text", *filter(is_of_words, train_conditions.conditions))
    }

    def read(row: int, step: int) -> list[int]:
        condition = train_conditions.draw(random_of(seed, step, row)) if len(tokens) > 1 else ""
        return tokens.get(condition, tokens["text"])[row]

    def make_batch(rows: np.ndarray, step: int = 0, length: int = 0) -> Batch:
        sequences = [read(row, step) for row in rows]
        input_ids = pad(sequences, config["pad_id"], length)
        counts = np.array([len(ids) for ids in sequences])
        mask = np.arange(input_ids.shape[1]) < counts[:, None]
        return {"input_ids": input_ids, "attention_mask": mask.astype(np.int64)}

    return np.max([[len(ids) for ids in each] for each in tokens.values()], axis=0), make_batch
