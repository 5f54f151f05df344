"""Rows to the inputs of the three networks: padding, normalisation, augmentation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models.speaker import PRIOR_CLIPS
from pipeline.features.mel import Mel, add_deltas, log_mel
from pipeline.features.paper import paper_mfcc, paper_spectrogram
from pipeline.features.tokens import average_over_tokens
from pipeline.learning import audio, cmbert, text
from pipeline.learning.batches import Step
from pipeline.learning.checkpoint import save_weights
from pipeline.learning.dataset import load_utterances
from pipeline.learning.profile import SpeakerProfile
from pipeline.learning.recogniser import change_tensors, predict
from pipeline.learning.voices import sums_of
from safetensors.torch import load_file, save_file
from scipy.signal import resample_poly, savgol_filter
from small_speech import save_checkpoint
from stage_settings import PAPER, stage_settings

from common.files import UserError

ROWS = np.array([7, 0, 3])
MEL = Mel()


@pytest.fixture(scope="module")
def loaded(data):
    """Rows whose token ids tell them apart: row r has r + 2 words."""
    rows = load_utterances(data, "train")
    return rows.with_features(token_ids=[[2, *range(10, 12 + r), 3] for r in range(len(rows))])


def spectrogram_model(**changes):
    torch.manual_seed(0)
    return audio.create(stage_settings("audio", **changes))


def cmbert_model(bert, **changes):
    return cmbert.create(stage_settings("cmbert", bert=str(bert), **changes))


@pytest.fixture
def met(loaded):
    """The audio model, calibrated, and its rows as it meets them to learn from."""
    model = spectrogram_model()
    rows = model.prepare(loaded)
    model.calibrate(rows)
    return model, model.meet(rows, "all")


@pytest.fixture
def voiced(loaded, bert):
    """CM-BERT, calibrated, and the rows with all of a speaker known, with these token ids."""
    model = cmbert_model(bert)
    rows = model.prepare(loaded).with_features(**loaded.features)
    model.calibrate(rows)
    return model, model.meet(rows, "all")


def step(number):
    """Return a step that all ROWS are learned in."""
    return Step(ROWS, 1, number)


# --- words


def text_model(bert, **changes):
    return text.create(stage_settings("text", bert=str(bert), **changes))


def test_text_inputs_pad_right_and_mask(loaded, bert):
    model = text_model(bert)
    batch = model.inputs(loaded, np.array([2, 0, 1]))
    ids = [[2, 10, 11, 12, 13, 3], [2, 10, 11, 3, 1, 1], [2, 10, 11, 12, 3, 1]]
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_tokens_are_hidden_in_training_only(loaded, bert):
    rows = loaded.select(np.arange(len(loaded)) < 2)
    rows = rows.with_features(token_ids=[[2, *range(10, 2010), 3], [2, *range(10, 510), 3]])
    model = text_model(bert, hide_tokens=0.3)
    ids = model.inputs(rows, np.array([0, 1]), Step(np.array([0, 1]), 1, 0))["input_ids"]
    whole = model.inputs(rows, np.array([0, 1]))["input_ids"]
    hidden = ids == 4
    assert 0.25 < hidden[0].float().mean() < 0.35 and 0.2 < hidden[1, :502].float().mean() < 0.4
    assert torch.equal(ids[~hidden], whole[~hidden])
    assert not hidden[:, 0].any() and ids[0, -1] == 3  # [CLS], [SEP] and padding stay
    assert ids[1, 501:].tolist() == [3, *[1] * 1500]
    assert not (whole == 4).any()


# --- voice


def part_of(rows, chosen):
    """Rows and nothing of the others: as if they alone had been recorded."""
    mask = np.zeros(len(rows), bool)
    mask[chosen] = True
    return rows.select(mask)


def logits_of(model, rows, regime, budget=1000, size=4):
    return predict(model, rows, regime, (budget, size), "")


def test_another_gain_of_the_microphone_only_shifts_the_spectrogram():
    samples = (1000 * np.random.default_rng(0).standard_normal(9000)).astype(np.int16)
    loud, soft = log_mel(4 * samples, MEL), log_mel(samples, MEL)
    np.testing.assert_allclose(loud - soft, np.log(16), atol=1e-4)


def test_digital_silence_is_like_the_softest_noise():
    random = np.random.default_rng(0)
    softest = log_mel(random.integers(-1, 2, 16_000).astype(np.int16), MEL)
    silence = log_mel(np.zeros(16_000, np.int16), MEL)
    assert np.ptp(silence) < 1e-6
    assert 0 < np.median(softest) - silence[0, 0] < 6  # natural logarithm of power


def test_known_voices_are_heard_in_units_of_the_speaker(met):
    """Over all of a speaker's frames every bin has mean 0 and deviation 1, prior clips apart."""
    model, rows = met
    for speaker in set(rows.speakers):
        own = np.flatnonzero(rows.speakers == speaker)
        batch = model.inputs(rows, own.view(audio.KnownVoice))
        assert batch["known"]
        frames = np.concatenate(
            [
                clip[0, :count].numpy()
                for part, counts in zip(batch["features"], batch["frame_counts"], strict=True)
                for clip, count in zip(part, counts, strict=True)
            ]
        )
        together = np.concatenate([rows.features["spectrograms"][row] for row in own])
        trust = len(own) / (len(own) + PRIOR_CLIPS)
        average, spread = model.average.mean.numpy(), model.average.variance.numpy()
        mean = trust * together.mean(0) + (1 - trust) * average
        variance = trust * together.var(0) + (1 - trust) * spread
        variance += trust * (1 - trust) * (together.mean(0) - average) ** 2
        expected = (together - mean) / np.sqrt(variance).clip(MEL.deviation_floor)
        np.testing.assert_allclose(frames, expected, atol=2e-3)


