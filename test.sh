#!/usr/bin/env bash
# Run the tests and the style checks:  ./test.sh [pytest arguments]
set -eu
source "$(dirname "$0")/runs/environment.sh"
ruff check .
ruff format --check .
python -m pytest "$@"
