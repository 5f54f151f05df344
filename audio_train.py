"""Train the audio model: ModifiedAlexNet on spectrograms, or a pretrained speech encoder.

Reads   DATA/{train,valid}.tsv, *_audio.npy, manifest.json (preprocess.py)
Writes  OUTPUTS/audio/: model.safetensors, config.json, history.json;
        with FOLDS = K also OUTPUTS/audio/fold0 ... fold{K-1}/

    python audio_train.py
    python audio_train.py --encoder facebook/wav2vec2-xls-r-300m --encoder-rate 1e-5

Killed and started again with the same settings, it goes on where it stopped.
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from pipeline.learning import audio
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
ENCODER = "alexnet"  # or a speech encoder of the hub or a folder: facebook/wav2vec2-xls-r-300m ...
ENCODER_RATE = 0.0  # learning rate of a speech encoder; 0: frozen (1e-5 fine-tunes)
# for alexnet only
FEATURES = "mel"  # log-mel by speaker with deltas over time; "paper": linear, over frequency
POOLING = "statistics"  # mean and deviation over real frames; "sum": the paper's network
AUGMENT = 1.0  # strength of tempo, level and mask augmentation in training; paper 0
# optimisation
DROPOUT = 0.2  # before the classifier; paper 0.5
EPOCHS = 25  # paper 16
PATIENCE = 0  # epochs without a better validation macro F1; 0: all, scores settle as the rate falls
BATCH_SECONDS = 120  # seconds of audio in a batch, padding included
BATCH_SIZE = 16  # clips in a batch; paper 1
SHUFFLE = True  # paper: file order
LEARNING_RATE = 1e-3  # paper 2e-4
WEIGHT_DECAY = 0.01  # not on biases and norms
BETA2 = 0.99  # of AdamW; paper .999
SCHEDULE = "cosine"  # or linear, the paper's
WARMUP = 0.1  # share of all steps; paper 0
CLIP = 1.0  # norm of the gradient
CLASS_WEIGHTS = 0.5  # loss weight ~ (1 / class frequency) to this power; paper 0
LABEL_SMOOTHING = 0.1  # paper 0
SAVE_MINUTES = 10.0  # how often the resumable state is written within an epoch
# --------------------------------------------------------------------------------------


def main() -> None:
    run = Run(audio, config.settings(globals()))
    for part, model in run.trainings():
        train(model, part, {"encoder": ENCODER_RATE, "": LEARNING_RATE})
        run.save(part, model)
    run.finish()


if __name__ == "__main__":
    config.run(main)
