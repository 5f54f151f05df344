#!/usr/bin/env bash
# Run the style checks and the tests:  ./test.sh [pytest arguments]
set -eu
source "$(dirname "$0")/runs/environment.sh"
make_environment
ruff check .
ruff format --check .
python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
  --no-loadscope-reorder "$@"
