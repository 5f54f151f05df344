#!/usr/bin/env bash
# How good the models and their fusion still are where recordings are worse than in the corpus.
#   runs/robustness.sh [CORPUS] [--name value ...]
#   ASR=openai/whisper-small runs/robustness.sh      also with a recogniser's words
#   CONDITIONS="noise:5 room" runs/robustness.sh     others than those below
# After ./run_all.sh with the same --data and --outputs; with CORPUS that is run first. The test rows
# are tested again in every condition, fused as fitted to the clean held-out rows; the table and the
# plot are outputs/conditions/robustness.{md,png}.
set -eu
source "$(dirname "$0")/environment.sh"
take_corpus "$@"
[ -n "$corpus" ] || refuse_speech
make_environment
conditions=${CONDITIONS:-noise:20 noise:10 noise:0 room telephone mp3:32 clipping level:-20 tempo:1.1 tempo:.9 words:.2}
[ -z "${ASR-}" ] || conditions+=" asr:$ASR"
unset CONDITIONS

if [ -n "$corpus" ]; then
  ./run_all.sh "$corpus" ${speech:+--speech "$speech"} ${overrides[@]+"${overrides[@]}"}
fi
outputs=outputs
for ((place = 0; place < ${#overrides[@]}; place++)); do
  case ${overrides[place]} in
    --outputs) outputs=${overrides[place + 1]-} ;;
    --outputs=*) outputs=${overrides[place]#--outputs=} ;;
  esac
done
models=$(python - "$outputs" <<'PYTHON'
import json, sys
from pathlib import Path

outputs = Path(sys.argv[1])
if not (outputs / "fusion.json").is_file():
    print(f"robustness.sh: error: {outputs}/fusion.json is missing: run ./run_all.sh first", file=sys.stderr)
    sys.exit(2)
for name, norm in json.loads((outputs / "fusion.json").read_text())["speaker_norm"].items():
    run = json.loads((outputs / f"{name}_run.json").read_text())
    print(run["script"], name, norm or "-", run["input"])
PYTHON
)
for condition in $conditions; do
  while read -r script name norm input <&3; do
    case $condition,$input in
      asr:*,audio | words:*,audio) continue ;;
      asr:* | words:*) ;;
      *,text) continue ;;
    esac
    arguments=(--condition "$condition")
    if [ "$script" = run_classifier.py ]; then arguments+=(--train no); else arguments+=(--name "$name"); fi
    [ "$norm" = - ] || arguments+=(--speaker-norm "$norm")
    stage "$script" "${arguments[@]}"
  done 3<<< "$models"
done
python -m runs.robustness --outputs "$outputs"
