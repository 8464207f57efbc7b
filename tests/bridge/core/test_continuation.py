"""Notes that sound where a continuation begins are handed over to the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from musebridge.bridge.app.testing import ScriptedEngine
from musebridge.bridge.core.continuation import continue_piece, read
from musebridge.bridge.core.settings import Settings
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.vocab import BEGIN, NOTE_OFF, TIME_SHIFT, VELOCITY, velocity_bin

HELD = Timed(0.0, NoteOn(pitch=48, velocity=80))
SEED = [HELD, Timed(0.5, NoteOn(pitch=72, velocity=80)), Timed(1.0, NoteOff(pitch=72))]
READ = [BEGIN, VELOCITY + velocity_bin(80), 48, TIME_SHIFT + 49, 72, TIME_SHIFT + 49, NOTE_OFF + 72]
"""The seed as the model reads it, with the held note open."""
HALF_S = TIME_SHIFT + 49
DEFAULTS = Settings()


def continued(script: Sequence[int], settings: Settings = DEFAULTS) -> tuple[list[Timed], list[int]]:
    """Return two seconds that a model writes by a script, and time after it; and all tokens it wrote."""

    def says(tokens: Sequence[int]) -> int:
        done = len(tokens) - len(READ)
        return script[done] if 0 <= done < len(script) else HALF_S

    engine = ScriptedEngine(says)
    rng = np.random.default_rng(0)
    events = continue_piece(engine, SEED, seconds=2.0, settings=settings, rng=rng, handed_over=[HELD])
    assert engine.tokens[: len(READ)] == READ
    return events, engine.tokens[len(READ) :]


def test_the_model_reads_a_held_note_as_open() -> None:
    tokens, state = read(SEED, 1.0, [HELD])
    assert (tokens, state.sounding) == (READ, {48})
    tokens, state = read(SEED, 1.0)
    assert (tokens[-2:], state.sounding) == ([NOTE_OFF + 72, NOTE_OFF + 48], set())


def test_the_model_ends_what_was_handed_over() -> None:
    events, tokens = continued([HALF_S, NOTE_OFF + 48, 48, HALF_S, NOTE_OFF + 48])
    assert tokens[:5] == [HALF_S, NOTE_OFF + 48, 48, HALF_S, NOTE_OFF + 48]
    assert events == [
        Timed(pytest.approx(1.5), NoteOff(pitch=48)),
        Timed(pytest.approx(1.5), NoteOn(pitch=48, velocity=events[1].event.velocity)),
        Timed(pytest.approx(2.0), NoteOff(pitch=48)),
    ]


def test_a_note_that_the_model_forgets_sounds_no_longer_than_any() -> None:
    events, _ = continued([], Settings(max_note_s=2.0))  # it was struck a second before the hand-over
    assert events == [Timed(pytest.approx(2.0), NoteOff(pitch=48))]


def test_a_held_note_ends_with_the_continuation_at_the_latest() -> None:
    events, _ = continued([])
    assert events == [Timed(pytest.approx(3.0), NoteOff(pitch=48))]


def test_the_model_does_not_strike_what_it_was_handed() -> None:
    _, tokens = continued([48])
    assert tokens[0] != 48


def test_held_notes_leave_the_model_its_voices_and_keep_their_own_pitch() -> None:
    settings = Settings(polyphony=1, transpose=12, channel=3)
    events, _ = continued([72, HALF_S, NOTE_OFF + 48, NOTE_OFF + 72], settings)
    assert [(timed.time_s, type(timed.event), timed.event.pitch, timed.event.channel) for timed in events] == [
        (pytest.approx(1.0), NoteOn, 84, 2),
        (pytest.approx(1.5), NoteOff, 48, 0),
        (pytest.approx(1.5), NoteOff, 84, 2),
    ]
