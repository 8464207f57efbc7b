"""Scales, keys and chords: what the player's notes suggest, and what a scale lets sound."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from musebridge.errors import ConfigError
from musebridge.vocab import N_PITCHES

NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
}
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
_CHORDS = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "dim": (0, 3, 6),
    "dim7": (0, 3, 6, 9),
    "m7b5": (0, 3, 6, 10),
    "aug": (0, 4, 8),
    "sus4": (0, 5, 7),
    "sus2": (0, 2, 7),
}
# How well each degree fits a key to listeners: Krumhansl and Kessler 1982.
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
_FADE = 0.985
"""A note weighs half as much after 46 others."""
_ENOUGH_NOTES = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """A tonic, 0..11 from C, and a mode of :data:`MODES`."""

    tonic: int
    mode: str

    def __str__(self) -> str:
        return f"{NAMES[self.tonic]} {self.mode}"

    @property
    def classes(self) -> frozenset[int]:
        """The pitch classes that belong to it."""
        return frozenset((self.tonic + degree) % 12 for degree in MODES[self.mode])


def parse_scale(text: str) -> Scale:
    """Return the scale that ``text`` names: ``D minor``, ``Bb major``, ``F# dorian``.

    Raises:
        ConfigError: it names none.
    """
    tonic, _, mode = text.strip().partition(" ")
    letter, accidental = tonic[:1].upper(), tonic[1:]
    if letter not in _LETTERS or accidental not in _ACCIDENTALS or mode not in MODES:
        raise ConfigError(f"scale must be a tonic and one of {', '.join(MODES)}, such as 'D minor', found {text!r}")
    return Scale((_LETTERS[letter] + _ACCIDENTALS[accidental]) % 12, mode)


_KEYS = [Scale(tonic, mode) for mode in _PROFILES for tonic in range(12)]
_PROFILES_KC = np.array([np.roll(_PROFILES[key.mode], key.tonic) for key in _KEYS])
# So scaled, a product with weights orders the keys as the correlation does.
_PROFILES_KC -= _PROFILES_KC.mean(1, keepdims=True)
_PROFILES_KC /= _PROFILES_KC.std(1, keepdims=True)


class KeyFinder:
    """Hears notes; knows the key they suggest (Krumhansl 1990), the latest weighing most."""

    def __init__(self) -> None:
        self._weights = np.zeros(12)
        self._notes = 0

    def hear(self, pitch: int) -> None:
        """Take one note."""
        self._weights *= _FADE
        self._weights[pitch % 12] += 1
        self._notes += 1

    def key(self) -> Scale | None:
        """Return the major or minor key that fits best, or None before there are enough notes."""
        if self._notes < _ENOUGH_NOTES or np.ptp(self._weights) == 0:
            return None
        return _KEYS[int(np.argmax(_PROFILES_KC @ self._weights))]


def chord_of(pitches: Collection[int]) -> str | None:
    """Return the name of the chord that ``pitches`` are, over its root; None where they are none."""
    if not pitches:
        return None
    classes, bass = {pitch % 12 for pitch in pitches}, min(pitches) % 12
    roots = [bass, *sorted(classes - {bass})]  # of two names for one chord, the one with the root below
    for root in roots:
        for suffix, degrees in _CHORDS.items():
            if {(root + degree) % 12 for degree in degrees} == classes:
                return f"{NAMES[root]}{suffix}" + (f"/{NAMES[bass]}" if bass != root else "")
    return None


@lru_cache(maxsize=256)
def allowed_pitches(scale: Scale | None, low: int, high: int, transpose: int) -> npt.NDArray[np.bool_]:
    """Return which pitches may be struck so that they sound in a scale and a range, shape (128,).

    Args:
        scale: None lets all pitches sound.
        low, high: lowest and highest pitch that sounds.
        transpose: semitones between what is struck and what sounds.
    """
    sounding = np.arange(N_PITCHES) + transpose
    allowed = (sounding >= max(0, low)) & (sounding <= min(N_PITCHES - 1, high))
    if scale:
        allowed &= np.isin(sounding % 12, list(scale.classes))
    allowed.flags.writeable = False
    return allowed
