"""Figures that return: what they call to mind, what that weighs, and that a roll-back takes it back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge.bridge.app.testing import ScriptedEngine
from musebridge.bridge.core.answer import Answer, Notes
from musebridge.bridge.core.context import Context
from musebridge.bridge.core.recall import LONGEST, STRENGTH_KL, Figures, matches
from musebridge.bridge.core.sampling import favour
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.core.stream import Stream
from musebridge.events import NoteOff, NoteOn
from musebridge.vocab import N_TOKENS, NOTE_OFF, TIME_SHIFT, VELOCITY, StreamState

TUNE = [60, 64, 67, 72, 71]


def longest(pitches: list[int], nxt: int, *, by_interval: bool) -> int:
    """How many of the last pitches ``nxt`` has followed before, by trying all."""
    found = 0
    for i in range(1, len(pitches)):
        for length in range(1 + by_interval, min(i, LONGEST) + 1):
            there, here = [*pitches[i - length : i], pitches[i]], [*pitches[-length:], nxt]
            same = np.diff(there).tolist() == np.diff(here).tolist() if by_interval else there == here
            if same:
                found = max(found, length)
    return found


@given(st.lists(st.integers(60, 63), max_size=30))
def test_what_followed_a_match_is_called_to_mind_by_the_longest(pitches):
    exact_P, by_interval_P = matches(np.array(pitches, np.int16))
    for nxt in range(54, 70):
        assert exact_P[nxt] == longest(pitches, nxt, by_interval=False)
        assert by_interval_P[nxt] == longest(pitches, nxt, by_interval=True)


@pytest.mark.parametrize("pitches", [[127, 126, 127, 0, 127], [0, 5, 0, 5, 1, 6, 127, 0, 3]])
def test_no_pitch_outside_the_range_is_called_to_mind(pitches):
    assert matches(np.array(pitches, np.int16)).shape == (2, 128)


def test_a_tune_in_another_key_calls_its_own_end_to_mind():
    figures = Figures()
    figures.append(0, [*TUNE, 40, 41, *[pitch + 5 for pitch in TUNE[:-1]]])
    assert figures.weights().argmax() == TUNE[-1] + 5
    assert figures.weights().max() == STRENGTH_KL[1, 4]


def test_only_notes_that_begin_count():
    figures, plain = Figures(), Figures()
    noise = [VELOCITY + 3, TIME_SHIFT + 7, NOTE_OFF + 60]
    figures.append(0, [token for pitch in [*TUNE, *TUNE[:3]] for token in (*noise, pitch)])
    plain.append(0, [*TUNE, *TUNE[:3]])
    np.testing.assert_array_equal(figures.weights(), plain.weights())
    assert plain.weights().argmax() == TUNE[3]


@given(
    st.lists(st.lists(st.integers(60, 63), max_size=9), max_size=8), st.integers(0, 60), st.lists(st.integers(60, 63))
)
def test_what_is_taken_back_was_never_played(writes, position, more):
    figures, written = Figures(), []
    for tokens in writes:
        figures.append(len(written), tokens)
        figures.weights()
        written += tokens
    position = min(position, len(written))
    figures.rewind(position)
    figures.append(position, more)
    fresh = Figures()
    fresh.append(0, written[:position] + more)
    np.testing.assert_array_equal(figures.weights(), fresh.weights())


def test_of_hours_the_last_thousands_of_notes_are_remembered():
    pitches = np.random.default_rng(0).integers(0, 128, 30_000).tolist()
    figures, late = Figures(), Figures()
    for position, pitch in enumerate(pitches):
        figures.append(position, [pitch])
    remembered = len(pitches) - figures._n
    assert 8192 <= figures._n <= 2 * 8192
    late = Figures()
    late.append(remembered, pitches[remembered:])
    np.testing.assert_array_equal(figures.weights(), late.weights())
    figures.rewind(len(pitches) - 1000)
    late.rewind(len(pitches) - 1000)
    np.testing.assert_array_equal(figures.weights(), late.weights())


def test_a_copy_goes_its_own_way():
    figures = Figures()
    figures.append(0, [*TUNE, *TUNE[:2]])
    copy = figures.copy()
    copy.append(7, [TUNE[2]])
    assert figures.weights().argmax() == TUNE[2]
    assert copy.weights().argmax() == TUNE[3]


def test_pitches_are_favoured_but_notes_are_not():
    logits = np.random.default_rng(0).normal(size=N_TOKENS).astype(np.float32)
    favoured, weights = logits.copy(), np.zeros(128, np.float32)
    weights[[60, 64]] = 1.5, 0.5
    favour(favoured, weights)
    np.testing.assert_array_equal(favoured[NOTE_OFF:], logits[NOTE_OFF:])
    assert np.exp(favoured[:NOTE_OFF]).sum() == pytest.approx(np.exp(logits[:NOTE_OFF]).sum(), rel=1e-5)
    gained = (favoured - logits)[:NOTE_OFF]
    np.testing.assert_allclose(gained - gained[0], weights, atol=1e-5)


def test_what_is_forbidden_stays_so_and_the_rest_shares_its_likelihood():
    logits, weights = np.zeros(N_TOKENS, np.float32), np.zeros(128, np.float32)
    logits[:100] = -np.inf
    weights[[20, 110]] = 3.0, 1.0
    favour(logits, weights)
    assert np.isneginf(logits[:100]).all()
    assert np.exp(logits[100:NOTE_OFF]).sum() == pytest.approx(28, rel=1e-5)
    assert logits[110] - logits[111] == pytest.approx(1.0)
    logits[:NOTE_OFF] = -np.inf
    favour(logits, weights)
    assert np.isneginf(logits[:NOTE_OFF]).all()
    assert not np.isnan(logits).any()


def test_a_context_remembers_what_its_window_forgot():
    context = Context(ScriptedEngine(lambda tokens: 0, 8))
    context.append([*TUNE, *range(20, 30), *TUNE[:3]])
    assert context.figures.weights().argmax() == TUNE[3]
    context.append([TUNE[3], 100])
    context.rollback(context.position - 1)
    assert context.figures.weights().argmax() == TUNE[4]


def test_a_stream_that_goes_back_further_than_its_window_forgets_what_was_after():
    stream = Stream(ScriptedEngine(lambda tokens: 0, 16))
    for i, pitch in enumerate([*TUNE, *TUNE[:2]]):
        stream.hear(i * 0.2, NoteOn(pitch=pitch, velocity=64))
        stream.hear(i * 0.2 + 0.1, NoteOff(pitch=pitch))
    mark = stream.here(Notes())
    for i in range(20):
        stream.hear(2 + i * 0.2, NoteOn(pitch=30 + i, velocity=64))
    assert not stream.context.holds(mark.position)
    stream.go_to(mark)
    assert stream.context.figures.weights().argmax() == TUNE[2]
    stream.hear(2.0, NoteOn(pitch=TUNE[2], velocity=64))
    assert stream.context.figures.weights().argmax() == TUNE[3]


@pytest.mark.parametrize(("recall", "expected"), [(0.0, 80), (1.0, TUNE[4])])
def test_an_answer_recalls_if_it_is_asked_to(recall, expected):
    """The model likes another pitch a little better than what the tune went on with."""

    class Undecided(ScriptedEngine):
        def _logits(self) -> np.ndarray:
            logits = np.full(N_TOKENS, -20.0, np.float32)
            logits[[80, TUNE[4]]] = 1.0, 0.9
            return logits

        def prefill(self, tokens):
            super().prefill(tokens)
            return self._logits()

        def step(self, token):
            super().step(token)
            return self._logits()

    context = Context(Undecided(lambda tokens: 0, 64))
    context.append([*TUNE, 40, 41, *TUNE[:4]])
    answer = Answer(context, StreamState(), np.random.default_rng(0))
    written = answer.next(Settings(recall=recall, top_p=0.05))
    assert written is not None
    assert written.event.pitch == expected