def test_a_strangers_voice_is_heard_in_units_of_the_corpus(met):
    model, rows = met
    together = np.concatenate(rows.features["spectrograms"])
    np.testing.assert_allclose(model.average.units(0.1)[0], together.mean(0), rtol=1e-4)
    np.testing.assert_allclose(model.average.units(0.1)[1], together.std(0), rtol=1e-4)
    batch = model.inputs(rows, ROWS)
    assert not batch["known"]
    (features,), (counts,) = batch["features"], batch["frame_counts"]
    assert features.shape == (3, 3, counts.max(), MEL.bins)
    for clip, row, count in zip(features, ROWS, counts, strict=True):
        spectrogram = rows.features["spectrograms"][row]
        assert count == len(spectrogram)
        expected = (spectrogram - together.mean(0)) / together.std(0)
        np.testing.assert_allclose(clip[0, :count], expected, atol=1e-3)
        slope = savgol_filter(np.pad(expected, ((2, 2), (0, 0)), "edge"), 5, 1, 1, axis=0)[2:-2]
        np.testing.assert_allclose(clip[1, :count], MEL.slope_scale * slope, atol=2e-3)
        assert not clip[:, count:].any()


def test_augmentation_is_for_training_alone_and_follows_the_seed(met):
    model, rows = met

    def features(learning, augment, seed=0):
        model.settings["augment"] = augment
        return model.inputs(rows, ROWS, step(seed) if learning else None)["features"][0]

    before = [frames.copy() for frames in rows.features["spectrograms"]]
    plain = features(False, 1.0)
    assert torch.equal(plain, features(True, 0.0))
    first, again, other = features(True, 1.0), features(True, 1.0), features(True, 1.0, seed=1)
    assert torch.equal(first, again)
    assert first.shape != plain.shape or not torch.equal(first, plain)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert all(map(np.array_equal, before, rows.features["spectrograms"]))  # rows stay


@pytest.mark.parametrize("seed", [3, None])
def test_every_row_is_learned_once_by_each_network(met, seed):
    model, rows = met
    batches = model.batches(rows, seed, budget=1000, size=3)
    known = [model.inputs(rows, batch)["known"] for batch in batches]
    for kind in (True, False):
        chosen = [batch for batch, is_known in zip(batches, known, strict=True) if is_known == kind]
        assert sorted(np.concatenate(chosen)) == list(range(len(rows)))
        if kind:  # five clips of a speaker in batches of at most three: 3 + 2
            assert sorted(map(len, chosen)) == [2, 2, 2, 2, 3, 3, 3, 3]
    lengths = rows.sample_counts
    assert all((np.diff(lengths[batch]) >= 0).all() for batch in batches)  # alike stand together


def test_batches_of_both_kinds_are_shuffled_by_the_seed(met):
    model, rows = met
    batches = model.batches(rows, seed=3, budget=1000, size=3)
    known = [model.inputs(rows, batch)["known"] for batch in batches]
    assert known != sorted(known)  # in turn
    again = model.batches(rows, seed=3, budget=1000, size=3)
    assert all(map(np.array_equal, batches, again))


