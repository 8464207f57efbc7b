"""The model's turn: tokens sampled from a context, one at a time, as dated events."""

from __future__ import annotations

import numpy as np

from musebridge.bridge import sampling
from musebridge.bridge.context import Context
from musebridge.bridge.settings import Settings
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.vocab import NOTE_OFF, STEPS_PER_S, TIME_SHIFT, VELOCITY, StreamState

_MAX_TOKENS_AT_ONCE = 128
"""A model that writes more at one moment is made to let time pass."""


class Answer:
    """A continuation of a context, owned by the model.

    The model may only end notes that it began, and never strikes a pitch that
    sounds already, whoever began it.

    Args:
        context: the stream so far; every token sampled is written to it.
        state: what that stream means; kept up to date here.
        rng: source of randomness; the same seed gives the same answer.
    """

    def __init__(self, context: Context, state: StreamState, rng: np.random.Generator) -> None:
        self._context, self._state, self._rng = context, state, rng
        self._own: dict[int, int] = {}  # pitch -> step at which the model struck it, oldest first
        self._at_once = 0

    def next(self, settings: Settings) -> Timed | None:
        """Write one token; return the event that it completes, if any.

        Times are seconds from the stream's origin.
        """
        token = self._overdue(settings)
        if token is None:
            token = self._sample(settings)
        self._context.append([token])
        self._at_once = 0 if TIME_SHIFT <= token < VELOCITY else self._at_once + 1
        return self._take(token)

    def close(self) -> list[Timed]:
        """End every note of the model at the present moment of the stream."""
        tokens = [NOTE_OFF + pitch for pitch in self._own]
        self._context.append(tokens)
        return [timed for timed in map(self._take, tokens) if timed]

    def _overdue(self, settings: Settings) -> int | None:
        """Return the NOTE_OFF of the oldest note if it has sounded for too long."""
        if not self._own:
            return None
        pitch, step = next(iter(self._own.items()))
        return NOTE_OFF + pitch if self._state.step - step >= settings.max_note_s * STEPS_PER_S else None

    def _sample(self, settings: Settings) -> int:
        logits_V = self._context.logits()
        sampling.mask_grammar(logits_V, sounding=self._state.sounding, releasable=self._own)
        if self._at_once >= _MAX_TOKENS_AT_ONCE:
            sampling.mask_all_but_shifts(logits_V)
        return sampling.sample(
            logits_V, self._rng, temperature=settings.temperature, top_p=settings.top_p, min_p=settings.min_p
        )

    def _take(self, token: int) -> Timed | None:
        event = self._state.apply(token)
        match event:
            case NoteOn(pitch=pitch):
                self._own[pitch] = self._state.step
            case NoteOff(pitch=pitch):
                self._own.pop(pitch, None)
            case _:
                return None
        return Timed(self._state.step / STEPS_PER_S, event)
