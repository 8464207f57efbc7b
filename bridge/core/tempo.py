"""Where the beats and the bar lines are: as others share them, as MIDI clock has them, or steadily."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from musebridge.bridge.core.clock_in import ClockFollower, Grid, SteadyTempo
from musebridge.events import SongPosition, Transport

_JITTER_BEATS = 0.5
"""A clock that jitters takes a beat back by less than this."""
_ROUNDING_BEATS = 1e-6
_STANDS_STILL_S = 10.0
"""A DAW that was stopped for longer is not waited for."""


@dataclass(frozen=True, slots=True)
class _Shifted:
    """A grid whose beat 0 is at a beat of another."""

    grid: Grid
    zero: float

    @property
    def bpm(self) -> float:
        return self.grid.bpm

    def beat_at(self, time_s: float) -> float:
        return self.grid.beat_at(time_s) - self.zero

    def time_of(self, beat: float) -> float:
        return self.grid.time_of(beat + self.zero)


class Meter:
    """Where the beats and the bar lines are: where other programs share them, where MIDI clock has them, or steadily.

    The steady beats are counted from where a DAW started that says no more than
    that, and where none did, from the first note of the phrase; at the tempo of the
    ticks that come in, if any do. While others follow them they stay where they are.
    A clock leads until its song stops: where it dies, its last tempo holds.

    *Elapsed* beats go on whatever the song does: a loop or a jump moves the song, not
    them. Where a song is stopped and continues, they go on from where it was stopped.

    Args:
        bpm: of the steady beats.
        bar_beats: quarter notes in a bar.
    """

    def __init__(self, bpm: float, bar_beats: float = 4) -> None:
        self.bar_beats = bar_beats
        self._clock = ClockFollower()
        self._steady = SteadyTempo(bpm, 0.0)
        self._ticked_zero: float | None = None  # where the steady beats follow ticks: how many beats had ticked at 0
        self._bar_zero = {"clock": 0.0, "phrase": 0.0}  # the beat from which bars are counted, after a change of metre
        self._is_counting = self._is_rolling = self._is_leading = False
        self._shared: SteadyTempo | None = None
        self._elapsed_zero = 0.0
        self._stopped_s, self._stopped_at = -math.inf, 0.0
        self._told: int | None = None

    def grid(self, now_s: float) -> Grid:
        """Return the beats that hold at ``now_s``; multiples of :attr:`bar_beats` are bar lines."""
        if self._shared:
            return self._shared
        line, zero = self._line(), self._bar_zero[self.leader(now_s)]
        if line is not self._steady:
            zero += self._clock.song_zero if self._clock_leads else self._ticked_zero or 0.0
        return _Shifted(line, zero) if zero else line

    def leader(self, now_s: float) -> str:
        """Return who says where the beats are: ``others``, the ``clock`` or the ``phrase``."""
        if self._shared:
            return "others"
        return "clock" if self._clock_leads else "phrase"

    def elapsed(self, now_s: float) -> float:
        """Return how many beats have passed at ``now_s``."""
        return self._line().beat_at(now_s) - self._elapsed_zero

    def line_s(self, now_s: float, elapsed: float) -> float:
        """Return the moment of the bar line nearest to so many elapsed beats."""
        grid = self.grid(now_s)
        beat = grid.beat_at(now_s) + elapsed - self.elapsed(now_s)
        return grid.time_of(round(beat / self.bar_beats) * self.bar_beats)

    def next_line_s(self, now_s: float) -> float:
        """Return the moment of the first bar line that is not past."""
        grid = self.grid(now_s)
        bar = math.ceil(grid.beat_at(now_s) / self.bar_beats - _ROUNDING_BEATS)
        return grid.time_of(bar * self.bar_beats)

    def place(self, moment_s: float) -> tuple[float, float, float]:
        """Return when the bar line is that a moment is on or after, the tempo there, and the beats in a bar."""
        grid = self.grid(moment_s)
        bar = math.floor(grid.beat_at(moment_s) / self.bar_beats + _ROUNDING_BEATS)
        return grid.time_of(bar * self.bar_beats), grid.bpm, self.bar_beats

    def is_clocked(self, now_s: float) -> bool:
        """Whether MIDI clock comes in, whether its song runs or not."""
        return self._clock.ticks_come(now_s)

    def stands_still(self, now_s: float) -> bool:
        """Whether a DAW has stopped and may go on: it counts no bars now, so there are none to play on."""
        return now_s - self._stopped_s < _STANDS_STILL_S

    def is_settled(self, now_s: float) -> bool:
        """Whether the beats are where :meth:`grid` has them, as far as that is known: no clock changes its tempo."""
        return self._shared is not None or self._clock.is_settled or not self.is_clocked(now_s)

    def share(self, now_s: float, bpm: float | None, beat_zero_s: float) -> None:
        """Go by the beats of others; None ends that."""
        with self._going_on(now_s):
            self._shared = None if bpm is None else SteadyTempo(bpm, beat_zero_s)

    def receive(self, now_s: float, message: Transport | SongPosition) -> None:
        """Take a message that came at ``now_s``."""
        ran = self._clock.running
        with self._going_on(now_s):
            beat = self.grid(now_s).beat_at(now_s)
            self._clock.receive(now_s, message)
            if self._ticked_zero is None and self._clock.ticks_come(now_s):
                self._ticked_zero = self._clock.ticked.beat_at(now_s) - beat
        match message:
            case Transport("stop") if ran:
                self._stand_still(now_s)
            case Transport("continue") if not ran:
                if self._stopped_s > -math.inf:
                    self._elapsed_zero += self.elapsed(now_s) - self._stopped_at
                self._stopped_s = -math.inf
            case Transport("start"):
                self._bar_zero["clock"], self._stopped_s = 0.0, -math.inf

    def set_tempo(self, now_s: float, bpm: float) -> None:
        """Go on from where the steady beat is, at another tempo; where a clock comes in, its tempo holds."""
        if self._clock_leads or self.is_clocked(now_s):
            return
        line = self._line()
        beat = line.beat_at(now_s) - (0.0 if line is self._steady else self._ticked_zero or 0.0)
        with self._going_on(now_s):
            self._ticked_zero = None
            self._steady = SteadyTempo(bpm, now_s - beat * 60 / bpm)

    def set_bar(self, now_s: float, bar_beats: float) -> None:
        """Let a bar have so many beats, from the bar line on that is nearest; the bars before keep their numbers."""
        if not self._shared:
            bar = round(self.grid(now_s).beat_at(now_s) / self.bar_beats)
            self._bar_zero[self.leader(now_s)] += bar * (self.bar_beats - bar_beats)
        self.bar_beats = bar_beats

    def begin_phrase(self, now_s: float) -> None:
        """Count steady beats from here, unless a DAW rolls or others follow."""
        if not (self._is_rolling or self._is_leading):
            self._count_from(now_s)

    def roll(self, now_s: float, rolling: bool) -> bool:
        """A DAW starts here, or stops; return whether that is news. To say again what is known changes nothing."""
        is_change = rolling != self._is_rolling
        if rolling and not self._is_rolling:
            self._stopped_s = -math.inf
            if not self.is_clocked(now_s):
                self._clock.running = False  # it died: whoever starts now leads
            self._count_from(now_s)
        elif self._is_rolling and not rolling:
            self._stand_still(now_s)
        self._is_rolling = rolling
        return is_change

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

    @property
    def _clock_leads(self) -> bool:
        return self._clock.running and self._clock.is_known

    def _source(self) -> SteadyTempo | ClockFollower:
        """Return whose beats pass."""
        if self._shared:
            return self._shared
        return self._clock if self._clock_leads or self._ticked_zero is not None else self._steady

    def _line(self) -> SteadyTempo:
        """Return the beats that pass, wherever the song is in them."""
        source = self._source()
        return source.ticked if isinstance(source, ClockFollower) else source

    def _count_from(self, now_s: float) -> None:
        with self._going_on(now_s):
            self._steady, self._is_counting = SteadyTempo(self._steady.bpm, now_s), True
            if self._ticked_zero is not None:
                self._ticked_zero = self._clock.ticked.beat_at(now_s)
            self._bar_zero["phrase"] = 0.0

    def _stand_still(self, now_s: float) -> None:
        self._stopped_s, self._stopped_at = now_s, self.elapsed(now_s)

    @contextmanager
    def _going_on(self, now_s: float) -> Iterator[None]:
        """Let elapsed beats go on where another line takes over; not where a clock corrects its own."""
        elapsed, source = self.elapsed(now_s), self._source()
        yield
        if self._source() is not source:
            self._elapsed_zero = self._line().beat_at(now_s) - elapsed
