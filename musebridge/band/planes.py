"""Notes on the grid as planes of onset, hold and velocity, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musebridge.band.families import PITCHES

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class GridNotes:
    """Notes, as columns of length N, by voice, step and pitch.

    Attributes:
        voice: (N,), the row of each in a header's voices, or in some planes.
        step, length: (N,), when each begins, and how long it is, in steps; a length is 1 at least.
        pitch: (N,), 0..127.
        velocity: (N,), a bin 0..31 of :func:`musebridge.vocab.velocity_bin`.
    """

    voice: Ints
    step: Ints
    length: Ints
    pitch: Ints
    velocity: Ints

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Ints | Bools) -> GridNotes:
        """Return some of the notes."""
        return GridNotes(*(getattr(self, name)[rows] for name in self.__slots__))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GridNotes) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__slots__
        )

    @property
    def end(self) -> Ints:
        """The step at which each is over, (N,)."""
        return self.step + self.length

    def in_order(self) -> GridNotes:
        """Return the notes by voice, step and pitch."""
        return self[np.lexsort((self.pitch, self.step, self.voice))]

    @staticmethod
    def none() -> GridNotes:
        """Return no notes."""
        return GridNotes(*(np.empty(0, np.int64) for _ in range(5)))


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """What some voices play, each plane of shape (V, S, P): voices, steps, pitches 0..127.

    Attributes:
        onset: a note begins.
        hold: a note goes on that began before; never where one begins.
        velocity: the bin 0..31 of the note that sounds, all along it; 0 where none does.
    """

    onset: Bools
    hold: Bools
    velocity: Bytes

    @property
    def shape(self) -> tuple[int, ...]:
        """Voices, steps and pitches."""
        return self.onset.shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Planes) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__slots__
        )


def to_planes(notes: GridNotes, voices: int, begin: int, end: int) -> Planes:
    """Draw the notes that sound in steps ``begin`` to ``end``, with ``begin`` as step 0.

    Notes that one voice has at one pitch are merged where they overlap: a strike
    ends what sounds, what ends last ends the sound, and the loudest is heard.
    """
    notes = notes[(notes.step < end) & (notes.end > begin)]
    shape = (voices, end - begin, PITCHES)
    onset, sounds, velocity = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, np.uint8)
    first, last = np.maximum(notes.step, begin), np.minimum(notes.end, end)
    lengths = last - first
    cells = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = (
        np.repeat(notes.voice, lengths),
        cells + np.repeat(first, lengths) - begin,
        np.repeat(notes.pitch, lengths),
    )
    sounds[place] = True
    np.maximum.at(velocity, place, np.repeat(notes.velocity, lengths).astype(np.uint8))
    struck = notes[notes.step >= begin]
    onset[struck.voice, struck.step - begin, struck.pitch] = True
    return Planes(onset, sounds & ~onset, velocity)


def to_notes(planes: Planes) -> GridNotes:
    """Read the notes of planes, by voice, step and pitch; what is held and never struck is silent."""
    steps = planes.shape[1]
    voice, step, pitch = np.nonzero(planes.onset)
    # The first step from each on that holds nothing.
    free = np.where(planes.hold, steps, np.arange(steps)[None, :, None])
    free = np.concatenate([free, np.full_like(free[:, :1], steps)], axis=1)
    free = np.minimum.accumulate(free[:, ::-1], axis=1)[:, ::-1]
    length = free[voice, step + 1, pitch] - step
    return GridNotes(voice, step, length, pitch, planes.velocity[voice, step, pitch].astype(np.int64))
