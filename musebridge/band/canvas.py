"""A canvas: notes of several voices on a grid, and a header that says what the grid and the voices are.

Each voice is one instrument, and no two notes of it sound at one pitch at one
time, so its planes hold it whole. Where a file has such notes (unisons of two
layers of one sound, two strokes within one step), they are of two voices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musebridge.band.families import FAMILIES, STEPS_PER_BEAT, family_of
from musebridge.band.planes import GridNotes, Ints, Planes, to_planes

LEAST_RESOLUTION = 2 * STEPS_PER_BEAT
"""Ticks a beat that a header has at least, so that each step is a tick of its own."""
UNITS = tuple(1 << power for power in range(9))
"""Of a metre: whole notes, halves and so on."""
_MOST_TICKS = 1 << 40
TEMPO_US, METRE = 500_000, (4, 4)
"""Before a file says anything."""


def _check(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, found {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """One instrument.

    Attributes:
        name: of its track; may be empty.
        program: of General MIDI, 0..127; a kit's number where it is drums.
        channel: 0..15; that of drums is 9.
        port: the number of the MIDI port, 0 unless a file names others.
        is_drums: whether its pitches are drums, which have no harmony.
    """

    name: str = ""
    program: int = 0
    channel: int = 0
    port: int = 0
    is_drums: bool = False

    def __post_init__(self) -> None:
        for what, value, most in (
            ("program", self.program, 127),
            ("channel", self.channel, 15),
            ("port", self.port, 127),
        ):
            _check(what, value, 0, most)

    @property
    def family(self) -> str:
        """One of ``FAMILIES``, or ``OTHER``."""
        return family_of(self.program, is_drums=self.is_drums)


@dataclass(frozen=True, slots=True)
class Tempo:
    """From a tick on, a beat takes so many microseconds."""

    tick: int
    us_per_beat: int

    def __post_init__(self) -> None:
        _check("tempo", self.us_per_beat, 1, (1 << 24) - 1)


@dataclass(frozen=True, slots=True)
class Metre:
    """From a tick on, a bar has so many of some unit of a whole note."""

    tick: int
    count: int
    unit: int

    def __post_init__(self) -> None:
        _check("beats of a bar", self.count, 1, 255)
        if self.unit not in UNITS:
            raise ValueError(f"unit of a metre must be a power of two up to {UNITS[-1]}, found {self.unit!r}")

    @property
    def beats(self) -> float:
        """How many quarter notes a bar has."""
        return 4 * self.count / self.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the grid and the voices are.

    Attributes:
        resolution: ticks a quarter note, ``LEAST_RESOLUTION`` at least.
        tempos, metres: in ticks, ascending, the first at tick 0.
        voices: V of them.
    """

    resolution: int = 480
    tempos: tuple[Tempo, ...] = (Tempo(0, TEMPO_US),)
    metres: tuple[Metre, ...] = (Metre(0, *METRE),)
    voices: tuple[Voice, ...] = ()

    def __post_init__(self) -> None:
        _check("resolution", self.resolution, LEAST_RESOLUTION, 0x7FFF)
        for what, moves in (("tempos", self.tempos), ("metres", self.metres)):
            ticks = [move.tick for move in moves]
            if not ticks or ticks[0] != 0 or ticks != sorted(set(ticks)) or ticks[-1] > _MOST_TICKS:
                raise ValueError(f"{what} must begin at tick 0 and ascend")

    def step(self, ticks: Ints) -> Ints:
        """Return the steps nearest to ticks; one between two goes to the later."""
        return (2 * ticks * STEPS_PER_BEAT + self.resolution) // (2 * self.resolution)

    def tick(self, steps: Ints) -> Ints:
        """Return the ticks nearest to steps; :meth:`step` inverts it."""
        return (2 * steps * self.resolution + STEPS_PER_BEAT) // (2 * STEPS_PER_BEAT)

    def seconds(self, ticks: Ints | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return when ticks come, in seconds from the start."""
        since = np.array([tempo.tick for tempo in self.tempos])
        s_per_tick = np.array([tempo.us_per_beat for tempo in self.tempos]) / (1e6 * self.resolution)
        start_s = np.concatenate([[0.0], np.cumsum(np.diff(since) * s_per_tick[:-1])])
        i = np.searchsorted(since, ticks, side="right") - 1
        return np.asarray(start_s[i] + (ticks - since[i]) * s_per_tick[i])

    def bars(self, end: int) -> Iterator[tuple[int, int, Metre]]:
        """Yield (step, next bar's step, metre) of each bar that begins before a step; a new metre begins a bar."""
        last = int(self.tick(np.array(end)))
        for metre, following in zip(self.metres, [*self.metres[1:], None], strict=True):
            stop = min(last, following.tick) if following else last
            lines = np.arange(metre.tick, stop, 4 * self.resolution * metre.count / metre.unit)
            ends = np.append(lines[1:], lines[-1:] + 4 * self.resolution * metre.count / metre.unit)
            if following:
                ends = np.minimum(ends, following.tick)
            steps = (self.step(np.rint(ticks).astype(np.int64)).tolist() for ticks in (lines, ends))
            yield from ((line, after, metre) for line, after in zip(*steps, strict=True) if after > line)


@dataclass(frozen=True, slots=True)
class Canvas:
    """Notes of the voices of a header, by voice, step and pitch."""

    header: Header
    notes: GridNotes

    @property
    def end(self) -> int:
        """The step at which the last note is over; 0 where there is none."""
        return int(self.notes.end.max(initial=0))

    def voice(self, row: int, begin: int, end: int) -> Planes:
        """Return the planes of one voice, (1, end - begin, 128), with which nothing is merged."""
        own = self.notes[self.notes.voice == row]
        alone = GridNotes(np.zeros_like(own.voice), own.step, own.length, own.pitch, own.velocity)
        return to_planes(alone, 1, begin, end)

    def family(self, families: Sequence[str] = FAMILIES) -> GridNotes:
        """Return what families play, ``voice`` being the row of each note's family; other voices are left out."""
        row = [families.index(v.family) if v.family in families else -1 for v in self.header.voices]
        rows = np.array([*row, -1], np.int64)[self.notes.voice]
        notes = self.notes[rows >= 0]
        return GridNotes(rows[rows >= 0], notes.step, notes.length, notes.pitch, notes.velocity)

    def planes(self, begin: int, end: int, families: Sequence[str] = FAMILIES) -> Planes:
        """Return what families play, (F, end - begin, 128); voices of one family are merged, see :func:`to_planes`."""
        return to_planes(self.family(families), len(families), begin, end)

    def merged(self) -> int:
        """Return how many strikes fall on another of their family, pitch and step; :meth:`planes` has one for both."""
        notes = self.family()
        strikes = np.unique(np.stack([notes.voice, notes.step, notes.pitch]), axis=1)
        return len(notes) - int(strikes.shape[1])
