# Sourced by run_all.sh, test.sh and the experiments: go to the project's folder, make .venv if need be.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! cmp -s requirements.txt .venv/installed.txt; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "$python is missing or older than 3.10: install Python 3.10 or newer, or set PYTHON" >&2
    exit 2
  }
  echo "== making .venv and installing requirements.txt (once; some minutes)"
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
  cp requirements.txt .venv/installed.txt
fi
export PATH="$PWD/.venv/bin:$PATH" TOKENIZERS_PARALLELISM=false
