"""The musical state machine: who plays, what the model has read, what it answers.

Pure: time comes in as an argument, what is to sound goes into a scheduler, and
nothing here waits. ``receive`` takes what the player does and costs no time,
``work`` lets the model read a little and write one token, and ``wake_s`` says
when to call ``work`` again.

========  ====================================  =======================================
mode      the model begins                      the player's note meanwhile
========  ====================================  =======================================
call      after a silence                       ends the answer
duet      once the player has played a while    is woven in, and the model goes on
bars      on the bar line after ``listen_bars`` is woven in
manual    when told to                          ends the answer
========  ====================================  =======================================

In every mode it also begins when it is told to, by command, key, controller or pedal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from musebridge.bridge.core.answer import Answer, Notes
from musebridge.bridge.core.clock_out import ClockOut
from musebridge.bridge.core.commands import (
    Bind,
    Command,
    FollowSharedBeats,
    HandOver,
    Learn,
    Panic,
    Pause,
    Reset,
    Retry,
    Roll,
    SetMode,
    SetParameter,
    Stop,
    TellBeats,
    Unlearn,
)
from musebridge.bridge.core.context import Engine
from musebridge.bridge.core.harmony import KeyFinder, chord_of
from musebridge.bridge.core.learn import Bindings
from musebridge.bridge.core.scheduler import Outbox, Scheduled
from musebridge.bridge.core.settings import Settings, Value, check_mode
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.bridge.core.stream import Mark, Stream
from musebridge.bridge.core.tempo import Meter
from musebridge.errors import ConfigError
from musebridge.events import SUSTAIN, Control, Event, Message, NoteOff, NoteOn, Other, SongPosition, Timed, Transport
from musebridge.vocab import CONTROLLERS

_LATE_S = 0.02
"""A note-on later than this moves the rest of the answer back, so it keeps its rhythm; in bars it is left out."""
_DUET_AFTER_S = 2.0
_LEAD_S = 0.05
_BAR_LEAD_S = 0.15
"""How long before its moment, or its bar line, an answer is begun to be written."""
_EARLY_BEATS = 0.5
"""A note this much before a bar line belongs to the bar that follows."""
_SOON_S = 0.05
"""What is due so soon stays when the player's event is woven in: reading that takes some 5 ms, and each token that
is written again 2 or 3, so a chord would end late."""
PREFETCHED_S = 2.0
"""So long after the player's last event the model keeps itself ready for a hand-over, at a step of it every 10 ms."""
_SLICE = 16
"""Tokens that are read in one piece of work, some 5 ms: so long may a player who interrupts have to wait."""


