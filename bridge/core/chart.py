"""Charts: which chord sounds in which beat, as players write it, and what it makes likelier.

A chart is bars between ``|`` or line ends: ``3/4 Dm7 | G7 | Cmaj7 A7 | %``. Chords of
one bar share its beats; ``%`` is the bar before once more, ``N.C.`` no chord. A line
that begins with ``//`` is a remark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from musebridge.errors import ConfigError

_MOST_BARS, _MOST_PER_BAR = 1024, 16
_REPEAT, _NO_CHORD, _REMARK = "%", ("N.C.", "NC", "-"), "//"
_METRE = re.compile(r"(\d{1,2})/(2|4|8|16)")
_CHORD = re.compile(r"([A-G])([#b♯♭]?)([^/]*)(?:/([A-G])([#b♯♭]?))?")
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SIGNS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}
_TRIADS = {"": (0, 4, 7), "m": (0, 3, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "sus4": (0, 5, 7), "sus2": (0, 2, 7)}
QUALITIES = {
    **_TRIADS,
    **{"5": (0, 7), "6": (0, 4, 7, 9), "m6": (0, 3, 7, 9), "69": (0, 2, 4, 7, 9), "add9": (0, 2, 4, 7)},
    **{"7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "mmaj7": (0, 3, 7, 11)},
    **{"m7b5": (0, 3, 6, 10), "dim7": (0, 3, 6, 9), "7sus4": (0, 5, 7, 10), "aug7": (0, 4, 8, 10)},
    **{"9": (0, 2, 4, 7, 10), "maj9": (0, 2, 4, 7, 11), "m9": (0, 2, 3, 7, 10), "11": (0, 2, 5, 7, 10)},
    **{"m11": (0, 2, 3, 5, 7, 10), "13": (0, 2, 4, 7, 9, 10), "7b9": (0, 1, 4, 7, 10), "7#9": (0, 3, 4, 7, 10)},
    **{"7b5": (0, 4, 6, 10), "7#5": (0, 4, 8, 10), "7#11": (0, 4, 6, 7, 10), "7alt": (0, 1, 3, 4, 8, 10)},
}
"""Degrees of each quality, in semitones above the root."""
_SPELLINGS = {
    **{"M": "", "maj": "", "min": "m", "-": "m", "°": "dim", "o": "dim", "+": "aug", "sus": "sus4", "6/9": "69"},
    **{"M7": "maj7", "Maj7": "maj7", "Δ": "maj7", "Δ7": "maj7", "j7": "maj7", "min7": "m7", "-7": "m7", "mM7": "mmaj7"},
    **{"ø": "m7b5", "ø7": "m7b5", "min7b5": "m7b5", "-7b5": "m7b5", "°7": "dim7", "o7": "dim7", "+7": "aug7"},
    **{"7sus": "7sus4", "9sus4": "11", "M9": "maj9", "min9": "m9", "-9": "m9", "-6": "m6", "min6": "m6", "alt": "7alt"},
}


@dataclass(frozen=True, slots=True)
class Chord:
    """A root 0..11 from C, its degrees above it in semitones, and the pitch class below."""

    root: int
    degrees: tuple[int, ...]
    bass: int

    @property
    def classes(self) -> frozenset[int]:
        """Its pitch classes."""
        return frozenset((self.root + degree) % 12 for degree in self.degrees) | {self.bass}


Bar = tuple[Chord | None, ...]
"""Chords that share a bar's beats; None is no chord."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A form: bars of one metre, which begin again behind the last.

    Attributes:
        bars: B of them, at least one.
        count, unit: the metre, such as 4 and 4.
    """

    bars: tuple[Bar, ...]
    count: int = 4
    unit: int = 4

    @property
    def bar_beats(self) -> float:
        """Quarter notes in a bar."""
        return 4 * self.count / self.unit

    def at(self, beat: float) -> Chord | None:
        """Return the chord at a beat (quarter note) since the form began."""
        bar, within = divmod(beat, self.bar_beats)
        chords = self.bars[int(bar) % len(self.bars)]
        return chords[min(len(chords) - 1, int(within / self.bar_beats * len(chords)))]

    def steps(self, bar: int, steps: int) -> list[Chord | None]:
        """Return the chord at each of so many equal steps of a bar of the form."""
        chords = self.bars[bar % len(self.bars)]
        return [chords[i * len(chords) // steps] for i in range(steps)]


def parse_chord(text: str) -> Chord:
    """Return the chord that a symbol means: ``Dm7``, ``F#ø``, ``Bbmaj7/D``.

    Raises:
        ConfigError: it means none.
    """
    whole = text.replace("6/9", "69").replace("(", "").replace(")", "")
    found = _CHORD.fullmatch(whole)
    quality = found and _SPELLINGS.get(found[3], found[3])
    if not found or quality not in QUALITIES:
        raise ConfigError(f"chord must be a root and a quality, such as Dm7 or Bbmaj7/D, found {text[:20]!r}")
    root = (_LETTERS[found[1]] + _SIGNS[found[2]]) % 12
    bass = (_LETTERS[found[4]] + _SIGNS[found[5]]) % 12 if found[4] else root
    return Chord(root, QUALITIES[quality], bass)


def parse_chart(text: str) -> Chart:
    """Return the chart that a text means.

    Raises:
        ConfigError: it has no bars, too many, or a chord of no meaning; the message names its bar.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(_REMARK)]
    cells = [cell.split() for line in lines for cell in re.split(r"[|]+:?|:[|]+", line)]
    cells = [cell for cell in cells if cell]
    metre = _METRE.fullmatch(cells[0][0]) if cells else None
    count, unit = (int(metre[1]), int(metre[2])) if metre else (4, 4)
    if metre:
        cells = [cell for cell in (cells[0][1:], *cells[1:]) if cell]
    if not 0 < len(cells) <= _MOST_BARS or not count:
        raise ConfigError(f"chords must be 1 to {_MOST_BARS} bars, such as 'Dm7 | G7 | Cmaj7 | %', found {len(cells)}")
    bars: list[Bar] = []
    for number, cell in enumerate(cells, 1):
        try:
            bars.append(_bar(cell, bars))
        except ConfigError as error:
            raise ConfigError(f"bar {number} of the chart: {error}") from error
    return Chart(tuple(bars), count, unit)


def _bar(symbols: list[str], before: list[Bar]) -> Bar:
    if symbols == [_REPEAT]:
        if not before:
            raise ConfigError("% repeats the bar before, and there is none; write its chord")
        return before[-1]
    if len(symbols) > _MOST_PER_BAR:
        raise ConfigError(f"a bar has {_MOST_PER_BAR} chords at most, found {len(symbols)}; put | between bars")
    return tuple(None if symbol in _NO_CHORD else parse_chord(symbol) for symbol in symbols)


def changes(chart: Chart) -> list[tuple[float, Chord | None]]:
    """Return (beat, chord) of each change of a form, the first at beat 0."""
    told = [
        (chart.bar_beats * (i + j / len(bar)), chord) for i, bar in enumerate(chart.bars) for j, chord in enumerate(bar)
    ]
    return [told[0], *(now for before, now in pairwise(told) if now[1] != before[1])]


def lean(chord: Chord | None, strength: float, pitches: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return what to add to the logits of some pitches: a lean to a chord's tones, never a wall.

    Args:
        chord: None leans nowhere.
        strength: nats between its tones and what lies outside.
        pitches: (P,).
    """
    if chord is None:
        return np.zeros(len(pitches))
    return np.where(np.isin(pitches % 12, list(chord.classes)), 0.0, -strength)
