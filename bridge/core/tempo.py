"""Where the beats are: a steady tempo, or one that follows MIDI clock.

Beats are quarter notes, counted from the start of the song.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from musebridge.events import SongPosition, Transport

TICKS_PER_BEAT = 24
_REMEMBERED_TICKS = 96
_ENOUGH_TICKS = 12
_GONE_S = 0.5
_STRANGER_TICKS = 6
"""So many ticks in a row far from where they were expected are right, and what was expected is not."""
_FAR_TICKS, _NEAR_TICKS = 0.75, 0.4
_FASTEST_S = 60 / 400 / TICKS_PER_BEAT
_JITTER_BEATS = 0.5
"""A clock that jitters takes a beat back by less than this."""
_ROUNDING_BEATS = 1e-6


class Grid(Protocol):
    """Beats against time."""

    @property
    def bpm(self) -> float:
        """Beats a minute."""
        ...

    def beat_at(self, time_s: float) -> float:
        """Return the beat at a moment in monotonic seconds."""
        ...

    def time_of(self, beat: float) -> float:
        """Return the moment of a beat in monotonic seconds."""
        ...


@dataclass(frozen=True, slots=True)
class SteadyTempo:
    """``bpm`` beats a minute, the first at ``origin_s``."""

    bpm: float
    origin_s: float

    def beat_at(self, time_s: float) -> float:
        """Return the beat at a moment in monotonic seconds."""
        return (time_s - self.origin_s) * self.bpm / 60

    def time_of(self, beat: float) -> float:
        """Return the moment of a beat in monotonic seconds."""
        return self.origin_s + beat * 60 / self.bpm


class ClockFollower:
    """Follows MIDI clock: the line through its last four beats of ticks.

    A line through many ticks is steadier than any of them, so jitter of some
    milliseconds moves the beat by a fraction of one. A tick far from the line is
    counted but not gone by: a busy machine hands over late ticks in a bunch. When
    a few in a row agree, ticks before them were lost, or the tempo is a new one.
    """

    def __init__(self) -> None:
        self.running = False
        self._next_tick = 0
        self._ticks: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED_TICKS)
        self._strangers: list[tuple[float, int]] = []
        self._last_off = self._heard_s = 0.0
        self._is_known = False
        self._seconds_per_tick, self._tick_zero_s = 60 / 120 / TICKS_PER_BEAT, 0.0

    @property
    def bpm(self) -> float:
        """Beats a minute."""
        return 60 / (self._seconds_per_tick * TICKS_PER_BEAT)

    def is_alive(self, now_s: float) -> bool:
        """Whether the song runs and its clock is known well enough to go by."""
        return self.running and self._is_known and now_s - self._heard_s < _GONE_S

    def receive(self, now_s: float, message: Transport | SongPosition) -> None:
        """Take a message that came at ``now_s``."""
        match message:
            case Transport("clock"):
                self._tick(now_s)
            case Transport("start"):
                self._place(0)
                self.running = True
            case Transport("continue"):
                self.running = True
            case Transport("stop"):
                self.running = False
            case SongPosition(sixteenths):
                self._place(sixteenths * TICKS_PER_BEAT // 4)

    def beat_at(self, time_s: float) -> float:
        """Return the beat at a moment in monotonic seconds."""
        return (time_s - self._tick_zero_s) / self._seconds_per_tick / TICKS_PER_BEAT

    def time_of(self, beat: float) -> float:
        """Return the moment of a beat in monotonic seconds."""
        return self._tick_zero_s + beat * TICKS_PER_BEAT * self._seconds_per_tick

    def _place(self, tick: int) -> None:
        """Let the next tick be this one; the tempo stays."""
        moved = tick - self._next_tick
        self._next_tick = tick
        self._ticks = deque(_relabelled(self._ticks, moved), self._ticks.maxlen)
        self._strangers = _relabelled(self._strangers, moved)
        self._tick_zero_s -= moved * self._seconds_per_tick

    def _tick(self, now_s: float) -> None:
        if now_s - self._heard_s > _GONE_S:
            self._ticks.clear()
            self._strangers.clear()
            self._is_known = False
        self._heard_s = now_s
        tick = now_s, self._next_tick
        self._next_tick += 1
        if self._is_known and abs(self._off(*tick)) > _FAR_TICKS:
            self._strangers.append(tick)
            if len(self._strangers) == _STRANGER_TICKS:
                self._hear_strangers()
            return
        self._strangers.clear()
        self._last_off = self._off(*tick)
        self._go_by([tick])

    def _off(self, time_s: float, number: int) -> float:
        """Return by how many ticks one is late."""
        return (time_s - self._tick_zero_s) / self._seconds_per_tick - number

    def _hear_strangers(self) -> None:
        """Go by ticks that agree with each other: after lost ones they are all late by as many, and suddenly so."""
        strangers, offs = self._strangers, [self._off(*tick) for tick in self._strangers]
        if strangers[-1][0] - strangers[0][0] < _FASTEST_S * (_STRANGER_TICKS - 1):
            self._strangers = strangers[1:]  # still a bunch
            return
        lost = round(sum(offs) / len(offs))
        if lost > 0 and abs(self._last_off) < _NEAR_TICKS and all(abs(off - lost) < _NEAR_TICKS for off in offs):
            self._next_tick += lost
            strangers = _relabelled(strangers, lost)
        else:
            self._ticks.clear()
        self._strangers, self._last_off = [], 0.0
        self._go_by(strangers)

    def _go_by(self, ticks: Iterable[tuple[float, int]]) -> None:
        self._ticks.extend(ticks)
        self._is_known = self._is_known or len(self._ticks) >= _ENOUGH_TICKS
        if len(self._ticks) >= 2:
            self._fit()

    def _fit(self) -> None:
        times_s, numbers = np.array(self._ticks).T
        spread = numbers - numbers.mean()
        slope = float(spread @ times_s / (spread @ spread))
        if slope > 0:
            self._seconds_per_tick = slope
            self._tick_zero_s = float(times_s.mean() - slope * numbers.mean())


def _relabelled(ticks: Iterable[tuple[float, int]], by: int) -> list[tuple[float, int]]:
    return [(time_s, number + by) for time_s, number in ticks]


class Meter:
    """Where the beats are: where other programs share them, or MIDI clock has them, or at a steady tempo.

    The steady beats are counted from where a DAW started that says no more than
    that, and where none did, from the first note of the phrase. While others follow
    them they stay where they are.
    """

    def __init__(self, bpm: float) -> None:
        self._clock = ClockFollower()
        self._bpm, self._zero_s = bpm, 0.0
        self._is_counting = self._is_rolling = self._is_leading = False
        self._shared: SteadyTempo | None = None
        self._told: int | None = None

    def grid(self, now_s: float) -> Grid:
        """Return what holds at ``now_s``."""
        match self.leader(now_s):
            case "others":
                assert self._shared
                return self._shared
            case "clock":
                return self._clock
        return SteadyTempo(self._bpm, self._zero_s)

    def leader(self, now_s: float) -> str:
        """Return who says where the beats are: ``others``, the ``clock`` or the ``phrase``."""
        if self._shared:
            return "others"
        return "clock" if self.is_clocked(now_s) else "phrase"

    def share(self, bpm: float | None, beat_zero_s: float) -> None:
        """Go by the beats of others; None ends that."""
        self._shared = None if bpm is None else SteadyTempo(bpm, beat_zero_s)

    def is_clocked(self, now_s: float) -> bool:
        """Whether MIDI clock comes in and is gone by."""
        return self._clock.is_alive(now_s)

    def receive(self, now_s: float, message: Transport | SongPosition) -> None:
        """Take a message that came at ``now_s``."""
        self._clock.receive(now_s, message)

    def set_tempo(self, now_s: float, bpm: float) -> None:
        """Go on from where the steady beat is, at another tempo."""
        beat = SteadyTempo(self._bpm, self._zero_s).beat_at(now_s)
        self._bpm, self._zero_s = bpm, now_s - beat * 60 / bpm

    def begin_phrase(self, now_s: float) -> None:
        """Count steady beats from here, unless a DAW rolls or others follow."""
        if not (self._is_rolling or self._is_leading):
            self._count_from(now_s)

    def roll(self, now_s: float, rolling: bool) -> None:
        """A DAW starts here, or stops."""
        self._is_rolling = rolling
        if rolling:
            self._count_from(now_s)

    def lead(self, now_s: float, leads: bool) -> None:
        """Let others follow the steady beats, which begin here if they did not before; or no longer."""
        self._is_leading = leads
        if leads and not self._is_counting:
            self._count_from(now_s)

    def begun(self, now_s: float) -> int | None:
        """Return the beat that has begun since the last call, or None; a beat that jitters begins once."""
        if not self._is_counting and self.leader(now_s) == "phrase":
            self._told = None
            return None
        beat = self.grid(now_s).beat_at(now_s) + _ROUNDING_BEATS
        if self._told is not None and -_JITTER_BEATS < beat - self._told < 1:
            return None
        self._told = math.floor(beat)
        return self._told

    def next_beat_s(self, now_s: float) -> float | None:
        """Return when the beat after the one that was told begins, in monotonic seconds."""
        return None if self._told is None else self.grid(now_s).time_of(self._told + 1)

    def _count_from(self, now_s: float) -> None:
        self._zero_s, self._is_counting = now_s, True
