"""Recordings in other conditions: what was asked for is what is heard, and always the same."""

import unicodedata
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from small_speech import save_recogniser

from common import conditions
from common.conditions import change_recordings, in_condition, mishear, name_folder
from common.data import load_data
from common.ranges import SOUNDS, find_rule

EVERY = ("noise:10", "noise:0", "telephone", "room", "mp3:32", "mp3:64", "clipping", "level:-20")
EVERY += ("tempo:1.1", "tempo:.9")
ROWS = range(6)


@pytest.fixture(scope="module")
def train(data):
    return load_data(data, "train")


def decibels(wave):
    return 10 * np.log10(np.square(wave.astype(float)).mean())


def spectrum(samples):
    """Power and the frequency of each of its bins."""
    wave = samples * np.hanning(len(samples))
    return np.square(np.abs(np.fft.rfft(wave))), np.fft.rfftfreq(len(samples), 1 / 16_000)


@pytest.mark.parametrize("condition", EVERY)
def test_a_recording_is_changed_the_same_way_every_time(train, condition):
    first, again = change_recordings(train, condition), change_recordings(train, condition)
    part = first.select(train.sessions == 2)  # whatever else is read
    for row in ROWS:
        samples = first.samples(row)
        assert samples.dtype == np.int16 and len(samples) == first.sample_counts[row]
        assert not np.array_equal(samples, train.samples(row))
        assert np.array_equal(samples, again.samples(row))
    place = np.flatnonzero(train.ids == part.ids[3])[0]
    assert np.array_equal(part.samples(3), first.samples(place))


@pytest.mark.parametrize("condition", ["noise:10", "room"])
def test_what_is_drawn_is_the_seeds_and_the_rows(train, condition):
    first, other = change_recordings(train, condition, 1), change_recordings(train, condition, 2)
    assert not np.array_equal(first.samples(0), other.samples(0))
    assert first.change.key != other.change.key
    twin = train.table.copy()  # the same recording under two IDs
    for name in ("first_sample", "sample_count"):
        twin.loc[1, name] = twin.loc[0, name]
    twins = change_recordings(replace(train, table=twin), condition, 1)
    assert not np.array_equal(twins.samples(0), twins.samples(1))


@pytest.mark.parametrize("asked", [20, 10, 0, -5])
def test_the_babble_lies_so_far_below_the_recording(train, asked):
    change = change_recordings(train, f"noise:{asked}").change
    for row in ROWS:
        clean = train.samples(row) // 8  # so that both together fit
        noise = change.apply(clean, train.ids[row], train.speakers[row]) - clean
        assert decibels(clean) - decibels(noise) == pytest.approx(asked, abs=0.02)


def test_what_is_too_loud_with_the_babble_is_not_clipped(train):
    loud = conditions.change_level(train.samples(0), 12)
    change = change_recordings(train, "noise:-5").change
    heard = change.apply(loud, train.ids[0], train.speakers[0])
    assert np.mean(np.abs(heard.astype(int)) > 32_700) < 0.001


def test_the_babble_is_of_other_speakers_and_of_these_rows_alone(train, monkeypatch):
    heard, read = change_recordings(train, "noise:10"), []
    plain = type(train).samples

    def samples(self, row):
        if self.change is None:
            read.append((self.speakers[row], self.ids[row]))
        return plain(self, row)

    monkeypatch.setattr(type(train), "samples", samples)
    for row in range(len(train)):
        read.clear()
        heard.samples(row)
        assert len({name for _, name in read}) == conditions.VOICES
        assert train.speakers[row] not in {speaker for speaker, _ in read}
        assert {name for _, name in read} <= set(train.ids)
    one = train.select(train.speakers == train.speakers[0])
    assert not np.array_equal(change_recordings(one, "noise:10").samples(0), one.samples(0))


def test_the_babble_of_other_rows_has_a_cache_of_its_own(train):
    some = train.select(train.sessions == 1)
    keys = [change_recordings(rows, "noise:10").change.key for rows in (train, some)]
    assert keys[0] != keys[1]
    assert len({str(change_recordings(train, each).change.key) for each in EVERY}) == len(EVERY)


