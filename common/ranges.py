"""What every setting may be, by its name: a range of numbers, a set of words, yes or no, text.

`settings.run` checks a script's block by this table before main() begins, whether a value was
edited there or given on the command line. `script.name` is the rule of a name that means something
else in one script.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.files import UserError

MOST = 10**9  # of whole numbers and of numbers without another limit, so that nothing overflows


@dataclass(frozen=True)
class Rule:
    """What a setting may be: a type, which values of it, and both in words for the user."""

    kind: type
    allowed: str
    holds: Callable[..., bool] = lambda value: True

    def allows(self, value: object) -> bool:
        """Tell whether a value is allowed; a whole number will do for a number, True will not."""
        if type(value) is int and self.kind is float:
            value = float(value)
        return type(value) is self.kind and bool(self.holds(value))


def number(interval: str = f"[0, {MOST}]", kind: type = float, also: int | None = None) -> Rule:
    """Return the rule of a number in an interval, (0, 1] without the 0, or `also` one outside."""
    low, high = map(float, interval[1:-1].split(","))

    def holds(value: float) -> bool:
        above = value > low or (value == low and interval[0] == "[")
        below = value < high or (value == high and interval[-1] == "]")
        return value == also or (above and below)  # nan is neither

    what = "a whole number" if kind is int else "a number"
    return Rule(kind, ("" if also is None else f"{also} or ") + f"{what} in {interval}", holds)


def whole(least: int, most: int = MOST, also: int | None = None) -> Rule:
    """Return the rule of a whole number between two, both included, or `also` one outside."""
    return number(f"[{least}, {most}]", int, also)


def words(*choices: str) -> Rule:
    """Return the rule of a word out of a set."""
    return Rule(str, " or ".join(choices), choices.__contains__)


def checkpoint(*choices: str) -> Rule:
    """Return the rule of a word, or a speech encoder: a misspelt word is not asked of the hub."""
    encoders = "a speech encoder's folder or owner/name on the hub"
    return Rule(
        str,
        " or ".join((*choices, encoders)),
        lambda value: value in choices or "/" in value or (value and Path(value).is_dir()),
    )


def like(pattern: str, allowed: str) -> Rule:
    """Return the rule of text that a regular expression matches as a whole."""
    return Rule(str, allowed, lambda value: bool(re.fullmatch(pattern, value, re.DOTALL)))


def is_condition(text: object, *kinds: str) -> bool:
    """Tell whether text is a condition of common/conditions.py, of some kinds."""
    kind, colon, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if kind not in kinds:
        return False
    if kind == "asr":
        return bool(re.fullmatch(r"\S+", rest))
    if kind not in LIMITS:
        return not colon
    is_number = bool(re.fullmatch(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)", rest))
    return is_number and number(LIMITS[kind]).allows(float(rest))


def conditions(*kinds: str) -> str:
    """Say which conditions there are."""
    return ", ".join(SAID[kind] for kind in kinds)


def one_condition(*kinds: str) -> Rule:
    """Return the rule of a setting that is one condition of some kinds, or nothing."""
    return Rule(
        str,
        f"one of {conditions(*kinds)}, or nothing",
        lambda value: not value or is_condition(value, *kinds),
    )


def several_conditions(*kinds: str) -> Rule:
    """Return the rule of a setting that is any number of conditions of some kinds."""
    return Rule(
        tuple,
        f'any of {conditions(*kinds)}: "a,b" (in the block ("a", "b"))',
        lambda value: all(is_condition(each, *kinds) for each in value),
    )


def model_name(other: str) -> Rule:
    """Return the rule of a model's name, which no other part of the results has."""
    taken = f"{other}|cmbert|heldout|logs|records|speakers|plots|corpus|encoder|paper|seeds|folds|"
    taken += r"conditions|fold\d+|majority|soft|weighted_soft|hard|stacking|"
    taken += "(dialogue|baseline|ensemble|unfinished).*|.*_dims"
    return like(
        rf"(?!({taken})$)\w[\w-]*",
        f"a name of letters, digits, _ and - other than those of other results ({other} ...)",
    )


YES_OR_NO = Rule(bool, "yes or no (in the block True or False)")
TEXT = Rule(str, "text in quotation marks")
PLACE = like(r".*\S.*", "a path, or a name on the hub where one may be")
SHARE = number("[0, 1]")
PROBABILITY = number("[0, 1)")
RATE = number("(0, 1]")
POSITIVE = number(f"(0, {MOST}]")
COUNT = whole(1)
SEVERAL = Rule(
    tuple,
    'several words, "a,b" (in the block ("a", "b"))',
    lambda value: all(isinstance(each, str) and each for each in value),
)
TRACKERS = Rule(
    tuple,
    'any of tensorboard, wandb: "tensorboard,wandb" (in the block ("tensorboard",))',
    lambda names: all(name in ("tensorboard", "wandb") for name in names),
)
TEMPOS = Rule(
    tuple,
    'one or several of 0.5 to 2, "1,.85" (in the block (1.0, 0.85))',
    lambda tempos: tempos and all(type(t) in (int, float) and 0.5 <= t <= 2 for t in tempos),
)
# Of common/conditions.py: those with a number, and how all are said.
LIMITS = {"noise": "[-20, 60]", "mp3": "[16, 160]", "level": "[-60, 20]", "tempo": "[0.5, 2]"}
LIMITS |= {"words": "(0, 1]"}
SAID = {kind: f"{kind}:NUMBER in {limits}" for kind, limits in LIMITS.items()}
SAID |= {kind: kind for kind in ("telephone", "room", "clipping")} | {"asr": "asr:NAME"}
OF_WORDS = ("words", "asr")  # in which not the recording but the words change
SOUNDS = tuple(kind for kind in SAID if kind not in OF_WORDS)
SESSIONS = r"\s*([0-9]+(\s*-\s*[0-9]+)?\s*(,\s*|$))*"
SCORE = "(accuracy|f1|macro_f1|uar)"

