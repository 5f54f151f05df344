"""The head of a model card, which the hub reads: YAML with the scores as `model-index`.

It names no licence: that of the corpus is its owner's, and whoever hands the weights on adds one.
"""

import re

from huggingface_hub import EvalResult, ModelCardData

from predicting.run import Run

TAGS = ("emotion-recognition", "multimodal", "korean")
# Name in ensemble.json -> type, in the hub's words where it has one, name for people, arguments.
METRICS = {
    "accuracy": ("accuracy", "accuracy", None),
    "f1": ("f1", "weighted F1", {"average": "weighted"}),
    "macro_f1": ("f1", "macro F1", {"average": "macro"}),
    "uar": ("recall", "UAR", {"average": "macro"}),
    "ccc_valence": ("ccc", "CCC of valence", None),
    "ccc_arousal": ("ccc", "CCC of arousal", None),
}


def write_metadata(run: Run, name: str, scores: list[dict], has_graphs: bool) -> str:
    """Return the head of a card, between its two lines of `---`.

    name: of the model.  scores: rows of ensemble.json.
    """
    hears = any(run.needed(model) != "text" for model in run.models)
    task = "audio-classification" if hears else "text-classification"
    synthetic = ["synthetic"] if run.config["synthetic"] else []
    head = ModelCardData(
        language="ko",
        library_name="pytorch",
        pipeline_tag=task,
        tags=[*TAGS, *(["onnx"] if has_graphs else []), *synthetic],
        metrics=sorted({kind for kind, _, _ in METRICS.values()} - {"ccc"}),
        model_name=name,
        eval_results=[
            result
            for method in choose_methods(run)
            for row in scores
            if row["method"] == method
            for result in list_results(run, task, row)
        ],
    )
    return f"---\n{head.to_yaml()}\n---\n"


def choose_methods(run: Run) -> tuple[str, ...]:
    """Return the rows of ensemble.json that a folder's models reach.

    Of the fusion only with all of its models.
    """
    is_whole = len(run.models) > 1 and set(run.models) == set(run.fusion.temperatures)
    return ("stacking",) if is_whole else run.models


def list_results(run: Run, task: str, row: dict) -> list[EvalResult]:
    """Return a method's test scores in the hub's form."""
    corpus, kind_of_corpus = run.config["corpus"], run.config["corpus"]
    if run.config["synthetic"]:  # never in one list with scores on people
        corpus, kind_of_corpus = f"synthetic speech in the layout of {corpus}", "synthetic"
    sessions = ", ".join(map(str, run.config["sessions"]["test"]))
    return [
        EvalResult(
            task_type=task,
            task_name="Emotion recognition",
            dataset_type=re.sub(r"\W+", "-", kind_of_corpus.lower()).strip("-"),
            dataset_name=f"{corpus}, sessions {sessions}",
            dataset_split="test",
            metric_type=kind,
            metric_name=f"{title} ({row['method']})",
            metric_value=round(row[name], 4),
            metric_args=arguments,
            verified=False,
        )
        for name, (kind, title, arguments) in METRICS.items()
        if row.get(name) is not None
    ]