def test_a_telephone_transmits_nothing_above_four_kilohertz(train):
    heard = change_recordings(train, "telephone")
    for row in ROWS:
        power, hertz = spectrum(heard.samples(row))
        before, _ = spectrum(train.samples(row))
        assert power[hertz > 4000].sum() < 1e-5 * power.sum()
        assert before[hertz > 4000].sum() > 1e-3 * before.sum()  # there was something
        voice = (hertz > 500) & (hertz < 3000)
        assert 0.7 < power[voice].sum() / before[voice].sum() < 1.3


def test_a_telephone_has_the_steps_of_mu_law():
    """A quiet tone is some 38 dB above their noise, as a loud one."""
    for size in (300, 10_000):
        tone = size * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
        power, hertz = spectrum(conditions.telephone(tone.astype(np.int16))[2_000:-2_000])
        is_tone = abs(hertz - 1000) < 20
        assert 30 < 10 * np.log10(power[is_tone].sum() / power[~is_tone].sum()) < 46


def test_the_direct_sound_comes_first_and_the_echo_decays():
    click = np.zeros(16_000, np.int16)
    click[4_000] = 30_000
    heard = conditions.add_echo(click, np.random.default_rng(0)).astype(float)
    assert np.abs(heard[:3_999]).max() <= 1 and heard.argmax() == 4_000
    assert not heard[4_001:4_030].any()
    early, late = decibels(heard[4_100:4_900]), decibels(heard[7_300:8_100])  # .2 s later
    assert early - late == pytest.approx(24, abs=2)  # 60 dB in half a second
    assert np.square(heard[4_001:]).sum() == pytest.approx(heard[4_000] ** 2, rel=0.05)


@pytest.mark.parametrize("rate", [16, 32, 64, 128])
def test_a_coded_recording_is_no_later_than_the_clean_one(train, rate):
    heard = change_recordings(train, f"mp3:{rate}")
    for row in ROWS:
        clean, coded = train.samples(row).astype(float), heard.samples(row).astype(float)
        shifts = range(-5, 6)
        found = [np.corrcoef(clean[10:-10], np.roll(coded, by)[10:-10])[0, 1] for by in shifts]
        assert shifts[int(np.argmax(found))] == 0 and max(found) > 0.9


def test_a_lower_rate_leaves_less(train):
    def loss(rate):
        return decibels(change_recordings(train, f"mp3:{rate}").samples(2) - train.samples(2) * 1.0)

    assert loss(16) > loss(32) > loss(96)


def test_a_tenth_of_the_samples_clips(train):
    heard = change_recordings(train, "clipping")
    for row in ROWS:
        samples = heard.samples(row)
        assert np.mean((samples == -32_768) | (samples == 32_767)) == pytest.approx(0.1, abs=0.01)
        assert (np.sign(samples) == np.sign(train.samples(row))).mean() > 0.99
    padded = np.concatenate([np.zeros(500_000, np.int16), train.samples(0)])
    assert np.array_equal(conditions.clip(padded)[500_000:], heard.samples(0))


@pytest.mark.parametrize("asked", [-20, -6, 1])
def test_the_level_is_exact(train, asked):
    heard = change_recordings(train, f"level:{asked}")
    for row in ROWS:
        found = decibels(heard.samples(row)) - decibels(train.samples(row))
        assert found == pytest.approx(asked, abs=0.02)


@pytest.mark.parametrize("tempo", [0.9, 1.1])
def test_the_tempo_changes_and_the_pitch_does_not(train, tempo):
    heard = change_recordings(train, f"tempo:{tempo}")
    np.testing.assert_allclose(heard.sample_counts, train.sample_counts / tempo, atol=0.5)
    tone = (9000 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)).astype(np.int16)
    power, hertz = spectrum(conditions.change_tempo(tone, tempo)[4_000:-4_000])
    assert hertz[power.argmax()] == pytest.approx(440, abs=2)


@pytest.mark.parametrize("condition", EVERY)
@pytest.mark.parametrize("count", [1, 40, 400])
def test_a_click_and_silence_have_every_condition(train, condition, count):
    change = change_recordings(train, condition).change
    for size in (0, 1, 32_767):
        samples = np.full(count, size, np.int16)
        heard = change.apply(samples, "an ID", train.speakers[0])
        assert heard.dtype == np.int16 and len(heard) == max(1, round(count / change.tempo))
        assert size or not heard.any()  # silence has no level that noise could lie below