@pytest.fixture(params=["audio", "cmbert"])
def listener(request, loaded, bert):
    """Each model that hears speakers, with random weights that make differences show, and rows."""
    if request.param == "audio":
        model = spectrogram_model()
    else:
        torch.manual_seed(0)
        model = cmbert_model(bert)
    rows = model.prepare(loaded)
    model.calibrate(rows)
    return model, rows


def same(first, second):
    return (first - second).abs().max() < 1e-5


def test_alone_an_utterance_is_the_same_in_any_company(listener):
    model, rows = listener
    everything = logits_of(model, rows, "utterance", size=3)
    assert everything.std(0).max() > 1e-3
    for chosen in ([4], [0, 7], np.arange(3, 17), np.arange(len(rows))[::2]):
        assert same(
            logits_of(model, part_of(rows, chosen), "utterance"), everything[np.sort(chosen)]
        )


def test_past_knows_earlier_turns_and_no_later_one(listener):
    model, rows = listener
    own = np.flatnonzero(rows.speakers == "Sess02M")
    own = own[np.argsort(rows.table["turn"].to_numpy()[own])]
    everything = logits_of(model, rows, "past")
    for heard in range(1, len(own) + 1):  # stopped after so many turns
        chosen = np.sort(own[:heard])
        assert same(logits_of(model, part_of(rows, chosen), "past"), everything[chosen])
    without_first = logits_of(model, part_of(rows, own[1:]), "past")
    assert (without_first - everything[np.sort(own[1:])]).abs().max() > 1e-4
    first = own[:1]
    assert same(logits_of(model, part_of(rows, first), "utterance"), everything[first])


def test_the_order_of_turns_is_the_conversations_and_not_the_tables(listener):
    model, rows = listener
    everything = logits_of(model, rows, "past")
    table = rows.table.assign(turn=-rows.table["turn"])
    backwards = logits_of(model, replace(rows, table=table), "past")
    last = (rows.table["turn"] == rows.table.groupby("speaker")["turn"].transform("max")).to_numpy()
    alone = logits_of(model, rows, "utterance")
    last = torch.tensor(np.flatnonzero(last))
    assert same(backwards[last], alone[last])
    assert not same(everything, backwards)


NAMES = ("script01", "impro01"), ("impro01", "script01"), ("script10", "script2"), ("a", "a")


def two_dialogues(rows, names):
    """Every session cut into two dialogues of these names, whose turns begin at 1."""
    half = rows.table.groupby("session")["turn"].transform("max") // 2
    second = rows.table["turn"] > half
    table = rows.table.assign(
        scenario=np.where(second, names[1], names[0]),
        dialogue_number=1 + second,
        turn=rows.table["turn"] - half * second,
    )
    return replace(rows, table=table)


def test_past_is_the_order_of_time_whatever_the_dialogues_are_called(listener):
    model, rows = listener
    everything = logits_of(model, rows, "past")
    for names in NAMES:
        named = two_dialogues(rows, names)
        assert same(logits_of(model, named, "past"), everything)
        own = np.flatnonzero(rows.speakers == "Sess02M")
        own = own[np.argsort(rows.table["turn"].to_numpy()[own])]
        for heard in range(1, len(own)):  # stopped within the first dialogue, or in the second
            chosen = np.sort(own[:heard])
            assert same(logits_of(model, part_of(named, chosen), "past"), everything[chosen])


def test_a_speaker_of_several_sessions_is_known_within_each_alone(listener):
    """Under past; under all, every clip of the speaker counts."""
    model, rows = listener
    names = rows.table["speaker"].str.replace(r"Sess\d+", "User", regex=True)
    again = replace(rows, table=rows.table.assign(speaker=names))
    assert again.table.groupby("speaker")["session"].nunique().tolist() == [2, 2]
    for regime, is_same in (("utterance", True), ("past", True), ("all", False)):
        found = logits_of(model, again, regime), logits_of(model, rows, regime)
        assert same(*found) == is_same


def test_all_is_every_utterance_of_the_speaker_and_of_no_other(listener):
    model, rows = listener
    everything = logits_of(model, rows, "all", size=2)
    own = np.flatnonzero(rows.speakers == "Sess02M")
    assert same(logits_of(model, part_of(rows, own), "all"), everything[own])
    fewer = logits_of(model, part_of(rows, own[:-1]), "all")
    assert (fewer - everything[own[:-1]]).abs().max() > 1e-4