class Session:
    """One musician and one model.

    Args:
        engine: reads tokens and gives logits.
        outbox: takes the model's events with their due times.
        settings: the parameters at the start.
        mode: one of ``settings.MODES``.
        rng: source of randomness for every answer.
        publish: called with a topic and what is new: ``state``, ``mode``, ``key``, ``chord``,
            ``beat``, ``learning``, ``learnt``, ``param/NAME``.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        settings: Settings,
        *,
        mode: str = "call",
        rng: np.random.Generator,
        publish: Callable[..., None] = lambda topic, *values: None,
    ) -> None:
        self.settings, self.mode = settings, mode
        self._engine, self._outbox, self._rng, self._tell = engine, outbox, rng, publish
        self._state, self._is_paused, self._bindings = "listening", False, Bindings()
        self._meter = Meter(settings.bpm)
        self._tells_beats = False
        self._clock_out = ClockOut()
        self._now_s = 0.0
        self._forget()

    @property
    def answering(self) -> bool:
        """Whether the model is writing an answer."""
        return self._answer is not None

    @property
    def snapshot(self) -> Snapshot:
        """How things stand now, to be read by any thread."""
        return Snapshot(self.settings, self.mode, self._state, self._bindings.bound)

    def passes_on(self, message: Message) -> bool:
        """Return whether what the player sent goes to the output as well."""
        return self.snapshot.passes_on(message)

    def receive(self, now_s: float, message: Message | Command) -> None:
        """Take a message of the player, or a command, that came at ``now_s``.

        Raises:
            ConfigError: a parameter or mode is unknown or out of range.
        """
        self._now_s = now_s
        match message:
            case NoteOn() | NoteOff() | Control():
                self._play(now_s, message)
            case Transport() | SongPosition():
                self._follow(now_s, message)
            case HandOver():
                self._hand_over(now_s)
            case Retry():
                self._retry(now_s)
            case Stop():
                self._stop(now_s)
            case Panic():
                self._stop(now_s)
                self._outbox.panic(now_s)
            case Reset():
                self.abandon(now_s)
            case SetMode(mode=mode):
                self._set_mode(now_s, mode)
            case Roll(rolling=rolling):
                self._meter.roll(now_s, rolling)
                if not rolling:
                    self._stop(now_s)
            case FollowSharedBeats(bpm=bpm, beat_zero_s=beat_zero_s):
                self._meter.share(bpm, beat_zero_s)
            case TellBeats(wanted=wanted):
                self._tells_beats = wanted
            case SetParameter(name=name, value=value):
                self._set(now_s, name, value)
            case Pause(paused=paused):
                self._pause(now_s, paused)
            case Learn() | Unlearn() | Bind():
                self._bind(message)
            case Other():
                pass
        self._tell_beat(now_s)

    def work(self, now_s: float) -> None:
        """Do what is due: tick, read, hand over, write one token of the answer, or make room for the next ones.

        Raises:
            EngineError: the model failed; :meth:`abandon` puts things right.
        """
        self._now_s = now_s
        self._tell_beat(now_s)
        self._tick(now_s)
        self._stream.context.read(_SLICE)
        if self._stream.context.unread:
            return
        next_s = self._next_s(now_s)
        if next_s is None or now_s < next_s:
            if self._stream.context.nearly_full:
                self._stream.context.prepare(_SLICE)
            elif self._prefetches(now_s):
                self._stream.prefetch_rest(now_s)
        elif self._answer is not None:
            self._write(now_s, self._answer)
        else:
            self._hand_over(now_s, self._begin_s(now_s))

    def wake_s(self) -> float | None:
        """Return when :meth:`work` has something to do next, in monotonic seconds, or None."""
        if self._stream.context.unread or self._stream.context.nearly_full:
            return self._now_s
        moments = (
            self._next_s(self._now_s),
            self._clock_out.wake_s(self._now_s, wanted=self._ticks()),
            self._next_beat_s(),
            self._stream.next_step_s(self._now_s) if self._prefetches(self._now_s) else None,
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def abandon(self, now_s: float) -> None:
        """Silence the model and forget all that was played: a fresh start after a failure."""
        self._outbox.cancel(now_s)
        was_answering = self.answering
        self._forget()
        if was_answering:
            self._publish("state", "stopped")

    def _publish(self, topic: str, *values: Value) -> None:
        if topic == "state":
            (self._state,) = map(str, values)
        self._tell(topic, *values)

    def _forget(self) -> None:
        self._stream = Stream(self._engine)
        self._heard_s = 0.0
        self._phrase_s: float | None = None  # when the phrase began that nobody has answered yet
        self._answer: Answer | None = None
        self._latest: Answer | None = None  # that, or the one before, whose last notes may not have sounded yet
        self._answer_end_s = 0.0
        self._seed: Mark | None = None
        self._finder = KeyFinder()
        self._first_bar, self._counted_by = 0, ""

    # The player

    def _play(self, now_s: float, event: Event) -> None:
        if self.snapshot.triggers(event):
            if isinstance(event, NoteOn) or (isinstance(event, Control) and event.value >= 64):
                self._hand_over(now_s)
            return
        if isinstance(event, Control) and (self._moves(now_s, event) or event.controller not in CONTROLLERS):
            return
        if isinstance(event, NoteOn):
            self._begin_phrase(now_s)
        if self._latest is not None and self._stream.would_write(event):
            self._weave_in(now_s, event, self._latest)
        else:
            self._hear(now_s, event)
        if (
            self.settings.trigger_pedal
            and isinstance(event, Control)
            and event.controller == SUSTAIN
            and event.value < 64
            and self._phrase_s is not None
        ):
            self._hand_over(now_s)

    def _hear(self, now_s: float, event: Event) -> None:
        self._heard_s = now_s
        self._stream.hear(now_s, event)
        if isinstance(event, NoteOn):
            self._seed = None
            self._finder.hear(event.pitch)
            self._publish("chord", chord_of(self._stream.key_state.held) or "")

    def _begin_phrase(self, now_s: float) -> None:
        if not self._weaves:
            self._end(now_s, "interrupted")
        if self._phrase_s is None:
            self._phrase_s = now_s
            self._meter.begin_phrase(now_s)
            self._count_bar(now_s)

    def _weave_in(self, now_s: float, event: Event, answer: Answer) -> None:
        """Let the player's event into an answer that goes on.

        What was not played yet is written anew, but for what is due soon, and for the end of an answer that is
        written. That stays, behind the player's event, as far as it still has a meaning.
        """
        until_s = math.inf if self._answer is None else now_s + _SOON_S
        answer.notes, undone = self._stream.rewind(self._outbox.withdraw())
        answer.state = self._stream.state
        if isinstance(event, NoteOn) and (struck := answer.notes.open.pop(event.pitch, None)):
            self._outbox.release(Scheduled(now_s, struck.release))
        self._hear(now_s, event)
        if self.mode == "duet":
            self._answer_end_s = now_s + self.settings.answer_s
        self._stream.mark(answer.notes)
        for mark in undone:
            self._play_again(answer, mark, until_s)
        answer.rest_until = self._stream.step_at(now_s + _SOON_S)

    def _play_again(self, answer: Answer, mark: Mark, until_s: float) -> None:
        if mark.event and mark.event.due_s < until_s:
            step = self._stream.step_at(mark.event.due_s)
            if answer.repeat(step, mark.token, mark.state.velocity_bin, mark.event.event):
                self._push(answer, mark.event)

    @property
    def _weaves(self) -> bool:
        return self.mode in ("duet", "bars")

    def _set_mode(self, now_s: float, mode: str) -> None:
        if check_mode(mode) != self.mode:
            self._end(now_s, "stopped")
            self.mode = mode
            self._publish("mode", mode)

    # What is set

    def _set(self, now_s: float, name: str, value: Value) -> None:
        self.settings = self.settings.with_value(name, value)
        # Ticks up to the next have been handed out: they have the old tempo.
        self._meter.set_tempo(self._clock_out.next_s() or now_s, self.settings.bpm)

    def _bind(self, command: Learn | Unlearn | Bind) -> None:
        match command:
            case Learn(name=name):
                self._bindings.learn(name)
                self._publish("learning", name)
            case Unlearn(name=name):
                self._bindings.unlearn(name)
            case Bind():
                self._bindings.bind(command)
        self._tell_bindings()

    def _moves(self, now_s: float, control: Control) -> bool:
        """Let a controller be learnt, and move what it is bound to; return whether it is bound."""
        if self._bindings.learnt(control):
            self._publish("learning", "")
            self._tell_bindings()
        if (moved := self._bindings.moved(control)) is None:
            return False
        with suppress(ConfigError):  # the lowest pitch does not pass the highest
            self._set(now_s, moved.name, moved.value)
            self._publish(f"param/{moved.name}", moved.value)
        return True

    def _tell_bindings(self) -> None:
        for bind in self._bindings.changes():
            self._publish("learnt", bind.name, bind.controller, bind.channel)

    def _pause(self, now_s: float, paused: bool) -> None:
        if paused != self._is_paused:
            self._is_paused = paused
            self._stop(now_s)
            self._publish("state", "paused" if paused else "listening")

    # Time

    def _follow(self, now_s: float, message: Transport | SongPosition) -> None:
        self._meter.receive(now_s, message)
        if message == Transport("stop") and self.mode == "bars":
            self._stop(now_s)

    def _tell_beat(self, now_s: float) -> None:
        beat = self._meter.begun(now_s) if self._tells_beats else None
        if beat is not None:
            bar, number = divmod(beat, self.settings.beats)
            self._publish("beat", number + 1, bar + 1, self._meter.grid(now_s).bpm)

    def _next_beat_s(self) -> float | None:
        return self._meter.next_beat_s(self._now_s) if self._tells_beats else None

    def _bar_line_s(self, now_s: float) -> float:
        """Return when the bar begins that the next answer is for."""
        if self._counted_by != self._meter.leader(now_s):
            self._count_bar(now_s)
        bar = self._first_bar + self.settings.listen_bars
        return self._meter.grid(now_s).time_of(bar * self.settings.beats)

    def _count_bar(self, now_s: float) -> None:
        """Find the bar in which the phrase began, as the one counts it who leads now."""
        self._counted_by = self._meter.leader(now_s)
        beat = self._meter.grid(now_s).beat_at(now_s if self._phrase_s is None else self._phrase_s)
        self._first_bar = int((beat + _EARLY_BEATS) // self.settings.beats)

    def _begin_s(self, now_s: float) -> float | None:
        """Return when the model is to begin by itself, or None."""
        if self._phrase_s is None or self._is_paused:
            return None
        match self.mode:
            case "call" if not self._stream.key_state.keys:
                return self._heard_s + self.settings.silence_s
            case "duet":
                return self._phrase_s + _DUET_AFTER_S
            case "bars":
                return self._bar_line_s(now_s)
        return None

    def _next_s(self, now_s: float) -> float | None:
        """Return when the model has a token to write, or an answer to begin, or None."""
        if self._answer is not None:
            return self._stream.end_s - self.settings.lookahead_s
        begin_s = self._begin_s(now_s)
        lead_s = _BAR_LEAD_S if self.mode == "bars" else _LEAD_S
        return None if begin_s is None else begin_s - lead_s

    def _prefetches(self, now_s: float) -> bool:
        """Whether the player may hand over at any moment: then the rest up to that is read before it comes."""
        if self._answer is not None or self._phrase_s is None or now_s - self._heard_s >= PREFETCHED_S:
            return False
        return self.mode == "manual" or self.settings.triggers

    def _ticks(self) -> bool:
        return bool(self.settings.clock_out) and not self._meter.is_clocked(self._now_s)

    def _tick(self, now_s: float) -> None:
        """Send MIDI clock; where one comes in, none goes out."""
        wanted = self._ticks()
        self._meter.lead(now_s, wanted)
        grid, clock = self._meter.grid(now_s), self._clock_out
        for scheduled in clock.run(now_s, grid, self.settings.beats) if wanted else clock.stop(now_s):
            self._outbox.push(scheduled)

    # The answer

    def _hand_over(self, now_s: float, begin_s: float | None = None) -> None:
        """Begin an answer, now or at a moment that is near."""
        if self._answer is not None or self._is_paused:
            return
        self._end(now_s, "interrupted")  # the last notes of the one before
        self._stream.catch_up(now_s)
        self._seed = self._stream.here(Notes())
        self._stream.mark(Notes())
        start_s = now_s if begin_s is None else max(now_s, begin_s)
        self._stream.rest_until(start_s)
        self._answer_now(start_s, on_bar_line=begin_s is not None and self.mode == "bars")

    def _answer_now(self, start_s: float, *, on_bar_line: bool = False) -> None:
        key, stream = self._finder.key(), self._stream
        self._answer = self._latest = Answer(stream.context, stream.state, self._rng, key=key, at_once=on_bar_line)
        self._answer_end_s = start_s + self.settings.answer_s
        if on_bar_line:
            grid = self._meter.grid(start_s)
            self._answer_end_s = grid.time_of(grid.beat_at(start_s) + self.settings.answer_bars * self.settings.beats)
        if self._weaves:  # what is woven in before the first note does not move its moment
            self._stream.mark(self._answer.notes)
        self._phrase_s = None
        self._publish("key", str(key or ""))
        self._publish("state", "answering")

    def _retry(self, now_s: float) -> None:
        if self._is_paused:
            return
        if self._seed is not None:
            self._end(now_s, "stopped")
        if self._seed is None or not self._stream.context.holds(self._seed.position):
            self._hand_over(now_s)
            return
        self._stream.go_to(self._seed)
        self._stream.shift(now_s - self._stream.end_s)
        self._seed = self._stream.here(Notes())
        self._stream.mark(Notes())
        self._answer_now(now_s)

    def _write(self, now_s: float, answer: Answer) -> None:
        timed = answer.next(self.settings)
        if timed is not None:
            self._schedule(now_s, answer, timed)
        if self._stream.end_s >= self._answer_end_s:
            self._close(now_s, answer)

    def _schedule(self, now_s: float, answer: Answer, timed: Timed) -> None:
        late_s = now_s - self._stream.due_s(timed.time_s)
        if late_s > _LATE_S and isinstance(timed.event, NoteOn):
            if self.mode == "bars":
                return  # its note-off finds nothing to end
            self._stream.shift(late_s)
        self._push(answer, Scheduled(self._stream.due_s(timed.time_s), timed.event))

    def _push(self, answer: Answer, scheduled: Scheduled) -> None:
        self._outbox.push(scheduled)
        self._stream.remember(answer.notes, scheduled)

    def _close(self, now_s: float, answer: Answer) -> None:
        end_s = max(now_s, self._answer_end_s)
        for timed in answer.close():
            self._push(answer, Scheduled(min(self._stream.due_s(timed.time_s), end_s), timed.event))
        self._answer, self._phrase_s = None, None
        self._publish("state", "listening")

    def _end(self, now_s: float, why: str) -> None:
        """End the answer, if there is one or its last notes still sound.

        The stream is taken back to the last event that was really played, and
        the notes that this cuts off are ended in it.
        """
        if not self._stream.can_rewind:
            return
        dropped = self._outbox.cancel(now_s)
        if dropped or self._answer is not None:
            self._stream.rewind(dropped)
            self._stream.end_others(now_s)
            self._publish("state", why)
        self._stream.clear_undo_log()
        self._answer = self._latest = None

    def _stop(self, now_s: float) -> None:
        """End the answer, and give none to what was played so far."""
        self._end(now_s, "stopped")
        self._phrase_s = None
