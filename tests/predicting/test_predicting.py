"""Loading a run and predicting recordings with it, against what the test stages wrote."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from common.files import UserError
from fusion import stored as fusion
from fusion.dialogue import Dialogue, Transitions
from fusion.stored import Certainty
from predicting import History, Recording, load_run, predict

MODELS = ("text", "audio", "cmbert")

RECORDS = shutil.ignore_patterns("records")  # which would tell of the change


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained.outputs)


def recordings_of(talk, speaker_norm, **left_out):
    speakers = [row["speaker"] if speaker_norm == "past" else "" for row in talk]
    return [
        Recording(**{"path": row["path"], "text": row["text"], "speaker": speaker} | left_out)
        for row, speaker in zip(talk, speakers, strict=True)
    ]


def assert_as_tested(answers, talk, expected, speaker_norm, models=MODELS, rtol=0):
    assert len(answers) == len(talk)
    for row, answer in zip(talk, answers, strict=True):
        assert set(answer.logits) == set(models)
        for model in models:
            tested = expected[speaker_norm, model][row["id"]]
            np.testing.assert_allclose(answer.logits[model], tested, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("speaker_norm", ["utterance", "past"])
def test_the_test_rows_get_what_the_test_stage_gave_them(run, talk, expected, speaker_norm):
    answers = list(predict(run, recordings_of(talk, speaker_norm)))
    assert_as_tested(answers, talk, expected, speaker_norm)
    of_row = {m: np.stack([expected[speaker_norm, m][row["id"]] for row in talk]) for m in MODELS}
    found = np.stack([answer.probabilities for answer in answers])
    np.testing.assert_allclose(found, run.fusion.predict(of_row), atol=1e-5)
    for model, temperature in run.fusion.temperatures.items():
        found = np.stack([answer.models[model] for answer in answers])
        np.testing.assert_allclose(found, softmax(of_row[model] / temperature, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "models"),
    [("of_the_paper", ("audio", "cmbert")), ("of_encoders", ("text", "audio", "cmbert", "speech"))],
)
def test_models_of_every_kind_predict_as_they_were_tested(
    trained, talk, tmp_path, request, kind, models
):
    outputs = shutil.copytree(request.getfixturevalue(kind), tmp_path / "outputs")
    if kind == "of_the_paper":
        shutil.copy(trained.outputs / "fusion.json", outputs)
    run = load_run(outputs)
    assert run.models == models
    answers = list(predict(run, recordings_of(talk, "past")))
    for model in models:
        ids = np.load(outputs / f"{model}_index.npy").tolist()
        tested = np.load(outputs / f"{model}_output.npy")[[ids.index(row["id"]) for row in talk]]
        found = np.stack([answer.logits[model] for answer in answers])
        # As published, CM-BERT's voice is scaled by a norm over the whole batch.
        near = 0.02 if (kind, model) == ("of_the_paper", "cmbert") else 1e-4
        np.testing.assert_allclose(found, tested, rtol=0, atol=near)
        assert np.ptp(found, axis=0).max() > 1e-3  # each utterance its own


def test_turn_by_turn_is_as_all_at_once(run, talk, expected):
    """As a live conversation has it: one call a turn, going on from what was heard."""
    heard = History()
    answers = [
        answer
        for recording in recordings_of(talk, "past")
        for answer in predict(run, [recording], heard)
    ]
    assert_as_tested(answers, talk, expected, "past", rtol=1e-5)


def test_samples_are_as_good_as_a_file(run, talk):
    row = talk[0]
    both = {"samples": row["samples"]}, {"path": row["path"]}
    for_samples, for_file = predict(run, [Recording(text=row["text"], **voice) for voice in both])
    np.testing.assert_allclose(for_samples.probabilities, for_file.probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("left_out", "models", "remark"),
    [
        ({"text": ""}, ["audio"], "voice alone, no transcript"),
        ({"text": "b/ n/"}, ["audio"], "nothing left of the transcript"),
        ({"path": ""}, ["text"], ""),
    ],
)
def test_what_is_missing_is_done_without(run, talk, expected, left_out, models, remark):
    answers = list(predict(run, recordings_of(talk, "utterance", **left_out)))
    assert_as_tested(answers, talk, expected, "utterance", models)
    for answer in answers:
        assert remark in (*answer.remarks, "")
        assert answer.method == run.fusion.method(models)


def test_words_are_read_as_the_corpus_was(run, talk):
    written = talk[0]["text"].split()
    raw = " ".join(["b/", f"({written[0][:1]}+{written[0]})", *written[1:], "n/"])
    tagged, plain = predict(run, [Recording(text=raw), Recording(text=talk[0]["text"])])
    assert tagged.text == plain.text
    np.testing.assert_array_equal(tagged.probabilities, plain.probabilities)


def test_without_words_a_voice_becomes_known_to_every_model(run, talk):
    """What CM-BERT knows of a speaker comes from utterances that it cannot judge, too."""
    mine = [row for row in talk if row["speaker"] == talk[0]["speaker"]]
    heard = History()
    first = [Recording(row["path"], speaker="Mina") for row in mine[:-1]]
    list(predict(run, first, heard))
    assert [stats[0] for stats in heard.voices["Mina"].values()] == [len(mine) - 1]
    last = Recording(mine[-1]["path"], mine[-1]["text"], "Mina")
    (known,) = predict(run, [last], heard)
    (stranger,) = predict(run, [Recording(last.path, last.text)])
    for model in ("audio", "cmbert"):
        assert np.abs(known.logits[model] - stranger.logits[model]).max() > 1e-4


def test_missing_models_leave_the_fusion_of_the_others(trained, talk, expected, tmp_path):
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs")
    shutil.rmtree(outputs / "audio")
    run = load_run(outputs)
    answers = list(predict(run, recordings_of(talk, "utterance")))
    assert_as_tested(answers, talk, expected, "utterance", ["text", "cmbert"])
    assert answers[0].method == run.fusion.method(["text", "cmbert"])
    with pytest.raises(UserError, match=r"no model for it in .*, run audio_train.py"):
        list(predict(run, recordings_of(talk, "utterance", text="")))


def test_models_that_the_fusion_does_not_know_have_no_part(trained, of_encoders, talk, tmp_path):
    """Trained after the ensemble was run, or removed from the folder since."""
    outputs = shutil.copytree(of_encoders, tmp_path / "outputs", ignore=RECORDS)
    remark = f"{outputs}/speech has no part until audio_test.py --name speech and ensemble.py are"
    fitted = (outputs / "fusion.json").read_bytes()
    shutil.copy(trained.outputs / "fusion.json", outputs)
    run = load_run(outputs)
    assert run.models == MODELS and run.remarks[0].startswith(remark)
    for model in MODELS:
        (outputs / model).rename(tmp_path / model)
    with pytest.raises(UserError, match=r"no model of fusion\.json is there, .*--name speech"):
        load_run(outputs)
    (outputs / "fusion.json").write_bytes(fitted)
    run = load_run(outputs)  # of the voice alone
    assert run.remarks == (
        f"{outputs} has no text and no audio and no cmbert model: the fusion of the others",
    )
    answers = list(predict(run, recordings_of(talk, "past")))
    assert {tuple(answer.logits) for answer in answers} == {("speech",)}
    config = json.loads((outputs / "speech" / "config.json").read_text())
    config["script"] = "speech_train.py"  # a stranger's, whose network is not known here
    (outputs / "speech" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no trained model: run text_train.py"):
        load_run(outputs)


def refit(outputs, certain, in_dialogue=0.0):
    """Store other thresholds, for each set of models and for turns, after which all is neutral."""
    stored = fusion.load(outputs / "fusion.json")
    to_neutral = np.zeros((2, 8, 7))
    to_neutral[..., 0] = 20
    follows = Dialogue(Transitions(*to_neutral), np.full(7, 1 / 7), past=True, whole=False)
    thresholds = {models: Certainty(certain.get(models, 0.0), 1, 1) for models in stored.forms}
    turns = dict.fromkeys(stored.forms, Certainty(in_dialogue, 1, 1))
    changed = replace(stored, certain=thresholds, in_dialogue=turns, dialogue=follows)
    changed.write(outputs / "fusion.json")
    return load_run(outputs)


def test_a_verdict_is_uncertain_below_the_threshold_of_the_models_that_gave_it(
    trained, talk, tmp_path
):
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs", ignore=RECORDS)
    row = talk[0]
    given = {
        ("text",): Recording(text=row["text"]),
        ("audio",): Recording(row["path"]),
        MODELS: Recording(row["path"], row["text"]),
    }
    for models in given:
        answers = list(predict(refit(outputs, {models: 1.0}), given.values()))
        assert [tuple(answer.logits) for answer in answers] == list(given)
        assert [answer.uncertain for answer in answers] == [own == models for own in given]
    (answer,) = predict(refit(outputs, {("audio",): 0.3}), [given["audio",]])
    assert answer.uncertain == (answer.confidence < 0.3)


def test_turns_read_with_those_before_them_have_another_threshold(trained, talk, tmp_path):
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs", ignore=RECORDS)
    run = refit(outputs, dict.fromkeys(fusion.list_sets(dict.fromkeys(MODELS, "")), 1.0), 0.9)

    def ask(speakers, dialogue="call"):
        turns = [Recording(text=talk[0]["text"], speaker=s, dialogue=dialogue) for s in speakers]
        return [answer.uncertain for answer in predict(run, turns)]

    assert ask(["Mina", "Jun", "Mina"]) == [True, False, False]  # before the first one is nothing
    assert ask(["Mina", "", "Jun"]) == [True, True, True]  # who speaks to whom is not known
    assert ask(["Mina", "Jun"], dialogue="") == [True, True]
    assert ask("ABCDE") == [True, False, False, False, True]  # more speakers than are read


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(data_hash="another"), "trained on different data"),
        (lambda config: config["labels"].reverse(), "other emotions in fusion.json"),
        (lambda config: config["labels"].clear(), "cannot be read .* run audio_train.py again"),
        (lambda config: config.pop("reference_range"), "cannot be read .* run audio_train.py"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(trained, tmp_path, change, words):
    with pytest.raises(UserError, match=r"no trained model: run text_train.py"):
        load_run(tmp_path)
    outputs = shutil.copytree(trained.outputs, tmp_path / "outputs", ignore=RECORDS)
    path = outputs / "audio" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=words):
        load_run(outputs)


def test_a_recording_unlike_the_training_is_said_to_be_so(run, talk):
    ordinary = predict(run, [Recording(row["path"], row["text"]) for row in talk])
    assert not any("unlike" in remark for answer in ordinary for remark in answer.remarks)
    quiet = talk[0]["samples"] // 100
    (answer,) = predict(run, [Recording(samples=quiet, text=talk[0]["text"])])
    assert any(remark.startswith("unlike the training: level -") for remark in answer.remarks)


@pytest.mark.parametrize(("usual", "is_said"), [(1e-3, True), (1e6, False), (None, False)])
def test_a_voice_far_from_those_of_the_training_is_said_to_be_so(of_encoders, talk, usual, is_said):
    run = load_run(of_encoders)
    norm = run.configs[run.embedder]["network"]["speaker_norm"]
    assert norm["usual_distance"] > 0
    norm["usual_distance"] = usual
    spoken, words = Recording(talk[0]["path"], talk[0]["text"]), Recording(text=talk[0]["text"])
    answers = list(predict(run, [spoken, words]))
    far = ["at a distance of" in " ".join(answer.remarks) for answer in answers]
    assert far == [is_said, False]
    del norm["usual_distance"]  # of a model that was trained earlier
    assert not any("distance" in remark for a in predict(run, [spoken]) for remark in a.remarks)