NAMES = {
    PLACE: "corpus data outputs model bert text_pretrain.text parallel.jobs runs out picture",
    TEXT: "results examples manifest tsv enrol export embeddings predict.turns test_corpus "
    "text_pretrain.bert attention predict.text asr speaker slurm labels label_map label_column "
    "language",
    YES_OR_NO: "restart deterministic follow_links shuffle train context json onnx dry_run",
    SEVERAL: "frozen recordings",
    TEMPOS: "tempos",
    TRACKERS: "log",
    COUNT: "width layers heads feed_forward epochs clips steps warmup_steps decay_steps save_steps "
    "batch_size batch_tokens batch_seconds held_out norm_batches picture.turns",
    RATE: "learning_rate lr lr_encoder lr_head lr_layers",
    SHARE: "audio_train.lr_encoder token_mask_prob text_drop_prob hidden_share bare_share "
    "weight_decay warmup condition_prob",
    several_conditions(*SAID): "conditions",
    PROBABILITY: "dropout attention_dropout beta2 label_smoothing",
    number(): "rating_weight seen_weight missing_weight save_minutes",
    POSITIVE: "clip most_seconds most_megabytes",
    number(f"[0.5, {MOST}]", also=0): "every",
    number("[0, 5]"): "augment dimensions",
    number("[0, 2]"): "class_weights",
    one_condition(*SOUNDS): "audio_test.condition",
    one_condition(*OF_WORDS): "text_test.condition",
    one_condition(*SAID): "run_classifier.condition",
    whole(0): "patience at_once lora_rank",
    whole(0, 2**32 - 1): "seed",
    whole(2, also=0): "folds",
    whole(0, also=-1): "pad_id",
    whole(1, also=-1): "preprocess.jobs predict.jobs",
    whole(1, 99): "sample_corpus.sessions",
    whole(20): "utterances",
    whole(3): "max_length",
    whole(100): "vocabulary",
    whole(1, 65535): "port",
    words("auto", "bf16", "float32"): "precision",
    words("utterance", "past", "all"): "speaker_norm",
    words("first", "drop"): "ties",
    words("label", "votes"): "targets",
    words("spoken", "hangul"): "text_style",
    words("known", "unknown"): "speakers",
    words("mel", "paper"): "features",
    words("mean", "pooler"): "text_train.pooling",
    words("mean", "cls"): "run_classifier.pooling",
    words("values", "weights"): "voice",
    words("utterance", "batch"): "scale",
    words("linear", "cosine"): "schedule",
    model_name("audio"): "text_train.name text_test.name",
    model_name("text"): "audio_train.name audio_test.name",
    checkpoint("alexnet"): "encoder",
    checkpoint("aligned", "paper"): "audio",
    like(SESSIONS, 'sessions such as "17-20" or "1,3,5-7", or nothing'): "test_sessions",
    like(
        f"none|{SESSIONS}", 'none, sessions such as "15-16" or "1,3,5-7", or nothing'
    ): "valid_sessions",
    like(
        r"|(\w+://)?[^\s/]+:[0-9]+/?", "an address such as tcp://host:8786, or nothing"
    ): "cluster",
    like(
        rf"{SCORE}(\+{SCORE})*", "any of accuracy, f1, macro_f1, uar, joined by + without blanks"
    ): "target",
    like(r"\S+", "a name or an address of this computer"): "host",
    like(
        r"(?a)|(?!.*(--|\.\.|\.git$))\w[\w.-]*/\w([\w.-]*\w)?", "owner/name on the hub, or nothing"
    ): "push",
}
RULES = {name: rule for rule, names in NAMES.items() for name in names.split()}

