"""Ticks to seconds and back, through the tempo map or by SMPTE frames; and where bars begin."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musebridge.smf.container import Smf
from musebridge.smf.repairs import Repairs
from musebridge.smf.track import TEMPO, TIME_SIGNATURE, Ints

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_TEMPO_US = 500_000
_DROP_FRAME, _DROP_FRAME_RATE = 29, 30_000 / 1001
_SLACK_BEATS = 0.25
"""Music that ends so shortly behind a bar line is taken to end on it."""


class TempoMap:
    """When each tick of a file comes, in seconds from its start, in double precision."""

    def __init__(self, smf: Smf, repairs: Repairs) -> None:
        changes = {0: _seconds_per_frame_tick(smf.division)} if self.is_smpte(smf) else _tempos(smf, repairs)
        self._tick = np.array(sorted(changes), np.int64)
        self._s_per_tick = np.array([changes[tick] for tick in self._tick.tolist()])
        spans = np.diff(self._tick) * self._s_per_tick[:-1]
        self._start_s = np.concatenate([[0.0], np.cumsum(spans)])

    @staticmethod
    def is_smpte(smf: Smf) -> bool:
        """Return whether a file counts frames, not beats."""
        return smf.division >= 0x8000

    def seconds(self, ticks: Ints) -> Floats:
        """Return when ticks come, in seconds."""
        i = np.searchsorted(self._tick, ticks, side="right") - 1
        return np.asarray(self._start_s[i] + (ticks - self._tick[i]) * self._s_per_tick[i])

    def second(self, tick: int) -> float:
        """Return when one tick comes, in seconds."""
        return float(self.seconds(np.array([tick]))[0])

    def tick(self, time_s: float) -> int:
        """Return the tick nearest to a moment."""
        i = max(0, int(np.searchsorted(self._start_s, time_s, side="right")) - 1)
        return max(0, int(self._tick[i]) + round((time_s - float(self._start_s[i])) / float(self._s_per_tick[i])))


def _seconds_per_frame_tick(division: int) -> float:
    frames = 256 - (division >> 8)
    return 1 / ((_DROP_FRAME_RATE if frames == _DROP_FRAME else frames) * (division & 0xFF))


def _tempos(smf: Smf, repairs: Repairs) -> dict[int, float]:
    """Return from which ticks on a tick takes how many seconds."""
    divisor = 1e6 * smf.division
    changes = {0: _TEMPO_US / divisor}
    for track in smf.tracks:
        for tick, contents in track.others.metas(TEMPO):
            us_per_beat = int.from_bytes(contents[:3], "big")
            if len(contents) < 3 or us_per_beat == 0:
                repairs["tempo"] += 1
            else:
                changes[tick] = us_per_beat / divisor
    return changes


@dataclass(frozen=True, slots=True)
class _Metre:
    tick: int
    ticks_per_bar: int


class Bars:
    """The bar lines of a file: 4/4 before its first time signature; each signature begins a bar."""

    def __init__(self, smf: Smf, repairs: Repairs) -> None:
        self._beat = smf.division
        found = {0: 4 * smf.division}
        for track in smf.tracks:
            for tick, contents in track.others.metas(TIME_SIGNATURE):
                length = 4 * smf.division * contents[0] >> contents[1] if len(contents) >= 2 else 0
                if length == 0:
                    repairs["metre"] += 1
                else:
                    found[tick] = length
        self._metres = [_Metre(tick, found[tick]) for tick in sorted(found)]
        self._ticks = [metre.tick for metre in self._metres]

    def next_line(self, tick: int) -> int:
        """Return the first bar line at a tick or behind it; one that was passed only just now counts."""
        slack = round(_SLACK_BEATS * self._beat)
        line = self._line_before(tick)
        return line if tick - line <= slack else self._behind(line)

    def after(self, line: int, bars: int) -> int:
        """Return the bar line so many bars behind one."""
        for _ in range(bars):
            line = self._behind(line)
        return line

    def _line_before(self, tick: int) -> int:
        metre = self._metres[bisect_right(self._ticks, tick) - 1]
        return tick - (tick - metre.tick) % metre.ticks_per_bar

    def _behind(self, line: int) -> int:
        i = bisect_right(self._ticks, line) - 1
        end = line + self._metres[i].ticks_per_bar
        return min(end, self._ticks[i + 1]) if i + 1 < len(self._ticks) else end
