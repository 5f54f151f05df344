"""Predict the test rows, and the rows held out of training, with the trained text model.

Reads   DATA/*.tsv (preprocess.py), OUTPUTS/text/ (text_train.py)
Writes  OUTPUTS/text_{truth,pred,output,index}.npy and the same under OUTPUTS/valid/

    python text_test.py
"""

from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from models.kobert import KoBERTClassifier, build_encoder, load_tokenizer
from pipeline import config
from pipeline.learning import testing, training
from pipeline.learning.dataset import Utterances, text_batches, text_inputs

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
BATCH_TOKENS = 4096  # padded tokens of a batch; changes the speed, not the result
BATCH_SIZE = 64
# --------------------------------------------------------------------------------------


def main() -> None:
    testing.dump("text", "text_train.py", DATA, OUTPUTS, predict)


def predict(folder: Path, trained: dict, weights: dict, rows: Utterances) -> Tensor:
    """Return the logits (N, 7) of rows under one training."""
    settings = trained["settings"]
    encoder = build_encoder(trained["encoder"], settings["head"] == "pooler")
    model = KoBERTClassifier(encoder, settings["head"])
    model.load_state_dict(weights)
    tokenizer = load_tokenizer(Path(OUTPUTS) / "text")
    rows.token_ids = [tokenizer.encode(text, settings["max_length"]) for text in rows.table["text"]]
    return training.predict(
        model.to(Accelerator().device),
        rows,
        partial(text_batches, budget=BATCH_TOKENS, size=BATCH_SIZE),
        partial(text_inputs, pad_id=trained["pad_id"]),
        f"test {folder.name}",
    )


if __name__ == "__main__":
    config.run(main)
