"""The stream of tokens that player and model share, on the clock, and the undo log of an answer.

The stream counts time in steps from its origin; the origin is a moment in
monotonic seconds, and moves where the stream leaves time out or falls behind.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from musebridge.bridge.core.answer import Notes
from musebridge.bridge.core.context import Context, Engine
from musebridge.bridge.core.scheduler import Scheduled
from musebridge.events import Event
from musebridge.vocab import BEGIN, LONGEST_REST_S, STEPS_PER_S, Encoder, KeyState, StreamState, shift_tokens, to_step

_LONGEST_UNDO = 1024
"""Events that can be undone: more than are ever written ahead, and all that an answer keeps in memory."""
_ROUNDING_S = 1e-4


@dataclass(frozen=True, slots=True)
class Mark:
    """The stream behind one event of an answer, to come back to.

    Attributes:
        token: that completed the event.
        event: what sounds; None where the undo log begins.
    """

    position: int
    token: int
    origin_s: float
    state: StreamState
    notes: Notes
    event: Scheduled | None


class Stream:
    """Tokens with their time; writing costs nothing, as ``context`` reads later.

    Args:
        engine: reads; its cache is cleared.
    """

    def __init__(self, engine: Engine) -> None:
        self.context = Context(engine)
        self._encoder = Encoder()
        self._origin_s: float | None = None
        self._undo_log: deque[Mark] = deque(maxlen=_LONGEST_UNDO)

    @property
    def state(self) -> StreamState:
        """What the stream means at its end: one object for good; whoever writes keeps it up to date."""
        return self._encoder.state

    @property
    def key_state(self) -> KeyState:
        """What the player holds."""
        return self._encoder.key_state

    # Writing

    def would_write(self, event: Event) -> bool:
        """Return whether an event of the player adds anything."""
        return self._encoder.would_write(event)

    def hear(self, now_s: float, event: Event) -> None:
        """Write an event of the player."""
        self.catch_up(now_s)
        self.context.append(self._encoder.feed(self._time_s(now_s), event))

    def catch_up(self, now_s: float) -> None:
        """Make the stream ready for an event now: open it, or shorten a long rest before it."""
        if self._origin_s is None:
            self.context.append([BEGIN])
            self._origin_s = now_s
        self.shift(max(0.0, now_s - self.end_s - LONGEST_REST_S))

    def rest_until(self, moment_s: float) -> None:
        """Let time pass to a moment, exactly: the stream's steps are coarser."""
        self.context.append(self._encoder.advance(self._time_s(moment_s)))
        self.shift(moment_s - self.end_s)

    def prefetch_rest(self, moment_s: float) -> None:
        """Read ahead the rest up to a moment, in case :meth:`rest_until` comes next."""
        self.context.prefetch(shift_tokens(max(0, self.step_at(moment_s) - self.state.step)))

    def end_others(self, now_s: float) -> None:
        """End every note that is not the player's."""
        self.context.append(self._encoder.release_others(self._time_s(now_s)))

    # Time

    @property
    def end_s(self) -> float:
        """When the end of the stream sounds, in monotonic seconds."""
        return self.due_s(self.state.step / STEPS_PER_S)

    def due_s(self, time_s: float) -> float:
        """Return when something sounds that is ``time_s`` from the origin, in monotonic seconds."""
        return (self._origin_s or 0.0) + time_s

    def step_at(self, moment_s: float) -> int:
        """Return the step nearest to a moment in monotonic seconds."""
        return to_step(self._time_s(moment_s))

    def next_step_s(self, moment_s: float) -> float:
        """Return when another step than that of a moment begins to be the nearest."""
        return self.due_s((self.step_at(moment_s) + 0.5) / STEPS_PER_S) + _ROUNDING_S

    def shift(self, by_s: float) -> None:
        """Let what is written from now on sound later."""
        self._origin_s = self.due_s(by_s)

    def _time_s(self, moment_s: float) -> float:
        return moment_s - (self._origin_s or 0.0)

    # The undo log

    @property
    def can_rewind(self) -> bool:
        """Whether there is a mark to rewind to."""
        return bool(self._undo_log)

    def here(self, notes: Notes, event: Scheduled | None = None) -> Mark:
        """Return where the stream is now, behind an event; ``notes`` are the model's."""
        position, token = self.context.position, self.context.last
        return Mark(position, token, self.due_s(0.0), self.state.copy(), notes.copy(), event)

    def remember(self, notes: Notes, event: Scheduled) -> None:
        """Add an event that was pushed to the undo log."""
        self._undo_log.append(self.here(notes, event))

    def mark(self, notes: Notes) -> None:
        """Let the undo log begin here: nothing before can be undone."""
        self._undo_log.clear()
        self._undo_log.append(self.here(notes))

    def clear_undo_log(self) -> None:
        """Forget the undo log."""
        self._undo_log.clear()

    def rewind(self, count: int) -> tuple[Notes, list[Mark]]:
        """Go back to before the last ``count`` events; return the model's notes there, and what was undone."""
        undone = [self._undo_log.pop() for _ in range(min(count, len(self._undo_log) - 1))]
        self.go_to(self._undo_log[-1])
        return self._undo_log[-1].notes, undone[::-1]

    def has_beyond(self, moment_s: float) -> bool:
        """Return whether the last event that can be undone sounds after a moment."""
        return self.latest_due_s > moment_s + _ROUNDING_S

    @property
    def latest_due_s(self) -> float:
        """When the last event that can be undone sounds, in monotonic seconds; long ago if there is none."""
        event = self._undo_log[-1].event if self._undo_log else None
        return event.due_s if event else -math.inf

    def go_to(self, mark: Mark) -> None:
        """Go back to a mark, once."""
        if self.context.holds(mark.position):
            self.context.rollback(mark.position)
        else:  # the window has nothing of what was before
            self.context.clear()
            self.context.figures.rewind(mark.position)
            self.context.append([BEGIN])
        self._encoder.state.restore(mark.state)
        # What rang under the player's pedal until the model struck it rings again.
        self.key_state.ringing |= self.state.sounding - self.key_state.held - set(mark.notes.open)
        self._origin_s = mark.origin_s
