"""Which pitches a band's models read and write, and how a canvas is cut to them.

A cell (a step of one pitch) is a byte: 0 is a rest, 1 + v an onset of velocity bin v,
and 64 + v the hold of one. The families lie side by side as columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musebridge.band.canvas import Canvas
from musebridge.band.families import BASS, DRUMS, FAMILIES, GUITAR, PIANO, STRINGS
from musebridge.band.planes import GridNotes, Planes, to_planes

BAR = 48
"""Steps of a bar of 4/4."""
BARS = 4
STEPS = BARS * BAR
KIT = (36, 37, 38, 39, 41, 42, 44, 45, 46, 48, 49, 51, 54, 56, 69, 70)
"""The drums that are learnt: sixteen, which cover nine tenths of all strokes."""
_LIKE = {35: 36, 40: 38, 43: 41, 47: 45, 50: 48, 52: 49, 55: 49, 57: 49, 53: 51, 59: 51, 82: 70}
PITCHES: dict[str, tuple[int, ...]] = {
    DRUMS: KIT,
    BASS: tuple(range(24, 60)),
    GUITAR: tuple(range(40, 84)),
    PIANO: tuple(range(21, 109)),
    STRINGS: tuple(range(36, 96)),
}
HOLD = 64
_first = np.cumsum([0, *(len(PITCHES[family]) for family in FAMILIES)]).tolist()
COLUMNS = {family: slice(_first[i], _first[i + 1]) for i, family in enumerate(FAMILIES)}
WIDTH: int = _first[-1]
Cells = npt.NDArray[np.uint8]


def fold(pitch: npt.NDArray[np.int64], family: str) -> npt.NDArray[np.int64]:
    """Return pitches within a family's range, by octaves; a drum's is the like one that is learnt, or -1."""
    if family == DRUMS:
        return np.array([_LIKE.get(p, p) if _LIKE.get(p, p) in KIT else -1 for p in range(128)], np.int64)[pitch]
    low, high = PITCHES[family][0], PITCHES[family][-1]
    above = np.where(pitch < low, pitch + -(-(low - pitch) // 12) * 12, pitch)
    return np.where(above > high, above - -(-(above - high) // 12) * 12, above)


def cells(canvas: Canvas, end: int | None = None) -> Cells:
    """Return what the families of a canvas play until a step, as cells of shape (S, WIDTH)."""
    notes, end = canvas.family(), canvas.end if end is None else end
    pitch = notes.pitch.copy()
    for row, family in enumerate(FAMILIES):
        pitch[notes.voice == row] = fold(pitch[notes.voice == row], family)
    notes = GridNotes(notes.voice, notes.step, notes.length, pitch, notes.velocity)[pitch >= 0]
    drawn = []
    for row, family in enumerate(FAMILIES):
        own = notes[notes.voice == row]
        planes = to_planes(GridNotes(own.voice * 0, own.step, own.length, own.pitch, own.velocity), 1, 0, end)
        code = planes.onset * (1 + planes.velocity) + planes.hold * (HOLD + planes.velocity)
        drawn.append(code[0][:, list(PITCHES[family])])
    return np.concatenate(drawn, axis=1).astype(np.uint8)


def classes(code: Cells) -> Cells:
    """Return the class of each cell: 0 rest, 1 onset, 2 hold."""
    return ((code > 0).astype(np.uint8) + (code >= HOLD)).astype(np.uint8)


def velocity(code: Cells) -> Cells:
    """Return the velocity bin of each cell; 0 where nothing sounds."""
    return np.where(code >= HOLD, code - HOLD, np.maximum(code, 1) - 1).astype(np.uint8)


def to_family_planes(code: Cells) -> Planes:
    """Return cells (S, WIDTH) as planes (F, S, 128) of ``FAMILIES``."""
    onset, hold = np.zeros((2, len(FAMILIES), len(code), 128), bool)
    loud = np.zeros((len(FAMILIES), len(code), 128), np.uint8)
    for row, family in enumerate(FAMILIES):
        own, pitches = code[:, COLUMNS[family]], list(PITCHES[family])
        onset[row][:, pitches] = classes(own) == 1
        hold[row][:, pitches] = classes(own) == 2
        loud[row][:, pitches] = velocity(own)
    return Planes(onset, hold, loud)


def leads(code: Cells, order: Sequence[str] = ("piano", "guitar", "strings")) -> int:
    """Return the row in ``FAMILIES`` of who leads a window: the first of some families that plays; else -1."""
    for family in order:
        if code[:, COLUMNS[family]].any():
            return FAMILIES.index(family)
    return -1


def condition(code: Cells, lead: int) -> npt.NDArray[np.float32]:
    """Return onset, hold and velocity (0..1) of the player's part on the piano's pitches, (3, S, 88)."""
    wide = np.zeros((len(code), len(PITCHES[PIANO])), np.uint8)
    if lead >= 0:
        family = FAMILIES[lead]
        first = PITCHES[family][0] - PITCHES[PIANO][0]
        wide[:, first : first + len(PITCHES[family])] = code[:, COLUMNS[family]]
    onset, hold = (wide > 0) & (wide < HOLD), wide >= HOLD
    loud = np.where(hold, wide - HOLD, np.maximum(wide, 1) - 1) / 31
    return np.stack([onset, hold, loud]).astype(np.float32)
