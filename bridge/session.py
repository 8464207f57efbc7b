"""The musical state machine: who plays, what the model has read, what it answers.

Pure: time comes in as an argument, what is to sound goes into a scheduler, and
nothing here waits. ``receive`` takes what the player does, ``work`` lets the
model write one token, and ``wake_s`` says when to call ``work`` again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from musebridge.bridge.answer import Answer
from musebridge.bridge.commands import Command, HandOver, Panic, Reset, SetParameter, Stop
from musebridge.bridge.context import Context, Engine
from musebridge.bridge.scheduler import SILENCE, Scheduled
from musebridge.bridge.settings import Settings
from musebridge.events import SUSTAIN, Control, Event, NoteOff, NoteOn, Timed
from musebridge.vocab import BEGIN, STEPS_PER_S, Encoder, StreamState

_LATE_S = 0.02
"""A note-on later than this moves the rest of the answer back, so it keeps its rhythm."""
_LONGEST_REST_S = 5.0
"""A longer pause is read as this, lest the model's window fill with silence."""


class Outbox(Protocol):
    """Where a session puts what is to sound; :class:`Scheduler` is one."""

    def push(self, scheduled: Scheduled) -> None:
        """Take one event."""
        ...

    def cancel(self, now_s: float) -> int:
        """Drop what was not handed out, release what sounds; return how many were dropped."""
        ...


class Session:
    """One musician and one model.

    Args:
        engine: reads tokens and gives logits.
        outbox: takes the model's events with their due times.
        settings: the parameters at the start.
        mode: ``call`` answers after a silence, ``manual`` only when told to.
        rng: source of randomness for every answer.
        notice: called with each change of state, in a word or two.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        settings: Settings,
        *,
        mode: str = "call",
        rng: np.random.Generator,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self._engine, self._outbox, self._mode, self._rng, self._notice = engine, outbox, mode, rng, notice
        self._forget()

    @property
    def answering(self) -> bool:
        """Whether the model is writing an answer."""
        return self._answer is not None

    def receive(self, now_s: float, message: Event | Command) -> None:
        """Take an event of the player, or a command, that came at ``now_s``.

        Raises:
            EngineError: the model failed; :meth:`abandon` puts things right.
            ConfigError: a parameter is unknown or out of range.
        """
        match message:
            case NoteOn() | NoteOff() | Control():
                self._play(now_s, message)
            case HandOver():
                self._hand_over(now_s)
            case Stop():
                self._end(now_s, "stopped")
            case Panic():
                self._end(now_s, "stopped")
                self._silence(now_s)
            case Reset():
                self.abandon(now_s)
            case SetParameter(name=name, value=value):
                self.settings = self.settings.with_value(name, value)

    def work(self, now_s: float) -> None:
        """Do what is due: hand over, or write one token of the answer.

        Raises:
            EngineError: the model failed; :meth:`abandon` puts things right.
        """
        wake_s = self.wake_s()
        if wake_s is None or now_s < wake_s:
            return
        if self._answer is None:
            self._hand_over(now_s)
        else:
            self._write(now_s, self._answer)

    def wake_s(self) -> float | None:
        """Return when :meth:`work` has something to do next, in monotonic seconds, or None."""
        if self._answer is not None:
            return self._moment_s() - self.settings.lookahead_s
        if self._mode == "call" and self._phrase and not self._encoder.held:
            return self._quiet_since_s + self.settings.silence_s
        return None

    def abandon(self, now_s: float) -> None:
        """Silence the model and forget all that was played: a fresh start after a failure."""
        self._outbox.cancel(now_s)
        self._forget()

    def _forget(self) -> None:
        self._context = Context(self._engine)
        self._encoder = Encoder()
        self._origin_s: float | None = None
        self._quiet_since_s = 0.0
        self._phrase = False
        self._answer: Answer | None = None
        self._answer_end_s = 0.0
        self._undo: deque[tuple[int, StreamState]] = deque(maxlen=4096)

    def _catch_up(self, now_s: float) -> None:
        """Make the stream ready for an event now: open it, or shorten a long rest before it."""
        if self._origin_s is None:
            self._context.append([BEGIN])
            self._origin_s = now_s
        self._shift_origin(max(0.0, now_s - self._moment_s() - _LONGEST_REST_S))

    def _play(self, now_s: float, event: Event) -> None:
        if isinstance(event, Control) and event.controller != SUSTAIN:
            return
        if isinstance(event, NoteOn):
            self._end(now_s, "interrupted")
            self._phrase = True
        self._catch_up(now_s)
        self._quiet_since_s = now_s
        self._context.append(self._encoder.feed(self._stream_s(now_s), event))

    def _hand_over(self, now_s: float) -> None:
        if self._answer is not None:
            return
        self._catch_up(now_s)
        self._context.append(self._encoder.advance(self._stream_s(now_s)))
        self._answer = Answer(self._context, self._encoder.state, self._rng)
        self._answer_end_s = now_s + self.settings.answer_s
        self._phrase = False
        self._undo.clear()
        self._remember()
        self._notice("answering")

    def _write(self, now_s: float, answer: Answer) -> None:
        timed = answer.next(self.settings)
        if self._moment_s() >= self._answer_end_s:
            self._close(answer)
        elif timed is not None:
            self._schedule(now_s, timed)

    def _schedule(self, now_s: float, timed: Timed) -> None:
        late_s = now_s - self._due_s(timed.time_s)
        if late_s > _LATE_S and isinstance(timed.event, NoteOn):
            self._shift_origin(late_s)
        self._push(timed)

    def _push(self, timed: Timed) -> None:
        self._outbox.push(Scheduled(self._due_s(timed.time_s), timed.event))
        self._remember()

    def _close(self, answer: Answer) -> None:
        for timed in answer.close():
            self._push(timed)
        self._answer = None
        self._notice("listening")

    def _end(self, now_s: float, why: str) -> None:
        """End the answer, if there is one or its last notes still sound.

        The stream is taken back to the last event that was really played, and
        the notes that this cuts off are ended in it.
        """
        if not self._undo:
            return
        dropped = self._outbox.cancel(now_s)
        position, state = self._undo[-1 - min(dropped, len(self._undo) - 1)]
        self._context.rollback(position)
        self._encoder.state = state
        self._context.append(self._encoder.release_others(self._stream_s(now_s)))
        self._undo.clear()
        if dropped or self._answer:
            self._notice(why)
        self._answer = None

    def _silence(self, now_s: float) -> None:
        self._outbox.cancel(now_s)
        for event in SILENCE:
            self._outbox.push(Scheduled(now_s, event))

    def _remember(self) -> None:
        self._undo.append((self._context.position, self._encoder.state.copy()))

    def _moment_s(self) -> float:
        """Return when the end of the stream sounds, in monotonic seconds."""
        return self._due_s(self._encoder.state.step / STEPS_PER_S)

    def _due_s(self, stream_s: float) -> float:
        return (self._origin_s or 0.0) + stream_s

    def _stream_s(self, now_s: float) -> float:
        return now_s - (self._origin_s or 0.0)

    def _shift_origin(self, by_s: float) -> None:
        self._origin_s = (self._origin_s or 0.0) + by_s
