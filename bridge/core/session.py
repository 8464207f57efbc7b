"""The musical state machine: who plays, what the model has read, what it answers.

Pure: time comes in as an argument, what is to sound goes into a scheduler, and
nothing here waits. ``receive`` takes what the player does and costs no time,
``work`` lets the model read a little and write one token, and ``wake_s`` says
when to call ``work`` again. Whose turn it is say the policies in ``turns``;
what is written and sounds is the ``performer``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

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
from musebridge.bridge.core.learn import Bindings
from musebridge.bridge.core.performer import Performer
from musebridge.bridge.core.player_input import PlayerInput
from musebridge.bridge.core.scheduler import Outbox
from musebridge.bridge.core.settings import Settings, Value, check_mode
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.bridge.core.tempo import Meter
from musebridge.bridge.core.turns import POLICIES, Phrase
from musebridge.errors import ConfigError
from musebridge.events import Control, Event, Message, NoteOff, NoteOn, Other, SongPosition, Transport

PREFETCHED_S = 2.0
"""So long after the player's last event the model keeps itself ready for a hand-over, at a step of it every 10 ms."""


class Session:
    """One musician and one model.

    Args:
        engine: reads tokens and gives logits.
        outbox: takes the model's events with their due times.
        settings: the parameters at the start.
        mode: one of ``settings.MODES``.
        rng: source of randomness for every answer.
        publish: called with a topic and what is new: ``state``, ``mode``, ``key``, ``chord``,
            ``beat``, ``learning``, ``learnt``, ``param/NAME``; ``answer``: a ``clip.Place``.
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
        self._state = "listening"
        self._meter = Meter(settings.bpm, settings.bar_beats)
        self._turns = POLICIES[mode](self._meter)
        self._input, self._bindings = PlayerInput(), Bindings()
        self._tells_beats = self._is_paused = False
        self._clock_out = ClockOut()
        self._now_s = 0.0
        self._forget()

    @property
    def answering(self) -> bool:
        """Whether the model is writing an answer."""
        return self._performer.answering

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
            case NoteOn() | NoteOff() | Control() | Other():
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
                self._hear(now_s, self._input.clear())
            case Reset():
                self.abandon(now_s)
            case Pause(paused=paused):
                self._pause(now_s, paused)
            case Learn() | Unlearn() | Bind():
                self._bind(message)
            case SetMode(mode=mode):
                self._set_mode(now_s, mode)
            case Roll(rolling=rolling):
                self._roll(now_s, rolling)
            case FollowSharedBeats(bpm=bpm, beat_zero_s=beat_zero_s):
                self._meter.share(now_s, bpm, beat_zero_s)
            case TellBeats(wanted=wanted):
                self._tells_beats = wanted
            case SetParameter(name=name, value=value):
                self._set(now_s, name, value)
        self._check_line(now_s)
        self._tell_beat(now_s)

    def work(self, now_s: float) -> None:
        """Do what is due: tick, read, hand over, write one token of the answer, or make room for the next ones.

        Raises:
            EngineError: the model failed; :meth:`abandon` puts things right.
        """
        self._now_s = now_s
        self._hear(now_s, self._input.lost(now_s, self.settings.max_note_s), is_news=False)
        self._tell_beat(now_s)
        self._tick(now_s)
        if not self._performer.read():
            return
        next_s = self._next_s(now_s)
        if next_s is None or now_s < next_s:
            if not self._performer.make_room() and self._prefetches(now_s):
                self._performer.stream.prefetch_rest(now_s)
        elif self.answering:
            self._write(now_s)
        else:
            self._hand_over(now_s, self._begin_s(now_s))

    def wake_s(self) -> float | None:
        """Return when :meth:`work` has something to do next, in monotonic seconds, or None."""
        if self._performer.is_busy:
            return self._now_s
        moments = (
            self._next_s(self._now_s),
            self._clock_out.wake_s(self._now_s, wanted=self._ticks()),
            self._meter.next_beat_s(self._now_s) if self._tells_beats else None,
            self._input.next_lost_s(self.settings.max_note_s),
            self._performer.stream.next_step_s(self._now_s) if self._prefetches(self._now_s) else None,
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
        if values == ("answering",):
            begin_s = self._performer.stream.end_s
            place = self._meter.place(begin_s) if self._turns.on_grid else (begin_s, 0.0, self._meter.bar_beats)
            self._tell("answer", begin_s - self._performer.offset_s, place[0] - self._performer.offset_s, *place[1:])

    def _forget(self) -> None:
        self._input.clear()
        self._performer = Performer(self._engine, self._outbox, self._rng, lambda *news: self._publish(*news))
        self._performer.doubtful, self._performer.offset_s = self._input.doubtful, self.settings.offset_ms / 1000
        self._phrase = Phrase()
        self._asked_s: float | None = None  # when the phrase began that is being answered

    # The player

    def _play(self, now_s: float, message: Message) -> None:
        if isinstance(message, Control) and not self.snapshot.triggers(message) and self._moves(now_s, message):
            return
        hands_over = self._input.hands_over(message, self.settings)
        if hands_over is None:
            rises = self._input.pedal_rises(message, self.settings)
            self._hear(now_s, self._input.take(now_s, message, self.settings))
            hands_over = rises and bool(self.settings.trigger_pedal) and self._phrase.begun_s is not None
        if hands_over:
            self._hand_over(now_s)

    def _hear(self, now_s: float, events: Sequence[Event], *, is_news: bool = True) -> None:
        """Take what changed; it is no news where a key that nothing is heard of counts as up."""
        for event in events:
            if isinstance(event, NoteOn):
                self._begin_phrase(now_s)
            if is_news:
                self._phrase.heard_s = now_s
            if self._performer.hear(now_s, event) and is_news:
                self._turns.player_joined(now_s, self.settings)
        self._phrase.holds = bool(self._input.keys)

    def _begin_phrase(self, now_s: float) -> None:
        if not self._turns.weaves:
            self._performer.end(now_s, "interrupted")
        if self.answering:
            return
        stands_still = self._turns.on_grid and self._meter.stands_still(now_s)
        if self._phrase.begun_s is None or (self._phrase.waits and not stands_still):
            self._phrase.begun_s = now_s
            self._phrase.waits = self._phrase.is_early = stands_still
            self._meter.begin_phrase(now_s)
            self._turns.phrase_began(now_s, self._phrase)

    def _set(self, now_s: float, name: str, value: Value) -> None:
        self.settings = self.settings.with_value(name, value)
        match name:
            case "bpm":  # ticks up to the next have been handed out: they have the old tempo
                self._meter.set_tempo(self._clock_out.next_s() or now_s, self.settings.bpm)
            case "beats":
                was_beats = self._meter.bar_beats
                self._meter.set_bar(now_s, self.settings.bar_beats)
                self._turns.metre_changed(now_s, was_beats)
            case "offset_ms":
                self._performer.offset_s = self.settings.offset_ms / 1000
            case "pedal_polarity":
                self._hear(now_s, self._input.forget_pedals(), is_news=False)

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
        if paused == self._is_paused:
            return
        self._is_paused = paused
        if paused:
            self._performer.end(now_s, "stopped")
        elif not self._phrase.holds and now_s - self._phrase.heard_s >= self.settings.silence_s:
            self._phrase.begun_s = None  # what is long over is not answered now
        self._publish("state", "paused" if paused else "listening")

    def _set_mode(self, now_s: float, mode: str) -> None:
        if check_mode(mode) != self.mode:
            self._performer.end(now_s, "stopped")
            self.mode, self._turns = mode, POLICIES[mode](self._meter)
            self._publish("mode", mode)

    # Time

    def _follow(self, now_s: float, message: Transport | SongPosition) -> None:
        self._meter.receive(now_s, message)
        match message:
            case Transport("stop") if self._turns.on_grid:
                self._stand_still(now_s)
            case Transport("start"):
                self._go_on(now_s, anew=True)
            case Transport("continue"):
                self._go_on(now_s, anew=False)

    def _roll(self, now_s: float, rolling: bool) -> None:
        is_change = self._meter.roll(now_s, rolling)
        if not rolling:
            self._stand_still(now_s)
        elif is_change:
            self._go_on(now_s, anew=True)

    def _stand_still(self, now_s: float) -> None:
        """A DAW stops: the answer ends, and a phrase of its bars waits until it goes on."""
        self._performer.end(now_s, "stopped")
        if self._turns.on_grid and self._meter.stands_still(now_s):
            self._phrase.waits = True
        else:
            self._phrase.begun_s = None

    def _go_on(self, now_s: float, *, anew: bool) -> None:
        """A DAW starts, or goes on from where it was stopped; a phrase that began meanwhile counts from here."""
        if self._phrase.begun_s is not None and self._phrase.waits and (anew or self._phrase.is_early):
            self._phrase.begun_s = now_s
            self._turns.phrase_began(now_s, self._phrase)
        self._phrase.waits = self._phrase.is_early = False

    def _check_line(self, now_s: float) -> None:
        """Take an answer back that waits for a bar line which is no longer where it was, or let it end on one."""
        if self._turns.on_grid and not self.answering:
            self._performer.trim(now_s, self._turns.end_s(now_s))
        elif self.answering and self._turns.missed(now_s):
            self._performer.take_back()
            self._phrase.begun_s, self._asked_s = self._asked_s, None

    def _tell_beat(self, now_s: float) -> None:
        beat = self._meter.begun(now_s) if self._tells_beats else None
        if beat is not None:
            bar, number = divmod(beat, self._meter.bar_beats)
            self._publish("beat", int(number) + 1, int(bar) + 1, self._meter.grid(now_s).bpm)

    def _begin_s(self, now_s: float) -> float | None:
        """Return when the model is to begin by itself, or None."""
        return None if self._is_paused else self._turns.begin_s(now_s, self._phrase, self.settings)

    def _next_s(self, now_s: float) -> float | None:
        """Return when the model has a token to write, or an answer to begin, or None."""
        offset_s = self._performer.offset_s
        if self.answering:
            written_s = self._performer.stream.end_s
            is_written = written_s >= self._turns.end_s(now_s)
            return now_s if is_written else written_s - offset_s - self.settings.lookahead_s
        begin_s = self._begin_s(now_s)
        return None if begin_s is None else begin_s - offset_s - self._turns.lead_s

    def _prefetches(self, now_s: float) -> bool:
        """Whether the player may hand over at any moment: then the rest up to that is read before it comes."""
        if self.answering or self._phrase.begun_s is None or now_s - self._phrase.heard_s >= PREFETCHED_S:
            return False
        return self._turns.is_told or self.settings.triggers

    def _ticks(self) -> bool:
        return bool(self.settings.clock_out) and not self._meter.is_clocked(self._now_s)

    def _tick(self, now_s: float) -> None:
        """Send MIDI clock; where one comes in, none goes out."""
        wanted = self._ticks()
        self._meter.lead(now_s, wanted)
        grid, clock = self._meter.grid(now_s), self._clock_out
        for scheduled in clock.run(now_s, grid, self._meter.bar_beats) if wanted else clock.stop(now_s):
            self._outbox.push(scheduled)

    # The answer

    def _hand_over(self, now_s: float, begin_s: float | None = None) -> None:
        """Begin an answer, now or at a moment that is near."""
        if self.answering or self._is_paused:
            return
        on_grid = begin_s is not None and self._turns.on_grid
        start_s = now_s if begin_s is None else max(now_s, begin_s)
        self._performer.begin(now_s, start_s, at_once=on_grid, weaves=self._turns.weaves)
        self._turns.answer_began(start_s, self.settings, on_grid=on_grid)
        self._asked_s, self._phrase.begun_s = self._phrase.begun_s, None

    def _retry(self, now_s: float) -> None:
        if not self._is_paused and self._performer.retry(now_s, weaves=self._turns.weaves):
            self._turns.answer_began(now_s, self.settings, on_grid=False)
            self._phrase.begun_s = None
        else:
            self._hand_over(now_s)

    def _write(self, now_s: float) -> None:
        end_s = self._turns.end_s(now_s)
        if self._performer.stream.end_s < end_s:
            self._performer.write(now_s, self.settings, self._meter if self._turns.on_grid else None, end_s)
        if self._performer.stream.end_s >= end_s:
            self._performer.close(now_s, end_s)
            self._phrase.begun_s = None

    def _stop(self, now_s: float) -> None:
        """End the answer, and give none to what was played so far."""
        self._performer.end(now_s, "stopped")
        self._phrase.begun_s = None
