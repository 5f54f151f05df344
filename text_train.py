"""Train the text model: a pretrained Korean BERT and a classifier of seven emotions.

Reads   DATA/{train,valid}.tsv, manifest.json (preprocess.py) and the checkpoint BERT
Writes  OUTPUTS/text/: model.safetensors, config.json, history.json, tokenizer files;
        with FOLDS = K also OUTPUTS/text/fold0 ... fold{K-1}/

    python text_train.py
    python text_train.py --bert skt/kobert-base-v1 --epochs 5 --learning-rate 5e-5

Killed and started again with the same settings, it goes on where it stopped.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from pipeline.learning import text
from pipeline.learning.run import Run
from pipeline.learning.training import train

# --------------------------------------------------------------------------------------
DATA = "data/processed"  # what preprocess.py wrote
OUTPUTS = "outputs"
RESTART = False  # yes: neither go on with an unfinished run nor leave alone what is done
SEED = 1
PRECISION = "auto"  # auto (bf16 where it is faster: GPU, AMX), bf16, float32
DETERMINISTIC = False  # yes: the same bits again on a GPU too, slower
FOLDS = 0  # 0: validation sessions; K: out-of-fold outputs for all training rows, K + 1 trainings
# model
BERT = "models/kobert-mini"  # hub name or folder: skt/kobert-base-v1, klue/bert-base ...
HEAD = "mean"  # mean of the last layer over real tokens; "pooler": the paper's
MAX_LENGTH = 128  # tokens, [CLS] and [SEP] included; longer utterances are cut
DROPOUT = 0.3  # before the classifier; paper 0.5
HIDE_TOKENS = 0.0  # share that is [MASK] in training; 0.3 helps with 30,000 rows, not with 8,000
# optimisation
EPOCHS = 12  # paper 16
PATIENCE = 8  # epochs without a better validation macro F1
BATCH_TOKENS = 2048  # padded tokens of a batch
BATCH_SIZE = 32  # rows of a batch; paper 16
SHUFFLE = True  # paper: file order
LEARNING_RATE = 2e-4  # the encoder's: 2e-5 to 5e-5 for a BERT of 100 M parameters
CLASSIFIER_RATE = 3e-3  # the classifier's; paper: the same as the encoder's
WEIGHT_DECAY = 0.01  # not on biases and norms
BETA2 = 0.999  # of AdamW
SCHEDULE = "cosine"  # or linear
WARMUP = 0.1  # share of all steps
CLIP = 1.0  # norm of the gradient
CLASS_WEIGHTS = 0.5  # loss weight ~ (1 / class frequency) to this power; paper 0
LABEL_SMOOTHING = 0.05  # paper 0
SAVE_MINUTES = 10.0  # how often the resumable state is written within an epoch
# --------------------------------------------------------------------------------------


def main() -> None:
    run = Run(text, config.settings(globals()))
    for part, model in run.trainings():
        train(model, part, {"classifier": CLASSIFIER_RATE, "": LEARNING_RATE})
        run.save(part, model)
    run.finish()


if __name__ == "__main__":
    config.run(main)
