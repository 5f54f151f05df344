#!/usr/bin/env bash
# Test every session once: K folds of sessions (5 unless told otherwise), everything trained anew.
#   runs/cross_validate.sh [CORPUS] [--name value ...]        K=4 runs/cross_validate.sh ...
# Results go to outputs/folds/fold1 ... foldK, those of all test rows together to
# outputs/folds/pooled, the folds' mean and deviation to outputs/folds/summary.md. Folds run side by
# side, on all GPUs or cores or by Slurm: --at-once, --slurm, --dry-run of extras/jobs/parallel.py.
set -eu
source "$(dirname "$0")/environment.sh"
take_corpus "$@"
take_parallel
make_environment
find_corpus

stage preprocess.py --corpus "$corpus" --data data/folds --outputs outputs/folds
# Neighbours stay together, as in the literature: sessions 1-4, 5-8 ... of KEMDy19. Of several
# corpora each gives sessions to every fold.
folds=$(python - "${K:-5}" <<'PYTHON'
import json, sys
import numpy as np

manifest = json.load(open("data/folds/manifest.json"))
whole = [{"sessions": sorted(sum(manifest["sessions"].values(), []))}]
corpora = [part["sessions"] for part in manifest["corpus"].get("parts", whole)]
for parts in zip(*(np.array_split(sessions, int(sys.argv[1])) for sessions in corpora)):
    print(",".join(map(str, np.concatenate(parts).astype(int))))
PYTHON
)
number=0 data="" outputs="" comma=""
for sessions in $folds; do
  number=$((number + 1))
  places="--data data/folds/fold$number --outputs outputs/folds/fold$number"
  line=$(job fold$number ./run_all.sh "$corpus" $places --test-sessions $sessions)
  # Recordings and cache are a copy of the corpus a fold; the report needs the tables.
  echo "$line && rm -rf data/folds/fold$number/*_audio.npy data/folds/fold$number/cache"
  data+=${comma}data/folds/fold$number outputs+=${comma}outputs/folds/fold$number comma=,
done > outputs/folds/jobs.txt
side_by_side outputs/folds
python -m runs.summarise --runs 'outputs/folds/fold*/ensemble.json' --out outputs/folds
stage ensemble.py --data $data --outputs $outputs --results outputs/folds/pooled
