#!/usr/bin/env bash
# The recipe for KEMDy19, as far as it can be chosen without the corpus.
#   runs/kemdy19.sh [CORPUS] [--name value ...]          SEEDS=5 runs/kemdy19.sh ...
# Three seeds of all stages; results go to outputs/seeds, their mean and deviation to
# outputs/seeds/summary.md, each seed's table and page to outputs/seeds/seed1 ... The published split
# (sessions 17-20 are tested); five folds of sessions 1-16, so that the fusion learns from every one of
# them and no row that it learns from has chosen an epoch (six trainings a model instead of one; in
# runs/LOG.md that was better than validation sessions); what the speaker said before is known, the
# conversation is read, bf16 where it is faster (GPU, AMX).
#
# Six models: two of words, KoBERT and klue/roberta-base; three of the voice, AlexNet and two frozen
# speech encoders, a Korean and a multilingual one; CM-BERT on the frames of the latter.
#
# Chosen on other real recordings with the small encoder of this repository and Whisper base:
# everything that is not named below. Untested: KoBERT, RoBERTa, HuBERT and Whisper small themselves,
# whose hub has not been reached, so the learning rates of a BERT of 92 M parameters are those of the
# literature for the encoder (5e-5 the paper's, 2e-5 for CM-BERT) and a guess for what is above it;
# KEMDy19's size; a GPU; time and memory there. On two cores the two speech encoders alone need some
# hours for 10,000 utterances, once for all seeds and folds.
set -eu
source "$(dirname "$0")/environment.sh"
if [ "${1-}" = one-seed ]; then
  shift
  take_corpus "$@"
  make_environment
  hubert=team-lucid/hubert-base-korean whisper=openai/whisper-small
  check_speech skt/kobert-base-v1 klue/roberta-base $hubert $whisper
  stage baseline.py
  text="--lr-encoder 5e-5 --lr-head 5e-4"
  stage text_train.py --bert skt/kobert-base-v1 $text
  stage text_test.py
  stage text_train.py --name roberta --bert klue/roberta-base $text
  stage text_test.py --name roberta
  stage audio_train.py
  stage audio_test.py
  speech_stage audio_train.py --name hubert --encoder $hubert
  speech_stage audio_test.py --name hubert
  speech_stage audio_train.py --name whisper --encoder $whisper
  speech_stage audio_test.py --name whisper
  stage run_classifier.py --bert skt/kobert-base-v1 --audio $whisper \
    --lr-encoder 2e-5 --lr-head 1e-3
  stage ensemble.py
  exit
fi
take_corpus "$@"
refuse_speech
export MODELS="runs/kemdy19.sh one-seed"
exec "$(dirname "$0")/seeds.sh" "${SEEDS:-3}" ${corpus:+"$corpus"} \
  --folds 5 --speaker-norm past --context yes --precision auto ${overrides[@]+"${overrides[@]}"}