def test_a_recognisers_words_take_the_place_of_the_transcripts(data, tmp_path):
    """In the corpus' own style; each is recognised once."""
    name, test = save_recogniser(tmp_path), load_data(data, "test")
    asked = []

    def clean(text, style):
        asked.append((text, style))
        return f"<{text}>"

    heard = in_condition(test, f"asr:{name}", clean)
    from common.transcribing import load_recogniser

    transcribe = load_recogniser(name)
    expected = [transcribe(test.samples(row)) for row in range(len(test))]
    assert len(set(expected)) > 1 and asked == [(text, "spoken") for text in expected]
    assert heard.table["text"].tolist() == [f"<{text}>" for text in expected]
    assert np.array_equal(heard.samples(0), test.samples(0)) and heard.change is None
    assert in_condition(test, "", clean) is test


@pytest.mark.parametrize("syllable", ["값", "너"])  # with a final and without
def test_a_share_of_the_syllables_is_misheard(syllable):
    """Each of five ways as often; all else stays."""

    def jamo(letter):
        return [*unicodedata.normalize("NFD", letter), ""][:3]

    count, clean = 20_000, jamo(syllable)
    heard = mishear(f"{syllable}{syllable} " * (count // 2), 0.2, np.random.default_rng(1))
    syllables = heard.replace(" ", "")
    other = [jamo(each) for each in syllables if each != syllable]
    places = [[own != now for own, now in zip(clean, each, strict=True)] for each in other]
    assert all(sum(each) == 1 for each in places)
    expected = pytest.approx(0.2 / 5 * count, rel=0.15)
    assert [sum(column) for column in zip(*places, strict=True)] == [expected] * 3
    assert count - len(syllables) == expected
    words = Counter(map(len, heard.split()))
    assert words[1] > 2 * 0.04 * count / 2 and words[3] + words[4] > 0.03 * count / 2
    for place, many in enumerate((18, 20, 27)):  # every other jamo of the place
        assert len({each[place] for each in other} - {clean[place]}) == many
    kept = "OK, 3/4 ㅋㅋ (A+B)!"
    assert mishear(kept, 1.0, np.random.default_rng(1)) == kept


def test_what_is_misheard_is_the_rows_own_and_cleaned_again(data):
    test = load_data(data, "test")
    twins = replace(test, table=test.table.assign(text="오늘은 정말 기분이 좋아요."))
    heard = in_condition(twins, "words:.4", lambda text, style: f"{style} {text}").table["text"]
    assert heard.nunique() == len(test) and heard.str.startswith("spoken ").all()
    again = in_condition(twins.select(test.ids > test.ids[3]), "words:.4", lambda text, _: text)
    assert [f"spoken {text}" for text in again.table["text"]] == heard[4:].tolist()
    assert again.change is None


def test_every_condition_has_a_folder_of_its_own():
    words = ("asr:openai/whisper-base", "asr:openai_whisper-base", "words:.2", "words:0.02")
    names = {name_folder(each) for each in (*EVERY, *words, "level:20")}
    assert len(names) == len(EVERY) + 5 and {"noise_10", "words_.2"} <= names


@pytest.mark.parametrize("script", ["audio_test", "text_test", "run_classifier"])
def test_a_script_takes_the_conditions_that_its_model_has(script):
    rule = find_rule(script, "condition")
    for each in EVERY:
        assert rule.allows(each) == (script != "text_test")
    for each in ("asr:a/b", "words:.2", "words:1"):
        assert rule.allows(each) == (script != "audio_test")
    assert rule.allows("")
    wrong = ("noise", "noise:", "noise:99", "noise:ten", "noise:nan", "room:1", "rooms", "mp3:8")
    wrong += ("words", "words:0", "words:1.5")
    for each in (*wrong, "asr:", "asr:a b", "level:1e1", "telephone:", "tempo:0", " room"):
        assert not rule.allows(each), each
    assert set(SOUNDS) == {each.partition(":")[0] for each in EVERY}
