"""A trained run as one folder to hand on: weights, configurations, fusion, ONNX graphs, a card."""

import shutil
from pathlib import Path

from common.files import DIMENSIONS, UserError, naming, sha256, write_bytes, write_json, write_text
from common.stages import RECORDS, read_recorded
from extras.export.graphs import write_graphs
from extras.export.metadata import write_metadata
from fusion.cells import escape_cell
from fusion.outputs import INPUTS
from predicting.run import Run

CARD = Path(__file__).with_name("card.md")
TITLES = {"text": "words", "audio": "voice", "text+audio": "words and voice (CM-BERT)"}
CHECKPOINTS = ("bert", "encoder", "audio", "_name_or_path")  # may be the path of a folder
GIVEN = {"words and voice": "text+audio", "words": "text", "voice": "audio"}
TURN = ", after other turns of a dialogue"
OF_CORPUS = (
    "The corpus is licensed by its owner, ETRI, for research under an agreement. Ask ETRI before "
    "these weights, which were learned from it, are passed on or used for anything else. "
)
OF_SYNTHETIC = (
    "The corpus was spoken by a speech synthesiser, so no licence of a recording touches these "
    "weights. "
)
SCORES = {"accuracy": "accuracy", "macro_f1": "macro F1", "uar": "UAR"}
OF_DIMENSIONS = {f"ccc_{name}": f"CCC of {name}" for name in DIMENSIONS}


def export(run: Run, folder: Path | str) -> dict[str, str]:
    """Write all that predict.py needs to a new folder; return model -> why it has no graph."""
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} is there already: give a new folder, or remove it")
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    models = {name: run.load(name) for name in run.configs}
    path = run.folder / "ensemble.json"
    with naming(path, "ensemble.py"):  # before the graphs, which take time
        scores = read_recorded(run.folder, path.name, "ensemble.py")
        score_table, norms = write_scores(scores), scores[-1].get("speaker_norm", {})
    without = {}
    for name, config in run.configs.items():
        model, place = models[name], partial / name
        place.mkdir(parents=True)
        for path in (run.folder / name).glob("*.safetensors"):
            shutil.copyfile(path, place / path.name)
        for file, content in (model.tokenizer.files() if model.tokenizer else {}).items():
            write_bytes(place / file, content)
        write_json(place / "config.json", without_paths(config))
        if reason := write_graphs(model, place):
            without[name] = reason
    run.fusion.write(partial / "fusion.json")
    head = write_metadata(run, folder.name, scores, len(without) < len(models))
    write_text(partial / "README.md", head + write_card(run, norms, score_table, without))
    found = (path for path in sorted(partial.rglob("*")) if path.is_file())
    hashes = {path.relative_to(partial).as_posix(): sha256(path) for path in found}
    write_json(partial / RECORDS / "predict.json", {"outputs": hashes})  # a copy may be damaged
    partial.rename(folder)
    return without


def without_paths(content: object) -> object:
    """Return a configuration in which of this machine's folders only the last name is left."""
    if not isinstance(content, dict):
        return content

    def is_folder(value: object) -> bool:
        return isinstance(value, str) and (Path(value).is_absolute() or Path(value).is_dir())

    return {
        key: Path(value).name if key in CHECKPOINTS and is_folder(value) else without_paths(value)
        for key, value in content.items()
    }


def write_card(run: Run, norms: dict, scores: str, without: dict[str, str]) -> str:
    """Return the model card: what it is, on what it was trained, how good it is, its limits.

    norms: each model's speaker normalisation in the test.  scores: the table of its results.
    without: model -> why it has no graph.
    """
    config = run.config
    warnings = config.get("warnings", [])
    notice = "".join(f"**{said}**\n\n" for said in (config["synthetic"], *warnings) if said)
    missing = [model for model in run.fusion.temperatures if model not in run.models]
    of_sessions = [
        f"{split}: {', '.join(map(str, sessions)) or 'none'}"
        for split, sessions in config["sessions"].items()
    ]
    fused = run.fusion.method(run.models)
    scale = "from {:g} to {:g}".format(*run.dimension_scale) if run.dimensions else ""
    facts = {
        "emotions": escape_cell(", ".join(config["labels"])),
        "valence and arousal": scale,
        "models": ", ".join(title_of(run, model) for model in run.models),
        "not in this folder": ", ".join(missing),
        "fusion": f"{fused}, fitted on {run.fusion.fitted_on}",
        "corpus": f"{config['corpus']}, sessions by split: {'; '.join(of_sessions)}",
        "speaker normalisation of the scores": ", ".join(
            f"{model}: {norm}" for model, norm in norms.items() if norm
        ),
        "without ONNX graph": ", ".join(f"{name} ({why})" for name, why in without.items()),
        "made with": ", ".join(
            f"{name} {version}" for name, version in config["environment"].items()
        ),
    }
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items() if fact)
    return CARD.read_text(encoding="utf-8").format(
        notice=notice,
        facts=rows,
        scores=scores,
        certain=write_certain(run),
        unmet="" if warnings else ", whose speakers no model has met",
        licence=OF_SYNTHETIC if config["synthetic"] else OF_CORPUS,
    )


def title_of(run: Run, model: str) -> str:
    """Return what a model judges, and its name where that says more."""
    title = TITLES[run.needed(model)]
    return title if model in INPUTS else f"{title} ({model})"


def write_scores(scores: list[dict]) -> str:
    """Return the test scores as a table, each with its 95 % interval."""
    names = dict(SCORES)
    if any(row.get(name) is not None for row in scores for name in OF_DIMENSIONS):
        names |= OF_DIMENSIONS
    lines = [f"| | {' | '.join(names.values())} |", "|---|" + "---|" * len(names)]
    for row in scores:
        cells = [row["method"]]
        for name in names:
            if name in OF_DIMENSIONS and row.get(name) is None:
                cells.append("")
                continue
            low, high = row.get(f"{name}_ci") or (None, None)
            interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
            cells.append(f"{row[name]:.3f}{interval}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_certain(run: Run) -> str:
    """Return as a table which verdicts are certain, by what an utterance has; turns apart."""
    lines = ["| | certain from | share certain | right of these |", "|---|---|---|---|"]
    for title, given in GIVEN.items():
        models = [model for model in run.models if run.needed(model) in given]
        for of, certain in (("", run.fusion.certain), (TURN, run.fusion.in_dialogue)):
            if models and certain:
                threshold, *shares = certain[run.fusion.find_set(models)]
                cells = [f"{threshold:.2f}", *[f"{share:.0%}" for share in shares]]
                lines.append(f"| {title}{of} | {' | '.join(cells)} |")
    return "\n".join(lines)
