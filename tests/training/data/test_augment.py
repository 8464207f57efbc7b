"""The same music in another key, at another tempo, with another touch, and with a passage that returns."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.training.data.augment import Augmentation, recur, repeat, shift_velocity, stretch, transpose

NOTE, SHIFT_1S = 60, vocab.TIME_SHIFT + 99


def moments(tokens) -> list[tuple[int, int]]:
    """Every token that is no shift, and the grid step at which it stands."""
    step, found = 0, []
    for token in np.asarray(tokens).tolist():
        if vocab.TIME_SHIFT <= token < vocab.VELOCITY:
            step += token - vocab.TIME_SHIFT + 1
        else:
            found.append((token, step))
    return found


@given(
    st.lists(st.integers(0, vocab.N_TOKENS - 1), max_size=30).map(lambda rows: np.array(rows, np.int64)),
    st.integers(-12, 12),
)
def test_transposition_moves_all_notes_alike_and_nothing_else(tokens, semitones):
    moved = transpose(tokens, semitones)
    kinds = [vocab.describe(int(t)).split()[0] for t in tokens]
    assert [vocab.describe(int(t)).split()[0] for t in moved] == kinds
    is_note = np.array([kind in ("NOTE_ON", "NOTE_OFF") for kind in kinds], bool)
    np.testing.assert_array_equal(moved[~is_note], tokens[~is_note])
    by = set((moved - tokens)[is_note].tolist())
    pitches = tokens[is_note] % 128
    if len(pitches):
        assert by == {max(-int(pitches.min()), min(semitones, 127 - int(pitches.max())))}


canonical = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 320)), max_size=40).map(
    lambda rows: np.array([t for token, gap in rows for t in [*vocab.shift_tokens(gap), token]], np.int64)
)


@given(canonical, st.floats(0.5, 1.5))
def test_stretching_multiplies_every_moment_and_keeps_every_event(tokens, factor):
    stretched = stretch(tokens, factor)
    assert moments(stretched) == [(token, round(step * factor)) for token, step in moments(tokens)]
    rebuilt, at = [], 0
    for token, step in moments(stretched):
        rebuilt += [*vocab.shift_tokens(step - at), token]
        at = step
    assert stretched.tolist() == rebuilt


@given(canonical)
def test_a_factor_of_one_changes_nothing(tokens):
    np.testing.assert_array_equal(stretch(tokens, 1.0), tokens)


def test_time_after_the_last_event_is_left_out():
    assert stretch(np.array([NOTE, SHIFT_1S, SHIFT_1S]), 1.0).tolist() == [NOTE]
    assert stretch(np.array([SHIFT_1S]), 1.0).tolist() == []


def test_a_velocity_shift_stays_within_the_softest_and_the_loudest():
    tokens = np.array([vocab.VELOCITY, vocab.VELOCITY + 16, vocab.VELOCITY + 31, NOTE, vocab.BEGIN])
    assert shift_velocity(tokens, 2).tolist() == [
        vocab.VELOCITY + 2,
        vocab.VELOCITY + 18,
        vocab.VELOCITY + 31,
        NOTE,
        vocab.BEGIN,
    ]
    assert (shift_velocity(tokens, -1) - tokens).tolist() == [0, -1, -1, 0, 0]


def test_a_window_has_its_length_whatever_is_done_to_it():
    rng = np.random.default_rng(0)
    music = np.array([NOTE, vocab.TIME_SHIFT, vocab.NOTE_OFF + NOTE, vocab.TIME_SHIFT + 30] * 100)
    augmentation = Augmentation(transpose=5, stretch=0.2, velocity_shift=2)
    given_tokens = music[: augmentation.needed(200)]
    windows = [augmentation.apply(given_tokens, 200, rng) for _ in range(50)]
    assert {window.shape for window in windows} == {(200,)}
    assert {window[0] - NOTE for window in windows} == set(range(-5, 6))
    assert len({moments(window)[-1][1] for window in windows}) > 20


def test_a_window_that_stretching_would_leave_too_short_keeps_its_tempo():
    rests = np.full(20, SHIFT_1S)
    window = Augmentation(stretch=0.1).apply(rests, 20, np.random.default_rng(0))
    assert window.tolist() == rests.tolist()


@pytest.mark.parametrize(
    ("change", "most"),
    [({"transpose": 13}, 12), ({"stretch": 0.6}, 0.5), ({"velocity_shift": -1}, 8), ({"repeat": 1.1}, 1)],
)
def test_a_move_outside_its_range_is_refused(change, most):
    (name, value) = next(iter(change.items()))
    with pytest.raises(ConfigError, match=rf"{name} must be in 0\.\.{most}, found {value}"):
        Augmentation(**change)


# A passage returns


@st.composite
def music(draw) -> np.ndarray:
    """Tokens of some notes, as the codec writes them; they may begin within a note."""
    rows = draw(st.lists(st.tuples(st.integers(0, 150), st.integers(55, 64), st.integers(1, 120), st.integers(1, 127))))
    events, now = [], 0
    for gap, pitch, lasts, velocity in rows:
        now += gap
        events.append(Timed(now / 100, NoteOn(pitch=pitch, velocity=velocity)))
        events.append(Timed((now + lasts) / 100, NoteOff(pitch=pitch)))
    tokens = vocab.encode(sorted(events, key=lambda timed: timed.time_s))
    return np.array(tokens[draw(st.integers(0, len(tokens) // 2)) :], np.int64)


places = st.tuples(*[st.integers(0, 120)] * 3).map(sorted)


def onsets(tokens) -> list[tuple[int, int]]:
    """Pitch and grid step of each note."""
    return [(token, step) for token, step in moments(tokens) if token < vocab.NOTE_OFF]


def test_a_passage_returns_in_another_key_and_the_music_goes_on():
    on, off, velocity, shift = vocab.NOTE_ON, vocab.NOTE_OFF, vocab.VELOCITY, vocab.TIME_SHIFT - 1
    passage = [velocity + 16, on + 60, shift + 20, off + 60, velocity + 20, on + 62]
    between = [shift + 50, off + 62, on + 65]
    after = [shift + 10, on + 69, shift + 10, off + 69, shift + 80, off + 65]
    again = repeat(
        np.array([*passage, *between, *after]), 0, len(passage), len(passage) + len(between), semitones=5, bins=-4
    )
    assert again.tolist() == [
        *[*passage, *between],
        *[shift + 10, off + 65, velocity + 12, on + 65, shift + 20, off + 65, velocity + 16, on + 67],
        *[shift + 50, off + 67, velocity + 20, on + 69, shift + 10, off + 69],
    ]


@given(music(), places, st.integers(-7, 7), st.floats(0.9, 1.1))
def test_a_passage_comes_between_what_was_before_and_what_came_after(tokens, places, semitones, factor):
    events = moments(tokens)
    last_step = events[-1][1] if events else 0

    def step_of(place: int) -> float:
        """When the first event from this place on is; never, if there is none."""
        n_before = len([token for token in tokens[:place] if token < vocab.TIME_SHIFT])
        steps = [step for token, step in events if token < vocab.TIME_SHIFT][n_before:]
        return steps[0] if steps else math.inf

    start, end, at = map(step_of, places)
    begin_step, end_step, now = (min(step, last_step) for step in (start, end, at))
    lasts = round((end_step - begin_step) * factor)
    notes = onsets(tokens)
    again = [(p + semitones, now + round((s - begin_step) * factor)) for p, s in notes if start <= s < end]
    before, after = [(p, s) for p, s in notes if s < at], [(p, s + lasts * bool(again)) for p, s in notes if s >= at]
    assert onsets(repeat(tokens, *places, semitones=semitones, factor=factor)) == before + again + after


@given(music(), places, st.integers(-7, 7), st.integers(-3, 3), st.floats(0.9, 1.1))
def test_music_in_which_a_passage_returns_is_as_the_codec_writes_music(tokens, places, semitones, bins, factor):
    again = repeat(tokens, *places, semitones=semitones, bins=bins, factor=factor)
    state, velocity_is_due, shift = vocab.StreamState(), False, 0
    for token in again.tolist():
        assert token not in state.sounding, "struck while it sounds"
        assert not velocity_is_due or token < vocab.NOTE_OFF, "a velocity is written just before its note"
        velocity_is_due = token >= vocab.VELOCITY
        assert not velocity_is_due or token - vocab.VELOCITY != state.velocity_bin, (
            "a velocity is written where it changes"
        )
        is_shift = vocab.TIME_SHIFT <= token < vocab.VELOCITY
        assert not (is_shift and shift) or shift == SHIFT_1S, "a long time is whole seconds and a rest"
        shift = token if is_shift else 0
        state.apply(token)
    assert not shift, "no time after the last event"


def test_what_sounds_where_the_music_is_cut_ends_half_a_second_later():
    on, off, shift = vocab.NOTE_ON, vocab.NOTE_OFF, vocab.TIME_SHIFT - 1
    held = np.array(
        [on + 40, shift + 10, on + 60, shift + 90, off + 60, shift + 10, on + 70, shift + 100, off + 70, off + 40]
    )
    again = moments(repeat(held, 1, 5, 6))
    assert again == [
        *[(on + 40, 0), (on + 60, 10), (off + 60, 100)],
        *[(on + 60, 110), (off + 40, 160), (off + 60, 200), (on + 70, 210), (off + 70, 310)],
    ]


@given(music(), st.integers(0, 200))
def test_an_empty_passage_changes_nothing(tokens, place):
    np.testing.assert_array_equal(repeat(tokens, place, place, place, semitones=3), stretch(tokens, 1.0))


def test_a_passage_returns_within_its_piece_and_its_window():
    fifty = np.array([[pitch, vocab.TIME_SHIFT + 9, vocab.NOTE_OFF + pitch] for pitch in range(30, 80)]).ravel()
    two_pieces = np.concatenate([fifty[:90], [vocab.BEGIN], fifty, fifty])
    seen = set()
    for seed in range(40):
        window = recur(two_pieces, 360, np.random.default_rng(seed))
        assert window[:91].tolist() == two_pieces[:91].tolist()
        assert len(window) >= 360
        rows = [pitch for pitch, _ in onsets(window[91:360])]
        seen.add(tuple(rows))
    assert len(seen) > 30
    assert tuple([*range(30, 80)] * 2)[:90] not in seen


def test_a_window_too_short_for_a_passage_stays_as_it_is():
    short = np.array([NOTE, vocab.TIME_SHIFT + 9, vocab.NOTE_OFF + NOTE] * 39)
    assert recur(short, 117, np.random.default_rng(0)).tolist() == short.tolist()


def test_as_many_windows_as_asked_for_have_a_passage_that_returns():
    pitches = np.random.default_rng(1).integers(30, 90, 100)
    music = np.array([[pitch, vocab.TIME_SHIFT + 9, vocab.NOTE_OFF + pitch] for pitch in pitches]).ravel()
    rng = np.random.default_rng(2)
    windows = [Augmentation(repeat=0.2).apply(music, 300, rng).tolist() for _ in range(500)]
    assert sum(window != music.tolist() for window in windows) == pytest.approx(100, abs=30)
    assert {len(window) for window in windows} == {300}
