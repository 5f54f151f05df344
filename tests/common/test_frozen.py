"""Weights that are not trained: in no state, in one file for all folds, found again."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from small_speech import save_checkpoint

from common.checkpoint import Checkpoint, load_frozen, read_state, save_frozen
from common.data import load_data, plan_trainings
from common.files import UserError
from common.training import parameter_groups, start
from models.speech import SpeechClassifier, build_speech_encoder, load_speech_encoder


@pytest.fixture
def training(data, tmp_path):
    (one,) = plan_trainings(load_data(data, "train", "valid"), 0, tmp_path / "model")
    one.folder.mkdir()
    return one


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("speech"), "whisper")


def begin(training, folder, rank):
    """A training of a classifier over adapters of an encoder, or over all its weights."""
    encoder = load_speech_encoder(folder)
    encoder.begin_training(rank)
    network = SpeechClassifier(3, 32, 0.0, encoder, torch.ones(2, 192))
    optimizer = torch.optim.AdamW(parameter_groups(network, {"": 0.1}, 0.01))
    return network, Checkpoint(training, {"of": "a test"}, start(), network, optimizer)


def step(network, run):
    clips = torch.randint(-3000, 3000, (2, 4000), dtype=torch.int16)
    network(clips, torch.tensor([4000, 3000])).square().sum().backward()
    run.optimizer.step()
    run.optimizer.zero_grad()


def weights_of(network):
    return {name: weight.clone() for name, weight in network.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


@pytest.mark.parametrize("rank", [0, 4])
def test_no_frozen_weight_is_in_a_state_and_none_is_missed(training, folder, rank):
    network, run = begin(training, folder, rank)
    step(network, run)
    run.sums, run.rows = {"loss": 1.0}, 1
    run.end_epoch({"macro_f1": 0.5})
    best = weights_of(network)
    step(network, run)
    run.save()
    after = weights_of(network)
    state = read_state(run.path, run.identity)
    frozen = {name for name, weight in network.named_parameters() if not weight.requires_grad}
    learning = set(after) - frozen
    assert set(state["network"]) == set(state["best_weights"]) == learning
    assert {"layer_weights", "classifier.weight"} <= learning
    assert any("lora_A" in name for name in learning) == (rank > 0)
    assert len(frozen) > 30 if rank else frozen == {"encoder.encoder.embed_positions.weight"}
    again, other = begin(training, folder, rank)  # as after a kill
    assert equal(weights_of(again), after) and other.epoch == 1
    other.take_best()
    assert equal(weights_of(again), best) and not equal(best, after)


def test_a_state_of_other_weights_is_refused(training, folder):
    _, run = begin(training, folder, 4)
    run.save()
    with pytest.raises(UserError, match=r"state\.pt .*--restart"):
        begin(training, folder, 0)


def test_a_frozen_encoder_is_found_by_the_model_and_its_folds(tmp_path, folder):
    encoder = load_speech_encoder(folder).requires_grad_(False)
    run = SimpleNamespace(accelerator=start())
    stage = SimpleNamespace(unfinished=tmp_path / "audio")
    (stage.unfinished / "fold0").mkdir(parents=True)
    save_frozen(encoder, run, stage.unfinished)
    for place in (stage.unfinished, stage.unfinished / "fold0"):
        found = load_frozen(build_speech_encoder(encoder.to_json()), place, "audio_train.py")
        assert equal(weights_of(found), weights_of(encoder))
    written = stage.unfinished / "encoder.safetensors"
    assert not any("decoder" in name for name in load_file(written))
    written.unlink()
    for place in (stage.unfinished, stage.unfinished / "fold0"):
        with pytest.raises(
            UserError, match=r"encoder\.safetensors is missing: run audio_train\.py"
        ):
            load_frozen(encoder, place, "audio_train.py")
