#!/usr/bin/env bash
# Test every session once: K folds of sessions (5 unless told otherwise), everything trained anew.
#   runs/cross_validate.sh [CORPUS] [--name value ...]        K=4 runs/cross_validate.sh ...
# Results go to outputs/folds/fold1 ... foldK, those of all test rows together to
# outputs/folds/pooled, the folds' mean and deviation to outputs/folds/summary.md.
set -eu
source "$(dirname "$0")/environment.sh"
take_corpus "$@"
make_environment
find_corpus

stage preprocess.py --corpus "$corpus" --data data/folds --outputs outputs/folds
# Neighbours stay together, as in the literature: sessions 1-4, 5-8 ... of KEMDy19.
folds=$(python - "${K:-5}" <<'PYTHON'
import json, sys
import numpy as np

splits = json.load(open("data/folds/manifest.json"))["sessions"].values()
for fold in np.array_split(sorted(sum(splits, [])), int(sys.argv[1])):
    print(",".join(map(str, fold)))
PYTHON
)
number=0 data="" outputs="" comma=""
for sessions in $folds; do
  number=$((number + 1))
  places="--data data/folds/fold$number --outputs outputs/folds/fold$number"
  stage preprocess.py $places --corpus "$corpus" --test-sessions $sessions
  run_models $places
  rm data/folds/fold$number/*_audio.npy  # a copy of the corpus a fold; the report needs the tables
  data+=${comma}data/folds/fold$number outputs+=${comma}outputs/folds/fold$number comma=,
done
python -m runs.summarise --runs 'outputs/folds/fold*/ensemble.json' --out outputs/folds
stage ensemble.py --data $data --outputs $outputs --results outputs/folds/pooled
