#!/usr/bin/env bash
# The procedure of the 2023 entry, flaws included: features, networks, optimisers, schedules, lengths,
# freezing, row order, no validation sessions, test sessions 17-20 (the last fifth).
#   runs/paper.sh [CORPUS] [--name value ...]
# Results go to outputs/paper, preprocessed data to data/paper. KoBERT comes from the hub; where the
# hub cannot be reached, another encoder must be asked for by name, and the tables say which it was:
#   runs/paper.sh CORPUS --bert models/kobert-mini
set -eu
source "$(dirname "$0")/environment.sh"
take_corpus "$@"
refuse_speech
make_environment

bert=skt/kobert-base-v1
if [[ " ${overrides[*]-}" != *" --bert"[=\ ]* ]] &&
  ! python -c "import huggingface_hub as h; h.hf_hub_download('$bert', 'config.json')" 2>/dev/null
then
  echo "$(basename "$0"): error: the hub has not given $bert, the paper's encoder: bring the" \
    "network up, or ask for another by name, $0 ${corpus:-CORPUS} --bert models/kobert-mini" >&2
  exit 2
fi
find_corpus

places="--data data/paper --outputs outputs/paper"
plain="--precision float32 --shuffle no --targets label --dimensions 0 --class-weights 0"
plain+=" --label-smoothing 0 --clip 1.0 --beta2 0.999"
stage preprocess.py $places --corpus "$corpus" --valid-sessions none --ties first --text-style hangul
stage text_train.py $places $plain --bert $bert --pooling pooler --dropout 0.5 --token-mask-prob 0 \
  --max-length 128 --epochs 16 --batch-size 16 --batch-tokens 1000000 --lr-encoder 5e-5 \
  --lr-head 5e-5 --weight-decay 0.01 --schedule cosine --warmup 0.1
stage text_test.py $places
stage audio_train.py $places $plain --conditions "" --features paper --tempos 1 --dropout 0.5 --augment 0 \
  --epochs 16 --patience 0 --batch-size 1 --lr 2e-4 --weight-decay 0.01 --schedule linear --warmup 0
stage audio_test.py $places
stage run_classifier.py $places $plain --bert $bert --max-length 100 --audio paper --voice weights \
  --pooling cls --scale batch --pad-id 0 --frozen encoder.embeddings,classifier --dropout 0.1 \
  --augment 0 --text-drop-prob 0 --epochs 3 --batch-size 24 --batch-tokens 1000000 \
  --lr-encoder 2e-5 --lr-head 0.01 --weight-decay 0.01 --schedule linear --warmup 0.1
stage ensemble.py $places
