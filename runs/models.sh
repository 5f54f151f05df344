#!/usr/bin/env bash
# Every stage behind preprocess.py, one after another:  runs/models.sh [--name value ...]
set -eu
source "$(dirname "$0")/environment.sh"
take_corpus "$@"
make_environment
run_models
