"""Beats: a steady tempo, and the one of MIDI clock that comes in.

Beats are quarter notes, counted from the start of the song.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from musebridge.events import SongPosition, Transport

TICKS_PER_BEAT = 24
_REMEMBERED_TICKS = 96
_ENOUGH_TICKS = 12
_GONE_S = 0.5
_STRANGER_TICKS = 6
"""So many ticks in a row far from where they were expected are right, and what was expected is not."""
_TREND_TICKS = 4
_JITTERS, _EXACT_TICKS = 3.0, 0.02
"""Ticks that are off by more than so many times what they usually are, and this, say that the tempo changes."""
_FAR_TICKS, _NEAR_TICKS = 0.75, 0.4
_FASTEST_S = 60 / 400 / TICKS_PER_BEAT


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

    Ticks are counted apart from the song: a loop, a jump or a stop moves the song
    under the ticks, which go on. While the song is stopped, its place stands.
    """

    def __init__(self) -> None:
        self.running = self.is_known = False
        """Whether the song runs, and whether there were ticks enough to know the tempo."""
        self._next_tick = 0
        self._song_zero = 0  # the tick at which the song's beat 0 is, or would have been
        self._place: int | None = None  # of the song while it is stopped, in ticks
        self._was_placed = False  # since the last tick
        self._ticks: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED_TICKS)
        self._strangers: list[tuple[float, int]] = []
        self._last_off = 0.0
        self._trend: deque[float] = deque(maxlen=_TREND_TICKS)  # by how many ticks the latest were off
        self._noise = 0.0  # by how many they usually are
        self._heard_s = -math.inf
        self._assumed = 0  # ticks that were taken to be lost in the last gap
        self._least_ticks = _ENOUGH_TICKS
        self._seconds_per_tick, self._tick_zero_s = 60 / 120 / TICKS_PER_BEAT, 0.0

    @property
    def bpm(self) -> float:
        """Beats a minute."""
        return 60 / (self._seconds_per_tick * TICKS_PER_BEAT)

    def ticks_come(self, now_s: float) -> bool:
        """Whether ticks come in that are known well enough to go by, whether the song runs or not."""
        return self.is_known and now_s - self._heard_s < _GONE_S

    def is_alive(self, now_s: float) -> bool:
        """Whether the song runs and its clock is known well enough to go by."""
        return self.running and self.ticks_come(now_s)

    @property
    def is_settled(self) -> bool:
        """Whether the latest ticks came where they were expected; a late bunch does, as nobody sends one early."""
        return not self._is_drifting(2)

    def receive(self, now_s: float, message: Transport | SongPosition) -> None:
        """Take a message that came at ``now_s``."""
        match message:
            case Transport("clock"):
                self._tick(now_s)
            case Transport("start"):
                self.running = True
                self._put(0)
            case Transport("continue") if not self.running:
                self.running = True
                self._put(self._place or 0)
            case Transport("stop") if self.running:
                self._place = self._next_tick - self._song_zero
                self.running = False
            case SongPosition(sixteenths):
                self._put(sixteenths * TICKS_PER_BEAT // 4)

    @property
    def ticked(self) -> SteadyTempo:
        """The beats that have ticked, whatever the song did meanwhile."""
        return SteadyTempo(self.bpm, self._tick_zero_s)

    @property
    def song_zero(self) -> float:
        """How many beats had ticked where the song's beat 0 is, or would have been."""
        return self._song_zero / TICKS_PER_BEAT

    def beat_at(self, time_s: float) -> float:
        """Return the beat of the song at a moment in monotonic seconds."""
        return self.ticked.beat_at(time_s) - self.song_zero

    def time_of(self, beat: float) -> float:
        """Return the moment of a beat of the song in monotonic seconds."""
        return self.ticked.time_of(beat + self.song_zero)

    def _put(self, place: int) -> None:
        """Let the next tick be this one of the song; what ticked before stays as it was."""
        self._place = place
        self._song_zero = self._next_tick - place
        self._was_placed = True

    def _tick(self, now_s: float) -> None:
        if now_s - self._heard_s > _GONE_S:
            self._come_back(now_s)
        self._heard_s = now_s
        tick = now_s, self._next_tick
        self._next_tick += 1
        self._was_placed = False
        self._trend.append(self._off(*tick))
        if self.is_known and abs(self._off(*tick)) > _FAR_TICKS:
            self._strangers.append(tick)
            if len(self._strangers) == _STRANGER_TICKS:
                self._hear_strangers()
            return
        self._strangers.clear()
        self._last_off = self._off(*tick)
        if self.is_known and self._is_drifting(_TREND_TICKS):
            self._ticks = deque(list(self._ticks)[1 - _TREND_TICKS :], self._ticks.maxlen)
            self._least_ticks = 2
            self._trend.clear()
        elif not self._is_drifting(2):
            self._noise += (abs(self._last_off) - self._noise) / _REMEMBERED_TICKS
        self._go_by([tick])

    def _is_drifting(self, count: int) -> bool:
        """Whether the latest ticks were further and further off on one side, by more than they jitter: a new tempo."""
        latest = list(self._trend)[-count:]
        if len(latest) < count or abs(latest[0]) < _JITTERS * self._noise + _EXACT_TICKS:
            return False
        sign = math.copysign(1.0, latest[-1])
        return all(0 < sign * before < sign * after for before, after in pairwise(latest))

    def _come_back(self, now_s: float) -> None:
        """Go on after a gap at the tempo there was; a song that ran went on meanwhile."""
        self._ticks.clear()
        self._strangers.clear()
        self._trend.clear()
        self._assumed = max(0, round(self._off(now_s, self._next_tick))) if self.is_known else 0
        if self._was_placed or not self.running:
            self._song_zero += self._assumed
        self._next_tick += self._assumed
        self._tick_zero_s = now_s - self._next_tick * self._seconds_per_tick
        self._least_ticks = _ENOUGH_TICKS

    def _off(self, time_s: float, number: int) -> float:
        """Return by how many ticks one is late."""
        return (time_s - self._tick_zero_s) / self._seconds_per_tick - number

    def _hear_strangers(self) -> None:
        """Go by ticks that agree with each other: after lost ones they are all late by as many, and suddenly so.

        After a gap they may be early as well: what was taken to be lost comes after all, in a bunch.
        """
        strangers, offs = self._strangers, [self._off(*tick) for tick in self._strangers]
        if strangers[-1][0] - strangers[0][0] < _FASTEST_S * (_STRANGER_TICKS - 1):
            self._strangers = strangers[1:]  # still a bunch
            return
        lost = round(sum(offs) / len(offs))
        is_lost = lost > 0 or 0 < -lost <= self._assumed
        if is_lost and abs(self._last_off) < _NEAR_TICKS and all(abs(off - lost) < _NEAR_TICKS for off in offs):
            if self._song_zero + (self._place or 0) >= strangers[0][1]:  # the song was put somewhere since
                self._song_zero += lost
            self._next_tick += lost
            strangers = [(time_s, number + lost) for time_s, number in strangers]
        else:
            self._ticks.clear()
            self._least_ticks = 2
        self._strangers, self._last_off, self._assumed = [], 0.0, 0
        self._trend.clear()
        self._go_by(strangers)

    def _go_by(self, ticks: Iterable[tuple[float, int]]) -> None:
        self._ticks.extend(ticks)
        if len(self._ticks) >= self._least_ticks:
            self.is_known = True
            self._fit()
        else:  # too few for a tempo: keep the one that was
            times_s, numbers = np.array(self._ticks).T
            self._tick_zero_s = float(times_s.mean() - self._seconds_per_tick * numbers.mean())

    def _fit(self) -> None:
        times_s, numbers = np.array(self._ticks).T
        spread = numbers - numbers.mean()
        slope = float(spread @ times_s / (spread @ spread))
        if slope > 0:
            self._seconds_per_tick = slope
            self._tick_zero_s = float(times_s.mean() - slope * numbers.mean())
