"""MIDI clock that goes out, for others to follow: its first tick on a bar line, its beats on those of a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator

from musebridge.bridge.core.clock_in import TICKS_PER_BEAT, Grid
from musebridge.bridge.core.scheduler import Owner, Scheduled
from musebridge.events import Transport

_LEAD_S = 0.25
"""How long before its moment a tick is handed to the output."""
_JUMP_S = 0.1
"""A grid that moves further is another one: the clock stops, and starts on a bar line of the new."""
_ROUNDING_BARS = 1e-6


class ClockOut:
    """The ticks of a grid, each once; pure, and always some ahead of time."""

    def __init__(self) -> None:
        self._tick: int | None = None
        self._due_s = 0.0
        self._has_started = False

    def next_s(self) -> float | None:
        """Return when the next tick is due, in monotonic seconds, or None if the clock does not run."""
        return None if self._tick is None else self._due_s

    def wake_s(self, now_s: float, *, wanted: bool) -> float | None:
        """Return when there is something to send, or to stop; None if never."""
        if wanted == (self._tick is not None):
            return self._due_s - _LEAD_S if wanted else None
        return now_s

    def run(self, now_s: float, grid: Grid, beats: float) -> Iterator[Scheduled]:
        """Yield what is to be sent by and by, up to a moment ahead of now.

        Args:
            now_s: the present.
            grid: where the beats are now.
            beats: in a bar of it.
        """
        if self._tick is None or abs(self._time_of(grid, self._tick) - self._due_s) > _JUMP_S:
            first_s = now_s if self._tick is None else max(now_s, self._due_s)
            yield from self.stop(now_s)
            bar = math.ceil(grid.beat_at(first_s) / beats - _ROUNDING_BARS)
            self._tick = round(bar * beats * TICKS_PER_BEAT)
            self._due_s = self._time_of(grid, self._tick)
        while self._due_s - _LEAD_S <= now_s:  # as the moment of waking is reckoned
            if not self._has_started:
                self._has_started = True
                yield Scheduled(self._due_s, Transport("start"), Owner.PLAYER)
            yield Scheduled(self._due_s, Transport("clock"), Owner.PLAYER)
            self._tick += 1
            self._due_s = max(self._due_s, self._time_of(grid, self._tick))

    def stop(self, now_s: float) -> Iterator[Scheduled]:
        """Yield what tells those who follow that the clock ends; nothing if it does not run."""
        if self._has_started:
            yield Scheduled(now_s, Transport("stop"), Owner.PLAYER)
        self._tick, self._has_started = None, False

    def _time_of(self, grid: Grid, tick: int) -> float:
        return grid.time_of(tick / TICKS_PER_BEAT)
