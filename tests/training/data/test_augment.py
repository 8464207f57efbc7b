"""The same music in another key, at another tempo, with another touch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.data.augment import Augmentation, shift_velocity, stretch, transpose

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
    ("change", "most"), [({"transpose": 13}, 12), ({"stretch": 0.6}, 0.5), ({"velocity_shift": -1}, 8)]
)
def test_a_move_outside_its_range_is_refused(change, most):
    (name, value) = next(iter(change.items()))
    with pytest.raises(ConfigError, match=rf"{name} must be in 0\.\.{most}, found {value}"):
        Augmentation(**change)
