#!/usr/bin/env bash
# Run every stage in sequence: corpus -> classic tools and three models -> ensemble.
#   ./run_all.sh [CORPUS] [--speech ENCODER] [--name value ...]
# CORPUS: a KEMDy19 or KEMDy20 folder; without it the one folder data/KEMDy19*, else the synthetic
# sample corpus, which is made first. ENCODER: a pretrained speech encoder of the hub or a folder, such
# as openai/whisper-base: a second voice, and what CM-BERT hears. Overrides go to every stage that has
# the setting.
set -eu
source "$(dirname "$0")/runs/environment.sh"
take_corpus "$@"
make_environment
find_corpus

stage preprocess.py --corpus "$corpus"
run_models
