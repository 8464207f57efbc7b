"""The model's side: the one writer of the stream that player and model share, and of what is to sound of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from musebridge.bridge.core.answer import Answer, Notes
from musebridge.bridge.core.context import Engine
from musebridge.bridge.core.harmony import KeyFinder, chord_of
from musebridge.bridge.core.quantise import Quantiser
from musebridge.bridge.core.scheduler import Outbox, Scheduled
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.core.stream import Mark, Stream
from musebridge.bridge.core.tempo import Meter
from musebridge.events import Event, NoteOn, Timed

_LATE_S = 0.02
"""A note-on later than this moves the rest of the answer back, so it keeps its rhythm; on a grid it is left out."""
_SOON_S = 0.05
"""What is due so soon stays when the player's event is woven in: reading that takes some 5 ms, and each token that
is written again 2 or 3, so a chord would end late."""
_SLICE = 16
"""Tokens that are read in one piece of work, some 5 ms: so long may a player who interrupts have to wait."""


class Performer:
    """Writes what the player does and what the model answers into one stream, and sends the model's part.

    Nothing else writes the stream, so what it means and what sounds never part.

    Args:
        engine: reads tokens and gives logits; its cache is cleared.
        outbox: takes the model's events with their due times.
        rng: source of randomness for every answer.
        publish: called with a topic and what is new: ``state``, ``key`` or ``chord``.
    """

    def __init__(self, engine: Engine, outbox: Outbox, rng: np.random.Generator, publish: Callable[..., None]) -> None:
        self.stream = Stream(engine)
        self._outbox, self._rng, self._publish = outbox, rng, publish
        self._answer: Answer | None = None
        self._latest: Answer | None = None  # that, or the one before, whose last notes may not have sounded yet
        self._seed: Mark | None = None
        self._is_woven = False  # whether the player has joined the answer
        self._finder = KeyFinder()
        self.doubtful: set[tuple[int, int]] = set()
        """Channel and pitch of keys that may be down: the model does not strike them."""
        self.offset_s = 0.0
        """How much earlier than it sounds an event is to leave, where it is known in time."""

    @property
    def answering(self) -> bool:
        """Whether the model is writing an answer."""
        return self._answer is not None

    @property
    def is_busy(self) -> bool:
        """Whether there is more to read before anything can be written, or a window to make room in."""
        return bool(self.stream.context.unread) or self.stream.context.nearly_full

    def read(self) -> bool:
        """Read a little of what was written; return whether all of it is read."""
        self.stream.context.read(_SLICE)
        return not self.stream.context.unread

    def make_room(self) -> bool:
        """Read a little of the newer half again where the window is nearly full; return whether it is."""
        if self.stream.context.nearly_full:
            self.stream.context.prepare(_SLICE)
            return True
        return False

    # The player

    def hear(self, now_s: float, event: Event) -> bool:
        """Write an event of the player; return whether it was woven into an answer."""
        if self._latest is not None and self.stream.would_write(event):
            self._weave_in(now_s, event, self._latest)
            return True
        self._hear(now_s, event)
        return False

    def _hear(self, now_s: float, event: Event) -> None:
        self.stream.hear(now_s, event)
        if isinstance(event, NoteOn):
            self._seed = None
            self._finder.hear(event.pitch)
            self._publish("chord", chord_of(self.stream.key_state.held) or "")

    def _weave_in(self, now_s: float, event: Event, answer: Answer) -> None:
        """Let the player's event into an answer that goes on.

        What was not played yet is written anew, but for what is due soon, and for the end of an answer that is
        written. That stays, behind the player's event, as far as it still has a meaning.
        """
        until_s = math.inf if self._answer is None else now_s + _SOON_S
        answer.notes, undone = self.stream.rewind(self._outbox.withdraw())
        if isinstance(event, NoteOn) and (struck := answer.notes.open.pop(event.pitch, None)):
            self._outbox.release(Scheduled(now_s, struck.release))
        self._hear(now_s, event)
        self.stream.mark(answer.notes)
        self._is_woven = True
        for mark in undone:
            self._play_again(now_s, answer, mark, until_s)
        answer.rest_until = self.stream.step_at(now_s + _SOON_S)

    def _play_again(self, now_s: float, answer: Answer, mark: Mark, until_s: float) -> None:
        if mark.event and mark.event.due_s < until_s:
            step = self.stream.step_at(mark.event.due_s)
            if answer.repeat(step, mark.token, mark.state.velocity_bin, mark.event.event):
                self._push(now_s, answer, mark.event)

    # The answer

    def begin(self, now_s: float, start_s: float, *, at_once: bool, weaves: bool) -> None:
        """Begin an answer at a moment that is near.

        Args:
            now_s: the present.
            start_s: when it begins.
            at_once: with a note, not with a rest.
            weaves: whether events of the player before the first note are woven in.
        """
        self.end(now_s, "interrupted")  # the last notes of the one before
        self.stream.catch_up(now_s)
        self._ask()
        self.stream.rest_until(start_s)
        self._begin(at_once=at_once, weaves=weaves)

    def retry(self, now_s: float, *, weaves: bool) -> bool:
        """Take the last answer back and begin another; return False where that cannot be done any more."""
        if self._seed is not None:
            self.end(now_s, "stopped")
        if self._seed is None or not self.stream.context.holds(self._seed.position):
            return False
        self.stream.go_to(self._seed)
        self.stream.shift(now_s - self.stream.end_s)
        self._ask()
        self._begin(at_once=False, weaves=weaves)
        return True

    def _ask(self) -> None:
        self._seed = self.stream.here(Notes())
        self.stream.mark(Notes())

    def _begin(self, *, at_once: bool, weaves: bool) -> None:
        key, stream = self._finder.key(), self.stream
        self._is_woven = False
        self._answer = self._latest = Answer(
            stream.context,
            stream.state,
            self._rng,
            key=key,
            at_once=at_once,
            ringing=stream.key_state.ringing,
            doubtful=self.doubtful,
        )
        if weaves:  # what is woven in before the first note does not move its moment
            stream.mark(self._answer.notes)
        self._publish("key", str(key or ""))
        self._publish("state", "answering")

    def write(self, now_s: float, settings: Settings, meter: Meter | None, end_s: float) -> None:
        """Write one token of the answer.

        Args:
            now_s: the present.
            settings: the parameters that hold now.
            meter: where the beats are that the answer keeps to; None if to none.
            end_s: when it ends.
        """
        assert self._answer is not None
        lines = settings.lines if meter else None
        if meter is None or lines is None:
            self._answer.quantiser = None
        else:
            origin_s, grid = self.stream.due_s(0.0), meter.grid(now_s)
            self._answer.quantiser = Quantiser(lines=lines, grid=grid, origin_s=origin_s, now_s=now_s, end_s=end_s)
        timed = self._answer.next(settings)
        if timed is not None:
            self._schedule(now_s, self._answer, timed, on_grid=meter is not None)

    def _schedule(self, now_s: float, answer: Answer, timed: Timed, *, on_grid: bool) -> None:
        late_s = now_s - self.stream.due_s(timed.time_s)
        if late_s > _LATE_S and isinstance(timed.event, NoteOn):
            if on_grid:
                return  # its note-off finds nothing to end
            self.stream.shift(late_s)
        self._push(now_s, answer, Scheduled(self.stream.due_s(timed.time_s), timed.event))

    def _push(self, now_s: float, answer: Answer, scheduled: Scheduled) -> None:
        """Let an event sound when it is due, for which it leaves earlier, but not before now or what was pushed last.

        That keeps the undo log in the order in which events leave, also where a quantised answer's grid moves.
        """
        scheduled = replace(scheduled, due_s=max(scheduled.due_s, self.stream.latest_due_s))
        early = scheduled
        if self.offset_s:
            early = replace(scheduled, due_s=max(now_s, scheduled.due_s - self.offset_s))
        self._outbox.push(early)
        self.stream.remember(answer.notes, scheduled)

    def take_back(self) -> None:
        """Take an answer back that has not begun to sound."""
        assert self._answer is not None
        notes, _ = self.stream.rewind(self._outbox.withdraw())
        if self._seed is not None and not self._is_woven and not notes.open:
            self.stream.go_to(self._seed)
        self.stream.clear_undo_log()
        self._answer = self._latest = None
        self._publish("state", "listening")

    def close(self, now_s: float, end_s: float) -> None:
        """End the answer's notes at a moment: it is written. What was written beyond is left out."""
        self._end_notes(now_s, max(now_s, end_s))
        self._answer = None
        self._publish("state", "listening")

    def trim(self, now_s: float, end_s: float) -> None:
        """Let an answer that is written end earlier than it would, if it is to sound beyond a moment."""
        if self._answer is None and self.stream.has_beyond(max(now_s, end_s)):
            self._end_notes(now_s, max(now_s, end_s))

    def _end_notes(self, now_s: float, end_s: float) -> None:
        answer = self._latest
        assert answer is not None
        if self.stream.has_beyond(end_s):
            answer.notes, undone = self.stream.rewind(self._outbox.withdraw())
            for mark in undone:
                self._play_again(now_s, answer, mark, end_s)
        for timed in answer.close():
            due_s = min(self.stream.due_s(timed.time_s), end_s)
            self._push(now_s, answer, Scheduled(due_s, timed.event))

    def end(self, now_s: float, why: str) -> None:
        """End the answer, if there is one or its last notes still sound.

        The stream is taken back to the last event that was really played, and
        the notes that this cuts off are ended in it.
        """
        if not self.stream.can_rewind:
            return
        dropped = self._outbox.cancel(now_s)
        if dropped or self._answer is not None:
            self.stream.rewind(dropped)
            self.stream.end_others(now_s)
            self._publish("state", why)
        self.stream.clear_undo_log()
        self._answer = self._latest = None