@pytest.mark.parametrize("tempos", [audio.TEMPOS, (1.0, 1.05)])
def test_a_voice_is_known_turn_by_turn_through_a_file(met, tmp_path, tempos):
    model, rows = met
    model.tempos = tempos
    model.network.eval()
    own = np.flatnonzero(rows.speakers == "Sess01F")
    own = own[np.argsort(rows.table["turn"].to_numpy()[own])]
    with torch.inference_mode():
        whole, profile = model.hear(rows, [own], "past")
        path, known = tmp_path / "voice.profile", None
        for turn, row in enumerate(own):
            found, known = model.hear(rows, [np.array([row])], "past", known)
            assert same(found[0], whole[turn])
            known.save(path)
            known = SpeakerProfile.load(path)
            assert known.clips == turn + 1
    assert profile.sums.keys() == known.sums.keys()
    assert path.stat().st_size < 100_000


def test_an_ablation_changes_what_the_network_hears(listener):
    """The audio model's features stand in lists, CM-BERT's in a tensor."""
    model, rows = listener

    def silence(inputs):
        name = "features" if "features" in inputs else "audio"
        return {**inputs, **change_tensors({name: inputs[name]}, torch.zeros_like)}

    plain, silent = (
        predict(model, rows, "past", (1000, 4), "", change)
        for change in (lambda inputs: inputs, silence)
    )
    assert not same(plain, silent)


def test_a_bin_that_never_moves_is_no_division_by_zero(met):
    model, rows = met
    clips = [np.array(clip) for clip in rows.features["spectrograms"]]
    for clip in clips:
        clip[:, 5] = 0.5
    model.network.eval()
    still = rows.with_features(spectrograms=clips, sums=[sums_of(clip) for clip in clips])
    model.calibrate(still)
    for regime in ("utterance", "past", "all"):
        assert logits_of(model, still, regime).isfinite().all()
    features = model.part(still, ROWS, None)[0]
    assert features.isfinite().all() and features[:, 0, :, 5].abs().max() < 1e-3


def test_a_clip_is_heard_at_three_tempos(met):
    """Logits are the mean over the clip as it is, slower and faster, each with its own deltas."""
    model, rows = met
    model.network.eval()
    row = np.array([4])
    clip, (mean, deviation) = rows.features["spectrograms"][4], model.average.units(0.1)
    own = model.units(rows.features["sums"][4][None])[0]
    logits = []
    for tempo in (1, 0.85, 1.15):
        places = np.linspace(0, len(clip) - 1, round(len(clip) / tempo))
        at_tempo = np.stack(
            [np.interp(places, np.arange(len(clip)), band) for band in clip.T], axis=1
        )
        parts = [
            (torch.tensor(add_deltas((at_tempo - m) / d, MEL)).float().transpose(0, 1)[None], n)
            for m, d in ((mean, deviation), own)
            for n in [torch.tensor([len(places)])]
        ]
        with torch.inference_mode():
            voices = model.network.classify_speaker(
                *[[part] for part in parts], torch.tensor([0]), torch.ones(1), "utterance"
            )
        logits.append(voices[0])
    with torch.inference_mode():
        heard, _ = model.hear(rows, [row], "utterance")
    assert torch.allclose(heard, torch.stack(logits).mean(0), atol=1e-4)
    assert not torch.allclose(heard, logits[0], atol=1e-3)


def test_first_convolutions_are_one_in_memory_and_through_a_file(met, tmp_path):
    """What a stranger's batch teaches them, the known voice's network has learned."""
    model, rows = met
    network = model.network.train()
    batch = model.inputs(rows, np.array([0, 1])) | {"known": False}
    network(**batch).sum().backward()
    learned = [layer.weight.grad is not None for layer in network.known.convolutions]
    assert learned == [True, True, False, False, False]
    save_weights(network, tmp_path / "model.safetensors")
    other = spectrogram_model().network
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert other.stranger.convolutions[0].weight is other.known.convolutions[0].weight
    assert torch.equal(other.known.convolutions[1].weight, network.known.convolutions[1].weight)


