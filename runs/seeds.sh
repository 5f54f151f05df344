#!/usr/bin/env bash
# The models and the ensemble with N seeds: mean and deviation of every score.
#   runs/seeds.sh N [CORPUS] [--name value ...]
# Results go to outputs/seeds/seed1 ... seedN, the summary to outputs/seeds/summary.md. Seeds run side
# by side, on all GPUs or cores or by Slurm: --at-once, --slurm, --dry-run of extras/jobs/parallel.py.
set -eu
source "$(dirname "$0")/environment.sh"
seeds=${1:?how many seeds? runs/seeds.sh N [CORPUS] [--name value ...]}
shift
take_corpus "$@"
take_parallel
make_environment
find_corpus

stage preprocess.py --corpus "$corpus" --data data/seeds --outputs outputs/seeds
for seed in $(seq "$seeds"); do
  job seed$seed ${MODELS:-runs/models.sh} --data data/seeds --outputs outputs/seeds/seed$seed --seed $seed
done > outputs/seeds/jobs.txt
side_by_side outputs/seeds
python -m runs.summarise --runs 'outputs/seeds/seed*/ensemble.json' --out outputs/seeds
