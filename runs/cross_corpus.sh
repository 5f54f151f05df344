#!/usr/bin/env bash
# Train on each corpus and test on each: how much of a score is the corpus's.
#   runs/cross_corpus.sh A B [C ...] [--name value ...]
# A model of one corpus is tested on all of another, and on the test sessions of its own. Labels are
# those that all corpora share, with --label-map under common names, or those of --labels. Results
# go to outputs/cross/A_to_B, the table to outputs/cross/summary.md. Pairs run side by side, on all
# GPUs or cores or by Slurm: --at-once, --slurm, --dry-run of extras/jobs/parallel.py.
set -eu
source "$(dirname "$0")/environment.sh"
several=""
while [ $# -gt 0 ] && [[ $1 != --* ]]; do several+=${several:+,}$1; shift; done
if [[ $several != *,* ]]; then
  echo "cross_corpus.sh: error: give two corpora or more: runs/cross_corpus.sh A B" >&2
  exit 2
fi
take_corpus "$several" "$@"
take_parallel
make_environment
IFS=, read -ra corpora <<< "$corpus"

names=()
for one in "${corpora[@]}"; do
  name=$(basename "$one")
  [ ! -f "$one" ] || name=${name%.*}  # of a table
  if [[ " ${names[*]-} " == *" $name "* ]]; then
    echo "cross_corpus.sh: error: two corpora are called '$name': rename a folder or table" >&2
    exit 2
  fi
  names+=("$name")
done
for ((a = 0; a < ${#corpora[@]}; a++)); do
  places=(--data "data/cross/${names[a]}" --outputs "outputs/cross/${names[a]}")
  stage preprocess.py --corpus "${corpora[a]}" "${places[@]}"
done
if [[ " ${overrides[*]-} " != *" --labels"[=\ ]* ]]; then
  shared=$(python - "${names[@]}" <<'PYTHON'
import json, sys

every = [json.load(open(f"data/cross/{name}/manifest.json"))["labels"] for name in sys.argv[1:]]
shared = [label for label in every[0] if all(label in labels for labels in every)]
for name, labels in zip(sys.argv[1:], every):
    print(f"{name}: {', '.join(labels)}", file=sys.stderr)
if len(shared) < 2:
    print("cross_corpus.sh: error: the corpora share no two labels: give --label-map", file=sys.stderr)
    sys.exit(2)
print(",".join(shared))
PYTHON
  )
  overrides+=(--labels "$shared")
fi
mkdir -p outputs/cross
for ((a = 0; a < ${#corpora[@]}; a++)); do
  for ((b = 0; b < ${#corpora[@]}; b++)); do
    pair=${names[a]}_to_${names[b]}
    places=(--data "data/cross/$pair" --outputs "outputs/cross/$pair")
    if [ $a = $b ]; then
      job "$pair" ./run_all.sh "${corpora[a]}" "${places[@]}"
    else
      job "$pair" ./run_all.sh "${corpora[a]},${corpora[b]}" "${places[@]}" --test-corpus "${names[b]}"
    fi
  done
done > outputs/cross/jobs.txt
side_by_side outputs/cross
python - "${names[@]}" <<'PYTHON' | tee outputs/cross/summary.md
import json, sys
from fusion.metrics import with_interval
from fusion.page import write_table

names = sys.argv[1:]
for score, title in {"accuracy": "Accuracy", "macro_f1": "Macro F1", "uar": "UAR"}.items():
    table, notices = [], {}
    for own in names:
        cells = [own]
        for other in names:
            rows = json.load(open(f"outputs/cross/{own}_to_{other}/ensemble.json"))
            row = next(row for row in rows if row["method"] == "stacking")
            cells.append(with_interval(row, score))
            notices[row["synthetic"]] = True
        table.append(cells)
    print(f"\n{title} of stacking, trained on (down) and tested on (across), 95 % intervals;")
    print("on the diagonal the corpus's own test sessions.\n")
    print(write_table(["", *names], table))
    for notice in filter(None, notices):
        print(f"\n**{notice}**")
PYTHON
