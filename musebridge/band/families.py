"""The five families of instruments that a band has, and the grid that it plays on.

Which program is of which family is as in the Lakh Pianoroll Dataset (Dong et al. 2018), LPD-5.
"""

from __future__ import annotations

STEPS_PER_BEAT = 12
"""Sixteenths and triplets both lie on it, and swung eighths nearly."""
PITCHES = 128
FAMILIES = ("drums", "bass", "guitar", "piano", "strings")
DRUMS, BASS, GUITAR, PIANO, STRINGS = FAMILIES
OTHER = "other"
"""Sound effects and pitched percussion, which a canvas keeps and no band plays."""
DRUM_CHANNEL = 9
_PROGRAMS = {PIANO: range(8), GUITAR: range(24, 32), BASS: range(32, 40)}
_OTHERS = (*range(96, 104), *range(112, 128))


def family_of(program: int, *, is_drums: bool = False) -> str:
    """Return the family of a General MIDI program 0..127: one of ``FAMILIES``, or ``OTHER``."""
    if is_drums:
        return DRUMS
    found = next((family for family, programs in _PROGRAMS.items() if program in programs), None)
    return found or (OTHER if program in _OTHERS else STRINGS)
