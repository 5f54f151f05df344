#!/usr/bin/env bash
# Run every stage in sequence: corpus -> three models -> ensemble.
#   ./run_all.sh [CORPUS] [--name value ...]
# CORPUS: a KEMDy19 or KEMDy20 folder; without it data/KEMDy19 if that exists, else the synthetic
# sample corpus, which is made first. Overrides go to every stage that has the setting.
set -eu
corpus=""
if [ $# -gt 0 ] && [[ $1 != --* ]]; then corpus=$(cd "$1" && pwd) || exit 2; shift; fi
source "$(dirname "$0")/runs/environment.sh"

export STAGES="sample_corpus.py preprocess.py text_train.py text_test.py audio_train.py audio_test.py
  run_classifier.py ensemble.py"
stage() { echo; echo "== $*"; python "$@"; }

if [ -z "$corpus" ]; then
  corpus=data/KEMDy19
  if [ ! -d $corpus ]; then
    corpus=data/sample
    [ -f $corpus/SYNTHETIC.json ] || stage sample_corpus.py --corpus $corpus
  fi
fi
stage preprocess.py --corpus "$corpus" "$@"
stage text_train.py "$@"
stage text_test.py "$@"
stage audio_train.py "$@"
stage audio_test.py "$@"
stage run_classifier.py "$@"
stage ensemble.py "$@"
