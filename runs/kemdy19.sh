#!/usr/bin/env bash
# The recipe for KEMDy19, as far as it can be chosen without the corpus.
#   runs/kemdy19.sh [CORPUS] [--name value ...]          SEEDS=5 runs/kemdy19.sh ...
# Three seeds of all stages with KoBERT; results go to outputs/seeds, their mean and deviation to
# outputs/seeds/summary.md, each seed's table and page to outputs/seeds/seed1 ... The published split
# (sessions 17-20 are tested); five folds of sessions 1-16, so that the fusion learns from every one of
# them and no row that it learns from has chosen an epoch (six trainings a model instead of one; in
# runs/LOG.md that was better than validation sessions); what the speaker said before is known, the
# conversation is read, bf16 where it is faster (GPU, AMX).
#
# Chosen on other real recordings with the small encoder of this repository: everything that is not
# named below. Untested: KoBERT itself, whose hub has not been reached, so the learning rates of a
# BERT of 92 M parameters are those of the literature for the encoder (5e-5 the paper's, 2e-5 for
# CM-BERT) and a guess for what is above it; KEMDy19's size; a GPU; time and memory there.
set -eu
source "$(dirname "$0")/environment.sh"
take_corpus "$@"
exec "$(dirname "$0")/seeds.sh" "${SEEDS:-3}" ${corpus:+"$corpus"} \
  --bert skt/kobert-base-v1 --folds 5 --speaker-norm past --context yes --precision auto \
  --text_train.lr_encoder 5e-5 --text_train.lr_head 5e-4 \
  --run_classifier.lr_encoder 2e-5 --run_classifier.lr_head 1e-3 \
  ${overrides[@]+"${overrides[@]}"}
