"""Mean and deviation of several runs of the ensemble: folds of a cross-validation, or seeds.

    python -m runs.summarise --runs 'outputs/seeds/*/ensemble.json' --out outputs/seeds

Reads   every ensemble.json that RUNS matches
Writes  OUT/summary.json, OUT/summary.md: mean, deviation (of one run, n - 1), and every run
"""

from pipeline import config  # first of all: it answers --help

# isort: split

from glob import glob
from pathlib import Path

from fusion.summary import summarise, write_page
from pipeline.files import UserError, read_json, write_json, write_text

# ----------------------------------------------------------------------------------------------
RUNS = "outputs/seeds/*/ensemble.json"  # a pattern; each match is one run, named by its folder
OUT = "outputs/seeds"  # where the summary goes
# ----------------------------------------------------------------------------------------------


def main() -> None:
    # Shorter names first: seed2 comes before seed10.
    paths = sorted(map(Path, glob(RUNS)), key=lambda path: (len(str(path)), str(path)))
    if not paths:
        raise UserError(f"--runs '{RUNS}' matches no file: run ensemble.py first")
    runs = {path.parent.name: read_json(path, "ensemble.py") for path in paths}
    summary = summarise(runs)
    write_json(Path(OUT) / "summary.json", summary)
    page = write_page(summary)
    write_text(Path(OUT) / "summary.md", page)
    print(page)
    print(f"written: {OUT}/summary.json, {OUT}/summary.md")


if __name__ == "__main__":
    config.run(main)
