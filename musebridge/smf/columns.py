"""The channel messages of all tracks of a file as one table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musebridge.smf.container import Smf
from musebridge.smf.track import Ints

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, PITCH_BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0
BANK, DATA_ENTRY, BANK_LOW, RPN_LOW, RPN_HIGH = 0, 6, 32, 100, 101
"""Controllers that choose sounds and parameters."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Channel messages, track after track, each column of length N.

    Attributes:
        track, ticks, channel: (N,), where each message stands and whom it is for.
        kind: (N,), its status without the channel; a note-on of velocity 0 is a note-off.
        first, second: (N,), its data.
    """

    track: Ints
    ticks: Ints
    channel: Ints
    kind: Ints
    first: Ints
    second: Ints

    def __getitem__(self, rows: Ints) -> Columns:
        """Return some of the messages."""
        return Columns(*(getattr(self, name)[rows] for name in self.__slots__))

    def controls(self, *numbers: int) -> Columns:
        """Return the moves of some controllers."""
        return self[np.flatnonzero((self.kind == CONTROL) & np.isin(self.first, numbers))]

    def in_time(self) -> Columns:
        """Return the messages by their ticks; of one tick, the earlier track's first."""
        return self[np.argsort(self.ticks, kind="stable")]


def columns(smf: Smf) -> Columns:
    """Return the channel messages of a file."""
    used = [(i, track) for i, track in enumerate(smf.tracks) if len(track.ticks)]
    nothing = np.empty(0, np.int64)
    track = np.repeat(np.array([i for i, _ in used], np.int64), [len(t.ticks) for _, t in used])
    ticks, status, first, second = (
        np.concatenate([nothing, *(getattr(t, name) for _, t in used)])
        for name in ("ticks", "status", "first", "second")
    )
    kind = status & 0xF0
    kind[(kind == NOTE_ON) & (second == 0)] = NOTE_OFF
    return Columns(track, ticks, status & 0x0F, kind, first, second)
