#!/usr/bin/env bash
# Say what breaks with the newest version of every package that requirements.txt names.
#   runs/check_latest.sh [pytest arguments]
# Makes an environment of its own in a temporary folder, installs the newest versions whatever the
# limits in requirements.txt (torch apart, which is pinned for its rounding), runs the tests, and
# prints which versions are beyond the tested ones and which tests fail. Ends with the tests' status.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
export PATH="$folder/venv/bin:$PATH" TOKENIZERS_PARALLELISM=false
sed 's/#.*//; /^torch==/!s/[<>=!~].*//' requirements.txt requirements-demo.txt > "$folder/newest.txt"
echo "== installing the newest versions (some minutes)"
python -m pip install --quiet --disable-pip-version-check --upgrade -r "$folder/newest.txt"

python -m pip freeze | sed 's/+cpu$//' | sort > "$folder/here"
sed -n 's/;.*//; /==/p' constraints.txt | sort > "$folder/tested"
echo "== newer than the tested versions:"
comm -23 "$folder/here" "$folder/tested"

echo "== tests"
status=0
python -m pytest -p no:cacheprovider "$@" > "$folder/log" 2>&1 || status=$?
grep -E '^(FAILED|ERROR)' "$folder/log" || true
tail -n 1 "$folder/log"
exit $status