# Settings that a trained CM-BERT does not read.
TRAINING = "precision deterministic folds bert max_length audio voice pooling scale frozen pad_id "
TRAINING += "attention_dropout dropout augment text_drop_prob epochs patience shuffle lr_encoder "
TRAINING += (
    "lr_head lr_layers weight_decay beta2 schedule warmup clip class_weights label_smoothing "
)
TRAINING += "targets dimensions save_minutes log conditions condition_prob"
SPECTRAL = ("aligned", "paper")  # no speech encoder
PATIENT = (
    ("patience", lambda s: s["patience"] and s["folds"], "folds"),
)  # no fold has a validation
EXPOSED = (
    ("condition_prob", lambda s: not s["conditions"] and s["condition_prob"] != 0.3, "conditions"),
)
# Of a script: settings, where they have no effect, and the setting that takes it from them; of
# several such the last one is named. What asks for what is done anyway, AUGMENT = 0 of the paper's
# features, is no such case.
IDLE = {
    "text_train": (*PATIENT, *EXPOSED),
    "audio_train": (
        *PATIENT,
        *EXPOSED,
        ("augment", lambda s: s["features"] == "paper" and s["augment"], "features"),
        ("tempos", lambda s: s["features"] == "paper" and s["tempos"] != (1.0,), "features"),
        ("features tempos augment norm_batches", lambda s: s["encoder"] != "alexnet", "encoder"),
        ("lr", lambda s: s["encoder"] != "alexnet" and s["lr"] != 1e-3, "encoder"),
        ("lr_encoder lora_rank", lambda s: s["encoder"] == "alexnet", "encoder"),
        ("lr_head", lambda s: s["encoder"] == "alexnet" and s["lr_head"] != 1e-4, "encoder"),
        ("lr_layers", lambda s: s["encoder"] == "alexnet" and s["lr_layers"] != 1e-2, "encoder"),
    ),
    "run_classifier": (
        *PATIENT,
        *EXPOSED,
        (TRAINING, lambda s: not s["train"], "train"),
        ("augment", lambda s: s["audio"] == "paper" and s["augment"], "audio"),
        ("augment", lambda s: s["audio"] not in SPECTRAL, "audio"),
        ("lr_layers", lambda s: s["audio"] in SPECTRAL and s["lr_layers"] != 1e-2, "audio"),
        ("text_drop_prob", lambda s: s["audio"] == "paper" and s["text_drop_prob"], "audio"),
        ("speaker_norm", lambda s: s["train"] and s["audio"] == "paper", "audio"),
    ),
    "text_pretrain": (
        ("vocabulary width layers heads feed_forward", lambda s: s["bert"], "bert"),
        ("bare_share", lambda s: not s["missing_weight"], "missing_weight"),
    ),
    "preprocess": (("jobs", lambda s: s["cluster"], "cluster"),),
    "predict": (("jobs", lambda s: s["cluster"], "cluster"),),
}


def find_rule(script: str, name: str) -> Rule | None:
    """Return the rule of a setting of a script; None: it has none."""
    return RULES.get(f"{script}.{name}", RULES.get(name))


def with_kinds(script: str, block: dict) -> dict:
    """Return settings with a value of the type that each is to have, whatever the block says."""
    rules = {name: find_rule(script, name) for name in block}
    return {
        name: rule.kind() if rule and rule.kind is not tuple else block[name]
        for name, rule in rules.items()
    }


def check(script: str, settings: dict, whose: str = "") -> None:
    """Refuse a value that a script's setting cannot have."""
    for name, value in settings.items():
        rule = find_rule(script, name)
        if rule and not rule.allows(value):
            raise UserError(f"{whose}{name.upper()} = {value!r}: give {rule.allowed}")


def find_idle(script: str, settings: dict) -> dict[str, str]:
    """Return the settings of a script that have no effect, each with the one beside which."""
    return {
        name: reason
        for names, is_idle, reason in IDLE.get(script, ())
        if is_idle(settings)
        for name in names.split()
    }


def check_command(
    blocks: dict[str, dict], taken: dict[str, dict], own: str, asked: set[str]
) -> None:
    """Refuse settings that are out of range, and those asked for that have no effect.

    blocks: of each stage of the command, the settings {name: value}, None for what its block does
    not write out.  taken: those that the command line replaces.  own: the stage that is being
    started: the first one speaks for all, before hours are spent.  asked: names on the command
    line; `stage.name` must have an effect there, `name` in a stage that has it.

    One that is only edited in the block is named where a word there has chosen another kind of
    model.
    """
    # What it has a setting for may be meant for it alone: paper.sh gives each stage its own.
    taken = {
        stage: {n: v for n, v in given.items() if stage == own or n not in blocks[own]}
        for stage, given in taken.items()
    }
    now = {stage: block | taken[stage] for stage, block in blocks.items()}
    whose = {stage: "" if stage == own else f"{stage}.py's " for stage in blocks}
    idle = {}
    for stage, values in now.items():
        known = {n: v for n, v in values.items() if v is not None or stage == own}
        check(stage, known, whose[stage])
        idle[stage] = find_idle(stage, values) if known == values else {}
    for stage, found in idle.items():
        for name, reason in found.items():
            values = now[stage]
            said = f"{name.upper()} = {values[name]!r} has no effect with "
            said += f"{reason.upper()} = {values[reason]!r}"
            everywhere = all(name in idle[other] for other in blocks if name in blocks[other])
            if name in taken[stage] and (everywhere or f"{stage}.{name}" in asked):
                raise UserError(f"{whose[stage]}{said}: leave it out")
            is_edited = stage == own and not {name, reason} & taken[own].keys() and values[name]
            if is_edited and isinstance(values[reason], str):
                print(said)