def odd_recordings(rows):
    """60 s, 0.2 s, digital silence, clipping, a telephone's 8 kHz, among ordinary clips."""
    random = np.random.default_rng(0)
    ordinary = [row["samples"] for row in rows[:3]]
    voice = np.tile(ordinary[1], 60 * 16_000 // len(ordinary[1]) + 1)
    telephone = resample_poly(resample_poly(voice[:32_000].astype(float), 1, 2), 2, 1)
    return [
        *ordinary,
        voice[: 60 * 16_000],
        ordinary[0][:3200],
        np.zeros(16_000, np.int16),
        (20.0 * ordinary[2]).clip(-32_768, 32_767).astype(np.int16),
        telephone.astype(np.int16),
        random.integers(-3, 4, 8000).astype(np.int16),
    ]


@pytest.mark.parametrize("regime", ["utterance", "past", "all"])
def test_odd_recordings_are_defined_in_every_regime(listener, rows, regime):
    model, known = listener
    clips = odd_recordings(rows)
    table = known.table.iloc[: len(clips)].assign(
        speaker="S", turn=range(len(clips)), sample_count=list(map(len, clips))
    )
    starts = np.cumsum([0, *map(len, clips)])[:-1]
    odd = replace(
        known,
        table=table.assign(first_sample=starts).reset_index(drop=True),
        audio={"train": np.concatenate(clips)},
        features={},
    )
    odd = model.prepare(odd)
    found = logits_of(model, odd, regime, size=16)
    assert found.isfinite().all() and found.abs().max() < 100
    if regime == "utterance":
        single = [logits_of(model, part_of(odd, [row]), regime) for row in range(len(odd))]
        assert ((torch.cat(single) - found).abs() <= 2e-5 * (1 + found.abs())).all()


@pytest.mark.parametrize("content", [b"", b"no profile" * 20, None])
def test_what_is_no_profile_is_one_line(tmp_path, content):
    path = tmp_path / "voice.profile"
    if content is None:
        save_file({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="voice.profile is no speaker profile"):
        SpeakerProfile.load(path)


def test_paper_inputs_stack_the_papers_spectrograms(loaded):
    batch = spectrogram_model(**PAPER["audio"]).inputs(loaded, ROWS, step(0))
    for clip, count, row in zip(batch["features"], batch["frame_counts"], ROWS, strict=True):
        alone = paper_spectrogram(loaded.samples(row))
        assert count == alone.shape[1]
        np.testing.assert_array_equal(clip[:, :count], alone)
        assert not clip[:, count:].any()


def test_a_spectrograms_frames_are_counted_without_padding(met, loaded):
    model, rows = met
    batch = model.inputs(rows, ROWS)
    counts = np.concatenate([np.atleast_1d(part) for part in batch["frame_counts"]])
    frames = 1 + (loaded.sample_counts[ROWS] - MEL.window) // MEL.hop
    assert counts.tolist() == frames.tolist() and len(set(counts)) > 1


def test_samples_are_counted_without_padding(loaded, tmp_path):
    encoder = save_checkpoint(tmp_path)
    model = audio.create(stage_settings("audio", encoder=encoder, encoder_rate=1e-5))
    batch = model.inputs(model.prepare(loaded), ROWS, step(0))
    assert batch["sample_counts"].tolist() == loaded.sample_counts[ROWS].tolist()
    assert batch["samples"].shape == (3, max(loaded.sample_counts[ROWS]))
    for samples, row in zip(batch["samples"], ROWS, strict=True):
        own = loaded.samples(row)
        assert np.array_equal(samples[: len(own)], own) and not samples[len(own) :].any()


# --- words and voice


def describe(level):
    """Level, square and movement of a normalised spectrogram (T, F) by scipy, (T, 3 F)."""
    slope = savgol_filter(np.pad(level, ((2, 2), (0, 0)), "edge"), 5, 1, 1, axis=0)[2:-2]
    return np.hstack([level, level**2, MEL.slope_scale * abs(slope)])


def in_units_of(clips, average):
    """Clips in units of all their frames and of PRIOR_CLIPS average clips, (mean, variance)."""
    together = np.concatenate(clips)
    trust = len(clips) / (len(clips) + PRIOR_CLIPS)
    mean = trust * together.mean(0) + (1 - trust) * average[0]
    variance = trust * together.var(0) + (1 - trust) * average[1]
    variance += trust * (1 - trust) * (together.mean(0) - average[0]) ** 2
    return [(clip - mean) / np.sqrt(variance).clip(MEL.deviation_floor) for clip in clips]


def test_each_token_gets_its_share_of_the_clip_in_units_of_the_speaker(voiced):
    model, rows = voiced
    batch = model.inputs(rows, ROWS)
    audio = batch["audio"]
    assert audio.shape == (3, 11, 192)  # row 7 has 9 tokens, [CLS] and [SEP]
    assert audio.dtype == torch.float32
    averages = [(a.mean.numpy(), a.variance.numpy()) for a in model.averages]
    for place, mask, row in zip(audio, batch["attention_mask"], ROWS, strict=True):
        tokens = int(mask.sum()) - 2
        own = np.flatnonzero(rows.speakers == rows.speakers[row])
        clips = [rows.features["spectrograms"][r].astype(np.float64) for r in own]
        levels = in_units_of(clips, averages[0])
        voices = in_units_of([describe(level) for level in levels], averages[1])
        expected = average_over_tokens(voices[list(own).index(row)], tokens)
        np.testing.assert_allclose(place[1 : tokens + 1], expected, atol=5e-3)
        assert not place[0].any()  # [CLS]
        assert not place[tokens + 1 :].any()  # [SEP] and padding


def test_all_regimes_are_met_while_learning(voiced):
    model, rows = voiced
    rows = model.meet(rows, *model.LEARNED)
    model.settings["augment"] = 0.0
    heard = {}
    for regime in ("utterance", "past", "all"):
        plain = model.inputs(model.meet(rows, regime), ROWS[:1])
        heard[regime] = plain["audio"]
    drawn = set()
    for seed in range(20):
        audio = model.inputs(rows, ROWS[:1], step(seed))["audio"]
        near = [name for name, other in heard.items() if (audio - other).abs().max() < 1e-4]
        drawn.update(near)
        assert near
    assert drawn == {"utterance", "past", "all"}


def test_augmentation_treats_level_square_and_movement_of_a_bin_alike(voiced):
    """A bin or a time is masked in all three, and another level is one of the level alone."""
    model, rows = voiced
    model.settings["hide_words"] = 0.0
    described = np.array([[-1.0], [-2.0], [-4.0]], np.float32), np.float32(1)
    ones = rows.with_features(
        spectrograms=[np.zeros((200, MEL.bins), np.float32)] * len(rows),
        units=[(((0, 1), described),)] * len(rows),
    )  # a voice that is 1, 2 and 4 everywhere
    audio = model.inputs(ones, ROWS[:1], step(3))["audio"][0, 1:10].numpy()
    level, square, movement = audio.reshape(9, 3, MEL.bins).transpose(1, 0, 2)
    kept = square / 2  # share of each token and bin that is not masked
    assert 0 < (kept == 0).mean() < 0.2 and (kept < 1).any(1).any()
    np.testing.assert_allclose(movement / 4, kept, atol=1e-6)
    shift = level[kept == 1] - 1
    assert 0 < abs(shift[0]) <= 0.1 and np.ptp(shift) < 1e-6
    np.testing.assert_allclose(level, kept * (1 + shift[0]), atol=1e-6)


def test_words_are_hidden_in_training_alone(voiced):
    model, rows = voiced

    def ids(learning, share):
        model.settings["hide_words"] = share
        return model.inputs(rows, ROWS, step(0) if learning else None)["input_ids"]

    plain = ids(False, 1.0)
    assert not (plain == 4).any()
    assert torch.equal(ids(True, 0.0), plain)
    hidden = ids(True, 1.0)
    words = (plain != 1) & (plain != 2) & (plain != 3)  # not [PAD], [CLS], [SEP]
    assert (hidden[words] == 4).all()
    assert torch.equal(hidden[~words], plain[~words])


def test_masked_words_keep_their_places(voiced):
    model, rows = voiced
    batch = model.inputs(rows, ROWS)
    masked = model.mask_words(batch)["input_ids"]
    assert masked[1].tolist() == [2, 4, 4, 3, *[1] * 7]  # row 0: two words
    assert not (batch["input_ids"] == 4).any()


def test_the_papers_coefficients_lie_against_tokens(loaded, bert):
    model = cmbert_model(bert, **PAPER["cmbert"])
    mfcc = model.prepare(loaded).features["mfcc"]
    batch = model.inputs(loaded.with_features(mfcc=mfcc), ROWS)
    assert batch["audio"].shape == (3, 100, 465)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 100)
    assert not batch["input_ids"][0, 11:].any()  # [UNK] after the 11 ids of row 7
    for place, row in zip(batch["audio"], ROWS, strict=True):
        np.testing.assert_array_equal(place, paper_mfcc(loaded.samples(row)))


def test_every_rate_of_dropout_is_that_of_its_setting(bert):
    words = text_model(bert, dropout=0.6).network
    both = cmbert_model(bert, dropout=0.6, attention_dropout=0.1).network
    heard = [spectrogram_model(dropout=0.6).network.known]
    heard += [spectrogram_model(**PAPER["audio"], dropout=0.6).network]
    assert [network.dropout.p for network in (words, both, *heard)] == [0.6] * 4
    assert both.attention.dropout.p == 0.1
