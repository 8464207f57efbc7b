"""Quantising: notes fall on the lines of the beat grid, or nearer to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from musebridge.bridge.core.clock_in import Grid

_SAME_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The lines that divide each beat, and the bar lines, where a beat is cut off by one.

    Attributes:
        per_beat: lines in a quarter note: 4 for sixteenths, 3 for triplets of eighths.
        strength: 1 moves a note onto the nearest line, 0.5 half of the way, 0 not at all.
        bar_beats: quarter notes in a bar.
    """

    per_beat: float
    strength: float = 1.0
    bar_beats: float = 4.0

    def moved(self, beat: float) -> float:
        """Return where a beat, counted from a bar line, goes; of two, the later one never goes before the earlier."""
        bar = math.floor(beat / self.bar_beats) * self.bar_beats
        inside = beat - bar
        line = math.floor(inside * self.per_beat + 0.5) / self.per_beat
        nearest = min(line, self.bar_beats, key=lambda at: abs(at - inside))
        return beat + self.strength * (nearest - inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """Lines on the clock, for an answer that is being written.

    Moments here are seconds of the answer's stream.

    Attributes:
        lines: where notes fall.
        grid: the beats that the lines divide.
        origin_s: where the stream began, in monotonic seconds.
        now_s: the present, before which nothing is moved.
        end_s: when the answer ends.
    """

    lines: Lines
    grid: Grid
    origin_s: float
    now_s: float
    end_s: float

    def moved_s(self, time_s: float) -> float:
        """Return when something sounds that is written for a moment: it keeps its place among the others."""
        written_s = self.origin_s + time_s
        moved_s = self.grid.time_of(self.lines.moved(self.grid.beat_at(written_s)))
        return max(moved_s, min(written_s, self.now_s)) - self.origin_s

    def is_over(self, time_s: float) -> bool:
        """Return whether a note that is written for a moment would begin where the answer ends."""
        return self.moved_s(time_s) > self.end_s - self.origin_s - _SAME_S
