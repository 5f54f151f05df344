# Sourced by run_all.sh, test.sh and runs/*.sh: goes to the project's folder, makes .venv if need be,
# and defines what those scripts share.

# take_corpus "$@": an optional CORPUS (or several, a,b) as first word -> $corpus (absolute),
# --speech ENCODER -> $speech, the rest -> ${overrides[@]}, for the scripts of $STAGES: each passes
# over what only another one knows
take_corpus() {
  corpus=""
  local folder folders
  if [ $# -gt 0 ] && [[ $1 != --* ]]; then
    IFS=, read -ra folders <<< "$1"
    for folder in "${folders[@]}"; do
      if [ -f "$folder" ]; then  # a table of one's own
        corpus+=${corpus:+,}$(cd "$(dirname "$folder")" && pwd)/$(basename "$folder")
      else
        [ -d "$folder" ] || {
          echo "$(basename "$0"): error: $folder: no folder and no table of this name" >&2
          exit 2
        }
        corpus+=${corpus:+,}$(cd "$folder" && pwd)
      fi
    done
    shift
  fi
  overrides=() speech=""
  while [ $# -gt 0 ]; do
    case $1 in
      --speech | --speech=*)
        speech=${1#--speech} speech=${speech#=}
        [ "$1" != --speech ] || { speech=${2-}; [ $# -lt 2 ] || shift; }
        if [ -z "$speech" ] || [[ $speech == --* ]]; then
          echo "$(basename "$0"): error: --speech needs an encoder: openai/whisper-base ..." >&2
          exit 2
        fi ;;
      *) overrides+=("$1") ;;
    esac
    shift
  done
  [ ! -d "$speech" ] || speech=$(cd "$speech" && pwd)
  export STAGES="sample_corpus.py preprocess.py baseline.py text_train.py text_test.py
    audio_train.py audio_test.py run_classifier.py ensemble.py"
}

# take_parallel: the settings of extras/jobs/parallel.py out of ${overrides[@]} -> ${parallel[@]}
take_parallel() {
  set -- ${overrides[@]+"${overrides[@]}"}
  overrides=() parallel=()
  while [ $# -gt 0 ]; do
    case $1 in
      --slurm | --at-once) parallel+=("${@:1:2}"); shift $(($# > 1)) ;;
      --slurm=* | --at-once=* | --dry-run) parallel+=("$1") ;;
      *) overrides+=("$1") ;;
    esac
    shift
  done
}

# refuse_speech: of a script that chooses its models itself
refuse_speech() {
  [ -z "$speech" ] || { echo "$(basename "$0"): error: it takes no --speech" >&2; exit 2; }
}

# job NAME COMMAND...: a line for side_by_side, with the overrides
job() {
  printf '%s' "$1"; shift
  printf ' %q' "$@" ${speech:+--speech "$speech"} ${overrides[@]+"${overrides[@]}"}; echo
}

# side_by_side FOLDER: run the jobs of FOLDER/jobs.txt; after a dry run there is nothing more to do
side_by_side() {
  echo; echo "== python -m extras.jobs.parallel --jobs $1/jobs.txt ${parallel[*]-}"
  python -m extras.jobs.parallel --jobs "$1/jobs.txt" ${parallel[@]+"${parallel[@]}"}
  [[ " ${parallel[*]-} " != *" --dry-run "* ]] || exit 0
}

# find_corpus: without CORPUS, the one folder data/KEMDy19* (any release), else the synthetic sample,
# made if need be
find_corpus() {
  [ -z "$corpus" ] || return 0
  local folder found=()
  for folder in data/KEMDy19*/; do
    [ ! -d "$folder" ] || found+=("${folder%/}")
  done
  if [ ${#found[@]} -gt 1 ]; then
    echo "$(basename "$0"): error: several corpora, ${found[*]}: give one, $0 FOLDER" >&2
    exit 2
  fi
  corpus=${found[0]:-data/sample}
  [ "$corpus" != data/sample ] || [ -f $corpus/SYNTHETIC.json ] ||
    stage sample_corpus.py --corpus $corpus
}

# stage SCRIPT [ARGUMENTS]: say what runs, run it with the overrides that it has a setting for
stage() { echo; echo "== python $*"; python "$@" ${overrides[@]+"${overrides[@]}"}; }

# run_models [ARGUMENTS]: every stage behind preprocess.py, with these arguments where they apply;
# with $speech also a second voice, the speech encoder, and CM-BERT hears its frames
run_models() {
  local script text="text_train text_test"
  check_speech "$speech"
  has_words "$@" || { text=""; echo "no words: the models of text are left out"; }
  for script in baseline $text audio_train audio_test; do stage $script.py "$@"; done
  if [ -n "$speech" ]; then
    speech_stage audio_train.py "$@" --name speech --encoder "$speech"
    speech_stage audio_test.py "$@" --name speech
  fi
  [ -z "$text" ] || stage run_classifier.py "$@" ${speech:+--audio "$speech"}
  stage ensemble.py "$@"
}

# has_words [ARGUMENTS]: whether the preprocessed data have words, which a table of one's own may lack
has_words() {
  python - "$@" ${overrides[@]+"${overrides[@]}"} <<'PYTHON'
import json, sys

data = "data/processed"
for name, value in zip(sys.argv[1:], [*sys.argv[2:], ""]):
    if name.split("=")[0] == "--data":
        data = value if name == "--data" else name.partition("=")[2]
try:
    manifest = json.load(open(f"{data}/manifest.json"))
except OSError:  # the first stage says so
    manifest = {}
sys.exit(not manifest.get("has_words", True))
PYTHON
}

# check_speech ENCODER...: what only a later stage would meet is said before hours are spent
check_speech() {
  python - "$@" <<'PYTHON'
import sys
from models import identify

for name in filter(None, sys.argv[1:]):
    if not identify(name):
        print(f"error: {name}: no folder here, and the hub has not given it", file=sys.stderr)
        sys.exit(2)
PYTHON
}

# speech_stage SCRIPT [ARGUMENTS]: as stage, without the overrides that are AlexNet's or BERT's
speech_stage() {
  local given=(${overrides[@]+"${overrides[@]}"}) overrides=() place=0 name
  while [ $place -lt ${#given[@]} ]; do
    name=$(tr A-Z_ a-z- <<< "${given[place]#--}")
    name=${name#audio-train.}
    case ${name%%=*} in
      lr | lr-encoder | lr-head | features | tempos | augment | norm-batches)
        [[ $name == *=* ]] || place=$((place + 1)) ;;
      *) overrides+=("${given[place]}") ;;
    esac
    place=$((place + 1))
  done
  stage "$@"
}

make_environment() {
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  if ! cat requirements.txt constraints.txt | cmp -s - .venv/installed.txt; then
    local python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
      echo "$python is missing or older than 3.10: install Python 3.10 or newer, or set PYTHON" >&2
      exit 2
    }
    echo "== making .venv and installing requirements.txt (once; some minutes)"
    "$python" -m venv .venv
    # Something is seen every ten seconds, until this shell ends, however it does.
    while sleep 10 && kill -0 $$ 2>/dev/null; do
      echo "   $(du -sm .venv | cut -f1) MB installed so far"
    done &
    local ticker=$! status=0
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      -r requirements.txt -c constraints.txt || status=$?
    kill $ticker
    [ $status = 0 ] || exit $status
    cat requirements.txt constraints.txt >.venv/installed.txt
  fi
  export PATH="$PWD/.venv/bin:$PATH" TOKENIZERS_PARALLELISM=false
  # What only a later stage would meet is said now: these may lack a library of the system.
  local module name linux macos lack lacking=""
  while read -r module name linux macos; do
    lack=$(python -c "import $module" 2>&1) && continue
    lacking+=" $module"
    echo "$(basename "$0"): error: $name cannot be loaded (${lack##*$'\n'}):" \
      "apt-get install $linux, or on macOS brew install $macos" >&2
  done <<< "lightgbm LightGBM libgomp1 libomp
soundfile SoundFile libsndfile1 libsndfile"
  [ -z "$lacking" ] || exit 2
}
